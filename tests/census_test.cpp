// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/census.h"

#include <catch2/catch.hpp>
#include <memory>

namespace sipward::policy {
namespace {

using namespace std::chrono_literals;

struct Lab {
  explicit Lab(std::uint32_t capacity = 1024)
      : octets(SourceTable::octets(capacity)),
        memory(static_cast<std::byte*>(std::aligned_alloc(64, octets)), std::free),
        table({memory.get(), octets}, capacity, Secret{1, 2, 3, 4}), census(table) {}

  static SourceKey key(unsigned n) { return 0xffff'0000'0000'0000 | n; }
  void send(unsigned n, unsigned packets) {
    for (unsigned i = 0; i < packets; ++i) table.find_or_insert(key(n), Now(at))->touch(Now(at));
  }
  // Whole rounds only.
  std::vector<std::pair<unsigned, double>> round() {
    while (!census.look(Now(at))) continue;
    std::vector<std::pair<unsigned, double>> found;
    for (const auto& [sender, rate] : census.busiest()) found.emplace_back(static_cast<unsigned>(sender), rate);
    return found;
  }

  std::size_t octets;
  std::unique_ptr<std::byte, decltype(&std::free)> memory;
  SourceTable table;
  Census census;
  Time at{100s};
};
using Found = std::vector<std::pair<unsigned, double>>;

TEST_CASE("a round names those who sent since the round before, the busiest first, with packets per second") {
  Lab lab;
  lab.send(1, 5);
  lab.send(2, 5);
  lab.send(3, 5);
  lab.round();
  lab.at += 2s;
  lab.send(2, 10);
  lab.send(3, 40);
  CHECK(lab.round() == Found{{3, 20.0}, {2, 5.0}});
  lab.at += 1s;
  CHECK(lab.round().empty());
}

TEST_CASE("the first round has the table's own measure, so that who floods is named at once") {
  Lab lab;
  const Meter meter({10, 75});
  for (int i = 0; i < 50; ++i, lab.at += 10ms) {
    lab.send(7, 1);
    lab.table.find(Lab::key(7))->meter(Class::Register, meter, Now(lab.at));
  }
  const auto found = lab.round();
  REQUIRE(found.size() == 1);
  CHECK(found[0].first == 7);
  CHECK(found[0].second == Approx(100).epsilon(0.05));
}

TEST_CASE("the blocked are counted too") {
  Lab lab;
  lab.send(1, 1);
  REQUIRE(lab.table.block(Lab::key(1), 1000, Now(lab.at)));
  lab.round();
  lab.at += 1s;
  for (int i = 0; i < 30; ++i) lab.table.find(Lab::key(1))->count_packet();
  CHECK(lab.round() == Found{{1, 30.0}});
}

TEST_CASE("a round right after the last one is the last one, and a minute later nothing is compared") {
  Lab lab;
  lab.send(1, 5);
  lab.round();
  lab.at += 1s;
  lab.send(1, 5);
  const auto first = lab.round();
  lab.at += 10ms;
  lab.send(1, 5);
  CHECK(lab.round() == first);
  lab.at += 2min;
  lab.send(1, 500);
  CHECK(lab.round().empty()); // its meters are empty, and when it sent the 500 is not known
}

TEST_CASE("a line that another source took counts for that one from nothing") {
  Lab lab(8); // one bucket
  for (unsigned n = 1; n <= 8; ++n) lab.send(n, 100);
  lab.round();
  lab.at += 1s;
  lab.send(9, 3); // all are drained: it takes one of them
  CHECK(lab.round() == Found{{9, 3.0}});
}

TEST_CASE("of very many the busiest are kept, and a large table is gone through in slices") {
  Lab lab(2 * Census::kSlice);
  for (unsigned n = 1; n <= 3000; ++n) lab.send(n, 1);
  lab.round();
  lab.at += 1s;
  for (unsigned n = 1; n <= 3000; ++n) lab.send(n, n);
  CHECK_FALSE(lab.census.look(Now(lab.at)));
  REQUIRE(lab.census.look(Now(lab.at)));
  const auto busiest = lab.census.busiest();
  REQUIRE(busiest.size() == Census::kMost);
  CHECK(static_cast<unsigned>(busiest.front().key) == 3000);
  CHECK(static_cast<unsigned>(busiest.back().key) == 2001);
}

} // namespace
} // namespace sipward::policy
