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

#include "daemon/nft_elements.h"

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

// Which way a chain looks: where in the packet it finds the blocked side (RFC 791, RFC 8200) with its port, and ours
// (RFC 768, RFC 9293).
struct Direction {
  std::uint32_t address_v4; // from the network header
  std::uint32_t address_v6;
  std::uint32_t their_port; // from the transport header
  std::uint32_t our_port;
};
constexpr Direction kIn{12, 8, 0, 2};   // saddr, sport, dport
constexpr Direction kOut{16, 24, 2, 0}; // daddr, dport, sport

// One rule, expression by expression. Everything goes through register 1, as nft does it, and what a key has beyond an
// address right behind that.
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
  Rule& load_payload(std::uint32_t base, std::uint32_t offset, std::uint32_t octets, std::uint32_t to = NFT_REG_1) {
    nftnl_expr* expr = append("payload");
    nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_LEN, octets);
    nftnl_expr_set_u32(expr, NFTNL_EXPR_PAYLOAD_DREG, to);
    return *this;
  }
  Rule& load_address(Family family, const Direction& direction) {
    return load_payload(NFT_PAYLOAD_NETWORK_HEADER, family == Family::V4 ? direction.address_v4 : direction.address_v6,
                        std::uint32_t{policy::bits(family)} / 8);
  }
  Rule& load_port(std::uint32_t offset, std::uint32_t to = NFT_REG_1) {
    return load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2, to);
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
  Rule& look_up(const std::string& set, Match match = Match::In) {
    nftnl_expr* expr = append("lookup");
    nftnl_expr_set_u32(expr, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
    nftnl_expr_set_str(expr, NFTNL_EXPR_LOOKUP_SET, set.c_str());
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

struct Hook {
  std::uint32_t number;
  std::int32_t priority;
  std::uint16_t family = NFPROTO_INET;
  std::uint32_t policy = NF_ACCEPT;
};

struct ChainShape {
  const char* name;
  Hook hook;
  Direction direction;
  bool limits; // does it ask the limited sets?
  std::vector<const char*> devices{};
};

// The rules of one chain, in the order that nft.h gives.
class Rules {
public:
  Rules(Batch& batch, const Layout& layout, const ChainShape& chain)
      : batch_(batch), sip_only_(layout.scope == config::Scope::Sip), chain_(chain),
        what_(std::string("make the rules of chain ") + chain.name) {}

  // The port first: most of a server's other traffic leaves here after one look. A packet too short for a port breaks
  // off this rule without a match and goes on; what is neither TCP nor UDP leaves at the second. Of a later fragment
  // some kernels read a "port" out of its payload (nft_payload_fast_eval asks for no fragment offset), others break
  // off.
  void accept_what_is_not_sip() {
    if (!sip_only_) return;
    Rule(chain_.name)
        .load_port(chain_.direction.our_port)
        .look_up(kPorts, Rule::Match::NotIn)
        .end(batch_, NF_ACCEPT, what_);
    Rule(chain_.name)
        .load_meta(NFT_META_L4PROTO)
        .look_up(kTransports, Rule::Match::NotIn)
        .end(batch_, NF_ACCEPT, what_);
  }
  void accept(const std::array<const char*, 2>& sets) {
    for (const auto family : {Family::V4, Family::V6})
      Rule(chain_.name)
          .only(family)
          .load_address(family, chain_.direction)
          .look_up(of(sets, family))
          .end(batch_, NF_ACCEPT, what_);
  }
  // Before the never-blocked are accepted. IPv4 only: an IPv6 host is a network, and others in it have no ceiling.
  void keep_under_ceilings() {
    Rule(chain_.name)
        .only(Family::V4)
        .load_address(Family::V4, chain_.direction)
        .look_up(of(kNeverBlocked, Family::V4))
        .look_up(name_of({.effect = Effect::Limit}))
        .end(batch_, NF_DROP, what_);
  }
  // Drops whom the set holds; of one that spares, lets him pass.
  void judge(const SubjectSet& set) {
    Rule rule(chain_.name);
    // Others than TCP and UDP have something else where a port would be.
    const bool endpoint = set.kind == policy::SubjectKind::Endpoint;
    if (endpoint && !sip_only_) rule.load_meta(NFT_META_L4PROTO).look_up(kTransports);
    rule.only(set.family);
    // These stand before the rules that accept, and so they ask for themselves.
    if (set.effect == Effect::DropAll)
      for (const auto& sets : {kNeverBlocked, kAllowed})
        rule.load_address(set.family, chain_.direction).look_up(of(sets, set.family), Rule::Match::NotIn);
    rule.load_address(set.family, chain_.direction).mask(set.family, set.length);
    if (endpoint) rule.load_port(chain_.direction.their_port, set.family == Family::V4 ? NFT_REG32_01 : NFT_REG_2);
    rule.look_up(name_of(set)).end(batch_, set.effect == Effect::Spare ? NF_ACCEPT : NF_DROP, what_);
  }

private:
  Batch& batch_;
  bool sip_only_;
  const ChainShape& chain_;
  std::string what_;
};

void put_rules(Batch& batch, const Layout& layout, std::span<const SubjectSet> on_demand, const ChainShape& chain) {
  const auto standing = standing_sets(layout);
  std::vector<SubjectSet> sets(standing.begin(), standing.end());
  sets.insert(sets.end(), on_demand.begin(), on_demand.end());
  Rules rules(batch, layout, chain);
  const auto judge = [&](Effect effect, std::optional<policy::SubjectKind> kind = {}) {
    for (const auto& set : sets)
      if (set.effect == effect && (!kind || set.kind == *kind)) rules.judge(set);
  };
  judge(Effect::DropAll);
  rules.accept_what_is_not_sip();
  if (chain.limits && layout.ceilings) rules.keep_under_ceilings();
  rules.accept(kNeverBlocked);
  judge(Effect::Drop, policy::SubjectKind::Endpoint);
  rules.accept(kAllowed);
  judge(Effect::Drop, policy::SubjectKind::Host);
  if (chain.limits) {
    judge(Effect::Spare);
    judge(Effect::Limit);
  }
  judge(Effect::Drop, policy::SubjectKind::Prefix);
}

void put_chain(Batch& batch, const char* name, Hook hook, std::vector<const char*> devices) {
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

std::vector<ChainShape> chains_of(const Layout& layout) {
  std::vector<ChainShape> chains;
  if (auto devices = devices_of(layout.interfaces); layout.hook == config::Hook::Ingress && !devices.empty())
    chains.push_back({"ingress", {NF_INET_INGRESS, kPriorityIn}, kIn, false, std::move(devices)});
  chains.push_back({"prerouting", {NF_INET_PRE_ROUTING, kPriorityIn}, kIn, true});
  chains.push_back({"output", {NF_INET_POST_ROUTING, kPriorityOut}, kOut, false});
  return chains;
}

// A deletion that names no rule takes them all.
void put_flush_of_rules(Batch& batch, const char* chain) {
  const RulePtr every(made(nftnl_rule_alloc()));
  nftnl_rule_set_str(every.get(), NFTNL_RULE_TABLE, kTable);
  nftnl_rule_set_str(every.get(), NFTNL_RULE_CHAIN, chain);
  nftnl_rule_nlmsg_build_payload(batch.open(NFT_MSG_DELRULE, 0, std::string("remove the rules of chain ") + chain),
                                 every.get());
  batch.close();
}

} // namespace

void put_chains(Batch& batch, const Layout& layout, std::span<const SubjectSet> on_demand) {
  for (const auto& chain : chains_of(layout)) {
    put_chain(batch, chain.name, chain.hook, chain.devices);
    put_rules(batch, layout, on_demand, chain);
  }
}

void put_rules_anew(Batch& batch, const Layout& layout, std::span<const SubjectSet> on_demand) {
  for (const auto& chain : chains_of(layout)) {
    put_flush_of_rules(batch, chain.name);
    put_rules(batch, layout, on_demand, chain);
  }
}

void put_taking_chain(Batch& batch, const Layout& layout) {
  constexpr Hook kIngress{NF_NETDEV_INGRESS, kPriorityIn, NFPROTO_NETDEV, NF_DROP};
  put_chain(batch, "ingress", kIngress, devices_of(layout.taken));
}

} // namespace sipward::daemon::nft
