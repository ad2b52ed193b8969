// SPDX-License-Identifier: GPL-2.0-or-later
#include "block_list_lab.h"
#include "daemon/repair_pace.h"

// What stands while nobody is to be blocked, what is carried over when the kernel's table is made anew, and how often
// it is.
namespace sipward::policy {
namespace {

TEST_CASE("while suspended, whoever is convicted would be blocked, and who stands blocked stays in the list") {
  BlockList list({.ladder = {5min, 30min}});
  list.convict(offence("198.51.100.1", 0s, kProven));
  list.suspend(true);
  const auto changes = list.convict(offence("198.51.100.2", 1s, kProven));
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].block.dry_run);
  CHECK(list.convict(limited(offence("198.51.100.3", 1s)))[0].block.dry_run);
  CHECK_FALSE(list.find({SubjectKind::Host, prefix("198.51.100.1/32"), 0})->dry_run);
  CHECK(list.convict(offence("198.51.100.2", 2s)).empty()); // told once
}

TEST_CASE("after it, who would have been blocked is blocked when he goes on, and not before") {
  BlockList list({.ladder = {5min, 30min}});
  list.suspend(true);
  list.convict(offence("198.51.100.2", 1s, kProven));
  list.suspend(false);
  CHECK(list.find({SubjectKind::Host, prefix("198.51.100.2/32"), 0})->dry_run);
  const auto changes = list.convict(offence("198.51.100.2", 2s, kProven));
  REQUIRE(changes.size() == 1);
  CHECK_FALSE(changes[0].block.dry_run);
}

TEST_CASE("the offenders of a prefix do not block it while nobody is blocked") {
  BlockList list({.ladder = {5min}, .offenders = 2});
  list.suspend(true);
  list.convict(offence("198.51.100.1", 1s, kProven));
  for (const auto& change : list.convict(offence("198.51.100.2", 2s, kProven))) CHECK(change.block.dry_run);
  CHECK(list.prefixes().empty());
}

TEST_CASE("what the kernel had counted before its table was made anew is in the block's sum") {
  BlockList list({.ladder = {5min}});
  list.convict(offence("198.51.100.1", 0s));
  list.convict(limited(offence("198.51.100.2", 0s)));
  list.carry_over({SubjectKind::Host, prefix("198.51.100.1/32"), 0}, false, 40);
  list.carry_over({SubjectKind::Host, prefix("198.51.100.1/32"), 0}, false, 2);
  list.carry_over({SubjectKind::Host, prefix("198.51.100.2/32"), 0}, true, 7);
  list.carry_over({SubjectKind::Host, prefix("198.51.100.3/32"), 0}, false, 9); // nobody
  const auto ended = list.expire(at(5min));
  REQUIRE(ended.size() == 2);
  CHECK(ended[0].block.packets_dropped == 42);
  CHECK(ended[1].block.packets_dropped == 7);
}

TEST_CASE("a counter that begins anew in a block's last minute neither makes a sender nor hides one") {
  const auto ends = [](auto disturb) {
    BlockList list({.ladder = {5min, 30min}});
    list.convict(offence("198.51.100.1", 0s, kProven));
    const Subject subject{SubjectKind::Host, prefix("198.51.100.1/32"), 0};
    list.note_dropped(subject, 100, at(4min + 1s)); // what it sent before this is long ago
    list.carry_over(subject, false, disturb(subject));
    list.note_dropped(subject, 0, at(5min));
    return told(list.expire(at(5min)));
  };
  CHECK(ends([](const Subject&) { return 100u; }) == "-198.51.100.1/32 expired"); // silent since it was told
  CHECK(ends([](const Subject&) { return 103u; }) == "^198.51.100.1/32 step 2");  // it has sent three more
}

TEST_CASE("a table that others keep breaking is mended at once, then at a pace that is never slower than a second") {
  using daemon::RepairPace;
  RepairPace pace;
  Time now = at(1h);
  CHECK(pace.is_due(now));
  unsigned repairs = 0, first_second = 0;
  Time longest{}, last = now;
  for (const Time end = now + 60s; now < end; now += 1ms) {
    if (!pace.is_due(now)) continue;
    pace.note(now);
    ++repairs;
    if (now < end - 59s) ++first_second;
    longest = std::max(longest, Time(now - last));
    last = now;
  }
  CHECK(first_second <= 4);
  CHECK(longest < at(1s));
  CHECK(repairs >= 60);
  CHECK(repairs <= 80);
  CHECK(pace.due() <= now + 1s);
  now += 11s;
  pace.note(now); // after a calm it is quick again
  CHECK(pace.is_due(now + 250ms));
}

} // namespace
} // namespace sipward::policy
