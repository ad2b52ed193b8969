// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "policy/time.h"

namespace sipward::daemon {

// When the service manager's watchdog is to be fed (sd_watchdog_enabled(3)): by the control loop, and only while every
// worker goes round its loop too. A worker that stands still starves it, and the process is started anew. Knows no
// clock and no system; one thread.
class Watchdog {
public:
  // `limit`: unfed for so long, the process is killed. 0: nobody waits.
  explicit Watchdog(policy::Duration limit) noexcept : every_(limit / 4) {}

  // By when look() wants to be called again; nothing: never.
  std::optional<policy::Time> next() const noexcept;

  enum class Advice : std::uint8_t { Wait, Feed, Starve };
  // `rounds`: how often each worker has gone round. Starve: at least one has not since the last look.
  Advice look(policy::Time now, std::span<const std::uint64_t> rounds);

  // After Starve: the number of the first worker that stands still.
  std::size_t still() const noexcept { return still_; }

private:
  policy::Duration every_;
  policy::Time next_{};
  std::vector<std::uint64_t> seen_;
  std::size_t still_ = 0;
};

} // namespace sipward::daemon
