// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <catch2/catch.hpp>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "policy/judge.h"
#include "tests/frames.h"

// What the stories about the judge share: a server with its guard, a clock that only the story moves, and what happened
// so far.
namespace sipward::test {

using namespace policy;
using namespace std::chrono_literals;

inline Address address(std::string_view text) { return Address::parse(text).value(); }
inline std::vector<Prefix> prefixes(std::initializer_list<const char*> texts) {
  std::vector<Prefix> all;
  for (const auto* text : texts) all.push_back(Prefix::parse(text).value());
  return all;
}

inline constexpr std::string_view kServer = "192.0.2.10";
inline constexpr std::string_view kServer6 = "2001:db8:10::5";
inline constexpr std::string_view kPhone = "Yealink SIP-T46U 108.86.0.20";
inline constexpr std::uint16_t kPort = 5062;
inline constexpr Secret kSecret{0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9, 0xd6e8feb86659fd93};

struct Story {
  explicit Story(std::uint32_t capacity = 1024)
      : memory(static_cast<std::byte*>(std::aligned_alloc(64, Ledger::octets(capacity)))),
        ledger({memory.get(), Ledger::octets(capacity)}, capacity, kSecret) {
    rules.ports = {5060, 5080};
    rules.servers = {address(kServer), address(kServer6)};
    const Detect defaults;
    rules.set(Class::Register, defaults.register_flood);
    rules.set(Class::Invite, defaults.invite_flood);
    rules.set(Class::Options, defaults.options_flood);
    rules.set(Class::Request, defaults.request_flood);
    rules.set(Class::Malformed, defaults.malformed);
    rules.enumeration = defaults.enumeration;
    rules.set_auth_failure(defaults.auth_failure);
    rules.marks = std::make_shared<const sip::Marks>();
  }
  void limit(double per_second, std::uint32_t burst, Action action = Action::Block) {
    rules.set(Class::Register, {{per_second, burst}, action});
  }

  // One datagram from a stranger to the server.
  Verdict hears(std::string_view from, std::string_view payload, bool truncated = false, std::uint16_t port = kPort) {
    const auto to = address(from).family == Family::V4 ? kServer : kServer6;
    return judge({address(from), address(to), port, 5060, payload, truncated});
  }
  Verdict hears(std::string_view from, const Request& request, std::uint16_t port = kPort) {
    return hears(from, text_of(request), false, port);
  }
  // One datagram from the server.
  Verdict answers(std::string_view to, std::string_view payload, std::uint16_t port = kPort) {
    const auto from = address(to).family == Family::V4 ? kServer : kServer6;
    return judge({address(from), address(to), 5060, port, payload, false});
  }
  Verdict judge(const Datagram& datagram) {
    const Case c = open(rules, ledger, datagram);
    REQUIRE(c.way != Way::Aside);
    const auto verdict = decide(rules, ledger, names, c, Now(Time(clock)), offence);
    ++verdicts[verdict.why];
    offences += verdict.offence;
    if (verdict.offence) told.push_back(offence);
    if (verdict.offence && offence.action == Action::Limit) // as the control thread does
      ledger.sources.find(c.place)->set(Source::kLimited);
    dropped += verdict.drop;
    return verdict;
  }

  // A whole registration: challenged, and answered with `status`.
  void registers(std::string_view from, const std::string& user, unsigned status = 200, std::uint16_t port = kPort) {
    const std::string nonce = "nonce" + std::to_string(++number);
    const Request first{.user = user, .cseq = number};
    const Request second{.user = user, .cseq = number, .nonce = nonce};
    hears(from, first, port), answers(from, answer_to(first, 401, nonce), port);
    hears(from, second, port), answers(from, answer_to(second, status, status == 401 ? nonce + "b" : ""), port);
  }
  // A call that is answered, and talked in.
  void calls(std::string_view from, const std::string& callee, std::uint16_t port = kPort) {
    const std::string tag = "tag" + std::to_string(++number);
    const Request invite{.method = "INVITE", .user = callee, .cseq = number};
    hears(from, invite, port), answers(from, answer_to(invite, 180, {}, tag), port);
    answers(from, answer_to(invite, 200, {}, tag), port);
    hears(from, Request{.method = "ACK", .user = callee, .cseq = number, .to_tag = tag}, port);
  }

  Source& source(std::string_view text) {
    Source* found = ledger.sources.find(source_key(address(text), rules.ipv6_prefix));
    REQUIRE(found != nullptr);
    return *found;
  }
  const Trustee* trustee(std::string_view text) const {
    return ledger.trust.find(source_key(address(text), rules.ipv6_prefix), Now(Time(clock)).s);
  }
  int count(Why why) const {
    const auto found = verdicts.find(why);
    return found == verdicts.end() ? 0 : found->second;
  }

  struct Free {
    void operator()(std::byte* octets) const { std::free(octets); }
  };
  std::unique_ptr<std::byte, Free> memory;
  Ledger ledger;
  sip::AgentCache names;
  Rules rules;
  Duration clock = 1000s;
  Offence offence;
  std::vector<Offence> told; // all offences
  std::map<Why, int> verdicts;
  int offences = 0, dropped = 0;
  unsigned number = 0;
};

} // namespace sipward::test
