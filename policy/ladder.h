// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "policy/block.h"

// The ladder: a block lasts the longer, the higher the step on which its subject stands; and who has stood on which.
namespace sipward::policy {

// How far a subject has climbed.
struct Climb {
  Subject subject;
  std::uint32_t step = 1;
  Time ended; // its last block
};

class Ladder {
public:
  // `steps`: at least one, each longer than the one before. `capacity`: so many subjects are remembered; beyond, whose
  // block ended longest ago is forgotten.
  Ladder(std::vector<Duration> steps, std::size_t capacity) : steps_(std::move(steps)), capacity_(capacity) {}

  // Other steps from now on: whoever stands above the top is on the top.
  void set_steps(std::vector<Duration> steps, std::size_t capacity);

  std::uint32_t top() const noexcept { return static_cast<std::uint32_t>(steps_.size()); }
  Duration length(std::uint32_t step) const noexcept; // steps count from 1; those beyond the top last as long as it

  // The step for whoever comes back at `now`: one above his last, or the first if that is too long ago.
  std::uint32_t next(const Subject& subject, Time now) const;

  std::optional<Climb> find(const Subject& subject) const;
  void remember(const Climb& climb);
  void forget(const Subject& subject);
  void clear();
  std::vector<Climb> climbs() const; // in the order of their ends

private:
  // How long a step is remembered after its block: a day, but longer than the block itself kept its subject quiet.
  Duration memory(std::uint32_t step) const noexcept;

  std::vector<Duration> steps_;
  std::size_t capacity_;
  std::map<Subject, std::pair<std::uint32_t, Time>> climbed_; // step and end
  std::set<std::pair<Time, Subject>> by_end_;                 // the same
};

} // namespace sipward::policy
