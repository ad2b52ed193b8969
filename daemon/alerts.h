// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "daemon/user_names.h"
#include "policy/block.h"
#include "policy/surge.h"
#include "policy/wellbeing.h"

// Alerts as the block log writes them, the daemon's and a replay's alike: a word that says what, then key=value.
namespace sipward::daemon {

inline constexpr std::chrono::seconds kAlertEvery{60}; // of one kind, at the most

std::string alert_of(const policy::Offence& notice, const UserNames& names);
// What has changed between two states of the servers; empty: nothing that is told.
std::string health_alert(const policy::Wellbeing::State& before, const policy::Wellbeing& now);
std::string sight_alert(const policy::Wellbeing::State& before, const policy::Wellbeing& now);
std::string surge_alert(std::string_view server, policy::Surge::Event event, const policy::Surge& surge,
                        std::string_view talkers);

} // namespace sipward::daemon
