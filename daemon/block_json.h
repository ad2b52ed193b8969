// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <nlohmann/json.hpp>

#include "daemon/text.h"
#include "policy/block_list.h"

// A block as JSON: the same object in `blocks --json`, `replay --json`, the JSON log and the control socket. All text
// in it is valid UTF-8, whatever was sent. Any thread.
namespace sipward::daemon {

double tenths(double value); // a rate, rounded as every JSON of ours has it

nlohmann::ordered_json block_json(const policy::Block& block, const WallClock& clock);

// One line of the JSON log: the block with "time" and "event" before it, and of an unblock its "ending" after it.
nlohmann::ordered_json change_json(const policy::BlockChange& change, policy::Time at, const WallClock& clock);

} // namespace sipward::daemon
