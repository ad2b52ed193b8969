// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/service.h"

#define SD_JOURNAL_SUPPRESS_LOCATION // the line of the source tells an operator nothing

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/systemd_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "daemon/block_log.h"

namespace sipward::daemon {

policy::Duration watchdog_limit() {
  std::uint64_t limit_us = 0;
  if (sd_watchdog_enabled(0, &limit_us) <= 0) return policy::Duration::zero();
  return std::chrono::microseconds(limit_us);
}

// systemd names the socket that it connected (systemd.exec(5), $JOURNAL_STREAM); a shell may since have put another in
// its place.
bool stderr_is_journal() {
  const char* named = std::getenv("JOURNAL_STREAM");
  struct stat there {};
  if (named == nullptr || fstat(STDERR_FILENO, &there) != 0) return false;
  return fmt::format("{}:{}", there.st_dev, there.st_ino) == named;
}

void log_to_stderr_or_journal() {
  if (stderr_is_journal()) {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("sipward", std::make_shared<spdlog::sinks::systemd_sink_mt>("sipward")));
    return;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("sipward"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%fZ %l %v", spdlog::pattern_time_type::utc);
}

void tell_journal(const policy::BlockChange& change, std::string_view line) {
  static const bool kThere = stderr_is_journal();
  if (!kThere) return;
  const std::string subject = to_string(change.block.subject);
  sd_journal_send("MESSAGE=%.*s", static_cast<int>(line.size()), line.data(), "PRIORITY=%d", LOG_NOTICE,
                  "SYSLOG_IDENTIFIER=sipward", "SIPWARD_EVENT=%s", std::string(event_name(change)).c_str(),
                  "SIPWARD_SUBJECT=%s", subject.c_str(), "SIPWARD_REASON=%s",
                  std::string(to_string(change.block.reason)).c_str(), nullptr);
}

void tell_journal_alert(std::string_view text) {
  static const bool kThere = stderr_is_journal();
  if (!kThere) return;
  sd_journal_send("MESSAGE=alert - %.*s", static_cast<int>(text.size()), text.data(), "PRIORITY=%d", LOG_WARNING,
                  "SYSLOG_IDENTIFIER=sipward", "SIPWARD_EVENT=alert", nullptr);
}

} // namespace sipward::daemon
