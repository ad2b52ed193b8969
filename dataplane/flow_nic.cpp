// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/flow_nic.h"

#include <rte_byteorder.h>

#include <algorithm>
#include <cstring>

namespace sipward::dataplane {
namespace {

// The mask of a prefix's length, over as many octets as its addresses have.
void write_mask(void* to, const policy::Prefix& prefix) noexcept {
  policy::Address ones = prefix.base;
  ones.octets.fill(0xff);
  const auto mask = ones.masked(prefix.length);
  std::memcpy(to, mask.wire().data(), mask.wire().size());
}

class FlowNic final : public DropRules::Nic {
public:
  explicit FlowNic(std::uint16_t port) noexcept : port_(port) {}

  // Which of the families the NIC takes, and whether it counts; asked without installing anything.
  bool probe() noexcept {
    const DropRules::Rule samples[] = {{policy::Prefix::host(policy::Address::v4(192, 0, 2, 1)), 5060},
                                       {policy::Prefix::of(policy::Address::parse("2001:db8::").value(), 64), 5060}};
    for (const bool counts : {true, false}) {
      counts_ = counts;
      takes_v4_ = validate(samples[0]);
      takes_v6_ = validate(samples[1]);
      if (takes_v4_ || takes_v6_) return true;
    }
    return false;
  }

  bool takes(policy::Family family) const override { return family == policy::Family::V4 ? takes_v4_ : takes_v6_; }

  void* install(const DropRules::Rule& rule) override {
    const DropFlow flow(rule, counts_);
    rte_flow_error error{};
    return rte_flow_create(port_, flow.attributes(), flow.pattern(), flow.actions(), &error);
  }

  void remove(void* installed) override {
    rte_flow_error error{};
    rte_flow_destroy(port_, static_cast<rte_flow*>(installed), &error);
  }

  std::uint64_t dropped(void* installed) const override {
    if (!counts_) return 0;
    rte_flow_query_count count{};
    const rte_flow_action action{RTE_FLOW_ACTION_TYPE_COUNT, nullptr};
    rte_flow_error error{};
    if (rte_flow_query(port_, static_cast<rte_flow*>(installed), &action, &count, &error) != 0) return 0;
    return count.hits_set != 0 ? count.hits : 0;
  }

private:
  bool validate(const DropRules::Rule& rule) const noexcept {
    const DropFlow flow(rule, counts_);
    rte_flow_error error{};
    return rte_flow_validate(port_, flow.attributes(), flow.pattern(), flow.actions(), &error) == 0;
  }

  const std::uint16_t port_;
  bool takes_v4_ = false, takes_v6_ = false, counts_ = false;
};

} // namespace

DropFlow::DropFlow(const DropRules::Rule& rule, bool counts) noexcept {
  attributes_.ingress = 1;
  const auto& [base, length] = rule.source;
  std::size_t items = 0;
  const auto match = [&](rte_flow_item_type type, const void* spec = nullptr, const void* mask = nullptr) {
    pattern_[items++] = {type, spec, nullptr, mask};
  };
  match(RTE_FLOW_ITEM_TYPE_ETH);
  if (base.family == policy::Family::V4) {
    std::memcpy(&ipv4_.hdr.src_addr, base.wire().data(), base.wire().size());
    write_mask(&ipv4_mask_.hdr.src_addr, rule.source);
    match(RTE_FLOW_ITEM_TYPE_IPV4, &ipv4_, &ipv4_mask_);
  } else {
    std::memcpy(&ipv6_.hdr.src_addr, base.wire().data(), base.wire().size());
    write_mask(&ipv6_mask_.hdr.src_addr, rule.source);
    match(RTE_FLOW_ITEM_TYPE_IPV6, &ipv6_, &ipv6_mask_);
  }
  if (rule.port != 0) {
    udp_.hdr.dst_port = rte_cpu_to_be_16(rule.port);
    udp_mask_.hdr.dst_port = 0xffff;
    match(RTE_FLOW_ITEM_TYPE_UDP, &udp_, &udp_mask_);
  }
  match(RTE_FLOW_ITEM_TYPE_END);

  std::size_t actions = 0;
  if (counts) actions_[actions++] = {RTE_FLOW_ACTION_TYPE_COUNT, &count_};
  actions_[actions++] = {RTE_FLOW_ACTION_TYPE_DROP, nullptr};
  actions_[actions] = {RTE_FLOW_ACTION_TYPE_END, nullptr};
}

std::unique_ptr<DropRules::Nic> flow_nic(std::uint16_t port) {
  auto nic = std::make_unique<FlowNic>(port);
  if (!nic->probe()) return nullptr;
  return nic;
}

} // namespace sipward::dataplane
