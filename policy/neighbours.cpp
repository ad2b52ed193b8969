// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/neighbours.h"

#include <algorithm>
#include <utility>

namespace sipward::policy {

void Neighbours::set_terms(std::uint32_t enough, Duration within, std::size_t capacity,
                           const std::function<Prefix(const Address&)>& prefix_of) {
  const auto before = std::exchange(prefixes_, {});
  enough_ = enough, within_ = within, capacity_ = capacity;
  std::vector<Offender> all;
  for (const auto& [prefix, hosts] : before) all.insert(all.end(), hosts.begin(), hosts.end());
  std::ranges::stable_sort(all, {}, &Offender::at); // the latest stay, where there are more than enough
  for (const auto& [host, proven, at] : all) add(prefix_of(host.prefix.base), host, proven, at);
}

Neighbours::Count Neighbours::add(const Prefix& prefix, const Subject& host, bool proven, Time at) {
  if (prefixes_.size() >= capacity_ && !prefixes_.contains(prefix)) make_room(prefix, at);
  auto& hosts = prefixes_[prefix];
  std::erase_if(hosts, [&](const Offender& offender) { return offender.host == host || at - offender.at > within_; });
  hosts.push_back({host, proven, at});
  if (hosts.size() > enough_) {
    // Forged neighbours must not push out the proven ones, who convict without them.
    const auto unproven = std::ranges::find(hosts, false, &Offender::proven);
    hosts.erase(unproven != hosts.end() ? unproven : hosts.begin());
  }
  return {static_cast<std::uint32_t>(hosts.size()), proven && std::ranges::all_of(hosts, &Offender::proven)};
}

std::uint32_t Neighbours::count(const Prefix& prefix, Time now) const {
  const auto at = prefixes_.find(prefix);
  if (at == prefixes_.end()) return 0;
  return static_cast<std::uint32_t>(
      std::ranges::count_if(at->second, [&](const Offender& offender) { return now - offender.at <= within_; }));
}

void Neighbours::forget(const Prefix& hosts) {
  for (auto& [prefix, offenders] : prefixes_)
    if (prefix.overlaps(hosts))
      std::erase_if(offenders, [&](const Offender& offender) { return hosts.holds(offender.host.prefix); });
}

void Neighbours::forget(const Prefix& prefix, const Subject& host) {
  const auto at = prefixes_.find(prefix);
  if (at != prefixes_.end()) std::erase_if(at->second, [&](const Offender& offender) { return offender.host == host; });
}

// Makes room for one more prefix. Those that are out of date go, but looking for them takes long: once a minute at
// most. In between it is whichever stands next to the newcomer, so that a storm of forged prefixes mostly pushes out
// its own.
void Neighbours::make_room(const Prefix& newcomer, Time now) {
  if (!swept_ || now - *swept_ >= std::chrono::minutes(1)) {
    swept_ = now;
    std::erase_if(prefixes_, [&](const auto& entry) {
      const auto& hosts = entry.second;
      return hosts.empty() || now - hosts.back().at > within_;
    });
  }
  if (prefixes_.size() < capacity_) return;
  const auto next = prefixes_.lower_bound(newcomer);
  prefixes_.erase(next != prefixes_.end() ? next : prefixes_.begin());
}

} // namespace sipward::policy
