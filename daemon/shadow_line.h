// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

#include "daemon/event_ring.h"
#include "daemon/text.h"
#include "policy/block_list.h"

// What the settings that are tried (`shadow:`) would do, as the block log writes it: a line like any other decision's,
// with would_ before its event and shadow=yes at its end.
namespace sipward::daemon {

struct ShadowLine {
  // The decision of the settings that are tried; its block is a dry run if they, too, would only log it. If it
  // `passes`: the present ones' decision to block somebody whom the others let go on.
  policy::BlockChange change;
  bool passes = false;
  std::string_view now = {}; // what the present settings do about its subject: "blocked", "passes" ...; "": it is over
};

// "would_block", "would_unblock", "would_pass" ...: as text and as JSON. Any thread.
LoggedEvent shadow_event(const ShadowLine& line, policy::Time at, const WallClock& clock);

} // namespace sipward::daemon
