// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "daemon/control.h"

// A flood in the name of a customer is limited by his address, in monitor mode by the kernel. He himself is told from
// it by the ports that his phones registered from: these pass the limit, each up to the same rate. Inline the workers
// know.
namespace sipward::daemon {
namespace {

constexpr std::size_t kMostPorts = 1024; // of one address

} // namespace

// The ports that pass a limit which begins, goes on or ends, as changes to the kernel's table.
std::vector<nft::Change> Control::spare_ports(const policy::Block& limit, bool stands, nft::Limit rate,
                                              std::chrono::seconds timeout) {
  std::vector<nft::Change> changes;
  const auto& host = limit.subject.prefix;
  const auto change = [&](nft::Change::Kind kind, std::uint16_t port) {
    changes.push_back({kind, {policy::SubjectKind::Endpoint, host, port}, timeout, nft::Effect::Spare, rate});
  };
  if (!stands) {
    if (const auto spared = spared_.extract(limit.subject))
      for (const auto port : spared.mapped()) change(nft::Change::Kind::Delete, port);
    return changes;
  }
  const auto key = policy::source_key(host.base, settings_.sources.ipv6_prefix);
  const auto now_s = policy::Now(monotonic_now()).s;
  if (inline_mode() || dataplane_->ledger().trust.find(key, now_s) == nullptr) return changes;
  auto ports = dataplane_->ledger().known_ports(key, now_s);
  ports.resize(std::min(ports.size(), kMostPorts));
  for (const auto port : ports) change(nft::Change::Kind::Add, port);
  auto& spared = spared_[limit.subject];
  for (const auto port : spared) // known no more
    if (!std::ranges::binary_search(ports, port)) change(nft::Change::Kind::Delete, port);
  spared = std::move(ports);
  return changes;
}

} // namespace sipward::daemon
