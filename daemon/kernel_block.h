// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

#include "daemon/nft.h"
#include "policy/block.h"

// A block of the list as the kernel has it. Pure.
namespace sipward::daemon {

inline constexpr std::chrono::seconds kKernelGrace{
    10}; // the kernel drops an element by itself this much after we should have

// The time that an element is to live in the kernel: a little more than the block, so that its counter can still be
// read.
inline std::chrono::seconds kernel_timeout(const policy::Block& block, policy::Time now) {
  using std::chrono::seconds;
  return std::max(seconds(1), std::chrono::ceil<seconds>(block.until - now)) + kKernelGrace;
}

inline bool is_in_kernel(const policy::Block& block) noexcept { return !block.dry_run; }

inline nft::Effect effect_of(const policy::Block& block) noexcept {
  return block.limit ? nft::Effect::Limit : block.wholly ? nft::Effect::DropAll : nft::Effect::Drop;
}

// The kernel counts whole packets, and an unlimited burst of none would drop everything.
inline nft::Limit kernel_limit(const policy::Rate& rate) {
  const double per_s = std::clamp(std::round(rate.per_second), 1.0, double{nft::kRateMax});
  return {static_cast<std::uint32_t>(per_s), std::max(rate.burst, 1u)};
}

} // namespace sipward::daemon
