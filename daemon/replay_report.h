// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/replay.h"
#include "daemon/servers.h"
#include "daemon/talkers.h"
#include "daemon/text.h"
#include "dataplane/counters.h"
#include "policy/block.h"

// What a replay found, and its two forms: JSON for programs, text for people.
namespace sipward::daemon {

inline constexpr WallClock kCaptureClock; // policy's time is the capture's, Unix time

// What was said between the outside and the servers' SIP ports, in datagrams of both directions.
struct SipTotals {
  std::uint64_t requests = 0, responses = 0, malformed = 0, keepalives = 0;
};

struct ReplayReport {
  static constexpr std::size_t kMaxBlocks = std::size_t{1} << 20; // further ones are only counted

  std::vector<std::filesystem::path> captures;
  std::vector<policy::Address> servers;
  std::optional<ServerSearch::Evidence> assumed; // how the servers were found, if nobody named them
  dataplane::Counters counters;
  SipTotals sip;
  Talkers talkers;
  std::vector<policy::Block> blocks; // in the order of their beginning; would_block all of them
  std::uint64_t blocks_left_out = 0;
  static constexpr std::size_t kMaxAlerts = 1000;
  std::vector<std::pair<policy::Time, std::string>> alerts; // as the block log has them
  std::optional<policy::Time> first, last;                  // of all packets
  std::uint64_t backwards = 0;                              // stamps earlier than the one before
  policy::Duration farthest_backwards{0};
  std::shared_ptr<const ReplayReport> shadow; // what the other settings would have done, if there are any
  std::string shadow_file;
};

// Reads and judges the captures. The error is a sentence that names the file.
std::expected<ReplayReport, std::string> judge_captures(const ReplayOptions& options);

void write_json(const ReplayReport& report, SortKey sort, std::ostream& out);
void write_text(const ReplayReport& report, SortKey sort, std::ostream& out);

} // namespace sipward::daemon
