// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/figures.h"

#include <algorithm>
#include <numeric>

namespace sipward::daemon {
namespace {

constexpr double kNear = 0.5; // of what convicts

// How full a meter is: 1 where the next request is one too many.
double fullness(const policy::Source& source, std::size_t which, const policy::Rate& limit, const policy::Now& now) {
  const auto tat = source.tat[which].load(std::memory_order_relaxed);
  if (policy::Meter::drained(tat, now.tick)) return 0;
  const double debt_s = static_cast<double>(tat - now.tick) / policy::kTicksPerSecond;
  return debt_s * limit.per_second / limit.burst;
}

} // namespace

void Latencies::note(policy::Duration latency) noexcept {
  const double s = std::max(std::chrono::duration<double>(latency).count(), 0.0);
  ++count_;
  sum_s_ += s;
  const auto* const bound = std::ranges::lower_bound(kBounds_s, s);
  if (bound != kBounds_s.end()) ++each_[static_cast<std::size_t>(bound - kBounds_s.begin())];
}

std::uint64_t Latencies::up_to(std::size_t i) const noexcept {
  return std::accumulate(each_.begin(), each_.begin() + static_cast<std::ptrdiff_t>(i) + 1, std::uint64_t{0});
}

NearMisses near_misses(const policy::SourceTable& sources, const policy::Detect& detect, const policy::Now& now) {
  const auto meter_of = [](policy::Class which) { return static_cast<std::size_t>(which); };
  const auto& failures = detect.auth_failure;
  const policy::Rate failing{failures.count / std::chrono::duration<double>(failures.within).count(), failures.count};
  struct Metered {
    const char* name;
    std::size_t which;
    policy::Rate limit;
  };
  const std::array metered = {Metered{"register_flood", meter_of(policy::Class::Register), detect.register_flood.limit},
                              Metered{"invite_flood", meter_of(policy::Class::Invite), detect.invite_flood.limit},
                              Metered{"options_flood", meter_of(policy::Class::Options), detect.options_flood.limit},
                              Metered{"request_flood", meter_of(policy::Class::Request), detect.request_flood.limit},
                              Metered{"malformed", meter_of(policy::Class::Malformed), detect.malformed.limit},
                              Metered{"auth_failure", policy::kFailureMeter, failing}};
  std::array<std::uint64_t, metered.size()> found{};
  std::uint64_t trying = 0;
  sources.each([&](policy::SourceKey, const policy::Source& source) {
    if (source.level() > 0 || source.blocked(now)) return;
    for (std::size_t i = 0; i < metered.size(); ++i)
      found[i] += fullness(source, metered[i].which, metered[i].limit, now) >= kNear;
    trying += !source.drained(now) && source.users_tried() >= kNear * detect.enumeration.count;
  });
  NearMisses near = {{"enumeration", trying}};
  for (std::size_t i = 0; i < metered.size(); ++i) near[metered[i].name] = found[i];
  return near;
}

} // namespace sipward::daemon
