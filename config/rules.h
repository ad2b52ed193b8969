// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "config/config.h"
#include "policy/block_list.h"
#include "policy/rules.h"

// From settings to what policy works with.
namespace sipward::config {

// Everything but what only the host or the block list knows: servers left empty by the settings, never_blocked beyond
// the allow list, and blocked prefixes are for the caller to fill in.
policy::Rules rules(const Settings& settings);

policy::BlockOptions block_options(const Settings& settings);

} // namespace sipward::config
