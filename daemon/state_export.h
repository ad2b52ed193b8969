// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <expected>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/state_records.h"

// What one host tells its standby: `sipward state export` and `import`. JSON lines, version 1:
//
//   {"sipward_state":1,"written":"2026-11-22T01:02:03.123456Z","secret":"<32 hex digits>"}
//   {"trust":"198.51.100.7/32","last_success":"<time>","users":3,"answered_per_s":1.5,"sketch":"<hex digits>"}
//   {"user":"<16 hex digits>","last_success":"<time>"}
//   {"block":{<as in `blocks --json`>}}
//   {"end":3}
//
// The first line and the last are always there, the others in any order and number; "end" counts them, so that half a
// file is known for what it is. The secret makes the users' hashes; whoever has the file could try names against them.
namespace sipward::daemon {

struct StateExport {
  StateSecret secret{};
  std::vector<TrustRecord> trust;
  std::vector<UserRecord> users;
  std::vector<BlockRecord> blocks;
};

std::string export_text(const StateExport& state, WallTime now);
// Strict: an unknown key, a missing one, a success or a block from the future, anything after the end is an error,
// which begins with the number of its line: "3: ...".
std::expected<StateExport, std::string> parse_export(std::string_view text, WallTime now);

// To and from a file. It is written as a whole or not at all, mode 0600. Errors name the file (and the line).
std::expected<void, std::string> write_export(const std::filesystem::path& file, const StateExport& state,
                                              WallTime now);
std::expected<StateExport, std::string> read_export(const std::filesystem::path& file, WallTime now);

// Merges into the database at `path`, all or nothing, beside a daemon that runs or without one: of two records of one
// source or user the later success counts, of two blocks of one subject the later end. Users whose hashes have another
// secret mean nothing here: they are left out, unless there are none here yet and their secret can be taken over.
// A daemon that runs has to read the database anew (read_state()).
struct Imported {
  std::uint64_t trust = 0, users = 0, blocks = 0; // new here, or later than what was here
  std::uint64_t users_left_out = 0;
  bool secret_taken_over = false;
};
std::expected<Imported, std::string> import_state(const std::filesystem::path& path, const StateExport& state,
                                                  const StateLimits& limits, WallTime now);

} // namespace sipward::daemon
