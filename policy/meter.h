// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <cstdint>

#include "policy/time.h"

// The leaky bucket as a meter: the generic cell rate algorithm (ITU-T I.371, "virtual scheduling"). One number per
// meter, the theoretical arrival time (TAT) of the next request if requests came exactly at the rate; no windows to
// roll, no counters to reset.
namespace sipward::policy {

// Meters count time in ticks of 2^-18 s (3.8 us) modulo 2^32, so that a dozen of them fit into a source's cache line.
// The circle is 4.5 h round: whoever keeps a TAT must not let more than kHorizon pass between two looks at it (the
// source table does not).
using Ticks = std::uint32_t;
inline constexpr std::int64_t kTicksPerSecond = 1 << 18;
inline constexpr Duration kHorizon = std::chrono::hours(1);

constexpr Ticks ticks(Time at) noexcept {
  const auto ns = at.time_since_epoch().count();
  return static_cast<Ticks>(ns / 1'000'000'000 * kTicksPerSecond +
                            ns % 1'000'000'000 * kTicksPerSecond / 1'000'000'000);
}

// A rate with a burst, as people write it ("10/s", burst 75).
struct Rate {
  double per_second = 1;
  std::uint32_t burst = 1;
  friend bool operator==(const Rate&, const Rate&) = default;
};

// The same in ticks. Rates above kTicksPerSecond are not measured; the rounding error is below 0.2 % up to 1,000/s.
class Meter {
public:
  constexpr Meter() = default;
  constexpr explicit Meter(const Rate& rate)
      : increment_(capped(kTicksPerSecond / rate.per_second + 0.5)),
        tolerance_(capped(static_cast<double>(increment_) * (rate.burst > 0 ? rate.burst - 1 : 0))) {
    if (increment_ == 0) increment_ = 1;
  }

  struct Outcome {
    Ticks tat;     // to be stored
    bool conforms; // false: one more than the rate and its burst allow; the TAT is then left where it was
  };
  // What one more request at `now` does to a meter that stands at `tat`.
  constexpr Outcome add(Ticks tat, Ticks now) const noexcept { return add(tat, now, kWhole); }
  // Parts of a request, in eighths: what is exempt weighs one.
  static constexpr unsigned kWhole = 8, kExempt = 1;
  // A meter for what must not crowd out the requests beside it: a quarter of the burst is kept for them.
  constexpr Meter leaving_a_quarter() const noexcept {
    Meter less = *this;
    less.tolerance_ -= tolerance_ / 4;
    return less;
  }
  // The same for `weight` eighths of a request.
  constexpr Outcome add(Ticks tat, Ticks now, unsigned weight) const noexcept {
    const auto debt = static_cast<std::int32_t>(tat - now);
    if (debt > 0 && static_cast<Ticks>(debt) > tolerance_) return {tat, false};
    return {(debt > 0 ? tat : now) + part(weight), true};
  }
  // Adds without asking, up to what the circle can hold. `conforms`: does it stand within the limit after that?
  constexpr Outcome charge(Ticks tat, Ticks now, unsigned weight) const noexcept {
    const auto debt = static_cast<std::int32_t>(tat - now);
    const Ticks held = std::min((debt > 0 ? static_cast<Ticks>(debt) : 0) + part(weight), kMost);
    return {now + held, held <= tolerance_};
  }
  // Takes back; never below nothing.
  constexpr Ticks refund(Ticks tat, Ticks now, unsigned weight) const noexcept {
    const auto debt = static_cast<std::int32_t>(tat - now), less = static_cast<std::int32_t>(part(weight));
    return debt <= 0 ? tat : debt > less ? tat - part(weight) : now;
  }
  // Has everything that this meter held drained away?
  static constexpr bool drained(Ticks tat, Ticks now) noexcept { return static_cast<std::int32_t>(tat - now) <= 0; }

private:
  static constexpr auto kMost =
      static_cast<Ticks>(std::chrono::duration_cast<std::chrono::seconds>(kHorizon).count() * kTicksPerSecond);
  static constexpr Ticks capped(double value) noexcept { return value >= kMost ? kMost : static_cast<Ticks>(value); }
  constexpr Ticks part(unsigned weight) const noexcept {
    const auto ticks = static_cast<std::uint64_t>(increment_) * weight / kWhole;
    return ticks == 0 ? 1 : ticks < kMost ? static_cast<Ticks>(ticks) : kMost;
  }
  Ticks increment_ = 1;
  Ticks tolerance_ = 0;
};

} // namespace sipward::policy
