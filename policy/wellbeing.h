// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "policy/source_sketch.h"
#include "policy/time.h"

// Is it our own server that is not well, or do we not see its answers? Then what its customers do is not their fault,
// and nothing but hard marks may be judged.
namespace sipward::policy {

// What the workers saw in the last second, all of them together.
struct LastSecond {
  // Trusted sources ...
  SourceSketch asking = {};   // ... that sent a request
  SourceSketch answered = {}; // ... to whom any answer went, a challenge among them
  SourceSketch served = {};   // ... to whom a success went
  SourceSketch failed = {};   // ... whose credentials were rejected, or to whom a 5xx went
  // Everybody outside.
  SourceSketch sources = {};  // that sent a request
  std::uint64_t requests = 0; // theirs
  std::uint64_t answers = 0;  // our server's, to whomever
};

class Wellbeing {
public:
  struct State {
    bool unwell = false;
    bool answers_unseen = false;
    friend bool operator==(const State&, const State&) = default;
  };

  // When our server is found unwell, whoever was blocked in this time before may have done nothing wrong.
  static constexpr Duration kDoubtful = std::chrono::minutes(2);

  // Once a second. What has changed is in the state.
  State note(const LastSecond& second, Time now);
  State state() const noexcept { return state_; }

  // Trusted sources over the last ten seconds, about.
  struct Figures {
    std::uint32_t served = 0;
    std::uint32_t failed = 0;     // and were not served
    std::uint32_t unanswered = 0; // neither
  };
  Figures figures() const noexcept { return figures_; }

private:
  void count(Time now);
  void judge_health(Time now);
  void judge_sight(const LastSecond& second, Time now);

  struct Past {
    Time at;
    LastSecond second;
  };
  std::deque<Past> past_; // the last ten seconds
  State state_;
  Figures figures_;
  std::optional<Time> better_since_;  // unwell: successes have prevailed
  Time trouble_at_;                   // unwell: somebody failed, or was not answered
  std::optional<Time> first_request_; // since the start, until answers were seen ...
  SourceSketch sources_;
  std::uint64_t requests_ = 0;
  std::uint64_t answers_ = 0;
};

} // namespace sipward::policy
