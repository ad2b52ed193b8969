// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

// A new settings file for a daemon that runs: what it takes over at once, and what has to wait for a restart.
namespace sipward::config {

struct Succession {
  Settings settings;                    // what the daemon goes on with
  std::vector<std::string> changed;     // the keys that differ from before, dotted, in the shipped file's order
  std::vector<std::string> for_restart; // the keys that differ in the file only: they keep their value until a restart
};

// Any thread. The error is a sentence: the new values that can be taken over do not fit the old ones that stay.
std::expected<Succession, std::string> succeed(const Settings& running, const Settings& wanted);

// Ports, memory, tables and files that are opened once; everything else changes while the daemon runs.
bool needs_restart(std::string_view key) noexcept;

} // namespace sipward::config
