// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <rte_flow.h>

#include <array>
#include <cstdint>
#include <memory>

#include "dataplane/drop_rules.h"

namespace sipward::dataplane {

// A drop rule in DPDK's words (rte_flow in the Programmer's Guide): Ethernet / IPv4 or IPv6 from there / UDP to the
// port, and then count, if the NIC can, and drop. Frames with a VLAN tag are no such thing to every NIC; what it lets
// through, the workers drop.
class DropFlow {
public:
  DropFlow(const DropRules::Rule& rule, bool counts) noexcept;
  DropFlow(const DropFlow&) = delete; // it points into itself
  DropFlow& operator=(const DropFlow&) = delete;

  const rte_flow_attr* attributes() const noexcept { return &attributes_; }
  const rte_flow_item* pattern() const noexcept { return pattern_.data(); }
  const rte_flow_action* actions() const noexcept { return actions_.data(); }

private:
  rte_flow_attr attributes_{};
  rte_flow_item_ipv4 ipv4_{}, ipv4_mask_{};
  rte_flow_item_ipv6 ipv6_{}, ipv6_mask_{};
  rte_flow_item_udp udp_{}, udp_mask_{};
  rte_flow_action_count count_{};
  std::array<rte_flow_item, 4> pattern_{};
  std::array<rte_flow_action, 3> actions_{};
};

// The NIC of a port that runs; null, if it takes no such rules.
std::unique_ptr<DropRules::Nic> flow_nic(std::uint16_t port);

} // namespace sipward::dataplane
