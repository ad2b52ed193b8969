// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <chrono>

#include "policy/time.h"

// How often the kernel's table is mended while others keep breaking it: at once, then four times a second, then ever
// less often, but never so seldom that a table would be gone for a second.
namespace sipward::daemon {

class RepairPace {
public:
  static constexpr std::chrono::milliseconds kShortest{250}, kLongest{800};
  static constexpr std::chrono::seconds kCalm{10}; // so long without a repair, and it begins anew

  policy::Time due() const noexcept { return last_ + gap_; } // of the next repair, if there is something to repair
  bool is_due(policy::Time now) const noexcept { return now >= due(); }
  void note(policy::Time now) noexcept {
    const bool calm = gap_ == gap_.zero() || now - last_ > kCalm;
    gap_ = calm ? kShortest : std::min(gap_ * 3 / 2, kLongest);
    last_ = now;
  }

private:
  policy::Time last_{};
  std::chrono::milliseconds gap_{0};
};

} // namespace sipward::daemon
