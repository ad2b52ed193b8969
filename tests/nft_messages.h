// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <array>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "daemon/nft_batch.h"
#include "tests/nft_changes.h"

// What the builder wrote, read back with libnftnl's own parsers.
namespace sipward::test {

using daemon::nft::Batch;
using daemon::nft::Layout;

inline std::vector<const nlmsghdr*> messages(const Batch& batch) {
  std::vector<const nlmsghdr*> result;
  int left = static_cast<int>(batch.octets().size());
  const auto* message = reinterpret_cast<const nlmsghdr*>(batch.octets().data());
  for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) result.push_back(message);
  REQUIRE(left == 0);
  return result;
}
inline int type_of(const nlmsghdr* message) { return message->nlmsg_type & 0xff; }

struct Key {
  std::string key;
  std::uint64_t timeout_ms = 0;
  bool end = false;
  std::string expressions{}; // "limit 10/s burst 20, counter"
  bool operator==(const Key&) const = default;
};
inline std::ostream& operator<<(std::ostream& out, const Key& element) {
  return out << element.key << (element.end ? " end" : "") << " " << element.timeout_ms << "ms " << element.expressions;
}

// One message about elements: "add blocked_v4", and which.
struct Step {
  std::string what;
  std::vector<Key> elements;
};

inline int add_expression(nftnl_expr* expr, void* to) {
  auto& text = *static_cast<std::string*>(to);
  const std::string name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);
  text += (text.empty() ? "" : ", ") + name;
  if (name != "limit") return 0;
  CHECK(nftnl_expr_get_u64(expr, NFTNL_EXPR_LIMIT_UNIT) == 1);
  CHECK(nftnl_expr_get_u32(expr, NFTNL_EXPR_LIMIT_TYPE) == NFT_LIMIT_PKTS);
  CHECK(nftnl_expr_get_u32(expr, NFTNL_EXPR_LIMIT_FLAGS) == NFT_LIMIT_F_INV); // over
  text += " " + std::to_string(nftnl_expr_get_u64(expr, NFTNL_EXPR_LIMIT_RATE)) + "/s burst " +
          std::to_string(nftnl_expr_get_u32(expr, NFTNL_EXPR_LIMIT_BURST));
  return 0;
}

inline std::vector<Step> element_steps(const Batch& batch) {
  std::vector<Step> steps;
  for (const auto* message : messages(batch)) {
    if ((message->nlmsg_type >> 8) != NFNL_SUBSYS_NFTABLES) continue;
    if (type_of(message) != NFT_MSG_NEWSETELEM && type_of(message) != NFT_MSG_DELSETELEM) continue;
    const std::unique_ptr<nftnl_set, void (*)(const nftnl_set*)> set(nftnl_set_alloc(), nftnl_set_free);
    REQUIRE(nftnl_set_elems_nlmsg_parse(message, set.get()) >= 0);
    Step step{type_of(message) == NFT_MSG_NEWSETELEM ? "add " : "delete ", {}};
    step.what += nftnl_set_get_str(set.get(), NFTNL_SET_NAME);
    auto* iterator = nftnl_set_elems_iter_create(set.get());
    while (auto* elem = nftnl_set_elems_iter_next(iterator)) {
      std::uint32_t size = 0;
      const auto* key = static_cast<const std::uint8_t*>(nftnl_set_elem_get(elem, NFTNL_SET_ELEM_KEY, &size));
      Key element;
      if (size == 4 || size == 16) element.key = policy::to_string(policy::Address::from_wire({key, size}));
      if (size == 8 || size == 20) { // address, port, padding
        const auto octets = size - 4;
        const policy::Subject endpoint{policy::SubjectKind::Endpoint,
                                       policy::Prefix::host(policy::Address::from_wire({key, octets})),
                                       static_cast<std::uint16_t>(key[octets] << 8 | key[octets + 1])};
        CHECK((key[octets + 2] == 0 && key[octets + 3] == 0));
        element.key = policy::to_string(endpoint);
      }
      if (size == 2) element.key = std::to_string(key[0] << 8 | key[1]);
      if (size == 1) element.key = std::to_string(key[0]);
      if (nftnl_set_elem_is_set(elem, NFTNL_SET_ELEM_TIMEOUT))
        element.timeout_ms = nftnl_set_elem_get_u64(elem, NFTNL_SET_ELEM_TIMEOUT);
      if (nftnl_set_elem_is_set(elem, NFTNL_SET_ELEM_FLAGS))
        element.end = (nftnl_set_elem_get_u32(elem, NFTNL_SET_ELEM_FLAGS) & NFT_SET_ELEM_INTERVAL_END) != 0;
      nftnl_set_elem_expr_foreach(elem, add_expression, &element.expressions);
      step.elements.push_back(element);
    }
    nftnl_set_elems_iter_destroy(iterator);
    steps.push_back(std::move(step));
  }
  return steps;
}
// What each message does, in order, without those that make tables, chains and rules.
inline std::vector<std::string> set_steps(const Batch& batch) {
  std::vector<std::string> steps;
  for (const auto* message : messages(batch)) {
    if ((message->nlmsg_type >> 8) != NFNL_SUBSYS_NFTABLES) continue;
    const int type = type_of(message);
    if (type == NFT_MSG_NEWSET || type == NFT_MSG_DELSET || type == NFT_MSG_NEWSETELEM || type == NFT_MSG_DELSETELEM)
      steps.push_back(batch.steps()[message->nlmsg_seq]);
  }
  return steps;
}
inline std::vector<Key> elements_added(const Batch& batch, const std::string& set) {
  std::vector<Key> result;
  for (const auto& step : element_steps(batch))
    if (step.what == "add " + set) result.insert(result.end(), step.elements.begin(), step.elements.end());
  return result;
}

// The rules of a chain, each in the words of `nft --debug=netlink`.
inline std::vector<std::string> rules(const Batch& batch, const std::string& chain) {
  std::vector<std::string> result;
  for (const auto* message : messages(batch)) {
    if (message->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE)) continue;
    const std::unique_ptr<nftnl_rule, void (*)(const nftnl_rule*)> rule(nftnl_rule_alloc(), nftnl_rule_free);
    REQUIRE(nftnl_rule_nlmsg_parse(message, rule.get()) >= 0);
    if (nftnl_rule_get_str(rule.get(), NFTNL_RULE_CHAIN) != chain) continue;
    std::string text;
    nftnl_expr_foreach(
        rule.get(),
        [](nftnl_expr* expr, void* to) {
          std::array<char, 512> line{};
          nftnl_expr_snprintf(line.data(), line.size(), expr, NFTNL_OUTPUT_DEFAULT, 0);
          auto& words = *static_cast<std::string*>(to);
          words +=
              (words.empty() ? "" : "; ") + std::string(nftnl_expr_get_str(expr, NFTNL_EXPR_NAME)) + " " + line.data();
          while (words.ends_with(' ')) words.pop_back();
          return 0;
        },
        &text);
    result.push_back(text);
  }
  return result;
}

struct ChainShape {
  std::uint32_t hook;
  std::int32_t priority;
  std::vector<std::string> devices;
  bool operator==(const ChainShape&) const = default;
};
inline std::map<std::string, ChainShape> chains(const Batch& batch) {
  std::map<std::string, ChainShape> result;
  for (const auto* message : messages(batch)) {
    if (message->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN)) continue;
    const std::unique_ptr<nftnl_chain, void (*)(const nftnl_chain*)> chain(nftnl_chain_alloc(), nftnl_chain_free);
    REQUIRE(nftnl_chain_nlmsg_parse(message, chain.get()) >= 0);
    CHECK(nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_POLICY) == NF_ACCEPT);
    ChainShape shape{
        nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_HOOKNUM), nftnl_chain_get_s32(chain.get(), NFTNL_CHAIN_PRIO), {}};
    if (nftnl_chain_is_set(chain.get(), NFTNL_CHAIN_DEVICES))
      for (const auto* device = nftnl_chain_get_array(chain.get(), NFTNL_CHAIN_DEVICES); *device != nullptr; ++device)
        shape.devices.emplace_back(*device);
    result[nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_NAME)] = shape;
  }
  return result;
}

inline Layout layout_on(std::initializer_list<const char*> interfaces) {
  Layout layout;
  layout.interfaces.assign(interfaces.begin(), interfaces.end());
  layout.ports = {5060};
  return layout;
}

} // namespace sipward::test
