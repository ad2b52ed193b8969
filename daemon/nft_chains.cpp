// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft_chains.h"

#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>

#include <algorithm>
#include <string_view>
#include <utility>

namespace sipward::daemon::nft {
namespace {

using policy::Family;
using Chain = std::unique_ptr<nftnl_chain, Freed<nftnl_chain_free>>;
using RulePtr = std::unique_ptr<nftnl_rule, Freed<nftnl_rule_free>>;

// On the way in both chains stand before conntrack and NAT (-300, which nft calls raw), and before a flowtable, which
// takes packets away at the interface's ingress. On the way out we stand after source NAT (100): each side sees
// addresses and ports as they are on the wire.
constexpr std::int32_t kPriorityIn = -300;
constexpr std::int32_t kPriorityOut = 300;

// Which way a chain looks: where in the packet it finds the blocked side (RFC 791, RFC 8200) and our port (RFC 768, RFC
// 9293).
struct Direction {
  std::uint32_t address_v4; // from the network header
  std::uint32_t address_v6;
  std::uint32_t port; // from the transport header
};
constexpr Direction kIn{12, 8, 2};   // saddr, dport
constexpr Direction kOut{16, 24, 0}; // daddr, sport

// One rule, expression by expression. Everything goes through register 1, as nft does it.
class Rule {
public:
  explicit Rule(const char* chain) : rule_(made(nftnl_rule_alloc())) {
    nftnl_rule_set_str(rule_.get(), NFTNL_RULE_TABLE, kTable);
    nftnl_rule_set_str(rule_.get(), NFTNL_RULE_CHAIN, chain);
  }
  Rule& load_meta(std::uint32_t key) {
    nftnl_expr* expr = append("meta");
    nftnl_expr_set_u32(expr, NFTNL_EXPR_META_KEY, key);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_META_DREG, NFT_REG_1);
    return *this;
  }
  // The guard that nft puts before a match on `ip` or `ip6` in a table of both families.
  Rule& only(Family family) {
    const std::uint8_t protocol = family == Family::V4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
    load_meta(NFT_META_NFPROTO);
    nftnl_expr* expr = append("cmp");
    nftnl_expr_set_u32(expr, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
    nftnl_expr_set(expr, NFTNL_EXPR_CMP_DATA, &protocol, sizeof protocol);
    return *this;
  }
  Rule& load_payload(std::uint32_t base, std::uint32_t offset, std::uint32_t octets) {
    nftnl_expr* expr = append("payload");
    nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_LEN, octets);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
    return *this;
  }
  Rule& mask(Family family, std::uint8_t length) {
    if (length == policy::bits(family)) return *this;
    const auto octets = std::uint32_t{policy::bits(family)} / 8;
    policy::Address ones{family, {}};
    ones.octets.fill(0xff);
    const auto kept = ones.masked(length).octets;
    const std::array<std::uint8_t, 16> zero{};
    nftnl_expr* expr = append("bitwise");
    nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_BITWISE_LEN, octets);
    nftnl_expr_set(expr, NFTNL_EXPR_BITWISE_MASK, kept.data(), octets);
    nftnl_expr_set(expr, NFTNL_EXPR_BITWISE_XOR, zero.data(), octets);
    return *this;
  }
  enum class Match : std::uint8_t { In, NotIn };
  Rule& look_up(const char* set, Match match = Match::In) {
    nftnl_expr* expr = append("lookup");
    nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
    nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, set);
    if (match == Match::NotIn) nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
    return *this;
  }
  // `verdict`: NF_ACCEPT or NF_DROP.
  void end(Batch& batch, std::uint32_t verdict, const std::string& what) {
    nftnl_expr* expr = append("immediate");
    nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_IMM_VERDICT, verdict);
    nftnl_rule_nlmsg_build_payload(batch.open(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, what), rule_.get());
    batch.close();
  }

private:
  nftnl_expr* append(const char* name) {
    nftnl_expr* expr = made(nftnl_expr_alloc(name));
    nftnl_rule_add_expr(rule_.get(), expr);
    return expr;
  }
  RulePtr rule_;
};

void put_rules(Batch& batch, const Layout& layout, const char* chain, const Direction& direction) {
  const std::string what = std::string("make the rules of chain ") + chain;
  if (layout.scope == config::Scope::Sip) {
    // The port first: most of a server's other traffic leaves here after one look. A packet too short for a port breaks
    // off this rule without a match and goes on; what is neither TCP nor UDP leaves at the second. Of a later fragment
    // some kernels read a "port" out of its payload (nft_payload_fast_eval asks for no fragment offset), others break
    // off.
    Rule(chain)
        .load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, direction.port, 2)
        .look_up(kPorts, Rule::Match::NotIn)
        .end(batch, NF_ACCEPT, what);
    Rule(chain).load_meta(NFT_META_L4PROTO).look_up(kTransports, Rule::Match::NotIn).end(batch, NF_ACCEPT, what);
  }
  const auto match = [&](const char* set, Family family, std::uint8_t length, std::uint32_t verdict) {
    const auto offset = family == Family::V4 ? direction.address_v4 : direction.address_v6;
    const auto octets = std::uint32_t{policy::bits(family)} / 8;
    Rule(chain)
        .only(family)
        .load_payload(NFT_PAYLOAD_NETWORK_HEADER, offset, octets)
        .mask(family, length)
        .look_up(set)
        .end(batch, verdict, what);
  };
  match("allowed_v4", Family::V4, 32, NF_ACCEPT);
  match("allowed_v6", Family::V6, 128, NF_ACCEPT);
  for (const auto& set : kBlockedSets) match(set.name, set.family, length_of(set, layout), NF_DROP);
}

struct Hook {
  std::uint32_t number;
  std::int32_t priority;
  std::uint16_t family = NFPROTO_INET;
  std::uint32_t policy = NF_ACCEPT;
};

void put_chain(Batch& batch, const char* name, Hook hook, std::vector<const char*> devices = {}) {
  const Chain chain(made(nftnl_chain_alloc()));
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, kTable);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, name);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TYPE, "filter");
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_HOOKNUM, hook.number);
  nftnl_chain_set_s32(chain.get(), NFTNL_CHAIN_PRIO, hook.priority);
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_POLICY, hook.policy);
  if (!devices.empty()) {
    devices.push_back(nullptr);
    nftnl_chain_set_array(chain.get(), NFTNL_CHAIN_DEVICES, devices.data());
  }
  nftnl_chain_nlmsg_build_payload(
      batch.open(NFT_MSG_NEWCHAIN, NLM_F_CREATE, std::string("make the chain ") + name, hook.family), chain.get());
  batch.close();
}

std::vector<const char*> devices_of(std::span<const std::string> interfaces) {
  std::vector<const char*> devices;
  for (const auto& interface : interfaces)
    if (std::ranges::find(devices, std::string_view(interface)) == devices.end()) devices.push_back(interface.c_str());
  return devices;
}

} // namespace

void put_chains(Batch& batch, const Layout& layout) {
  if (auto devices = devices_of(layout.interfaces); layout.hook == config::Hook::Ingress && !devices.empty()) {
    put_chain(batch, "ingress", {NF_INET_INGRESS, kPriorityIn}, std::move(devices));
    put_rules(batch, layout, "ingress", kIn);
  }
  put_chain(batch, "prerouting", {NF_INET_PRE_ROUTING, kPriorityIn});
  put_rules(batch, layout, "prerouting", kIn);
  put_chain(batch, "output", {NF_INET_POST_ROUTING, kPriorityOut});
  put_rules(batch, layout, "output", kOut);
}

void put_taking_chain(Batch& batch, const Layout& layout) {
  constexpr Hook kIngress{NF_NETDEV_INGRESS, kPriorityIn, NFPROTO_NETDEV, NF_DROP};
  put_chain(batch, "ingress", kIngress, devices_of(layout.taken));
}

} // namespace sipward::daemon::nft
