// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <functional>
#include <vector>

#include "dataplane/counters.h"

namespace sipward::dataplane {

// Our counters on DPDK's telemetry socket, beside what its libraries and drivers say there of themselves (DPDK
// Programmer's Guide, chapter "Telemetry Library"):
//
//   /sipward/counters    all workers together: {"received": n, "passed": n, ..., "verdict_clean": n, ...}
//   /sipward/workers     the workers' numbers: [0, 1]; with one of them behind a comma, that worker's counters
//
// Main thread; one at a time, for commands have no owner in DPDK and are never taken back.
class Telemetry {
public:
  using Workers = std::function<std::vector<Counters>()>; // called by DPDK's threads, while this lives
  explicit Telemetry(Workers workers);
  Telemetry(const Telemetry&) = delete;
  Telemetry& operator=(const Telemetry&) = delete;
  ~Telemetry();
};

} // namespace sipward::dataplane
