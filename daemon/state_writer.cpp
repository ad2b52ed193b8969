// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state_writer.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

namespace sipward::daemon {
namespace {

constexpr std::size_t kGathered = 4096; // changes that are enough for a commit, urgent or not
constexpr std::chrono::milliseconds kFlushPause{50};

std::string sentence(const std::filesystem::path& path, const std::string& what) {
  return "state.path: " + path.string() + " " + what;
}

} // namespace

StateWriter::StateWriter(std::filesystem::path path, const StateSecret& secret, const StateOptions& options,
                         std::optional<StateFile> file, const RowsAtMost& at_most, std::string trouble,
                         std::vector<std::string> news)
    : path_(std::move(path)), secret_(secret), options_(options), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      file_(std::move(file)), at_most_(at_most), retry_after_(options.first_retry), trouble_(std::move(trouble)),
      news_(std::move(news)) {
  if (!trouble_.empty()) trouble_at_ = retry_at_ = Clock::now();
  if (!trouble_.empty() || !news_.empty()) tell();
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "sipward-state");
}

StateWriter::~StateWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  if (event_ >= 0) close(event_);
}

// --- the control thread's side ---

std::uint64_t StateWriter::write(StateChanges changes, WallTime now, State::Urgency urgency) {
  const std::lock_guard lock(mutex_);
  now_ = now;
  ++queued_;
  if (queue_.size() + changes.size() > kMaxQueued) { // the disk hangs, and the writer's thread with it
    lost_.records += changes.size();
    overflowed_ = true;
  } else if (queue_.empty()) {
    queue_ = std::move(changes);
  } else {
    queue_.insert(queue_.end(), std::make_move_iterator(changes.begin()), std::make_move_iterator(changes.end()));
  }
  if (!queued_at_) queued_at_ = Clock::now();
  urgent_ |= urgency == State::Urgency::Now;
  wake_.notify_one();
  return queued_;
}

std::optional<StateWriter::Clock::time_point> StateWriter::waiting_since() const {
  return waited_at_ ? waited_at_ : urgent_ ? queued_at_ : std::nullopt;
}

std::uint64_t StateWriter::handed_over() const {
  const std::lock_guard lock(mutex_);
  return queued_;
}

std::uint64_t StateWriter::settled() const {
  const std::lock_guard lock(mutex_);
  if (!trouble_.empty()) return queued_;
  const auto since = waiting_since();
  return since && Clock::now() - *since > options_.patience ? queued_ : committed_;
}

std::uint64_t StateWriter::committed() const {
  const std::lock_guard lock(mutex_);
  return committed_;
}

void StateWriter::clear_event() noexcept {
  eventfd_t ignored = 0;
  eventfd_read(event_, &ignored);
}
void StateWriter::tell() noexcept { eventfd_write(event_, 1); }

std::string StateWriter::trouble() const {
  const std::lock_guard lock(mutex_);
  if (!trouble_.empty()) return trouble_;
  const auto since = waiting_since();
  if (!since || Clock::now() - *since <= options_.patience) return {};
  return sentence(path_, "takes nothing: the disk has not answered for " + human_duration(Clock::now() - *since));
}

std::vector<std::string> StateWriter::take_news() {
  const std::lock_guard lock(mutex_);
  return std::exchange(news_, {});
}

bool StateWriter::wants_all() {
  const std::lock_guard lock(mutex_);
  return std::exchange(wants_all_, false);
}

State::Lost StateWriter::lost() const {
  const std::lock_guard lock(mutex_);
  return lost_;
}

bool StateWriter::flush(std::chrono::milliseconds bound) {
  const auto deadline = Clock::now() + bound;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (committed_ == queued_) return true;
    flushing_ = true;
    wake_.notify_one();
    if (!attempted_.wait_until(lock, deadline, [this] { return !flushing_; })) return committed_ == queued_;
    if (committed_ == queued_) return true;
    if (attempted_.wait_until(lock, std::min(deadline, Clock::now() + kFlushPause),
                              [this] { return committed_ == queued_; }))
      return true;
    if (Clock::now() >= deadline) return false;
  }
}

// --- the writer's thread ---

bool StateWriter::due(Clock::time_point now) const {
  if (flushing_ || queue_.size() >= kGathered) return true;
  if (retry_at_) return now >= *retry_at_;
  return urgent_ || (queued_at_ && now >= *queued_at_ + options_.gather);
}

std::optional<StateWriter::Clock::time_point> StateWriter::next_due() const {
  if (retry_at_) return retry_at_;
  return queued_at_ ? std::optional(*queued_at_ + options_.gather) : std::nullopt;
}

void StateWriter::wait(std::unique_lock<std::mutex>& lock) {
  while (!stopping_ && !due(Clock::now())) {
    if (const auto until = next_due())
      wake_.wait_until(lock, *until);
    else
      wake_.wait(lock);
  }
}

void StateWriter::run() {
  std::unique_lock lock(mutex_);
  for (bool last = false; !last;) {
    wait(lock);
    last = stopping_;
    StateChanges changes;
    changes.swap(queue_);
    const auto taken = queued_;
    const auto now = now_;
    const bool flushing = flushing_;
    if (urgent_ && !waited_at_) waited_at_ = queued_at_;
    urgent_ = false;
    queued_at_.reset();
    const bool attempting = last || flushing || !retry_at_ || Clock::now() >= *retry_at_;
    lock.unlock();

    for (auto& change : changes) backlog_.add(std::move(change));
    changes = {};
    std::expected<void, StateFault> outcome;
    if (attempting) outcome = attempt(now);

    lock.lock();
    if (attempting) told(outcome, taken);
    if (flushing) flushing_ = false;
    attempted_.notify_all();
  }
}

// Opens the file if need be, and commits what there is.
std::expected<void, StateFault> StateWriter::attempt(WallTime now) {
  if (file_ && file_number(path_) != file_->number) {
    file_.reset();
    found_.push_back(sentence(path_, "was taken away or replaced: all is written anew"));
    lacking_ = true;
  }
  if (!file_)
    if (auto opened = reopen(now); !opened) return opened;
  if (backlog_.empty()) return {};
  auto& database = file_->database;
  database.begin();
  write_backlog(database, backlog_, options_.limits, at_most_, now);
  if (!database.commit()) {
    auto fault = fault_of(*database.take_error(), path_);
    file_.reset(); // opened anew at the next try: what was wrong may be this connection
    if (fault.kind != StateFault::Kind::Corrupt) return std::unexpected(std::move(fault));
    if (auto moved = move_aside(now); !moved) return moved;
    return std::unexpected(std::move(fault));
  }
  // Nor shall the log remember who is forgotten. While somebody reads it, it cannot be emptied: then the next time.
  scrubbing_ |= backlog_.forgets_anybody();
  if (scrubbing_) {
    scrubbing_ = database.number("PRAGMA wal_checkpoint(TRUNCATE)") != 0;
    database.take_error();
  }
  return {};
}

std::expected<void, StateFault> StateWriter::reopen(WallTime now) {
  auto file = open_state_file(path_, secret_, options_.lock_wait);
  if (!file && file.error().kind == StateFault::Kind::Corrupt) {
    if (auto moved = move_aside(now); !moved) return moved;
    file = open_state_file(path_, secret_, options_.lock_wait);
  }
  if (!file) return std::unexpected(std::move(file.error()));
  file_ = std::move(*file);
  at_most_ = {~0u, ~0u, ~0u}; // to be counted
  return {};
}

std::expected<void, StateFault> StateWriter::move_aside(WallTime now) {
  auto aside = move_state_aside(path_, now);
  if (!aside) return std::unexpected(std::move(aside.error()));
  found_.push_back(sentence(path_, "is corrupt: it was moved to " + aside->string() + ", and a new one is begun"));
  lacking_ = true;
  return {};
}

// What came of an attempt, with the mutex held.
void StateWriter::told(const std::expected<void, StateFault>& outcome, std::uint64_t taken) {
  const auto now = Clock::now();
  std::ranges::move(found_, std::back_inserter(news_));
  found_.clear();
  if (!outcome) {
    if (trouble_.empty()) {
      trouble_at_ = now;
      retry_after_ = options_.first_retry;
    }
    trouble_ = outcome.error().message;
    retry_at_ = now + retry_after_;
    retry_after_ = std::min(2 * retry_after_, options_.last_retry);
    tell();
    return;
  }
  const auto lost_records = backlog_.lost_records(), lost_history = backlog_.lost_history();
  lost_.records += lost_records;
  lost_.history += lost_history;
  if (lost_history > 0) news_.push_back(sentence(path_, "lacks " + std::to_string(lost_history) + " lines of history"));
  wants_all_ |= std::exchange(lacking_, false) || lost_records > 0 || std::exchange(overflowed_, false);
  backlog_.clear();
  if (!trouble_.empty())
    news_.push_back(sentence(path_, "is written again, after " + human_duration(now - *trouble_at_)));
  trouble_.clear();
  trouble_at_.reset();
  retry_at_.reset();
  waited_at_.reset();
  committed_ = taken;
  tell();
}

} // namespace sipward::daemon
