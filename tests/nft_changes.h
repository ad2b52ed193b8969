// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <initializer_list>
#include <vector>

#include "daemon/nft.h"

// What the tests of the kernel's tables write down: changes and prefixes, shortly.
namespace sipward::test {

inline policy::Subject host(const char* text) {
  const auto address = policy::Address::parse(text).value();
  const std::uint8_t length = address.family == policy::Family::V4 ? 32 : 64;
  return {.kind = policy::SubjectKind::Host, .prefix = policy::Prefix::of(address, length)};
}
inline policy::Subject range(const char* text) {
  return {.kind = policy::SubjectKind::Prefix, .prefix = policy::Prefix::parse(text).value()};
}
inline daemon::nft::Change add(const policy::Subject& subject, std::chrono::seconds timeout = std::chrono::minutes(5)) {
  return {daemon::nft::Change::Kind::Add, subject, timeout};
}
inline daemon::nft::Change erase(const policy::Subject& subject) {
  return {daemon::nft::Change::Kind::Delete, subject};
}
inline policy::Subject endpoint(const char* text, std::uint16_t port) {
  return {policy::SubjectKind::Endpoint, policy::Prefix::host(policy::Address::parse(text).value()), port};
}
// As of an IPv6 source its ports are known, whichever of its addresses they belong to.
inline policy::Subject known(const char* text, std::uint16_t port) {
  const auto address = policy::Address::parse(text).value();
  return {policy::SubjectKind::Endpoint, policy::Prefix::of(address, address.family == policy::Family::V4 ? 32 : 64),
          port};
}
inline daemon::nft::Change spare(const policy::Subject& subject, std::uint32_t rate_per_s, std::uint32_t burst,
                                 std::chrono::seconds timeout = std::chrono::minutes(5)) {
  return {daemon::nft::Change::Kind::Add, subject, timeout, daemon::nft::Effect::Spare, {rate_per_s, burst}};
}
inline daemon::nft::Change add_all(const policy::Subject& subject,
                                   std::chrono::seconds timeout = std::chrono::minutes(5)) {
  return {daemon::nft::Change::Kind::Add, subject, timeout, daemon::nft::Effect::DropAll};
}
inline daemon::nft::Change erase_all(const policy::Subject& subject) {
  return {daemon::nft::Change::Kind::Delete, subject, {}, daemon::nft::Effect::DropAll};
}
inline daemon::nft::Change limit(const policy::Subject& subject, std::uint32_t rate_per_s, std::uint32_t burst,
                                 std::chrono::seconds timeout = std::chrono::minutes(5)) {
  return {daemon::nft::Change::Kind::Add, subject, timeout, daemon::nft::Effect::Limit, {rate_per_s, burst}};
}
inline daemon::nft::Change unlimit(const policy::Subject& subject) {
  return {daemon::nft::Change::Kind::Delete, subject, {}, daemon::nft::Effect::Limit};
}
inline daemon::nft::Change allow(const policy::Subject& subject) {
  return {daemon::nft::Change::Kind::Add, subject, {}, daemon::nft::Effect::Allow};
}
inline daemon::nft::Change disallow(const policy::Subject& subject) {
  return {daemon::nft::Change::Kind::Delete, subject, {}, daemon::nft::Effect::Allow};
}
inline policy::PrefixSet prefixes(std::initializer_list<const char*> texts) {
  std::vector<policy::Prefix> list;
  for (const char* text : texts) list.push_back(policy::Prefix::parse(text).value());
  return policy::PrefixSet(list);
}

} // namespace sipward::test
