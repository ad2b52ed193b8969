// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/counters.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <numeric>
#include <random>
#include <thread>

namespace sipward::dataplane {
namespace {

bool algebra_holds(const Counters& c) {
  return c.received == c.passed + c.dropped &&
         c.received == std::accumulate(c.verdicts.begin(), c.verdicts.end(), std::uint64_t{0});
}

TEST_CASE("each verdict is counted once on each side of the algebra") {
  Counters counters;
  for (std::size_t why = 0; why < policy::kWhys; ++why)
    for (std::size_t n = 0; n <= why; ++n) counters.count({static_cast<policy::Why>(why), n % 2 == 0});
  CHECK(algebra_holds(counters));
  CHECK(counters.received == policy::kWhys * (policy::kWhys + 1) / 2);
  for (std::size_t why = 0; why < policy::kWhys; ++why) CHECK(counters.verdicts[why] == why + 1);
  CHECK(counters.dropped > counters.passed);
}

TEST_CASE("the sum of two workers' counters is the sum of every number") {
  Counters a, b;
  auto words_a = std::bit_cast<CounterWords>(a), words_b = std::bit_cast<CounterWords>(b);
  std::iota(words_a.begin(), words_a.end(), 1);
  std::iota(words_b.begin(), words_b.end(), 1000);
  const auto sum = std::bit_cast<CounterWords>(std::bit_cast<Counters>(words_a) + std::bit_cast<Counters>(words_b));
  for (std::size_t i = 0; i < sum.size(); ++i) CHECK(sum[i] == 1001 + 2 * i);
}

TEST_CASE("what is published is what is read") {
  PublishedCounters published;
  CHECK(published.read().received == 0);
  Counters counters;
  counters.count({policy::Why::Clean});
  counters.octets = 77;
  published.publish(counters);
  CHECK(std::bit_cast<CounterWords>(published.read()) == std::bit_cast<CounterWords>(counters));
}

TEST_CASE("every snapshot is one moment's: the algebra holds in it, and time goes forward") {
  PublishedCounters published;
  std::atomic<bool> done = false;
  std::array<std::atomic<std::uint64_t>, 2> snapshots{}; // on a busy machine a reader may be late: it is waited for
  std::array<std::uint64_t, 2> wrong{};
  std::vector<std::thread> readers;
  for (std::size_t reader = 0; reader < 2; ++reader)
    readers.emplace_back([&, reader] {
      std::uint64_t last = 0;
      while (!done) {
        const auto seen = published.read();
        ++snapshots[reader];
        wrong[reader] += !algebra_holds(seen) || seen.received < last || seen.octets != 100 * seen.received;
        last = seen.received;
      }
    });
  Counters counters;
  std::mt19937 random(1);
  for (int burst = 0; burst < 20'000 || snapshots[0] < 100 || snapshots[1] < 100; ++burst) {
    for (unsigned n = random() % 32; n > 0; --n) {
      counters.count({static_cast<policy::Why>(random() % policy::kWhys), random() % 2 == 0});
      counters.octets += 100;
    }
    published.publish(counters);
    if (burst % 64 == 0) std::this_thread::yield();
  }
  done = true;
  for (auto& reader : readers) reader.join();
  for (const auto count : wrong) CHECK(count == 0);
  CHECK(std::bit_cast<CounterWords>(published.read()) == std::bit_cast<CounterWords>(counters));
}

} // namespace
} // namespace sipward::dataplane
