// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/wellbeing.h"

#include <catch2/catch.hpp>

namespace sipward::policy {
namespace {

using namespace std::chrono_literals;
using State = Wellbeing::State;

constexpr State kWell{};
constexpr State kUnwell{.unwell = true};
constexpr State kUnseen{.answers_unseen = true};

std::uint64_t hash_of(unsigned source) { // as if a keyed one
  std::uint64_t hash = (source + 1) * 0x9e3779b97f4a7c15;
  hash ^= hash >> 29;
  return hash * 0xbf58476d1ce4e5b9;
}
SourceSketch sources(unsigned from, unsigned count) {
  SourceSketch sketch;
  for (unsigned i = from; i < from + count; ++i) sketch.add(hash_of(i));
  return sketch;
}

// The seconds of a server's life, one after the other.
struct Story {
  Wellbeing wellbeing;
  std::int64_t now_s = 0;

  State note(const LastSecond& second) { return wellbeing.note(second, Time(now_s++ * 1s)); }
  State run(int for_s, const LastSecond& second) {
    State state;
    for (int i = 0; i < for_s; ++i) state = note(second);
    return state;
  }
  // How many seconds until the state is another; -1: it stays for all of them.
  int until_change(int at_most_s, const LastSecond& second) {
    const State before = wellbeing.state();
    for (int i = 1; i <= at_most_s; ++i)
      if (note(second) != before) return i;
    return -1;
  }
};

// Trusted phones, so many a second: how the server treats them.
LastSecond happy(unsigned phones, unsigned from = 0) {
  const auto all = sources(from, phones);
  return {.asking = all, .answered = all, .served = all, .sources = all, .requests = 2 * phones, .answers = 2 * phones};
}
LastSecond rejected(unsigned phones, unsigned from = 0) {
  const auto all = sources(from, phones);
  return {.asking = all, .answered = all, .failed = all, .sources = all, .requests = phones, .answers = phones};
}
LastSecond unanswered(unsigned phones, unsigned from = 0) {
  const auto all = sources(from, phones);
  return {.asking = all, .sources = all, .requests = 3 * phones};
}
LastSecond together(const LastSecond& a, const LastSecond& b) {
  return {.asking = a.asking | b.asking,
          .answered = a.answered | b.answered,
          .served = a.served | b.served,
          .failed = a.failed | b.failed,
          .sources = a.sources | b.sources,
          .requests = a.requests + b.requests,
          .answers = a.answers + b.answers};
}

TEST_CASE("a sketch counts sources about right, apart and together") {
  for (const unsigned count : {0u, 1u, 8u, 20u, 50u, 100u, 300u}) {
    INFO(count);
    CHECK(sources(0, count).count() == Approx(count).epsilon(0.15).margin(0.5));
  }
  CHECK((sources(0, 20) | sources(10, 20)).count() == Approx(30).epsilon(0.1));
  CHECK((sources(0, 20) - sources(10, 20)).count() == Approx(10).epsilon(0.3));
  CHECK(sources(0, 100'000).count() == Approx(1420).epsilon(0.01));
}

// --- unwell

TEST_CASE("the subscriber database is down: all phones are rejected, and it is not their fault") {
  Story story;
  CHECK(story.run(100, happy(50)) == kWell);
  // For ten seconds those who succeeded just before are still remembered.
  CHECK(story.until_change(60, rejected(50)) == 10);
  CHECK(story.wellbeing.state() == kUnwell);
  CHECK(story.wellbeing.figures().failed == Approx(50).epsilon(0.1));
  CHECK(story.wellbeing.figures().served == 0);
  CHECK(story.run(3600, rejected(50)) == kUnwell);
}

TEST_CASE("silence is as bad as a rejection") {
  Story story;
  story.run(100, happy(50));
  CHECK(story.until_change(60, unanswered(50)) == 10);
  CHECK(story.wellbeing.state() == kUnwell);
  CHECK(story.wellbeing.figures().unanswered == Approx(50).epsilon(0.1));
}

TEST_CASE("whoever asked in this very second may be answered yet") {
  Story story;
  story.run(100, happy(1));
  story.run(20, {});
  CHECK(story.run(1, unanswered(50)) == kWell);
  auto late = happy(0);
  late.answered = sources(0, 50);
  CHECK(story.run(1, late) == kWell);
  CHECK(story.run(20, {}) == kWell);
  CHECK(story.run(1, unanswered(50)) == kWell);
  CHECK(story.run(1, {}) == kUnwell);
}

TEST_CASE("what is no trouble of the server's") {
  struct Row {
    const char* name;
    LastSecond second;
  };
  auto challenged = unanswered(50); // forged in the names of fifty customers, whom the server only challenges
  challenged.answered = challenged.asking;
  challenged.answers = 50;
  const Row kRows[] = {
      {"one office whose password was changed, beside others", together(happy(10), rejected(1, 100))},
      {"seven customers who all fail", rejected(7)},
      {"many fail, a quarter and more succeeds", together(happy(20), rejected(60, 100))},
      {"challenges that nobody goes on from", challenged},
      {"nothing at all", {}},
  };
  for (const auto& row : kRows) {
    INFO(row.name);
    Story story;
    story.run(100, happy(3));
    CHECK(story.run(600, row.second) == kWell);
  }
}

TEST_CASE("eight customers at once, of whom hardly one succeeds, are enough") {
  Story story;
  story.run(100, happy(2));
  CHECK(story.run(20, together(happy(2, 50), rejected(9))) == kUnwell);
}

TEST_CASE("phones that fail one after the other within ten seconds count together") {
  Story story;
  story.run(100, happy(1));
  State state;
  for (unsigned i = 0; i < 20; ++i) state = story.note(rejected(1, 100 + i));
  CHECK(state == kUnwell);
}

TEST_CASE("the server is well again once successes have prevailed for half a minute") {
  Story story;
  story.run(100, happy(50));
  story.run(60, rejected(50));
  CHECK(story.until_change(200, happy(50)) == 31);
  CHECK(story.wellbeing.state() == kWell);
}

TEST_CASE("a server that comes and goes is not well") {
  Story story;
  story.run(100, happy(50));
  story.run(60, rejected(50));
  for (int i = 0; i < 20; ++i) {
    CHECK(story.run(25, happy(50)) == kUnwell);
    CHECK(story.run(15, rejected(50)) == kUnwell);
  }
}

TEST_CASE("if nobody fails any more because nobody asks, judgement is resumed after five minutes") {
  Story story;
  story.run(100, happy(50));
  story.run(60, rejected(50));
  const int after_s = story.until_change(1000, {});
  CHECK(after_s >= 300);
  CHECK(after_s <= 310);
}

TEST_CASE("ten thousand phones are counted as well as ten") {
  Story story;
  story.run(100, happy(10'000));
  CHECK(story.run(600, together(happy(9'000), rejected(1'000, 9'000))) == kWell);
  CHECK(story.run(15, rejected(10'000)) == kUnwell);
}

// --- answers unseen

TEST_CASE("a mirror of one direction only: no answer was ever seen") {
  Story story;
  CHECK(story.until_change(600, unanswered(50)) == 61);
  CHECK(story.wellbeing.state() == kUnseen); // and nothing is said of the server, which may be well
}

TEST_CASE("answers are not missed before enough were due") {
  struct Row {
    const char* name;
    unsigned sources;
    std::uint64_t requests_per_s;
    int for_s;
  };
  static constexpr Row kRows[] = {
      {"too few sources: one scanner that nobody answers", 5, 100, 3600},
      {"too few requests", 50, 1, 199},
      {"too short a time", 50, 100, 60},
      {"nobody asks", 0, 0, 3600},
  };
  for (const auto& row : kRows) {
    INFO(row.name);
    Story story;
    const LastSecond second{.sources = sources(0, row.sources), .requests = row.requests_per_s};
    CHECK(story.run(row.for_s, second) == kWell);
  }
}

TEST_CASE("the minute begins with the first request, not with the start") {
  Story story;
  story.run(3600, {});
  CHECK(story.run(60, unanswered(50)) == kWell);
  CHECK(story.run(1, unanswered(50)) == kUnseen);
}

TEST_CASE("answers that are seen at last end it for good") {
  Story story;
  story.run(100, unanswered(50));
  auto stray = unanswered(50);
  stray.answers = 1;
  CHECK(story.run(4, stray) == kUnseen);
  CHECK(story.run(1, stray) == kWell);
  CHECK(story.run(5, happy(50)) == kWell);
  CHECK(story.run(20, unanswered(50)) == kUnwell); // now silence is the server's
}

TEST_CASE("a server that has answered before, and then falls silent, is unwell and not unseen") {
  Story story;
  story.run(100, happy(50));
  CHECK(story.run(600, unanswered(50)) == kUnwell);
}

} // namespace
} // namespace sipward::policy
