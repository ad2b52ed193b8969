// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <string_view>

#include "policy/block_list.h"
#include "policy/time.h"

// sipward as systemd's service: its watchdog and its journal. All of it does nothing where there is no systemd.
namespace sipward::daemon {

// Unfed for so long, the process is killed (WatchdogSec); 0: nobody waits. Any thread.
policy::Duration watchdog_limit();

// Sets spdlog's default logger: standard error, a line with its time each; or, where that is the journal, entries with
// their priority. Main thread, once.
void log_to_stderr_or_journal();

// Is standard error the journal? Any thread.
bool stderr_is_journal();

// A decision, or an alert, as an entry of the journal, if standard error is it, with fields to look for:
// `journalctl -u sipward SIPWARD_SUBJECT=198.51.100.66/32`. `line`: of the block log, without its time. Any thread.
void tell_journal(const policy::BlockChange& change, std::string_view line);
void tell_journal_alert(std::string_view text);

} // namespace sipward::daemon
