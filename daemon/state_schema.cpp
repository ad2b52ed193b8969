// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state_schema.h"

namespace sipward::daemon {
namespace {

// Addresses are their octets in wire order, 4 or 16, so that a prefix is a range of them; times are Unix time in
// nanoseconds; kinds, reasons and endings are the names that outsiders know.
constexpr const char* kSteps[] = {
    R"sql(
CREATE TABLE setting (
  name TEXT PRIMARY KEY,
  value ANY -- of the single ones: off, off_since, off_until, off_reason, learning_started, armed, secret, saved_at
) STRICT, WITHOUT ROWID;
CREATE TABLE block (
  kind TEXT NOT NULL, address BLOB NOT NULL, length INTEGER NOT NULL, port INTEGER NOT NULL, limited INTEGER NOT NULL,
  reason TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, step INTEGER NOT NULL,
  proven INTEGER NOT NULL, dry_run INTEGER NOT NULL, one_user INTEGER NOT NULL,
  limited_to_per_s REAL NOT NULL, limited_burst INTEGER NOT NULL, packets_before INTEGER NOT NULL, packets_dropped INTEGER NOT NULL,
  user_agent BLOB NOT NULL, mark BLOB NOT NULL, method BLOB NOT NULL, rate_per_s REAL NOT NULL,
  limit_per_s REAL NOT NULL, users INTEGER NOT NULL, failures INTEGER NOT NULL, successes INTEGER NOT NULL,
  offenders INTEGER NOT NULL, registered INTEGER NOT NULL, tcp_peers INTEGER NOT NULL, share INTEGER NOT NULL,
  soft_marks INTEGER NOT NULL, trusted INTEGER NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (address, length, kind, port, limited)
) STRICT, WITHOUT ROWID;
CREATE TABLE ladder (
  kind TEXT NOT NULL, address BLOB NOT NULL, length INTEGER NOT NULL, port INTEGER NOT NULL,
  step INTEGER NOT NULL, last INTEGER NOT NULL,
  PRIMARY KEY (address, length, kind, port)
) STRICT, WITHOUT ROWID;
CREATE TABLE trust (
  address BLOB NOT NULL, length INTEGER NOT NULL,
  last_success INTEGER NOT NULL, users INTEGER NOT NULL, answered_per_s REAL NOT NULL, sketch BLOB NOT NULL,
  PRIMARY KEY (address, length)
) STRICT, WITHOUT ROWID;
CREATE TABLE user (
  hash INTEGER PRIMARY KEY,
  last_success INTEGER NOT NULL
) STRICT;
CREATE TABLE exemption (
  kind TEXT NOT NULL, address BLOB NOT NULL, length INTEGER NOT NULL,
  until INTEGER,
  PRIMARY KEY (address, length, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE history (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL, event TEXT NOT NULL, ending TEXT NOT NULL, text TEXT NOT NULL, user INTEGER NOT NULL,
  kind TEXT, address BLOB, length INTEGER, port INTEGER, limited INTEGER,
  reason TEXT, since INTEGER, until INTEGER, step INTEGER,
  proven INTEGER, dry_run INTEGER, one_user INTEGER,
  limited_to_per_s REAL, limited_burst INTEGER, packets_before INTEGER, packets_dropped INTEGER,
  user_agent BLOB, mark BLOB, method BLOB, rate_per_s REAL,
  limit_per_s REAL, users INTEGER, failures INTEGER, successes INTEGER,
  offenders INTEGER, registered INTEGER, tcp_peers INTEGER, share INTEGER, soft_marks INTEGER, trusted INTEGER, note TEXT
) STRICT;
CREATE INDEX history_at ON history (at);
)sql",
    R"sql(
ALTER TABLE block ADD COLUMN wholly INTEGER NOT NULL DEFAULT 0;
ALTER TABLE history ADD COLUMN wholly INTEGER;
)sql"};

} // namespace

std::span<const char* const> state_steps() noexcept { return kSteps; }

void migrate(Database& database, std::span<const char* const> steps) {
  database.begin();
  const auto version = database.number("PRAGMA user_version").value_or(0);
  for (auto step = static_cast<std::size_t>(version); step < steps.size(); ++step) database.run(steps[step]);
  database.run(("PRAGMA user_version = " + std::to_string(steps.size())).c_str());
  database.commit();
}

} // namespace sipward::daemon
