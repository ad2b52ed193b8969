// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state.h"

#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/state_file.h"
#include "daemon/state_rows.h"
#include "daemon/state_writer.h"

namespace sipward::daemon {
namespace {

namespace fs = std::filesystem;
using Kind = StateFault::Kind;

struct Opening {
  std::optional<StateFile> file; // nothing: it cannot be written at present, see trouble
  StateContents contents;
  std::string trouble;
  std::vector<std::string> news;
};

WallTime wall_now() { return std::chrono::system_clock::now(); }

std::expected<StateContents, StateFault> contents_of(Database& database, const fs::path& path) {
  auto contents = read_contents(database);
  if (const auto error = database.take_error()) return std::unexpected(fault_of(*error, path));
  return contents;
}

std::expected<Opening, StateFault> open_and_read(const fs::path& path, const StateSecret& secret,
                                                 const StateOptions& options) {
  auto file = open_state_file(path, secret, options.lock_wait);
  if (!file) return std::unexpected(file.error());
  auto contents = contents_of(file->database, path);
  if (!contents) return std::unexpected(contents.error());
  return Opening{std::move(*file), std::move(*contents), {}, {}};
}

// The disk cannot be written. What is on it may still be read; and if there is nothing, nothing is lost.
std::expected<Opening, StateFault> read_only(const fs::path& path, const StateSecret& secret, StateFault trouble,
                                             const StateOptions& options) {
  Opening opening;
  opening.trouble = std::move(trouble.message);
  std::error_code error;
  if (const auto size = fs::file_size(path, error); error == std::errc::no_such_file_or_directory || size == 0) {
    opening.contents.secret = secret;
    return opening;
  }
  auto database = open_state_to_read(path, options.lock_wait);
  if (!database) return std::unexpected(database.error());
  auto contents = contents_of(*database, path);
  if (!contents) return std::unexpected(contents.error());
  opening.contents = std::move(*contents);
  return opening;
}

std::expected<Opening, StateFault> open_somehow(const fs::path& path, const StateOptions& options) {
  StateSecret secret{};
  if (getrandom(secret.data(), secret.size(), 0) != static_cast<ssize_t>(secret.size()))
    return std::unexpected(StateFault{Kind::Refused, "the kernel gives no random numbers"});
  auto opening = open_and_read(path, secret, options);
  if (!opening && opening.error().kind == Kind::Disturbed) opening = read_only(path, secret, opening.error(), options);
  if (opening || opening.error().kind != Kind::Corrupt) return opening;
  const auto aside = move_state_aside(path, wall_now());
  if (!aside) return std::unexpected(aside.error());
  auto news = opening.error().message + "; it was moved to " + aside->string() + ", and a new one is begun";
  opening = open_and_read(path, secret, options);
  if (!opening && opening.error().kind == Kind::Disturbed) opening = read_only(path, secret, opening.error(), options);
  if (opening) opening->news.push_back(std::move(news));
  return opening;
}

} // namespace

std::expected<std::unique_ptr<State>, std::string> State::open(const fs::path& path, StateOptions options) {
  std::unique_ptr<State> state(new State);
  const auto claim = claim_state(path);
  if (!claim) return std::unexpected(claim.error().message);
  state->claim_ = *claim;
  auto opening = open_somehow(path, options);
  if (!opening) return std::unexpected(opening.error().message);
  const auto& contents = opening->contents;
  if (contents.unreadable > 0)
    opening->news.push_back("state.path: " + path.string() + " has " + std::to_string(contents.unreadable) +
                            " rows that make no sense; they are left out");
  const RowsAtMost at_most{contents.ladder.size(), contents.trust.size(), contents.users.size()};
  state->contents_ = std::move(opening->contents);
  state->writer_ = std::make_unique<StateWriter>(path, state->contents_.secret, options, std::move(opening->file),
                                                 at_most, std::move(opening->trouble), std::move(opening->news));
  return state;
}

std::unique_ptr<State> State::without(std::string why) {
  std::unique_ptr<State> state(new State);
  state->why_not_ = std::move(why);
  state->silent_event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  getrandom(state->contents_.secret.data(), state->contents_.secret.size(), 0);
  return state;
}

State::~State() {
  writer_.reset(); // before the claim is given up
  for (const int fd : {claim_, silent_event_})
    if (fd >= 0) close(fd);
}

std::uint64_t State::write(StateChanges changes, WallTime now, Urgency urgency) {
  return writer_ ? writer_->write(std::move(changes), now, urgency) : ++dropped_;
}
std::uint64_t State::handed_over() const { return writer_ ? writer_->handed_over() : dropped_; }
std::uint64_t State::settled() const { return writer_ ? writer_->settled() : dropped_; }
std::uint64_t State::committed() const { return writer_ ? writer_->committed() : 0; }
int State::event() const noexcept { return writer_ ? writer_->event() : silent_event_; }
void State::clear_event() noexcept {
  if (writer_) writer_->clear_event();
}
std::string State::trouble() const { return writer_ ? writer_->trouble() : why_not_; }
std::vector<std::string> State::take_news() { return writer_ ? writer_->take_news() : std::vector<std::string>(); }
bool State::wants_all() { return writer_ && writer_->wants_all(); }
State::Lost State::lost() const { return writer_ ? writer_->lost() : Lost{}; }
bool State::flush(std::chrono::milliseconds bound) { return writer_ && writer_->flush(bound); }

std::expected<StateContents, std::string> read_state(const fs::path& path) {
  auto database = open_state_to_read(path, StateOptions().lock_wait);
  if (!database) return std::unexpected(database.error().message);
  auto contents = contents_of(*database, path);
  if (!contents) return std::unexpected(contents.error().message);
  return std::move(*contents);
}

std::expected<std::vector<HistoryRecord>, std::string> read_history(const fs::path& path, const HistoryPlace& after,
                                                                    std::size_t most) {
  auto database = open_state_to_read(path, StateOptions().lock_wait);
  if (!database) return std::unexpected(database.error().message);
  auto history = read_history(*database, after, most);
  if (const auto error = database->take_error()) return std::unexpected(fault_of(*error, path).message);
  return history;
}

std::expected<std::vector<HistoryRecord>, std::string>
read_history_of(const fs::path& path, const policy::Prefix& addresses, std::size_t most) {
  auto database = open_state_to_read(path, StateOptions().lock_wait);
  if (!database) return std::unexpected(database.error().message);
  auto history = read_history_of(*database, addresses, most);
  if (const auto error = database->take_error()) return std::unexpected(fault_of(*error, path).message);
  return history;
}

} // namespace sipward::daemon
