// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/block_log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <cstdio>

#include "daemon/block_json.h"
#include "daemon/folders.h"
#include "daemon/service.h"
#include "daemon/shadow_line.h"

namespace sipward::daemon {
namespace {

using policy::BlockChange;

std::string rate(double per_second) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f/s", per_second);
  return text.data();
}

void append_evidence(std::string& line, const policy::Block& block) {
  const auto& evidence = block.evidence;
  if (block.reason == policy::Reason::Prefix) line += " offenders=" + std::to_string(evidence.offenders);
  if (evidence.user_agent.size > 0) line += " ua=" + in_quotes(evidence.user_agent.view());
  if (evidence.mark.size > 0) line += " mark=" + in_quotes(evidence.mark.view());
  if (evidence.method.size > 0) line += " method=" + word(evidence.method.view());
  if (evidence.rate_per_s > 0) line += " rate=" + rate(evidence.rate_per_s);
  if (evidence.limit_per_s > 0) line += " limit=" + rate(evidence.limit_per_s);
  if (evidence.users > 0) line += " users=" + std::to_string(evidence.users);
  if (evidence.failures > 0) line += " failures=" + std::to_string(evidence.failures);
  if (evidence.successes > 0) line += " successes=" + std::to_string(evidence.successes);
  if (evidence.soft_marks > 0) line += " soft_marks=" + std::to_string(evidence.soft_marks);
  if (evidence.trusted) line += " trusted=yes";
  if (evidence.registered > 0) line += " registered=" + std::to_string(evidence.registered);
  if (evidence.tcp_peers > 0) line += " tcp_peers=" + std::to_string(evidence.tcp_peers);
  if (evidence.share > 0) line += " share=" + std::to_string(evidence.share) + "%";
  if (block.packets_before > 0) line += " packets=" + std::to_string(block.packets_before);
  if (!block.note.empty()) line += " note=" + in_quotes(block.note);
  line += block.proven ? " proven=yes" : " proven=no";
}

} // namespace

std::string_view event_name(const BlockChange& change) noexcept {
  const auto& block = change.block;
  if (change.kind == BlockChange::Kind::Removed) return block.limit ? "unlimit" : "unblock";
  if (change.kind == BlockChange::Kind::Renewed) return block.dry_run ? "would_renew" : "renew";
  if (block.limit) return block.dry_run ? "would_limit" : "limit";
  return block.dry_run ? "would_block" : "block";
}

std::string block_line(const BlockChange& change, policy::Time at, const WallClock& clock) {
  const auto& block = change.block;
  std::string line = rfc3339(clock.at(at)) + " " + std::string(event_name(change)) + " " + to_string(block.subject);
  if (change.kind == BlockChange::Kind::Removed)
    return line + " reason=" + std::string(to_string(change.ending)) +
           " dropped=" + std::to_string(block.packets_dropped);
  const auto from = change.kind == BlockChange::Kind::Added ? block.since : at;
  line += " reason=" + std::string(to_string(block.reason)) + " for=" + human_duration(block.until - from) +
          " step=" + std::to_string(block.step);
  if (block.wholly) line += " scope=all";
  if (block.limit) line += " to=" + rate(block.limit->per_second);
  append_evidence(line, block);
  return line;
}

struct BlockLog::State {
  std::filesystem::path file;
  struct stat there {}; // `file` as it was opened
  bool astray = false;  // it was moved, and its place cannot be opened: told
  std::shared_ptr<spdlog::logger> logger;
  config::LogFormat format = config::LogFormat::Text;
  std::int64_t second = 0; // the one that `written` and `held` belong to
  unsigned written = 0;
  std::uint64_t held_blocks = 0, held_unblocks = 0;
  unsigned shadow_written = 0;
  std::uint64_t held_shadow = 0;
  Heard heard;
  std::function<void(LoggedEvent)> listener;

  void put(LoggedEvent line) {
    logger->info(format == config::LogFormat::Json ? line.json : line.text);
    if (listener) listener(std::move(line));
  }

  void open(); // throws spdlog_ex
  void follow();
};

void BlockLog::State::open() {
  auto opened =
      std::make_shared<spdlog::logger>("block", std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string()));
  opened->set_pattern("%v");
  opened->flush_on(spdlog::level::info); // a decision that was announced is on file
  stat(file.c_str(), &there);
  logger = std::move(opened);
}

// Another file may have taken its place, or none. If that cannot be opened, the old one goes on: no line is lost.
void BlockLog::State::follow() {
  struct stat now {};
  if (stat(file.c_str(), &now) == 0 && now.st_ino == there.st_ino && now.st_dev == there.st_dev) return;
  try {
    open();
    astray = false;
  } catch (const spdlog::spdlog_ex& error) {
    if (!std::exchange(astray, true))
      spdlog::error("log.file: {}; writing on to the file that was moved", error.what());
  }
}

std::expected<std::unique_ptr<BlockLog>, std::string> BlockLog::open(const std::filesystem::path& file,
                                                                     config::LogFormat format) {
  if (const auto made = make_folder_for(file); !made) return std::unexpected("log.file: " + made.error());
  auto state = std::make_unique<State>();
  state->format = format;
  state->file = file;
  try {
    state->open();
  } catch (const spdlog::spdlog_ex& error) {
    return std::unexpected("log.file: " + std::string(error.what()));
  }
  return std::unique_ptr<BlockLog>(new BlockLog(std::move(state)));
}

BlockLog::BlockLog(std::unique_ptr<State> state) : state_(std::move(state)) {}
BlockLog::~BlockLog() = default;

void BlockLog::write(const BlockChange& change, policy::Time at, const WallClock& clock) {
  summarise(at, clock);
  if (++state_->written > kLinesPerSecond) {
    ++(change.kind != BlockChange::Kind::Removed ? state_->held_blocks : state_->held_unblocks);
    return;
  }
  const std::string line = block_line(change, at, clock);
  state_->put({line, change_json(change, at, clock).dump()});
  tell_journal(change, std::string_view(line).substr(line.find(' ') + 1));
}

void BlockLog::write_shadow(const ShadowLine& line, policy::Time at, const WallClock& clock) {
  summarise(at, clock);
  if (++state_->shadow_written > kLinesPerSecond)
    ++state_->held_shadow;
  else
    state_->put(shadow_event(line, at, clock));
}

void BlockLog::summarise(policy::Time at, const WallClock& clock) {
  const auto second = std::chrono::floor<std::chrono::seconds>(at).time_since_epoch().count();
  if (second <= state_->second) return; // a line may be told late
  if (state_->held_blocks + state_->held_unblocks > 0) {
    const auto time = rfc3339(clock.at(at));
    const nlohmann::ordered_json summary = {
        {"time", time}, {"event", "summary"}, {"blocks", state_->held_blocks}, {"unblocks", state_->held_unblocks}};
    state_->put({fmt::format("{} summary - blocks={} unblocks={}", time, state_->held_blocks, state_->held_unblocks),
                 summary.dump()});
  }
  if (state_->held_shadow > 0) {
    const auto time = rfc3339(clock.at(at));
    const nlohmann::ordered_json summary = {
        {"time", time}, {"event", "summary"}, {"decisions", state_->held_shadow}, {"shadow", true}};
    state_->put({fmt::format("{} summary - decisions={} shadow=yes", time, state_->held_shadow), summary.dump()});
  }
  state_->follow();
  state_->second = second;
  state_->written = state_->shadow_written = 0;
  state_->held_shadow = 0;
  state_->held_blocks = state_->held_unblocks = 0;
}

void BlockLog::tell(std::function<void(LoggedEvent)> listener) { state_->listener = std::move(listener); }

void BlockLog::alert(std::string_view text, policy::Time at, const WallClock& clock) {
  note(text, at, clock);
  if (state_->heard) state_->heard(text, at);
}

void BlockLog::note(std::string_view text, policy::Time at, const WallClock& clock) {
  tell_journal_alert(text);
  const auto time = rfc3339(clock.at(at));
  const nlohmann::ordered_json alert = {{"time", time}, {"event", "alert"}, {"text", text}};
  state_->put({fmt::format("{} alert - {}", time, text), alert.dump()});
}

void BlockLog::set_heard(Heard heard) { state_->heard = std::move(heard); }

} // namespace sipward::daemon
