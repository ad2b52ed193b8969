// SPDX-License-Identifier: GPL-2.0-or-later
#include "block_list_lab.h"

namespace sipward::policy {
namespace {

TEST_CASE("an offender is blocked for the ladder's first step, with what he did") {
  BlockList list({.ladder = {5min, 30min}});
  const auto changes = list.convict(offence("198.51.100.66", 10s));
  REQUIRE(told(changes) == "+198.51.100.66/32 scanner");
  const Block& block = changes[0].block;
  CHECK(block.since == at(10s));
  CHECK(block.until == at(10s + 5min));
  CHECK(block.step == 1);
  CHECK(block.packets_before == 3);
  CHECK(block.evidence.user_agent.view() == "friendly-scanner");
  CHECK_FALSE(block.dry_run);
  CHECK(list.covering(address("198.51.100.66")) != nullptr);
  CHECK(list.covering(address("198.51.100.67")) == nullptr);
}

TEST_CASE("an IPv6 offender is its /64") {
  BlockList list({});
  CHECK(told(list.convict(offence("2001:db8:1:2::9", 10s))) == "+2001:db8:1:2::/64 scanner");
  CHECK(list.convict(offence("2001:db8:1:2::a", 11s)).empty());
  CHECK(list.covering(address("2001:db8:1:2:ffff::1")) != nullptr);
}

TEST_CASE("an unproven offence does not renew a block that stands") {
  BlockList list({.ladder = {5min}});
  list.convict(offence("198.51.100.66", 10s));
  CHECK(list.convict(offence("198.51.100.66", 4min)).empty());
  CHECK(list.next_expiry() == at(10s + 5min));
  CHECK(list.size() == 1);
}

TEST_CASE("blocks end in the order of their time, at their time") {
  BlockList list({.ladder = {5min}, .offenders = 100});
  list.convict(offence("198.51.100.2", 20s));
  list.convict(offence("203.0.113.1", 10s));
  REQUIRE(list.block(prefix("192.0.2.7"), 1min, "", at(15s)));
  CHECK(list.next_expiry() == at(75s));
  CHECK(list.expire(at(75s) - 1ns).empty());
  CHECK(told(list.expire(at(75s))) == "-192.0.2.7/32 expired");
  CHECK(told(list.expire(at(1h))) == "-203.0.113.1/32 expired, -198.51.100.2/32 expired");
  CHECK(list.size() == 0);
  CHECK_FALSE(list.next_expiry());
  CHECK(told(list.convict(offence("198.51.100.2", 2h))) == "+198.51.100.2/32 scanner"); // he may come back
}

// --- prefixes

TEST_CASE("the n-th distinct offender blocks his /24, and counts who they were") {
  BlockList list({.offenders = 4});
  for (const auto* text : {"198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.101.4"})
    CHECK(list.convict(offence(text, 10s)).size() == 1);
  const auto changes = list.convict(offence("198.51.100.4", 11s));
  REQUIRE(told(changes) == "+198.51.100.4/32 scanner, +198.51.100.0/24 prefix");
  CHECK(changes[1].block.evidence.offenders == 4);
  CHECK(changes[1].block.subject.kind == SubjectKind::Prefix);
  CHECK(list.covering(address("198.51.100.200"))->reason == Reason::Prefix);
  CHECK(list.prefixes() == std::vector{prefix("198.51.100.0/24")});
  CHECK(told(list.convict(offence("198.51.100.5", 12s))) == "+198.51.100.5/32 scanner"); // once is enough
}

TEST_CASE("an IPv6 /48 is blocked as a /24 is") {
  BlockList list({.offenders = 2});
  list.convict(offence("2001:db8:1:1::1", 10s));
  CHECK(told(list.convict(offence("2001:db8:1:2::1", 11s))) == "+2001:db8:1:2::/64 scanner, +2001:db8:1::/48 prefix");
}

TEST_CASE("the same host twice counts once") {
  BlockList list({.ladder = {1min}, .offenders = 2});
  list.convict(offence("198.51.100.1", 0s));
  for (int i = 1; i < 5; ++i) {
    list.expire(at(i * 10min));
    CHECK(told(list.convict(offence("198.51.100.1", i * 10min))) == "+198.51.100.1/32 scanner");
  }
  list.expire(at(50min));
  CHECK(list.convict(offence("198.51.100.2", 50min)).size() == 2);
}

TEST_CASE("offenders count together only within the time set") {
  BlockList list({.ladder = {1min}, .offenders = 3, .within = 1h});
  list.convict(offence("198.51.100.1", 0s));
  list.convict(offence("198.51.100.2", 30min));
  CHECK(list.convict(offence("198.51.100.3", 1h + 1s)).size() == 1); // the first is too long ago
  list.expire(at(80min));
  CHECK(list.convict(offence("198.51.100.1", 80min)).size() == 2); // 2, 3 and 1 within the hour
}

TEST_CASE("with one offender enough, his /24 goes with him") {
  BlockList list({.offenders = 1});
  CHECK(told(list.convict(offence("198.51.100.66", 10s))) == "+198.51.100.66/32 scanner, +198.51.100.0/24 prefix");
}

TEST_CASE("a storm of forged offenders blows the fuse: no more prefixes are blocked than it allows") {
  BlockList list({.offenders = 1, .fuse = 12});
  unsigned prefixes = 0;
  for (unsigned net = 0; net < 100; ++net) prefixes += list.convict(offence(host(net, 1), 10s)).size() == 2;
  CHECK(prefixes == 12);
  CHECK(list.withheld() == 88);
  for (unsigned net = 100; net < 200; ++net) prefixes += list.convict(offence(host(net, 1), 40s)).size() == 2;
  CHECK(prefixes == 18);                                             // half a minute later: six more
  CHECK(list.convict(offence(host(200, 1), 40s, true)).size() == 2); // a proven one passes
  CHECK(list.convict(offence(host(201, 1), 5h)).size() == 2);        // and after hours it is whole again
}

TEST_CASE("a fuse of nothing lets no unproven prefix block pass") {
  BlockList list({.offenders = 1, .fuse = 0});
  CHECK(list.convict(offence("198.51.100.66", 10s)).size() == 1);
  CHECK(list.withheld() == 1);
  CHECK(list.convict(offence("203.0.113.66", 10s, true)).size() == 2);
}

TEST_CASE("a prefix that the fuse held back is blocked by its next offender") {
  BlockList list({.offenders = 2, .fuse = 1});
  list.convict(offence("198.51.100.1", 10s));
  CHECK(list.convict(offence("198.51.100.2", 10s)).size() == 2);
  list.convict(offence("203.0.113.1", 10s));
  CHECK(list.convict(offence("203.0.113.2", 11s)).size() == 1);
  CHECK(list.convict(offence("203.0.113.3", 75s)).size() == 2);
}

TEST_CASE("prefixes come sorted by length, then address, as the rules want them") {
  BlockList list({.offenders = 1});
  for (const auto* text : {"203.0.113.1", "2001:db8:2::1", "198.51.100.1", "2001:db8:1::1"})
    list.convict(offence(text, 10s));
  CHECK(list.prefixes() == std::vector{prefix("198.51.100.0/24"), prefix("203.0.113.0/24"), prefix("2001:db8:1::/48"),
                                       prefix("2001:db8:2::/48")});
}

// --- limits

TEST_CASE("a full list gives up the host block that ends soonest, and counts it") {
  BlockList list({.ladder = {5min}, .offenders = 100, .max_hosts = 3});
  list.convict(offence("198.51.100.1", 20s));
  list.convict(offence("198.51.100.2", 10s));
  list.convict(offence("198.51.100.3", 30s));
  REQUIRE(list.block(prefix("203.0.113.0/24"), 1s, "", at(30s))); // a prefix takes no host's room
  CHECK(list.size() == 4);
  CHECK(told(list.convict(offence("198.51.100.4", 31s))) == "-198.51.100.2/32 displaced, +198.51.100.4/32 scanner");
  CHECK(list.displaced() == 1);
  CHECK(list.size() == 4);
}

TEST_CASE("a full list of prefixes gives up the one that ends soonest") {
  BlockList list({.max_hosts = 10});
  for (unsigned net = 0; net < kMaxPrefixBlocks; ++net)
    REQUIRE(list.block(prefix(host(net, 0) + "/24"), 1h + net * 1s, "", at(0s)));
  CHECK(list.size() == kMaxPrefixBlocks);
  const auto changes = list.block(prefix("198.51.100.0/24"), 2h, "", at(0s));
  REQUIRE(changes);
  CHECK(told(*changes) == "-10.0.0.0/24 displaced, +198.51.100.0/24 manual");
  CHECK(list.prefixes().size() == kMaxPrefixBlocks);
}

TEST_CASE("what is remembered of the prefixes is bounded, and a prefix at hand is not the one forgotten") {
  BlockList list({.ladder = {1s}, .offenders = 3, .max_hosts = 64});
  list.convict(offence("9.0.0.1", 0s)); // the lowest of all
  for (unsigned net = 0; net < 63; ++net) list.convict(offence(host(net, 1), 1s));
  list.convict(offence("9.0.0.2", 2s)); // full, but 9.0.0.0/24 is known
  list.convict(offence("9.0.0.3", 3s));
  CHECK(list.covering(address("9.0.0.200")) != nullptr);
}

// --- the operator's word

TEST_CASE("a block by hand is whole and proven, and the newer word counts") {
  BlockList list({});
  const auto first = list.block(prefix("198.51.100.66"), 1h, "night call", at(10s));
  REQUIRE(first);
  REQUIRE(told(*first) == "+198.51.100.66/32 manual");
  CHECK((*first)[0].block.note == "night call");
  CHECK((*first)[0].block.proven);
  const auto second = list.block(prefix("198.51.100.66/32"), 5min, "shorter", at(20s));
  REQUIRE(second);
  CHECK(list.size() == 1);
  CHECK(list.next_expiry() == at(20s + 5min));
  CHECK(list.find(list.host_subject(address("198.51.100.66")))->note == "shorter");
  CHECK(told(list.expire(at(20s + 5min))) == "-198.51.100.66/32 expired");
}

TEST_CASE("what is blocked by hand is a host or a prefix of the set lengths") {
  struct Row {
    const char *asked, *blocked;
    SubjectKind kind;
  };
  static constexpr Row kRows[] = {
      {"198.51.100.66", "198.51.100.66/32", SubjectKind::Host},
      {"198.51.100.0/24", "198.51.100.0/24", SubjectKind::Prefix},
      {"2001:db8:1:2::9", "2001:db8:1:2::/64", SubjectKind::Host},
      {"2001:db8:1:2::/64", "2001:db8:1:2::/64", SubjectKind::Host},
      {"2001:db8:1::/48", "2001:db8:1::/48", SubjectKind::Prefix},
  };
  for (const auto& row : kRows) {
    INFO(row.asked);
    BlockList list({});
    const auto changes = list.block(prefix(row.asked), 1h, "", at(0s));
    REQUIRE(changes);
    CHECK(to_string((*changes)[0].block.subject) == row.blocked);
    CHECK((*changes)[0].block.subject.kind == row.kind);
    const auto back = list.unblock(prefix(row.asked));
    REQUIRE(back);
    CHECK(told(*back) == "-" + std::string(row.blocked) + " unblocked");
  }
}

TEST_CASE("a refusal by hand is a sentence that says why") {
  struct Row {
    const char* asked;
    Duration length;
    const char* sentence;
  };
  static constexpr Row kRows[] = {
      {"0.0.0.0/0", 1h, "0.0.0.0/0: only hosts (/32) and prefixes of /1 to /31 can be blocked"},
      {"2001:db8::/96", 1h, "2001:db8::/96: only hosts (/64) and prefixes of /1 to /63 can be blocked"},
      {"192.0.2.10", 1h,
       "192.0.2.10/32 is never blocked: on the allow list, or an address, gateway or resolver of this host"},
      {"192.0.2.0/24", 1h,
       "192.0.2.0/24 holds an address that is never blocked: on the allow list, or an address, gateway or resolver of "
       "this host"},
      {"2001:db8:10::77", 1h,
       "2001:db8:10::77/128 is never blocked: on the allow list, or an address, gateway or resolver of this host"},
      {"198.51.100.66", 0s, "a block must last longer than nothing"},
      {"198.51.100.66", -1s, "a block must last longer than nothing"},
  };
  BlockList list({});
  const std::vector<Prefix> never = {prefix("192.0.2.10"), prefix("2001:db8:10::5")}; // the same /64
  list.set_never_blocked(PrefixSet(never));
  for (const auto& row : kRows) {
    const auto slash = std::string_view(row.asked).find('/');
    const auto asked = slash == std::string_view::npos
                           ? prefix(row.asked)
                           : Prefix::of(address(std::string_view(row.asked).substr(0, slash)),
                                        static_cast<std::uint8_t>(std::atoi(row.asked + slash + 1)));
    const auto refused = list.block(asked, row.length, "", at(0s));
    REQUIRE_FALSE(refused);
    CHECK(refused.error() == row.sentence);
  }
  const auto unknown = list.unblock(prefix("198.51.100.66"));
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error() == "198.51.100.66/32 is not blocked");
  CHECK(list.size() == 0);
}

TEST_CASE("who was unblocked no longer counts against his prefix") {
  BlockList list({.offenders = 2});
  list.convict(offence("198.51.100.1", 10s));
  REQUIRE(list.unblock(prefix("198.51.100.1")));
  CHECK(list.convict(offence("198.51.100.2", 11s)).size() == 1);

  list.convict(offence("2001:db8:1:1::1", 10s));
  REQUIRE(list.unblock(prefix("2001:db8:1:1::1"))); // his /64
  CHECK(list.convict(offence("2001:db8:1:2::1", 11s)).size() == 1);
}

TEST_CASE("unblocking a prefix forgets its hosts' offences, and leaves their own blocks") {
  BlockList list({.offenders = 2});
  list.convict(offence("198.51.100.1", 10s));
  list.convict(offence("198.51.100.2", 11s));
  const auto changes = list.unblock(prefix("198.51.100.0/24"));
  REQUIRE(changes);
  CHECK(told(*changes) == "-198.51.100.0/24 unblocked");
  CHECK(list.size() == 2);
  CHECK(list.convict(offence("198.51.100.3", 12s)).size() == 1);
}

TEST_CASE("a flush ends every block and forgets every neighbour") {
  BlockList list({.offenders = 2});
  list.convict(offence("198.51.100.1", 10s));
  list.convict(offence("198.51.100.2", 11s));
  list.convict(offence("203.0.113.1", 11s));
  CHECK(told(list.flush()) ==
        "-198.51.100.1/32 flushed, -198.51.100.2/32 flushed, -203.0.113.1/32 flushed, -198.51.100.0/24 flushed");
  CHECK(list.size() == 0);
  CHECK_FALSE(list.next_expiry());
  CHECK(list.convict(offence("203.0.113.2", 12s)).size() == 1);
}

// --- never blocked, dry run

TEST_CASE("who is never blocked is not, and a block that is in his way is lifted") {
  BlockList list({.offenders = 2});
  list.convict(offence("198.51.100.1", 10s));
  list.convict(offence("198.51.100.2", 10s));
  list.convict(offence("2001:db8:1:1::1", 10s));
  const std::vector<Prefix> never = {prefix("198.51.100.1"), prefix("2001:db8:1:1::7")};
  // The /24 stays: its never-blocked host stands in the kernel's allowed set before it.
  // And so does the /64: it is one host to us, but only ::7 in it is not to be blocked.
  CHECK(told(list.set_never_blocked(PrefixSet(never))) == "-198.51.100.1/32 never_blocked");
  CHECK(list.convict(offence("198.51.100.1", 11s)).empty());
  CHECK(list.convict(offence("2001:db8:1:1::7", 11s)).empty());
  list.unblock(prefix("2001:db8:1:1::/64"));
  CHECK(list.convict(offence("2001:db8:1:1::7", 11s)).empty());
  CHECK(told(list.convict(offence("2001:db8:1:1::1", 11s))) == "+2001:db8:1:1::/64 scanner");
  const std::vector<Prefix> all_of_it = {prefix("2001:db8:1:1::/64")};
  CHECK(told(list.set_never_blocked(PrefixSet(all_of_it))) == "-2001:db8:1:1::/64 never_blocked");
  CHECK(list.covering(address("198.51.100.2")) != nullptr);
  list.set_never_blocked({});
  CHECK(list.convict(offence("198.51.100.1", 12s)).size() == 1);
}

TEST_CASE("a dry run lists every block as would-be, and enforces no prefix") {
  BlockList list({.offenders = 1, .dry_run = true});
  const auto changes = list.convict(offence("198.51.100.1", 10s));
  REQUIRE(changes.size() == 2);
  for (const auto& change : changes) CHECK(change.block.dry_run);
  const auto manual = list.block(prefix("203.0.113.1"), 1h, "", at(10s));
  REQUIRE(manual);
  CHECK((*manual)[0].block.dry_run);
  CHECK(list.prefixes().empty());
  CHECK(list.size() == 3);
}

TEST_CASE("an offence that is only to be logged is noted, blocks nobody, and gives way to one that blocks") {
  BlockList list({.offenders = 1});
  auto noted = offence("198.51.100.1", 10s);
  noted.action = Action::Log;
  const auto changes = list.convict(noted);
  REQUIRE(changes.size() == 1); // nor does it count against its prefix
  CHECK(changes[0].block.dry_run);
  CHECK(list.convict(noted).empty());
  const auto real = list.convict(offence("198.51.100.1", 11s));
  REQUIRE(real.size() == 2);
  CHECK_FALSE(real[0].block.dry_run);
  CHECK(list.convict(noted).empty());
}

TEST_CASE("subjects, reasons and endings print as outside tools read them") {
  CHECK(to_string(Subject{SubjectKind::Host, prefix("198.51.100.66"), 0}) == "198.51.100.66/32");
  CHECK(to_string(Subject{SubjectKind::Host, prefix("2001:db8:1:2::/64"), 0}) == "2001:db8:1:2::/64");
  CHECK(to_string(Subject{SubjectKind::Endpoint, prefix("198.51.100.66"), 5061}) == "198.51.100.66:5061");
  CHECK(to_string(Subject{SubjectKind::Endpoint, prefix("2001:db8::1"), 5061}) == "[2001:db8::1]:5061");
  CHECK(to_string(Reason::AuthFailure) == "auth_failure");
  CHECK(to_string(Ending::NeverBlocked) == "never_blocked");
  CHECK(to_string(Ending::Stopped) == "stopped");
  CHECK(to_string(SubjectKind::Endpoint) == "endpoint");
}

} // namespace
} // namespace sipward::policy
