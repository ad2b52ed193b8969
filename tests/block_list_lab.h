// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <catch2/catch.hpp>

#include "policy/block_list.h"

// What the block list's tests share: offences in few words, and changes as the block log would tell them.
namespace sipward::policy {

using namespace std::chrono_literals;
using Kind = BlockChange::Kind;

inline Address address(std::string_view text) { return Address::parse(text).value(); }
inline Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }
inline Time at(Duration since_epoch) { return Time(since_epoch); }

inline Offence offence(std::string_view source, Duration when, bool proven = false) {
  Offence made;
  made.source = address(source);
  made.source_port = 5062;
  made.at = at(when);
  made.proven = proven;
  made.packets_before = 3;
  made.evidence.user_agent = Excerpt("friendly-scanner");
  return made;
}
inline constexpr bool kProven = true;

inline Offence by_endpoint(Offence offence, std::uint16_t port) {
  offence.kind = SubjectKind::Endpoint;
  offence.source_port = port;
  return offence;
}
inline Offence limited(Offence offence, Rate limit = {50, 100}) {
  offence.action = Action::Limit;
  offence.limit = limit;
  return offence;
}
inline Offence of_trusted(Offence offence, std::uint32_t registered = 1) {
  offence.evidence.trusted = true;
  offence.evidence.registered = registered;
  return offence;
}
inline Offence for_reason(Offence offence, Reason reason) {
  offence.reason = reason;
  return offence;
}
inline Offence of_one_user(Offence offence) {
  offence.one_user = true;
  return for_reason(std::move(offence), Reason::AuthFailure);
}

inline std::string host(unsigned net, unsigned n) {
  return "10." + std::to_string(net / 256) + "." + std::to_string(net % 256) + "." + std::to_string(n);
}

// "+198.51.100.66/32 scanner, -198.51.100.67/32 expired", "^198.51.100.66/32 step 2"; a limit has a % after its sign.
inline std::string told(const BlockList::Changes& changes) {
  std::string all;
  for (const auto& change : changes) {
    static constexpr std::string_view kSigns = "+^~-";
    all += all.empty() ? "" : ", ";
    all += kSigns[static_cast<std::size_t>(change.kind)];
    all += change.block.limit ? "%" : "";
    all += to_string(change.block.subject) + " ";
    switch (change.kind) {
    case Kind::Added: all += to_string(change.block.reason); break;
    case Kind::Renewed: all += "step " + std::to_string(change.block.step); break;
    case Kind::Extended: all += "extended"; break;
    case Kind::Removed: all += to_string(change.ending); break;
    }
  }
  return all;
}

} // namespace sipward::policy
