// SPDX-License-Identifier: GPL-2.0-or-later
#include "block_list_lab.h"

// The operator changes his settings while blocks stand.
namespace sipward::policy {
namespace {

BlockOptions options() { return {.ladder = {5min, 30min, 2h}, .offenders = 3}; }

TEST_CASE("what stands keeps its end under a new ladder; the next block follows it") {
  BlockList list(options());
  list.convict(offence("198.51.100.1", 0s, kProven));
  auto other = options();
  other.ladder = {1min, 10min};
  CHECK(told(list.set_options(other, at(10s))).empty());
  CHECK(list.find(list.host_subject(address("198.51.100.1")))->until == at(5min));
  CHECK(told(list.expire(at(5min))) == "-198.51.100.1/32 expired");
  const auto again = list.convict(offence("198.51.100.1", 6min, kProven));
  REQUIRE(told(again) == "+198.51.100.1/32 scanner");
  CHECK(again[0].block.step == 2);
  CHECK(again[0].block.until == at(16min));
}

TEST_CASE("whoever stands above the top of a shorter ladder stands on its top") {
  BlockList list(options());
  for (const Duration when : std::initializer_list<Duration>{0s, 1h, 3h}) { // 5 min, 30 min, 2 h
    list.expire(at(when));
    list.convict(offence("198.51.100.1", when, kProven));
  }
  auto other = options();
  other.ladder = {1min, 10min};
  list.set_options(other, at(4h));
  list.expire(at(5h));
  const auto again = list.convict(offence("198.51.100.1", 6h, kProven));
  REQUIRE(again.size() == 1);
  CHECK(again[0].block.step == 2);
  CHECK(again[0].block.until - again[0].block.since == 10min);
}

TEST_CASE("offenders counted before count on, against a smaller number and in prefixes of another length") {
  BlockList list(options());
  list.convict(offence("198.51.100.1", 0s));
  list.convict(offence("198.51.100.200", 1s));
  auto other = options();
  other.offenders = 2;
  list.set_options(other, at(2s));
  CHECK(told(list.convict(offence("198.51.100.1", 3s))).empty()); // it stands already
  CHECK(told(list.convict(offence("198.51.100.3", 4s))) == "+198.51.100.3/32 scanner, +198.51.100.0/24 prefix");

  other.prefix_v4 = 23;
  other.offenders = 3; // the latest two are remembered: more were not needed until now
  list.set_options(other, at(5s));
  CHECK(told(list.convict(offence("198.51.101.9", 6s))) == "+198.51.101.9/32 scanner, +198.51.100.0/23 prefix");
}

TEST_CASE("a dry run that begins ends every block, and notes it as one that would be") {
  BlockList list(options());
  list.convict(offence("198.51.100.1", 0s));
  list.convict(limited(offence("198.51.100.2", 0s)));
  REQUIRE(list.block(prefix("203.0.113.0/24"), 1h, "night call", at(0s)));
  auto other = options();
  other.dry_run = true;
  CHECK(told(list.set_options(other, at(60s))) ==
        "-198.51.100.1/32 dry_run, +198.51.100.1/32 scanner, -203.0.113.0/24 dry_run, +203.0.113.0/24 manual, "
        "-%198.51.100.2/32 dry_run, +%198.51.100.2/32 scanner");
  for (const auto& [subject, block] : list) CHECK(block.dry_run);
  for (const auto& [subject, block] : list.limits()) CHECK(block.dry_run);
  CHECK(list.prefixes().empty());
  CHECK(list.find(list.host_subject(address("198.51.100.1")))->until == at(5min)); // with the time that was left
  CHECK(told(list.set_options(other, at(61s))).empty());
}

TEST_CASE("after a dry run, whoever offends again is blocked; who keeps quiet is not") {
  auto dry = options();
  dry.dry_run = true;
  BlockList list(dry);
  list.convict(offence("198.51.100.1", 0s));
  list.convict(offence("198.51.100.2", 0s));
  CHECK(told(list.set_options(options(), at(10s))).empty());
  const auto again = list.convict(offence("198.51.100.1", 11s));
  REQUIRE(told(again) == "+198.51.100.1/32 scanner");
  CHECK_FALSE(again[0].block.dry_run);
  CHECK(list.find(list.host_subject(address("198.51.100.2")))->dry_run);
}

TEST_CASE("with room for fewer, those that would have ended soonest go, and are counted") {
  BlockList list(options());
  for (unsigned i = 1; i <= 5; ++i) list.convict(offence(host(i, 1), i * 1s));
  list.convict(limited(offence(host(9, 1), 1s)));
  auto other = options();
  other.max_hosts = 3;
  CHECK(told(list.set_options(other, at(10s))) == "-10.0.1.1/32 displaced, -10.0.2.1/32 displaced");
  CHECK(list.size() == 3);
  CHECK(list.limits().size() == 1);
  CHECK(list.displaced() == 2);
}

TEST_CASE("peers named or dropped while a prefix stands pass from then on, or no longer") {
  BlockList list(options());
  std::vector<Prefix> trusted{prefix("203.0.113.7")};
  list.set_trusted_within([&](const Prefix&) { return trusted; });
  REQUIRE(list.block(prefix("203.0.113.0/24"), 1h, "", at(0s)));
  CHECK(told(list.ask_who_passes()).empty());
  trusted = {prefix("203.0.113.8"), prefix("203.0.113.9")};
  const auto changes = list.ask_who_passes();
  REQUIRE(told(changes) == "~203.0.113.0/24 extended");
  CHECK(changes[0].taken_back == std::vector{prefix("203.0.113.7")});
  CHECK(changes[0].let_through == trusted);
  CHECK(list.let_through() == trusted);
}

TEST_CASE("what the kernel counted before its table was made anew is kept") {
  BlockList list(options());
  list.convict(offence("198.51.100.1", 0s, kProven));
  const auto subject = list.host_subject(address("198.51.100.1"));
  for (const auto& due : list.count_due(at(4min + 10s))) list.note_dropped(due, 100, at(4min + 10s));
  list.carry_over(subject, false, 130);
  CHECK(list.find(subject)->packets_dropped == 130);
  // It had sent after the list last heard of it, so it goes on; the new counter's zero says nothing against that.
  for (const auto& due : list.count_due(at(5min))) list.note_dropped(due, 0, at(5min));
  CHECK(told(list.expire(at(5min))) == "^198.51.100.1/32 step 2");
  CHECK(list.find(subject)->packets_dropped == 130);
}

} // namespace
} // namespace sipward::policy
