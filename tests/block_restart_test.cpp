// SPDX-License-Identifier: GPL-2.0-or-later
#include "block_list_lab.h"

// What is taken back when our own server was not well, and what outlives a restart.
namespace sipward::policy {
namespace {

// --- lifted

TEST_CASE("when our server was not well, the blocks of the last minutes are lifted; scanners stay") {
  BlockList list({.ladder = {1h}, .offenders = 3});
  const auto failed = [](std::string_view who, Duration when) {
    return for_reason(offence(who, when, kProven), Reason::AuthFailure);
  };
  list.convict(failed("198.51.100.1", 100s));
  list.convict(failed("198.51.100.2", 200s));
  list.convict(offence("198.51.100.3", 201s, kProven)); // and his /24
  list.convict(by_endpoint(failed("203.0.113.1", 202s), 5070));
  list.convict(limited(failed("203.0.113.2", 203s)));
  list.convict(limited(failed("203.0.113.3", 100s)));
  REQUIRE(list.block(prefix("203.0.113.4"), 1h, "", at(204s)));
  CHECK(told(list.lift_since(at(200s))) == "-198.51.100.2/32 lifted, -198.51.100.0/24 lifted, "
                                           "-203.0.113.1:5070 lifted, -%203.0.113.2/32 lifted");
  CHECK(list.size() == 3);
  CHECK(list.limits().size() == 1);
}

TEST_CASE("a lifted host no longer counts against its prefix, and stands where it stood before on the ladder") {
  BlockList list({.ladder = {5min, 30min, 2h}, .offenders = 2});
  const auto failed = [](Duration when) {
    return for_reason(offence("198.51.100.1", when, kProven), Reason::AuthFailure);
  };
  list.convict(failed(0s));
  list.expire(at(5min));
  REQUIRE(list.convict(failed(10min))[0].block.step == 2);
  list.lift_since(at(9min));
  CHECK(list.convict(offence("198.51.100.2", 11min)).size() == 1);
  CHECK(list.convict(failed(12min))[0].block.step == 2);
}

// --- restarts

BlockList::Snapshot restarted(const BlockList& list, BlockList& next, Time now, BlockList::Changes& changes) {
  changes = next.restore(list.snapshot(), now);
  return next.snapshot();
}

TEST_CASE("what stood before a restart stands after it, with the time that is left") {
  const BlockOptions options{.ladder = {5min, 30min}, .offenders = 2};
  BlockList list(options);
  list.convict(offence("203.0.113.1", 10s, kProven));
  list.convict(offence("203.0.113.2", 20s, kProven)); // and his /24
  list.convict(by_endpoint(offence("198.51.100.1", 30s), 5070));
  list.convict(limited(offence("198.51.100.2", 40s), {7, 70}));
  REQUIRE(list.block(prefix("198.51.100.3"), 1min, "night call", at(50s)));
  BlockList next(options);
  BlockList::Changes changes;
  const auto snapshot = restarted(list, next, at(2min), changes);
  CHECK(told(changes) == "+203.0.113.1/32 scanner, +203.0.113.2/32 scanner, +203.0.113.0/24 prefix, "
                         "+198.51.100.1:5070 scanner, +%198.51.100.2/32 scanner");
  CHECK(snapshot.blocks.size() == 5);
  const Block& block = *next.covering(address("203.0.113.2"));
  CHECK(block.since == at(20s));
  CHECK(block.until == at(20s + 5min));
  CHECK(block.proven);
  CHECK(block.evidence.user_agent.view() == "friendly-scanner");
  CHECK(next.limit_of(address("198.51.100.2"))->limit == Rate{7, 70});
  CHECK(next.prefixes() == std::vector{prefix("203.0.113.0/24")});
}

TEST_CASE("who ended before or during a restart is known when he comes back") {
  const BlockOptions options{.ladder = {5min, 30min, 2h}, .offenders = 100};
  BlockList list(options);
  list.convict(offence("203.0.113.1", 0s, kProven));
  list.expire(at(5min));
  list.convict(offence("203.0.113.2", 5min, kProven)); // will end while we are away
  list.convict(offence("203.0.113.3", 5min));
  BlockList next(options);
  BlockList::Changes changes;
  restarted(list, next, at(1h), changes);
  CHECK(changes.empty());
  CHECK(next.convict(offence("203.0.113.1", 1h, kProven))[0].block.step == 2);
  CHECK(next.convict(offence("203.0.113.2", 1h, kProven))[0].block.step == 2);
  CHECK(next.convict(offence("203.0.113.3", 1h, kProven))[0].block.step == 1);
}

TEST_CASE("a stop that takes the blocks with it still remembers who had them") {
  BlockList list({.ladder = {5min, 30min}});
  list.convict(offence("203.0.113.1", 0s, kProven));
  list.flush(Ending::Stopped);
  CHECK(list.snapshot().climbs.size() == 1);
}

TEST_CASE("a renewed block is on its step after a restart, and goes on being watched") {
  const BlockOptions options{.ladder = {5min, 30min, 2h}};
  const Subject who{SubjectKind::Host, prefix("203.0.113.1"), 0};
  BlockList list(options);
  list.convict(offence("203.0.113.1", 0s, kProven));
  list.note_dropped(who, 1, at(4min));
  list.note_dropped(who, 2, at(5min));
  REQUIRE(told(list.expire(at(5min))) == "^203.0.113.1/32 step 2");
  BlockList next(options);
  BlockList::Changes changes;
  restarted(list, next, at(10min), changes);
  CHECK(next.find(who)->step == 2);
  CHECK(next.count_due(at(34min)) == std::vector{who});
  next.note_dropped(who, 1, at(34min));
  next.note_dropped(who, 2, at(35min));
  CHECK(told(next.expire(at(35min))) == "^203.0.113.1/32 step 3");
}

TEST_CASE("the offenders of a prefix still count together after a restart") {
  BlockList list({.offenders = 3});
  list.convict(offence("203.0.113.1", 0s, kProven));
  list.convict(offence("203.0.113.2", 1s, kProven));
  list.convict(of_one_user(offence("203.0.113.4", 1s, kProven)));
  list.convict(limited(offence("203.0.113.5", 1s, kProven)));
  BlockList next({.offenders = 3});
  BlockList::Changes changes;
  restarted(list, next, at(1min), changes);
  CHECK(told(next.convict(offence("203.0.113.3", 2min, kProven))) == "+203.0.113.3/32 scanner, +203.0.113.0/24 prefix");
}

TEST_CASE("what no longer fits the settings, or hits whom nobody may block, is left out of a restart") {
  BlockList list({.offenders = 1});
  for (const auto* text : {"203.0.113.1", "198.51.100.1", "192.0.2.1", "2001:db8:1:2::1"})
    list.convict(offence(text, 0s));
  list.convict(by_endpoint(offence("192.0.2.9", 0s), 5070));
  BlockList next({.prefix_v4 = 16, .source_v6 = 56, .offenders = 1});
  const std::vector<Prefix> never = {prefix("192.0.2.0/24")};
  next.set_never_blocked(PrefixSet(never));
  BlockList::Changes changes;
  restarted(list, next, at(1min), changes);
  // No /24, since prefixes are /16 now; no /64, since hosts are /56.
  CHECK(told(changes) == "+198.51.100.1/32 scanner, +203.0.113.1/32 scanner, +2001:db8:1::/48 prefix");
}

TEST_CASE("a prefix around this host's own networks does not come back from a restart, unless by hand") {
  BlockList list({.offenders = 1});
  list.convict(offence("203.0.113.1", 0s));
  REQUIRE(list.block(prefix("198.51.100.0/24"), 1h, "", at(0s)));
  BlockList next({.offenders = 1});
  const std::vector<Prefix> own = {prefix("203.0.113.64/29"), prefix("198.51.100.64/29")};
  next.set_local(PrefixSet(own));
  BlockList::Changes changes;
  restarted(list, next, at(1min), changes);
  CHECK(told(changes) == "+203.0.113.1/32 scanner, +198.51.100.0/24 manual");
}

TEST_CASE("more than fits is not restored: who would end soonest gives way") {
  BlockList list({.offenders = 100});
  for (unsigned n = 1; n <= 5; ++n) list.convict(offence(host(0, n), n * 1s, kProven));
  BlockList next({.offenders = 100, .max_hosts = 3});
  BlockList::Changes changes;
  restarted(list, next, at(1min), changes);
  CHECK(next.size() == 3);
  CHECK(next.covering(address(host(0, 5))) != nullptr);
}

TEST_CASE("the trusted of a restored prefix are let through") {
  BlockList list({.offenders = 1});
  list.convict(offence("203.0.113.1", 0s));
  BlockList next({.offenders = 1});
  const std::vector<Prefix> trusted = {prefix("203.0.113.7")};
  next.set_trusted_within([&](const Prefix&) { return trusted; });
  BlockList::Changes changes;
  restarted(list, next, at(1min), changes);
  REQUIRE(changes.size() == 2);
  CHECK(changes[1].let_through == trusted);
}

} // namespace
} // namespace sipward::policy
