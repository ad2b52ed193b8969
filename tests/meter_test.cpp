// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/meter.h"

#include <catch2/catch.hpp>
#include <random>

namespace sipward::policy {
namespace {

using namespace std::chrono_literals;

constexpr auto kSecond = static_cast<Ticks>(kTicksPerSecond);

constexpr Time at(Duration since_epoch) { return Time(since_epoch); }

// A meter with its one number, asked at points in time.
struct Metered {
  explicit Metered(const Rate& rate, Ticks start = 0) : meter(rate), tat(start) {}
  bool request(Ticks now) {
    const auto [next, conforms] = meter.add(tat, now);
    if (!conforms) CHECK(next == tat); // a refused request leaves no debt behind
    tat = next;
    return conforms;
  }
  int burst(Ticks now) {
    int passed = 0;
    while (request(now)) ++passed;
    return passed;
  }
  Meter meter;
  Ticks tat;
};

TEST_CASE("ticks are 2^-18 s and wrap at 2^32") {
  CHECK(ticks(at(0s)) == 0);
  CHECK(ticks(at(1s)) == kTicksPerSecond);
  CHECK(ticks(at(500ms)) == kTicksPerSecond / 2);
  CHECK(ticks(at(3814ns)) == 0);
  CHECK(ticks(at(3815ns)) == 1);
  CHECK(ticks(at(16384s)) == 0); // the circle is 2^14 s round
  CHECK(ticks(at(16384s + 1s)) == kTicksPerSecond);
  CHECK(ticks(at(1'795'309'323s + 250ms)) ==
        static_cast<Ticks>((1'795'309'323 % 16384) * kTicksPerSecond + kTicksPerSecond / 4));
}

TEST_CASE("a burst passes to the last request, and not one more") {
  for (const std::uint32_t burst : {1u, 2u, 5u, 75u, 200u, 10'000u})
    for (const double rate : {0.1, 1.0, 10.0, 20.0, 333.0, 1000.0}) {
      if (burst / rate > 3500) continue; // more than the horizon: capped, see below
      INFO(burst << " at " << rate << "/s");
      Metered source({rate, burst}, 1000);
      CHECK(source.burst(1000) == static_cast<int>(burst));
    }
  Metered none({10, 0});
  CHECK(none.burst(0) == 1); // a burst of nothing would never let anything pass: read as 1
}

TEST_CASE("over a long time exactly the rate passes") {
  for (const double rate : {0.5, 10.0, 20.0, 1000.0}) {
    INFO(rate << "/s");
    Metered source({rate, 10});
    int passed = 0;
    constexpr int kSeconds = 1000;
    const auto step = static_cast<Ticks>(kTicksPerSecond / (4 * rate)); // four times too fast
    for (std::uint64_t now = 0; now < std::uint64_t{kSeconds} * kTicksPerSecond; now += step)
      passed += source.request(static_cast<Ticks>(now));
    CHECK(passed == Approx(rate * kSeconds + 9).epsilon(0.002)); // 0.2 %: the promise of the header
  }
}

TEST_CASE("a source that keeps to the rate is never refused") {
  Metered source({10, 1});
  bool refused = false;
  for (std::uint64_t i = 0; i < 100'000; ++i) // every 100 ms and a tick's rounding, for 2.8 h
    refused = refused || !source.request(static_cast<Ticks>(i * (kTicksPerSecond / 10 + 1)));
  CHECK_FALSE(refused);
}

TEST_CASE("meters work across the wrap of the tick") {
  const Ticks before = 0u - kSecond / 2;
  Metered source({10, 20}, before);
  CHECK(source.burst(before) == 20);
  CHECK_FALSE(Meter::drained(source.tat, before));
  CHECK(source.tat < before);                  // the debt reaches past the wrap
  CHECK(source.burst(before + kSecond) == 10); // a second later, on the other side
  CHECK(Meter::drained(source.tat, source.tat));
  CHECK_FALSE(Meter::drained(source.tat, source.tat - 1));
}

TEST_CASE("a meter is drained once all its requests have leaked out at the rate") {
  Metered source({10, 75});
  CHECK(Meter::drained(source.tat, 0));
  source.burst(0);
  const auto full = static_cast<Ticks>(75 * (kTicksPerSecond / 10.0 + 0.5));
  CHECK_FALSE(Meter::drained(source.tat, 7 * kSecond));
  CHECK(Meter::drained(source.tat, full));
}

TEST_CASE("no rate or burst reaches further than the circle can tell past from future") {
  constexpr Ticks kHalfCircle = 1u << 31;
  for (const Rate rate : {Rate{0.0001, 1}, Rate{0.0001, 1000}, Rate{1, 4'000'000'000}, Rate{1e-300, 1},
                          Rate{1e9, 4'000'000'000}, Rate{0, 5}}) {
    INFO(rate.per_second << "/s, burst " << rate.burst);
    Metered source(rate);
    for (int i = 0; i < 5000 && source.request(0); ++i) CHECK(source.tat < kHalfCircle);
    CHECK(source.tat > 0);
  }
}

TEST_CASE("what passes in any stretch of time stays within burst + rate x time") {
  std::mt19937 random(11);
  for (int round = 0; round < 50; ++round) {
    const Rate rate{static_cast<double>(1 + random() % 100), 1 + static_cast<std::uint32_t>(random() % 100)};
    Metered source(rate, static_cast<Ticks>(random()));
    const Ticks start = source.tat;
    std::uint64_t elapsed = 0;
    double passed = 0;
    bool within = true;
    for (int i = 0; i < 3000; ++i) {
      elapsed += random() % (kTicksPerSecond / 50);
      passed += source.request(start + static_cast<Ticks>(elapsed));
      const double allowed = rate.burst + rate.per_second * 1.002 * static_cast<double>(elapsed) / kTicksPerSecond;
      within = within && passed <= allowed + 1e-6;
    }
    INFO(rate.per_second << "/s, burst " << rate.burst);
    CHECK(within);
  }
}

TEST_CASE("eight of an exempt packet weigh as much as one request") {
  const Meter meter({10, 20});
  Ticks tat = 0;
  for (int i = 0; i < 8 * 5; ++i) tat = meter.add(tat, 0, Meter::kExempt).tat;
  Ticks whole = 0;
  for (int i = 0; i < 5; ++i) whole = meter.add(whole, 0).tat;
  CHECK(tat == Approx(whole).epsilon(0.001));
}

TEST_CASE("what is charged is held whatever the limit, up to an hour, and above the limit it says so") {
  const Meter meter({1, 20});
  Ticks tat = 0;
  for (int i = 1; i <= 100; ++i) {
    const auto outcome = meter.charge(tat, 0, Meter::kWhole);
    CHECK(outcome.conforms == (i < 20));
    CHECK(outcome.tat == tat + kSecond);
    tat = outcome.tat;
  }
  CHECK(meter.charge(0, 0, 3 * Meter::kWhole).tat == 3 * kSecond);
  for (int i = 0; i < 10'000; ++i) tat = meter.charge(tat, 0, Meter::kWhole).tat;
  CHECK(tat == 3600 * kSecond);
}

TEST_CASE("what is given back is taken from the debt, and never more than there is") {
  const Meter meter({1, 20});
  const Ticks now = 1000 * kSecond, three = now + 3 * kSecond;
  CHECK(meter.refund(three, now, Meter::kWhole) == now + 2 * kSecond);
  CHECK(meter.refund(three, now, 4 * Meter::kWhole) == now);
  CHECK(meter.refund(now - 5, now, Meter::kWhole) == now - 5); // it has drained already
  CHECK(meter.refund(meter.add(three, now, Meter::kExempt).tat, now, Meter::kExempt) == three);
}

TEST_CASE("whoever leaves a quarter to others never takes it") {
  const Meter meter({10, 100});
  Ticks tat = 0;
  int polite = 0, rest = 0;
  while (polite < 1000) {
    const auto outcome = meter.leaving_a_quarter().add(tat, 0);
    if (!outcome.conforms) break;
    tat = outcome.tat, ++polite;
  }
  for (auto outcome = meter.add(tat, 0); outcome.conforms && rest < 1000; outcome = meter.add(tat, 0))
    tat = outcome.tat, ++rest;
  CHECK(polite == Approx(75).margin(1));
  CHECK(polite + rest == 100);
}

} // namespace
} // namespace sipward::policy
