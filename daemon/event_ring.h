// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

// The latest lines of the block log, numbered, for those who ask what happened and for those who follow. Bounded: who
// comes late has missed the oldest, and can tell how many by the numbers.
namespace sipward::daemon {

struct LoggedEvent {
  std::string text; // as in a text log
  std::string json; // as in a JSON log
};

// One thread.
class EventRing {
public:
  explicit EventRing(std::size_t most = 1000) : most_(most) {}

  void add(LoggedEvent event) {
    if (events_.size() == most_) events_.pop_front();
    events_.push_back(std::move(event));
    ++next_;
  }
  std::uint64_t next() const noexcept { return next_; }                    // the number of the event to come
  std::uint64_t oldest() const noexcept { return next_ - events_.size(); } // that is still there; next(): none is
  const LoggedEvent& at(std::uint64_t number) const { return events_[number - oldest()]; }

private:
  std::size_t most_;
  std::uint64_t next_ = 0;
  std::deque<LoggedEvent> events_;
};

} // namespace sipward::daemon
