// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "config/config.h"

// A second settings file to judge by beside the present one (`shadow:`), as if it stood in its place.
namespace sipward::config {

// It says how to judge; what is seen, who is protected, and how large the tables are is the daemon's present affair.
struct Shadow {
  Settings settings; // detect, scanners, prefix, block, allow and trust from the file, the rest as it is
  std::vector<std::string>
      in_vain; // the keys by which the file differs in that rest, dotted, in the shipped file's order
};

// Any thread. The error is `FILE:LINE:COLUMN: message`, or a sentence that names the file: what it says does not go
// with what stays.
std::expected<Shadow, std::string> load_shadow(const Settings& present);

} // namespace sipward::config
