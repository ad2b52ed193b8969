// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/spsc_ring.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <thread>

namespace sipward::dataplane {
namespace {

TEST_CASE("values come out in the order they went in") {
  SpscRing<int, 8> ring;
  int value = 0;
  CHECK_FALSE(ring.pop(value));
  for (int i = 1; i <= 5; ++i) CHECK(ring.push(i));
  for (int i = 1; i <= 5; ++i) {
    REQUIRE(ring.pop(value));
    CHECK(value == i);
  }
  CHECK_FALSE(ring.pop(value));
}

TEST_CASE("a full ring refuses a value, keeps all it has, and goes on when there is room") {
  SpscRing<int, 4> ring;
  for (int i = 0; i < 4; ++i) CHECK(ring.push(i));
  CHECK_FALSE(ring.push(99));
  CHECK_FALSE(ring.push(99));
  int value = -1;
  REQUIRE(ring.pop(value));
  CHECK(value == 0);
  CHECK(ring.push(4));
  CHECK_FALSE(ring.push(99));
  for (int i = 1; i <= 4; ++i) {
    REQUIRE(ring.pop(value));
    CHECK(value == i);
  }
  CHECK_FALSE(ring.pop(value));
}

TEST_CASE("a ring goes round many times, at every level of filling") {
  SpscRing<unsigned, 8> ring;
  unsigned in = 0, out = 0, value = 0;
  for (unsigned round = 0; round < 1000; ++round) {
    for (unsigned i = 0; i < round % 9; ++i) in += ring.push(in);
    for (unsigned i = 0; i < (round * 7) % 9; ++i)
      if (ring.pop(value)) {
        if (value != out) FAIL("got " << value << " instead of " << out);
        ++out;
      }
    REQUIRE(in - out <= 8);
  }
  CHECK(out > 1000);
}

TEST_CASE("between two threads nothing is lost, doubled, torn or out of order") {
  struct Wide {
    std::uint64_t number, twice, checksum;
  };
  const auto ring = std::make_unique<SpscRing<Wide, 64>>();
  constexpr std::uint64_t kValues = 200'000;
  std::uint64_t refused = 0;
  std::thread producer([&] {
    for (std::uint64_t i = 0; i < kValues;) {
      if (ring->push({i, 2 * i, ~i}))
        ++i;
      else {
        ++refused;
        std::this_thread::yield();
      }
    }
  });
  std::uint64_t next = 0, wrong = 0;
  while (next < kValues) {
    Wide value{};
    if (!ring->pop(value)) {
      std::this_thread::yield();
      continue;
    }
    wrong += value.number != next || value.twice != 2 * next || value.checksum != ~next;
    ++next;
  }
  producer.join();
  Wide value{};
  CHECK(wrong == 0);
  CHECK_FALSE(ring->pop(value));
  INFO(refused << " pushes met a full ring");
}

} // namespace
} // namespace sipward::dataplane
