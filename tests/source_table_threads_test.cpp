// SPDX-License-Identifier: GPL-2.0-or-later
#include <array>
#include <atomic>
#include <barrier>
#include <catch2/catch.hpp>
#include <random>
#include <thread>

#include "tests/source_table_lab.h"

// The source table in the hands of several workers at once; meant for the thread sanitizer.
namespace sipward::policy {
namespace {

using namespace std::chrono_literals;

constexpr int kThreads = 4;

template<typename F>
void together(F body) {
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) threads.emplace_back([&body, t] { body(t); });
  for (auto& thread : threads) thread.join();
}

TEST_CASE("several workers meter one source as one") {
  Table table(64);
  const Meter limit({10, 75});
  for (std::uint32_t round = 0; round < 50; ++round) {
    table.line(key(round), at(1s));
    std::atomic<int> passed = 0;
    std::atomic<std::uint32_t> clock_ms = 1000;
    together([&](int) {
      for (int i = 0; i < 500; ++i) { // 2,000 requests in all, one each millisecond
        const Now now = at(std::chrono::milliseconds(clock_ms.fetch_add(1)));
        Source* source = table->find_or_insert(key(round), now);
        source->touch(now);
        passed += source->meter(Class::Register, limit, now);
      }
    });
    CHECK(passed <= 75 + 20);
    CHECK(passed >= 75 + 18); // and none is metered twice; workers' clocks may lag by what a thread is delayed
  }
}

TEST_CASE("workers that insert one source at once end with one line of it") {
  Table table(8192); // so roomy that no bucket fills
  const Meter limit({1, 10});
  constexpr std::uint32_t kKeys = 400;
  std::array<std::atomic<int>, kKeys> passed{};
  std::barrier start(kThreads);
  const Now now = at(1s);
  together([&](int) {
    for (std::uint32_t n = 0; n < kKeys; ++n) {
      start.arrive_and_wait();
      for (int i = 0; i < 10; ++i) {
        Source* source = nullptr;
        while (source == nullptr) source = table->find_or_insert(key(n), now); // a claimer may be put to sleep
        source->touch(now);
        passed[n] += source->meter(Class::Register, limit, now);
      }
    }
  });
  for (std::uint32_t n = 0; n < kKeys; ++n) {
    REQUIRE(table->find(key(n)) != nullptr);
    CHECK(passed[n] >= 10);
    CHECK(passed[n] <= 10 + kThreads - 1); // at most one request of each other worker went to a line given back
  }
  CHECK(table->occupancy().used >= kKeys);
  CHECK(table->occupancy().used <= kKeys + kKeys / 20); // lines claimed twice unseen, which drain and go
  CHECK(table->occupancy().evicted == 0);
}

TEST_CASE("however fast lines change hands, none carries a stale field") {
  Table table(2048);
  const Meter limit({1, 10});
  constexpr std::uint32_t kRounds = 200, kKeys = 50;
  std::barrier round_ends(kThreads);
  std::atomic<int> stale = 0, lost = 0;
  together([&](int thread) {
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      const Now now = at(100s + round * 5s); // all of the round before have drained
      std::array<Source*, kKeys> lines{};
      const auto nth = [&](std::uint32_t i) {
        return key((round * kThreads + static_cast<std::uint32_t>(thread)) * kKeys + i);
      };
      for (std::uint32_t i = 0; i < kKeys; ++i) {
        while (lines[i] == nullptr) lines[i] = table->find_or_insert(nth(i), now); // a claimer may be put to sleep
        Source& source = *lines[i];
        stale += source.users != 0 || source.failures != 0 || source.successes != 0 || source.packets != 0 ||
                 source.flags != 0 || source.busy_packets != 0 || source.blocked_until_s != 0;
        stale += !source.drained(now);
        source.touch(now);
        source.meter(Class::Register, limit, now); // in use: nobody takes it in this round
        source.users = nth(i);
        source.failures = 9;
        source.successes = 9;
        source.claim_report(now);
      }
      for (std::uint32_t i = 0; i < kKeys; ++i)
        lost += table->find(nth(i)) != lines[i] || lines[i]->users != nth(i) || lines[i]->packets != 1;
      round_ends.arrive_and_wait();
    }
  });
  CHECK(stale == 0);
  CHECK(lost == 0);
  CHECK(table->occupancy().evicted == 0);
}

TEST_CASE("a table far too small for its workers stays sound") {
  Table table(16);
  const Meter limit({1, 5});
  std::atomic<std::uint64_t> turned_away = 0;
  together([&](int thread) {
    std::mt19937 random(static_cast<unsigned>(thread));
    for (int i = 0; i < 50'000; ++i) {
      const Now now = at(1s + i * 1ms);
      Source* source = table->find_or_insert(key(static_cast<std::uint32_t>(random() % 200)), now);
      if (source == nullptr) {
        ++turned_away;
        continue;
      }
      source->touch(now);
      source->meter(Class::Options, limit, now);
      if (random() % 64 == 0) source->blocked_until_s = now.s + 1;
    }
  });
  const auto occupancy = table->occupancy();
  CHECK(occupancy.pinned == turned_away);
  CHECK(occupancy.used == 16);
  CHECK(occupancy.evicted > 0);
}

} // namespace
} // namespace sipward::policy
