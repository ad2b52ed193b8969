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
inline policy::PrefixSet prefixes(std::initializer_list<const char*> texts) {
  std::vector<policy::Prefix> list;
  for (const char* text : texts) list.push_back(policy::Prefix::parse(text).value());
  return policy::PrefixSet(list);
}

} // namespace sipward::test
