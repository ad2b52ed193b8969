// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "daemon/replay_report.h"
#include "daemon/text.h"

// What other settings would do to the same traffic, against the present ones.
namespace sipward::daemon {

struct ShadowDifference {
  std::vector<const policy::Block*> more; // only the other settings block them, in the order of their beginning
  std::vector<const policy::Block*> less; // only the present ones do
  struct Both {
    const policy::Block* now;
    const policy::Block* then;
  };
  std::vector<Both> otherwise;                     // both do, but for another reason or at another time
  std::uint64_t dropped_now = 0, dropped_then = 0; // packets
};

// Points into the two lists. Of a subject that was blocked several times the first is compared. Packets are not there.
ShadowDifference compare(std::span<const policy::Block> present, std::span<const policy::Block> other);
// The same of two replays, with their packets.
ShadowDifference compare(const ReplayReport& present, const ReplayReport& other);

// Does it concern a source that our server knows: one that is trusted, or had successes?
bool is_known(const policy::Block& block) noexcept;

nlohmann::ordered_json shadow_json(const ShadowDifference& difference, const WallClock& clock);
void write_shadow(const ShadowDifference& difference, const std::string& file, std::ostream& out);

} // namespace sipward::daemon
