// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/rules.h"

#include <algorithm>

namespace sipward::policy {

bool Rules::is_port(std::uint16_t port) const noexcept { return std::ranges::find(ports, port) != ports.end(); }

bool Rules::is_server(const Address& address) const noexcept {
  constexpr std::size_t kFew = 8; // to look at each is quicker then
  if (servers.size() <= kFew) return std::ranges::find(servers, address) != servers.end();
  return std::ranges::binary_search(servers, address);
}

std::size_t Rules::server_place(const Address& address) const noexcept {
  return static_cast<std::size_t>(std::ranges::lower_bound(servers, address) - servers.begin());
}

namespace {

// Prefixes have one or two lengths per family: one binary search for each length that occurs.
bool hold(const std::vector<Prefix>& prefixes, const Address& address) noexcept {
  for (auto group = prefixes.begin(); group != prefixes.end();) {
    const auto length = group->length;
    const auto end = std::upper_bound(group, prefixes.end(), length,
                                      [](std::uint8_t l, const Prefix& prefix) { return l < prefix.length; });
    if (length <= bits(address.family) &&
        std::binary_search(group, end, Prefix::of(address, length),
                           [](const Prefix& a, const Prefix& b) { return a.base < b.base; }))
      return true;
    group = end;
  }
  return false;
}

} // namespace

bool Rules::is_blocked(const Address& address) const noexcept { return hold(blocked, address); }
bool Rules::is_blocked_wholly(const Address& address) const noexcept { return hold(blocked_wholly, address); }

void Rules::follow(const Wellbeing::State& state) noexcept {
  soft = state.unwell ? Soft::Suspended : state.answers_unseen ? Soft::Logged : Soft::Judged;
}

// As the hosts that convict a prefix (prefix.offenders): four strangers of one network, each at his limit, are no
// chance.
constexpr std::uint32_t kNetworkFactor = 4;

void Rules::set(Class c, const RatePolicy& policy) noexcept {
  const auto i = static_cast<std::size_t>(c);
  rates_[i] = policy;
  for (std::size_t level = 0; level < kTrustLevels; ++level)
    meters_[i][level] =
        Meter({policy.limit.per_second * kTrustFactors[level], policy.limit.burst * kTrustFactors[level]});
  networks_[i] = Meter({policy.limit.per_second * kNetworkFactor, policy.limit.burst * kNetworkFactor});
}

void Rules::set_auth_failure(const CountPolicy& policy) noexcept {
  auth_failure = policy;
  failures_ = Meter({policy.count / std::chrono::duration<double>(policy.within).count(), policy.count});
}

} // namespace sipward::policy
