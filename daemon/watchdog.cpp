// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/watchdog.h"

#include <algorithm>

namespace sipward::daemon {

std::optional<policy::Time> Watchdog::next() const noexcept {
  if (every_ <= policy::Duration::zero()) return std::nullopt;
  return next_;
}

Watchdog::Advice Watchdog::look(policy::Time now, std::span<const std::uint64_t> rounds) {
  if (every_ <= policy::Duration::zero() || now < next_) return Advice::Wait;
  next_ = now + every_;
  const bool same_workers = seen_.size() == rounds.size();
  const auto [seen, round] = std::ranges::mismatch(seen_, rounds, std::ranges::not_equal_to{});
  const bool stands = same_workers && round != rounds.end();
  if (stands) still_ = static_cast<std::size_t>(round - rounds.begin());
  seen_.assign(rounds.begin(), rounds.end());
  return stands ? Advice::Starve : Advice::Feed;
}

} // namespace sipward::daemon
