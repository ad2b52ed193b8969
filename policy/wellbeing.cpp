// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/wellbeing.h"

#include <algorithm>
#include <cmath>

namespace sipward::policy {
namespace {

using namespace std::chrono_literals;

constexpr auto kWindow = 10s;
constexpr std::size_t kMaxPast = 64; // however often we are told

// Fewer may have trouble of their own at one time. Eight customers at once, and hardly anybody who succeeds, have a
// common cause.
constexpr std::uint32_t kManyInTrouble = 8;
constexpr std::uint32_t kTroubleToServed = 4;
constexpr auto kBetterFor = 30s;
// Nobody fails any more, but nobody succeeds either: a night, or all have given up. Strangers are not to have it free.
constexpr auto kQuietFor = 5min;

constexpr std::uint64_t kEnoughRequests = 200;
constexpr double kEnoughSources = 20;
constexpr auto kEnoughTime = 60s;           // a server that starts with us takes less
constexpr std::uint64_t kEnoughAnswers = 5; // one may be a stray

std::uint32_t rounded(const SourceSketch& sketch) { return static_cast<std::uint32_t>(std::lround(sketch.count())); }

} // namespace

Wellbeing::State Wellbeing::note(const LastSecond& second, Time now) {
  past_.push_back({now, second});
  while (now - past_.front().at >= kWindow || past_.size() > kMaxPast) past_.pop_front();
  judge_sight(second, now);
  count(now);
  judge_health(now);
  return state_;
}

void Wellbeing::count(Time now) {
  LastSecond all;
  for (const auto& [at, second] : past_) {
    if (at != now) all.asking = all.asking | second.asking; // who asked just now may be answered yet
    all.answered = all.answered | second.answered;
    all.served = all.served | second.served;
    all.failed = all.failed | second.failed;
  }
  figures_.served = rounded(all.served);
  figures_.failed = rounded(all.failed - all.served);
  // Silence says nothing about our server while we have never heard it.
  const bool sees_answers = answers_ >= kEnoughAnswers;
  figures_.unanswered = sees_answers ? rounded(all.asking - (all.answered | all.served | all.failed)) : 0;
}

void Wellbeing::judge_health(Time now) {
  const std::uint32_t trouble = figures_.failed + figures_.unanswered;
  if (!state_.unwell) {
    if (trouble < kManyInTrouble || trouble < kTroubleToServed * figures_.served) return;
    state_.unwell = true;
    better_since_.reset();
    trouble_at_ = now;
    return;
  }
  if (trouble > 0) trouble_at_ = now;
  if (figures_.served <= trouble)
    better_since_.reset();
  else if (!better_since_)
    better_since_ = now;
  const bool better = better_since_ && now - *better_since_ >= kBetterFor;
  if (better || now - trouble_at_ >= kQuietFor) state_.unwell = false;
}

void Wellbeing::judge_sight(const LastSecond& second, Time now) {
  if (answers_ >= kEnoughAnswers) return; // seen once, they are seen for good
  answers_ += second.answers;
  if (answers_ >= kEnoughAnswers) {
    state_.answers_unseen = false;
    past_.erase(past_.begin(), past_.end() - 1); // who asked before now may have been answered
    return;
  }
  requests_ += second.requests;
  sources_ = sources_ | second.sources;
  if (requests_ > 0 && !first_request_) first_request_ = now;
  if (answers_ == 0 && requests_ >= kEnoughRequests && sources_.count() >= kEnoughSources &&
      now - *first_request_ >= kEnoughTime)
    state_.answers_unseen = true;
}

} // namespace sipward::policy
