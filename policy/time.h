// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>

namespace sipward::policy {

// Policy never reads a clock: a point in time is an argument, in nanoseconds since an epoch of the caller's choice
// (the daemon: CLOCK_MONOTONIC; replay: the capture's own clock, Unix time). It must not run backwards.
using Duration = std::chrono::nanoseconds;
struct Clock {
  using rep = std::int64_t;
  using period = std::nano;
  using duration = Duration;
  using time_point = std::chrono::time_point<Clock>;
  static constexpr bool is_steady = true;
};
using Time = Clock::time_point;

} // namespace sipward::policy
