// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/watchdog.h"

#include <catch2/catch.hpp>

namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
using Advice = Watchdog::Advice;
using Rounds = std::vector<std::uint64_t>;

TEST_CASE("a watchdog nobody waits for asks for nothing") {
  Watchdog none(0s);
  CHECK_FALSE(none.next());
  CHECK(none.look(policy::Time(1s), Rounds{1}) == Advice::Wait);
}

TEST_CASE("while every worker goes round, it is fed four times in its limit") {
  Watchdog watchdog(10s);
  Rounds rounds{0, 0};
  unsigned fed = 0;
  for (auto now = 0ms; now < 10s; now += 100ms) {
    for (auto& round : rounds) ++round;
    fed += watchdog.look(policy::Time(now), rounds) == Advice::Feed;
    REQUIRE(watchdog.next());
    CHECK(*watchdog.next() > policy::Time(now));
    CHECK(*watchdog.next() <= policy::Time(now + 2500ms));
  }
  CHECK(fed == 4);
}

TEST_CASE("one worker that stands still starves it, and is named") {
  struct Row {
    const char* name;
    std::size_t stuck;
  };
  const auto row = GENERATE(Row{"the first of three", 0}, Row{"the second", 1}, Row{"the last", 2});
  INFO(row.name);
  Watchdog watchdog(4s);
  Rounds rounds{7, 8, 9};
  CHECK(watchdog.look(policy::Time(0s), rounds) == Advice::Feed); // nothing is known yet
  for (auto now = 1s; now < 6s; now += 1s) {
    for (std::size_t i = 0; i < rounds.size(); ++i) rounds[i] += i != row.stuck;
    CHECK(watchdog.look(policy::Time(now), rounds) == Advice::Starve);
    CHECK(watchdog.still() == row.stuck);
  }
  SECTION("once it goes on, the watchdog is fed again") {
    for (auto& round : rounds) ++round;
    CHECK(watchdog.look(policy::Time(6s), rounds) == Advice::Feed);
  }
}

TEST_CASE("other workers than before have not stood still") {
  Watchdog watchdog(4s);
  CHECK(watchdog.look(policy::Time(0s), Rounds{5}) == Advice::Feed);
  CHECK(watchdog.look(policy::Time(1s), Rounds{5, 0}) == Advice::Feed);
}

} // namespace
} // namespace sipward::daemon
