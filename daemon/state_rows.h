// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include "daemon/database.h"
#include "daemon/state_backlog.h"

// Records to rows and back. Failures stick to the database (database.h).
namespace sipward::daemon {

// What the tables hold at most, to count them only when they may be full.
struct RowsAtMost {
  std::uint64_t ladder = 0, trust = 0, users = 0;
};

StateContents read_contents(Database& database);

// Within a transaction that the caller begins and commits. `now`: what the wall clock says.
void write_backlog(Database& database, const Backlog& backlog, const StateLimits& limits, RowsAtMost& at_most,
                   WallTime now);

// Within a transaction likewise. Of two records under one key the later one stays; returns how many were new or later.
// Of trust, users and blocks.
template<class Record>
std::uint64_t merge_rows(Database& database, const std::vector<Record>& records);
// What is more than the limits allow goes.
void bound_tables(Database& database, const StateLimits& limits);

// The latest decisions about these addresses, and about what holds them, the newest first, `most` of them at most.
std::vector<HistoryRecord> read_history_of(Database& database, const policy::Prefix& addresses, std::size_t most);
// The decisions after that place, by time, `most` of them at most.
std::vector<HistoryRecord> read_history(Database& database, const HistoryPlace& after, std::size_t most);

// The secret of users' hashes, which every database has one of.
StateSecret read_secret(Database& database);
void write_secret(Database& database, const StateSecret& secret);

} // namespace sipward::daemon
