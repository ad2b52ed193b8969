// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/random.h>

#include <algorithm>

#include "daemon/state_export.h"
#include "daemon/state_file.h"
#include "daemon/state_rows.h"

namespace sipward::daemon {
namespace {

constexpr std::chrono::milliseconds kLockPatience{5000}; // a daemon's own transactions are short

} // namespace

std::expected<Imported, std::string> import_state(const std::filesystem::path& path, const StateExport& state,
                                                  const StateLimits& limits, WallTime now) {
  // A file that is made here is made with their secret: there is nothing yet that it could contradict.
  auto file = open_state_file(path, state.secret, kLockPatience);
  if (!file) return std::unexpected(file.error().message);
  auto& database = file->database;
  Imported imported;
  database.begin();
  const bool same_secret = read_secret(database) == state.secret;
  const bool take_over =
      !state.users.empty() && (file->made || (!same_secret && database.number("SELECT count(*) FROM user") == 0));
  if (take_over) write_secret(database, state.secret);
  imported.secret_taken_over = take_over;
  imported.trust = merge_rows(database, state.trust);
  if (same_secret || take_over)
    imported.users = merge_rows(database, state.users);
  else
    imported.users_left_out = state.users.size();
  std::vector<BlockRecord> standing;
  std::ranges::copy_if(state.blocks, std::back_inserter(standing),
                       [now](const BlockRecord& block) { return block.until > now; });
  imported.blocks = merge_rows(database, standing);
  bound_tables(database, limits);
  if (!database.commit()) return std::unexpected(fault_of(*database.take_error(), path).message);
  return imported;
}

} // namespace sipward::daemon
