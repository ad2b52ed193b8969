// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "config/config.h"
#include "dataplane/dataplane.h"
#include "policy/block_list.h"
#include "policy/source_table.h"

// What the daemon tells Prometheus: plain numbers, gathered by the control thread once a second.
namespace sipward::daemon {

// How long it took from a packet's arrival until the kernel dropped its sender.
class Latencies {
public:
  static constexpr std::array<double, 12> kBounds_s = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02,
                                                       0.05,   0.1,   0.2,   0.5,   1,    5};

  void note(policy::Duration latency) noexcept;
  std::uint64_t count() const noexcept { return count_; }
  double sum_s() const noexcept { return sum_s_; }
  // Of those up to kBounds_s[i], each with all before it.
  std::uint64_t up_to(std::size_t i) const noexcept;

private:
  std::array<std::uint64_t, kBounds_s.size()> each_{};
  std::uint64_t count_ = 0;
  double sum_s_ = 0;
};

// Strangers (who have no trust) that stand above half of what convicts them, by policy: "register_flood". The way to
// see that a threshold is close to honest traffic before it bites.
using NearMisses = std::map<std::string, std::uint64_t>;
NearMisses near_misses(const policy::SourceTable& sources, const policy::Detect& detect, const policy::Now& now);

struct Figures {
  using Labels = std::pair<std::string, std::string>;

  std::vector<dataplane::Counters> workers;
  dataplane::Lost lost;
  dataplane::Dataplane::Early early;
  policy::SourceTable::Occupancy sources{};
  std::uint32_t source_capacity = 0;
  NearMisses near;
  std::map<Labels, std::uint64_t> blocks;    // standing, by (kind, reason)
  std::map<Labels, std::uint64_t> decisions; // since the start, by (event, reason)
  std::uint64_t limits = 0;                  // standing
  std::uint64_t prefixes_withheld = 0, blocks_displaced = 0;
  Latencies latencies;
  bool in_sync = false;
  std::uint64_t repairs = 0; // of the kernel's table, since the start
  bool state_written = true;
  bool learning = false, dry_run = false, server_unwell = false, answers_unseen = false;
  double started_s = 0; // Unix time
};

} // namespace sipward::daemon
