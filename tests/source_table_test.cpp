// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/source_table.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <random>
#include <unordered_map>

#include "tests/source_table_lab.h"

namespace sipward::policy {
namespace {

using namespace std::chrono_literals;

// --- keys

TEST_CASE("an IPv4 source is an address, an IPv6 source a /64") {
  CHECK(key("198.51.100.66") != key("198.51.100.67"));
  CHECK(key("2001:db8:1:2::1") == key("2001:db8:1:2:ffff::9"));
  CHECK(key("2001:db8:1:2::1") != key("2001:db8:1:3::1"));
  CHECK(key("2001:db8:1:2::1", 48) == key("2001:db8:1:3::1", 48));
  CHECK(key("2001:db8:1:2::1", 128) == key("2001:db8:1:2::2", 128)); // never more than 64 bits of it
}

TEST_CASE("no address has the table's own keys, and no IPv4 address an IPv6 source's") {
  for (const auto* text : {"0.0.0.0", "255.255.255.255", "::", "::1", "ffff:ffff:ffff:ffff::1",
                           "ffff:ffff:ffff:fffe::1", "ffff:ffff:ffff:fffd::1"}) {
    INFO(text);
    CHECK(key(text) != 0);
    CHECK(key(text) < ~SourceKey{0} - 1);
  }
  CHECK(key("0.0.0.1") != key("::1"));
  CHECK(key("198.51.100.66") != key("::c633:6442:0:0:0:0"));
}

TEST_CASE("sources and prefixes of both families have keys of their own") {
  const auto prefix = [](std::string_view text) { return prefix_key(Prefix::parse(text).value()); };
  const std::vector<SourceKey> keys = {key("198.51.100.0"),
                                       key("198.51.100.66"),
                                       prefix("198.51.100.0/24"),
                                       prefix("198.51.101.0/24"),
                                       key("0:1:c633:6400::"),
                                       key("2001:db8:1::"),
                                       prefix("2001:db8:1::/48"),
                                       prefix("2001:db8:2::/48"),
                                       prefix("2001:db8::/32"),
                                       prefix("::/48"),
                                       key("fe80::1"),
                                       prefix("fe80::/48"),
                                       key("64:ff9b::198.51.0.0"),
                                       prefix("64:ff9b::/48"),
                                       prefix("0.0.0.0/24"),
                                       key("0.0.0.0")};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    INFO(i);
    CHECK(keys[i] != 0);
    CHECK(keys[i] < ~SourceKey{0} - 1);
    CHECK(std::ranges::count(keys, keys[i]) == 1);
  }
  CHECK(key("ff02::1") == prefix("ff00::/48")); // nobody's
}

// --- one thread

TEST_CASE("a source is found again, and only after it was inserted") {
  Table table(64);
  const Now now = at(1s);
  CHECK(table->find(key("198.51.100.66")) == nullptr);
  Source& source = table.line(key("198.51.100.66"), now);
  CHECK(table->find(key("198.51.100.66")) == &source);
  CHECK(&table.line(key("198.51.100.66"), now) == &source);
  CHECK(table->find(key("198.51.100.67")) == nullptr);
  CHECK(table->occupancy().used == 1);
}

TEST_CASE("the capacity is rounded up to a power of two of at least one bucket") {
  CHECK(Table(1)->capacity() == SourceTable::kWays);
  CHECK(Table(9)->capacity() == 16);
  CHECK(Table(4096)->capacity() == 4096);
  CHECK(SourceTable::octets(4097) == 8192 * 65);
}

TEST_CASE("packets are counted exactly") {
  Table table(64);
  Source& source = table.line(key("198.51.100.66"), at(1s));
  for (int i = 0; i < 1000; ++i) source.touch(at(1s + i * 10ms));
  CHECK(source.packets == 1000);
  source.packets = 0xffff'ffff;
  source.touch(at(20s));
  CHECK(source.packets == 0xffff'ffff); // it stops rather than begin again
}

TEST_CASE("the rate counts from when the source became busy") {
  Table table(64);
  const Meter limit({10, 75});
  Source& source = table.line(key("198.51.100.66"), at(1s));
  source.touch(at(1s));
  CHECK(source.rate_per_s(at(1s)) == 0); // one packet has no rate
  source.meter(Class::Register, limit, at(1s));
  for (int i = 1; i <= 50; ++i) {
    source.touch(at(1s + i * 20ms));
    source.meter(Class::Register, limit, at(1s + i * 20ms));
  }
  CHECK(source.rate_per_s(at(2s)) == Approx(50));
  for (int i = 0; i < 3; ++i) { // long after the meters drained: a new count
    source.touch(at(60s + i * 50ms));
    source.meter(Class::Register, limit, at(60s + i * 50ms));
  }
  CHECK(source.rate_per_s(at(60s + 100ms)) == Approx(20));
}

TEST_CASE("the rate of a source that is busy for two months is its rate") {
  Table table(64);
  const Meter limit({0.1, 300}); // twice as many as drain
  Source& source = table.line(key("198.51.100.66"), at(1s));
  Duration now = 1s;
  for (int i = 0; i < 60 * 24 * 360; ++i, now += 10s) {
    source.touch(at(now));
    for (int k = 0; k < 2; ++k) source.meter(Class::Options, limit, at(now));
    if (i % 1000 == 500 && std::abs(source.rate_per_s(at(now)) - 0.1) > 0.01)
      FAIL(source.rate_per_s(at(now)) << "/s after " << now / 24h << " days");
  }
}

TEST_CASE("a source that was idle for more than an hour starts afresh") {
  const Meter limit({1, 3000}); // a debt of most of an hour
  for (const Duration idle : {3601s, 5000s, 8192s, 9000s, 12000s, 16384s, 20000s, 40000s}) {
    INFO(idle.count() / 1'000'000'000 << " s");
    Table table(64);
    Source& source = table.line(key("198.51.100.66"), at(10s));
    source.touch(at(10s));
    for (int i = 0; i < 3000; ++i) source.meter(Class::Register, limit, at(10s));
    CHECK_FALSE(source.drained(at(10s)));
    const Now later = at(10s + idle + 1s);
    CHECK(source.drained(later));
    source.touch(later);
    CHECK(source.drained(later));
    int passed = 0;
    while (passed < 4000 && source.meter(Class::Register, limit, later)) ++passed;
    CHECK(passed == 3000);
  }
}

TEST_CASE("a class that is quiet for hours, in a source that is not, keeps its full burst") {
  const Meter limit({10, 75});
  Table table(64);
  Source& source = table.line(key("198.51.100.66"), at(10s));
  REQUIRE(source.meter(Class::Invite, limit, at(10s)));
  for (Duration now = 40s; now < 40'000s; now += 30s) { // OPTIONS every 30 s, for 11 h
    source.touch(at(now));
    if (!source.drained(at(now))) FAIL("not drained after " << now.count() / 1'000'000'000 << " s");
    source.meter(Class::Options, limit, at(now));
    if ((now.count() / 1'000'000'000) % 3000 != 10) continue;
    int passed = 0; // and now and then a batch of REGISTERs
    while (passed < 100 && source.meter(Class::Register, limit, at(now))) ++passed;
    if (passed != 75) FAIL(passed << " passed after " << now.count() / 1'000'000'000 << " s");
  }
}

TEST_CASE("the estimator of tried users is right within the error of linear counting") {
  Table table(64);
  Source& source = table.line(key("198.51.100.66"), at(1s));
  CHECK(source.users_tried() == 0);
  for (int i = 0; i < 100; ++i) source.try_user(table->hash(77));
  CHECK(source.users_tried() == 1); // the same user is one user
  std::mt19937_64 random(5);
  for (const unsigned users : {2u, 5u, 10u, 20u, 40u, 80u}) {
    const double load = users / 64.0;
    const double error = std::sqrt(64 * (std::exp(load) - load - 1)); // Whang et al., 1990, theorem 5
    double sum = 0;
    constexpr int kTrials = 400;
    double worst = 0;
    for (int trial = 0; trial < kTrials; ++trial) {
      source.users = 0;
      for (unsigned i = 0; i < users; ++i) source.try_user(table->hash(random()));
      sum += source.users_tried();
      worst = std::max(worst, std::abs(source.users_tried() - static_cast<double>(users)));
    }
    INFO(users << " users, standard error " << error);
    CHECK(std::abs(sum / kTrials - users) < 0.5 + 0.05 * users);
    CHECK(worst < 1 + 6 * error);
  }
  source.users = ~std::uint64_t{0};
  CHECK(source.users_tried() == 266);
}

TEST_CASE("an offence is reported once a second, whoever asks") {
  Table table(64);
  Source& source = table.line(key("198.51.100.66"), at(0s));
  CHECK(source.claim_report(at(0s))); // second 0 counts too
  CHECK_FALSE(source.claim_report(at(999ms)));
  CHECK(source.claim_report(at(1s)));
  CHECK_FALSE(source.claim_report(at(999ms))); // another worker's burst began a little earlier
  CHECK_FALSE(source.claim_report(at(1s + 1ms)));
  Source& later = table.line(key("198.51.100.67"), at(3'000'000'000s)); // replay's clock after 2038
  CHECK(later.claim_report(at(3'000'000'000s)));
  CHECK_FALSE(later.claim_report(at(3'000'000'000s)));
  CHECK(later.claim_report(at(3'000'000'001s)));
}

// --- the keyed hash

TEST_CASE("neighbouring addresses spread evenly, and differently under each secret") {
  constexpr std::size_t kBuckets = 256, kKeys = 65536;
  std::mt19937_64 random(17);
  for (int i = 0; i < 20; ++i) {
    const SourceTable::Secret secret{random(), random(), random(), random()};
    Table table(8, secret);
    std::vector<int> low(kBuckets), high(kBuckets);
    for (std::uint32_t n = 0; n < kKeys; ++n) {
      const auto hash = table->hash(key(0xc6336400 + n));
      ++low[hash % kBuckets];
      ++high[hash >> 56];
    }
    for (const auto* counts : {&low, &high}) {
      double chi_square = 0;
      const double expected = static_cast<double>(kKeys) / kBuckets;
      for (const int count : *counts) chi_square += (count - expected) * (count - expected) / expected;
      CHECK(chi_square < 400); // 255 degrees of freedom: mean 255, deviation 23; an honest hash stays below
    }
  }
  Table one(8), other(8, {kSecret.a + 1, kSecret.b, kSecret.c, kSecret.d});
  int same = 0;
  for (std::uint32_t n = 0; n < 4096; ++n) same += one->hash(key(n)) % 256 == other->hash(key(n)) % 256;
  CHECK(same < 4096 / 256 * 3);
}

TEST_CASE("a table half full of busy sources has room for 98 in 100 of them") {
  Table table(4096);
  const Meter limit({1, 10});
  for (std::uint32_t n = 0; n < 2048; ++n) {
    Source& source = table.line(key(0xc6336400 + n), at(1s));
    source.touch(at(1s));
    source.meter(Class::Register, limit, at(1s));
  }
  const auto occupancy = table->occupancy();
  CHECK(occupancy.used + occupancy.evicted == 2048); // whoever finds its bucket full takes a line from another
  CHECK(occupancy.evicted < 40);
  CHECK(occupancy.pinned == 0);
}

// --- eviction: a table of one bucket, so that everybody competes

struct FullWindow {
  // Source n owes n + 1 requests.
  FullWindow() {
    for (std::uint32_t n = 0; n < SourceTable::kWays; ++n) {
      Source& source = table.line(key(n), now);
      source.touch(now);
      for (std::uint32_t i = 0; i <= n; ++i) source.meter(Class::Invite, limit, now);
    }
  }
  Now now = at(100s);
  Meter limit{{1, 100}};
  Table table{SourceTable::kWays};
};

TEST_CASE_METHOD(FullWindow, "a newcomer takes the line of a forgettable source before any other") {
  const Now later = at(103s + 500ms); // the first three have drained
  table.line(key(1000), later).meter(Class::Invite, limit, later);
  table.line(key(1001), later).meter(Class::Invite, limit, later);
  table.line(key(1002), later).meter(Class::Invite, limit, later);
  for (std::uint32_t n = 0; n < 3; ++n) CHECK(table->find(key(n)) == nullptr);
  for (std::uint32_t n = 3; n < SourceTable::kWays; ++n) CHECK(table->find(key(n)) != nullptr);
  CHECK(table->occupancy().evicted == 0);
  CHECK(table->occupancy().used == SourceTable::kWays);
}

TEST_CASE_METHOD(FullWindow, "of several forgettable sources the longest idle goes first") {
  const Now later = at(200s); // all have drained
  for (const std::uint32_t n : {0u, 1u, 2u, 3u, 4u, 6u, 7u}) table->find(key(n))->touch(later);
  table.line(key(1000), later);
  CHECK(table->find(key(5)) == nullptr);
  CHECK(table->occupancy().evicted == 0);
}

TEST_CASE_METHOD(FullWindow, "without a forgettable one it takes the least indebted, and counts it") {
  table.line(key(1000), now);
  CHECK(table->find(key(0)) == nullptr);
  for (std::uint32_t n = 1; n < SourceTable::kWays; ++n) CHECK(table->find(key(n)) != nullptr);
  CHECK(table->occupancy().evicted == 1);
}

TEST_CASE_METHOD(FullWindow, "a blocked source is never evicted, however little it owes") {
  table->find(key(0))->blocked_until_s = 400;
  table.line(key(1000), now);
  CHECK(table->find(key(0)) != nullptr);
  CHECK(table->find(key(1)) == nullptr);
}

TEST_CASE_METHOD(FullWindow, "when all are blocked the newcomer is turned away and counted, until a block ends") {
  for (std::uint32_t n = 0; n < SourceTable::kWays; ++n) table->find(key(n))->blocked_until_s = 400 + n;
  CHECK(table->find_or_insert(key(1000), at(399s)) == nullptr);
  CHECK(table->find_or_insert(key(1000), at(399s)) == nullptr);
  CHECK(table->occupancy().pinned == 2);
  CHECK(table->find_or_insert(key(1000), at(400s)) != nullptr); // source 0's block ended
  CHECK(table->find(key(0)) == nullptr);
}

TEST_CASE_METHOD(FullWindow, "a new source inherits nothing from the one whose line it takes") {
  for (std::uint32_t n = 0; n < SourceTable::kWays; ++n) {
    Source& old = *table->find(key(n));
    old.users = ~std::uint64_t{0};
    old.failures = 7;
    old.successes = 8;
    CHECK(old.claim_report(now));
  }
  const Now later = at(200s);
  for (std::uint32_t n = 0; n < SourceTable::kWays; ++n) {
    Source& fresh = table.line(key(1000 + n), later);
    fresh.meter(Class::Register, limit, later); // not forgettable any more: the next newcomer takes another's line
    CHECK(fresh.users == 0);
    CHECK(fresh.failures == 0);
    CHECK(fresh.successes == 0);
    CHECK(fresh.packets == 0);
    CHECK(fresh.blocked_until_s == 0);
    CHECK(fresh.claim_report(later));
    CHECK(Meter::drained(fresh.tat[static_cast<std::size_t>(Class::Invite)], later.tick));
  }
}

TEST_CASE("a flood of new sources leaves the indebted and the blocked where they are") {
  Table table(1024);
  const Meter limit({0.01, 50});
  const Now now = at(100s);
  for (std::uint32_t n = 0; n < 100; ++n) { // slow attackers: they owe for minutes
    Source& source = table.line(key(n), now);
    for (int i = 0; i < 10; ++i) source.meter(Class::Register, limit, now);
  }
  for (std::uint32_t n = 100; n < 150; ++n) table.line(key(n), now).blocked_until_s = 1000;
  for (std::uint32_t n = 0; n < 200'000; ++n) table->find_or_insert(key(0x0a000000 + n), at(101s + n * 10us));
  for (std::uint32_t n = 0; n < 150; ++n) CHECK(table->find(key(n)) != nullptr);
  CHECK(table->occupancy().evicted == 0);
}

// --- against a model

TEST_CASE("over random operations the table does what a map would") {
  struct Model {
    std::array<double, kClasses> debt_s{}; // seconds until drained
    Duration seen{};
    std::uint32_t packets = 0;
    std::uint32_t blocked_until = 0;
  };
  std::mt19937 random(3);
  Table table(8192);
  std::unordered_map<SourceKey, Model> model;
  constexpr Rate kRate{8, 16}; // 1/8 s is a whole number of ticks: no rounding to excuse
  const Meter limit(kRate);
  Duration now = 50s;
  for (int step = 0; step < 300'000; ++step) {
    const auto pause = static_cast<std::int64_t>(random() % 32) * (random() % 5000 == 0 ? 40'000 : 1);
    now += std::chrono::milliseconds(125) * pause / 8;
    const Now present = at(now);
    const SourceKey k = key(static_cast<std::uint32_t>(random() % 500));
    Source& source = table.line(k, present);
    Model& expected = model[k];
    const double passed_s = std::chrono::duration<double>(now - expected.seen).count();
    for (auto& debt : expected.debt_s) debt = std::max(0.0, debt - passed_s);
    expected.seen = now;
    source.touch(present);
    ++expected.packets;
    if (random() % 100 == 0)
      source.blocked_until_s = expected.blocked_until = present.s + static_cast<std::uint32_t>(random() % 100);
    const auto c = random() % kClasses;
    bool alike = true;
    for (std::uint32_t i = random() % 4; i > 0; --i) {
      const bool conforms = expected.debt_s[c] <= (kRate.burst - 1) / kRate.per_second;
      if (conforms) expected.debt_s[c] += 1 / kRate.per_second;
      alike = alike && source.meter(static_cast<Class>(c), limit, present) == conforms;
    }
    const bool drained = *std::ranges::max_element(expected.debt_s) <= 0;
    alike = alike && source.drained(present) == drained && source.packets == expected.packets &&
            source.blocked(present) == (expected.blocked_until > present.s);
    if (!alike) FAIL("differs at step " << step << ", " << now.count() / 1'000'000'000 << " s");
  }
  CHECK(table->occupancy().used == model.size());
  CHECK(table->occupancy().evicted == 0);
  for (const auto& [k, expected] : model) CHECK(table->find(k) != nullptr);
}

// What the table must do, said plainly. Which bucket a key is in is all that it takes from the table.
class PlainTable {
public:
  struct Line {
    std::array<std::int64_t, kClasses> tat{}; // in ticks
    std::uint32_t seen_s = 0, blocked_until_s = 0, packets = 0;
    bool drained(std::int64_t tick) const { return std::ranges::max(tat) <= tick; }
    std::int64_t debt(std::int64_t tick) const { return std::max<std::int64_t>(0, std::ranges::max(tat) - tick); }
  };
  using Bucket = std::map<SourceKey, Line>;
  explicit PlainTable(std::size_t buckets) : buckets_(buckets) {}
  Bucket& bucket(std::uint64_t hash) { return buckets_[hash % buckets_.size()]; }
  std::size_t used() const {
    std::size_t sum = 0;
    for (const Bucket& bucket : buckets_) sum += bucket.size();
    return sum;
  }

private:
  std::vector<Bucket> buckets_;
};

TEST_CASE("over random operations in a table too small, who goes is who may go, and the rest is as it was") {
  const auto [seed, capacity, keys] = GENERATE(
      table<unsigned, std::uint32_t, unsigned>({{1, 8, 12}, {2, 16, 40}, {3, 64, 100}, {4, 64, 1000}, {5, 256, 300}}));
  INFO("seed " << seed << ", capacity " << capacity << ", keys " << keys);
  std::mt19937 random(seed);
  Table table(capacity);
  PlainTable plain(capacity / SourceTable::kWays);
  const Meter limit({8, 16});
  constexpr std::int64_t kIncrement = kTicksPerSecond / 8;
  std::uint64_t evicted = 0, pinned = 0;
  Duration now = 50s;
  for (int step = 0; step < 60'000; ++step) {
    now += std::chrono::milliseconds(125) * static_cast<int>(random() % 8 == 0 ? random() % 40 : 0);
    const Now present = at(now);
    const std::int64_t tick = now / 125ms * kIncrement;
    const SourceKey k = key(static_cast<std::uint32_t>(random() % keys));
    auto& bucket = plain.bucket(table->hash(k));
    Source* source = table->find_or_insert(k, present);
    if (!bucket.contains(k)) {
      const auto gone =
          std::ranges::find_if(bucket, [&](const auto& held) { return table->find(held.first) == nullptr; });
      if (bucket.size() < SourceTable::kWays) {
        REQUIRE(source != nullptr);
        REQUIRE(gone == bucket.end());
      } else if (source == nullptr) {
        REQUIRE(std::ranges::all_of(bucket, [&](const auto& held) { return held.second.blocked_until_s > present.s; }));
        ++pinned;
        continue;
      } else {
        REQUIRE(gone != bucket.end());
        const auto& [gone_key, line] = *gone;
        REQUIRE(line.blocked_until_s <= present.s);
        for (const auto& [other_key, other] : bucket) // nobody else was worth less
          if (other.blocked_until_s <= present.s)
            REQUIRE((line.drained(tick) ? !other.drained(tick) || line.seen_s <= other.seen_s
                                        : !other.drained(tick) && line.debt(tick) <= other.debt(tick)));
        evicted += !line.drained(tick);
        bucket.erase(gone);
      }
      bucket[k] = {.tat = {tick, tick, tick, tick, tick}, .seen_s = present.s};
    }
    REQUIRE(source != nullptr);
    auto& expected = bucket.at(k);
    const auto c = random() % kClasses;
    switch (random() % 16) {
    case 0:
      expected.blocked_until_s = present.s + static_cast<std::uint32_t>(random() % 20);
      REQUIRE(table->block(k, expected.blocked_until_s, present));
      break;
    case 1:
      expected.blocked_until_s = 0;
      table->unblock(k);
      break;
    default:
      source->touch(present);
      expected.seen_s = present.s;
      ++expected.packets;
      const bool conforms = expected.tat[c] - tick <= 15 * kIncrement;
      if (conforms) expected.tat[c] = std::max(expected.tat[c], tick) + kIncrement;
      REQUIRE(source->meter(static_cast<Class>(c), limit, present) == conforms);
    }
    for (const auto& [held, line] : bucket) {
      const Source* found = table->find(held);
      REQUIRE(found != nullptr);
      REQUIRE(found->packets == line.packets);
      REQUIRE(found->blocked_until_s == line.blocked_until_s);
      REQUIRE(found->drained(present) == line.drained(tick));
    }
  }
  CHECK(table->occupancy().used == plain.used());
  CHECK(table->occupancy().evicted == evicted);
  CHECK(table->occupancy().pinned == pinned);
}

TEST_CASE("keys made by one who knows the algorithm but not the secret fill buckets like random ones") {
  // He has a table of his own, with a secret of his own, and sends only what meets there in one bucket.
  constexpr std::uint32_t kCapacity = 4096, kKeys = 2048;
  Table own(kCapacity, {1, 2, 3, 4});
  std::mt19937_64 random(7);
  const Meter limit({0.1, 100});
  const auto displaced = [&](bool aimed) {
    Table table(kCapacity);
    for (std::uint32_t n = 0; n < kKeys;) {
      const SourceKey k = random() >> 1;
      if (aimed && own->hash(k) % (kCapacity / SourceTable::kWays) != 0) continue;
      table.line(k, at(1s)).meter(Class::Register, limit, at(1s));
      ++n;
    }
    return table->occupancy().evicted;
  };
  CHECK(displaced(false) < 40);
  CHECK(displaced(true) < 40);
}

} // namespace
} // namespace sipward::policy
