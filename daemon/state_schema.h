// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <span>

#include "daemon/database.h"

// The tables of the state database, and how an older file comes to have them.
namespace sipward::daemon {

inline constexpr std::int32_t kStateMark = 0x53495057; // "SIPW", in the file's header (PRAGMA application_id)

// Step n makes version n + 1 (PRAGMA user_version) out of version n; version 0 is an empty file. A step that has been
// released is never changed: a change is a new step.
std::span<const char* const> state_steps() noexcept;

// Brings a database from the version it has to the last one, all or nothing. The database's error says what went wrong.
void migrate(Database& database, std::span<const char* const> steps);

} // namespace sipward::daemon
