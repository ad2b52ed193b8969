// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "daemon/state.h"
#include "daemon/state_backlog.h"
#include "daemon/state_file.h"
#include "daemon/state_rows.h"

// The thread that writes the state. It takes all that was handed over since the last commit, and commits that as one
// transaction: the slower the disk, the larger they are.
namespace sipward::daemon {

class StateWriter {
public:
  static constexpr std::size_t kMaxQueued = std::size_t{1} << 18; // changes handed over and not taken yet

  // `file`: nothing if it cannot be opened at present, which `trouble` tells.
  StateWriter(std::filesystem::path path, const StateSecret& secret, const StateOptions& options,
              std::optional<StateFile> file, const RowsAtMost& at_most, std::string trouble,
              std::vector<std::string> news);
  ~StateWriter();

  // As in State. Any thread but the writer's.
  std::uint64_t write(StateChanges changes, WallTime now, State::Urgency urgency);
  std::uint64_t handed_over() const;
  std::uint64_t settled() const;
  std::uint64_t committed() const;
  int event() const noexcept { return event_; }
  void clear_event() noexcept;
  std::string trouble() const;
  std::vector<std::string> take_news();
  bool wants_all();
  State::Lost lost() const;
  bool flush(std::chrono::milliseconds bound);

private:
  using Clock = std::chrono::steady_clock;

  // Writer's thread.
  void run();
  void wait(std::unique_lock<std::mutex>& lock);
  std::expected<void, StateFault> attempt(WallTime now);
  std::expected<void, StateFault> reopen(WallTime now);
  std::expected<void, StateFault> move_aside(WallTime now);
  void told(const std::expected<void, StateFault>& outcome, std::uint64_t taken);
  // With the mutex held.
  bool due(Clock::time_point now) const;
  std::optional<Clock::time_point> next_due() const;
  std::optional<Clock::time_point> waiting_since() const;
  void tell() noexcept;

  const std::filesystem::path path_;
  const StateSecret secret_;
  const StateOptions options_;
  int event_ = -1;

  // The writer's thread alone.
  std::optional<StateFile> file_;
  RowsAtMost at_most_;
  Backlog backlog_;
  std::vector<std::string> found_; // news that are not told yet
  bool lacking_ = false;           // the file lacks what was on it
  bool scrubbing_ = false;         // its log is to be emptied

  mutable std::mutex mutex_; // guards all that follows
  std::condition_variable wake_, attempted_;
  StateChanges queue_;
  WallTime now_;                               // as the latest batch says
  std::uint64_t queued_ = 0;                   // number of the latest batch handed over
  std::uint64_t committed_ = 0;                // of the latest one on file
  bool urgent_ = false;                        // something in queue_ is
  std::optional<Clock::time_point> queued_at_; // the first in queue_
  std::optional<Clock::time_point> waited_at_; // the first that is neither in queue_ nor on file; by urgent ones
  std::optional<Clock::time_point> retry_at_;  // after a failure
  std::chrono::milliseconds retry_after_;
  std::optional<Clock::time_point> trouble_at_; // when it began
  std::string trouble_;
  std::vector<std::string> news_;
  bool wants_all_ = false;
  State::Lost lost_;
  bool overflowed_ = false; // queue_ has, since the last commit
  bool flushing_ = false;
  bool stopping_ = false;

  std::thread thread_; // last: it uses all of the above
};

} // namespace sipward::daemon
