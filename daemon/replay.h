// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <expected>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "policy/address.h"

// `sipward replay`: judges capture files as the daemon judges traffic, on the capture's own clock, and tells who would
// have been blocked. Unprivileged; blocks nothing; knows nothing of the host it runs on.
namespace sipward::daemon {

struct ReplayOptions {
  std::vector<std::filesystem::path> captures; // read in this order, as one stream
  std::optional<config::Settings> settings;    // the built-in ones if absent; block.dry_run is of no effect here
  // Further settings that the same packets are judged by, in a world of their own: what would they do otherwise?
  std::optional<config::Settings> shadow;
  std::string shadow_file;              // as it is to be named
  std::vector<policy::Address> servers; // who is protected; empty: as the settings say, or else as the captures show
  std::string sort = "requests";        // or flows, octets, packets, duration
  bool json = false;
};

// Writes the report to `out` once everything is read, and nothing if something cannot be. The error is a sentence that
// names the file. A terminal at standard error sees how far it got.
std::expected<void, std::string> replay(const ReplayOptions& options, std::ostream& out);

} // namespace sipward::daemon
