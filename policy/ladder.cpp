// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/ladder.h"

#include <algorithm>

namespace sipward::policy {

using namespace std::chrono_literals;

void Ladder::set_steps(std::vector<Duration> steps, std::size_t capacity) {
  steps_ = std::move(steps);
  capacity_ = capacity;
  while (climbed_.size() > capacity_) forget(by_end_.begin()->second);
}

Duration Ladder::length(std::uint32_t step) const noexcept { return steps_[std::clamp(step, 1u, top()) - 1]; }

Duration Ladder::memory(std::uint32_t step) const noexcept { return std::max<Duration>(24h, 4 * length(step)); }

std::uint32_t Ladder::next(const Subject& subject, Time now) const {
  const auto at = climbed_.find(subject);
  if (at == climbed_.end()) return 1;
  const auto [step, ended] = at->second;
  return now - ended > memory(step) ? 1 : std::min(step + 1, top());
}

std::optional<Climb> Ladder::find(const Subject& subject) const {
  const auto at = climbed_.find(subject);
  if (at == climbed_.end()) return std::nullopt;
  return Climb{subject, at->second.first, at->second.second};
}

void Ladder::remember(const Climb& climb) {
  forget(climb.subject);
  // What nobody can come back to any more goes first; the top step's memory is the longest.
  while (!by_end_.empty() && climb.ended - by_end_.begin()->first > memory(top())) forget(by_end_.begin()->second);
  while (!by_end_.empty() && climbed_.size() >= capacity_) forget(by_end_.begin()->second);
  climbed_[climb.subject] = {climb.step, climb.ended};
  by_end_.emplace(climb.ended, climb.subject);
}

void Ladder::forget(const Subject& subject) {
  const auto at = climbed_.find(subject);
  if (at == climbed_.end()) return;
  by_end_.erase({at->second.second, at->first});
  climbed_.erase(at);
}

void Ladder::clear() {
  climbed_.clear();
  by_end_.clear();
}

std::vector<Climb> Ladder::climbs() const {
  std::vector<Climb> all;
  all.reserve(by_end_.size());
  for (const auto& [ended, subject] : by_end_) all.push_back({subject, climbed_.at(subject).first, ended});
  return all;
}

} // namespace sipward::policy
