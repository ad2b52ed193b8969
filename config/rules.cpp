// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/rules.h"

#include <algorithm>
#include <cmath>

namespace sipward::config {

policy::Rules rules(const Settings& settings) {
  policy::Rules rules;
  rules.ports = settings.sip.ports;
  rules.servers = settings.sip.servers;
  std::ranges::sort(rules.servers);
  rules.never_blocked = policy::PrefixSet(settings.allow);
  for (const auto& [range, per_second] : settings.allow_limits) {
    const policy::Rate limit{per_second, static_cast<std::uint32_t>(std::max(std::ceil(10 * per_second), 1.0))};
    rules.ceilings.push_back({range, limit, policy::Meter(limit)});
  }
  rules.block_everything = settings.nftables.scope == Scope::All;
  rules.ipv6_prefix = settings.sources.ipv6_prefix;
  rules.scanner = settings.detect.scanner;
  rules.set(policy::Class::Register, settings.detect.register_flood);
  rules.set(policy::Class::Invite, settings.detect.invite_flood);
  rules.set(policy::Class::Options, settings.detect.options_flood);
  rules.set(policy::Class::Request, settings.detect.request_flood);
  rules.set(policy::Class::Malformed, settings.detect.malformed);
  rules.network_v4 = settings.prefix.ipv4;
  rules.network_v6 = settings.prefix.ipv6;
  rules.enumeration = settings.detect.enumeration;
  rules.set_auth_failure(settings.detect.auth_failure);
  rules.peers = policy::PrefixSet(settings.trust.peers);
  rules.remember_s =
      static_cast<std::uint32_t>(std::chrono::ceil<std::chrono::seconds>(settings.trust.remember).count());
  rules.marks = std::make_shared<const sip::Marks>(settings.scanners.user_agents);
  return rules;
}

policy::BlockOptions block_options(const Settings& settings) {
  policy::BlockOptions options;
  options.ladder.assign(settings.block.ladder.begin(), settings.block.ladder.end());
  options.prefix_v4 = settings.prefix.ipv4;
  options.prefix_v6 = settings.prefix.ipv6;
  options.source_v6 = settings.sources.ipv6_prefix;
  options.offenders = settings.prefix.offenders;
  options.within = settings.prefix.within;
  options.fuse = settings.prefix.fuse;
  options.proven_only = settings.prefix.proven_only;
  options.limit = settings.detect.request_flood.limit;
  options.max_hosts = settings.block.max_entries;
  options.new_hosts_per_s = settings.block.max_per_second;
  options.dry_run = settings.block.dry_run;
  return options;
}

} // namespace sipward::config
