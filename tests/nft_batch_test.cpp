// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft_batch.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <functional>
#include <map>

#include "tests/nft_changes.h"

// What the builder wrote, read back with libnftnl's own parsers.
using namespace sipward;
using namespace sipward::test;
using namespace sipward::daemon::nft;
using namespace std::chrono_literals;

namespace {

std::vector<const nlmsghdr*> messages(const Batch& batch) {
  std::vector<const nlmsghdr*> result;
  int left = static_cast<int>(batch.octets().size());
  const auto* message = reinterpret_cast<const nlmsghdr*>(batch.octets().data());
  for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) result.push_back(message);
  REQUIRE(left == 0);
  return result;
}
int type_of(const nlmsghdr* message) { return message->nlmsg_type & 0xff; }

struct Element_ {
  std::string key;
  std::uint64_t timeout_ms = 0;
  bool end = false;
  bool operator==(const Element_&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Element_& element) {
  return out << element.key << (element.end ? " end" : "") << " " << element.timeout_ms << "ms";
}

// One message about elements: "add blocked_v4", and which.
struct Step {
  std::string what;
  std::vector<Element_> elements;
};

std::vector<Step> element_steps(const Batch& batch) {
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
      Element_ element;
      if (size >= 4) element.key = policy::to_string(policy::Address::from_wire({key, size}));
      if (size == 2) element.key = std::to_string(key[0] << 8 | key[1]);
      if (size == 1) element.key = std::to_string(key[0]);
      if (nftnl_set_elem_is_set(elem, NFTNL_SET_ELEM_TIMEOUT))
        element.timeout_ms = nftnl_set_elem_get_u64(elem, NFTNL_SET_ELEM_TIMEOUT);
      if (nftnl_set_elem_is_set(elem, NFTNL_SET_ELEM_FLAGS))
        element.end = (nftnl_set_elem_get_u32(elem, NFTNL_SET_ELEM_FLAGS) & NFT_SET_ELEM_INTERVAL_END) != 0;
      step.elements.push_back(element);
    }
    nftnl_set_elems_iter_destroy(iterator);
    steps.push_back(std::move(step));
  }
  return steps;
}
std::vector<Element_> elements_added(const Batch& batch, const std::string& set) {
  std::vector<Element_> result;
  for (const auto& step : element_steps(batch))
    if (step.what == "add " + set) result.insert(result.end(), step.elements.begin(), step.elements.end());
  return result;
}

// The rules of a chain, each in the words of `nft --debug=netlink`.
std::vector<std::string> rules(const Batch& batch, const std::string& chain) {
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
std::map<std::string, ChainShape> chains(const Batch& batch) {
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

Layout layout_on(std::initializer_list<const char*> interfaces) {
  Layout layout;
  layout.interfaces.assign(interfaces.begin(), interfaces.end());
  layout.ports = {5060};
  return layout;
}

} // namespace

TEST_CASE(
    "a batch is one transaction whose every message asks for an acknowledgement and is named by its sequence number") {
  const auto batch = build_install(layout_on({"eth1"}), prefixes({"203.0.113.0/25"}), {}).value();
  const auto all = messages(batch);
  REQUIRE(all.size() == batch.steps().size() + 1); // and the end, which does nothing of its own
  CHECK(all.front()->nlmsg_type == NFNL_MSG_BATCH_BEGIN);
  CHECK(all.back()->nlmsg_type == NFNL_MSG_BATCH_END);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(all[i]->nlmsg_seq == i);
    CHECK((all[i]->nlmsg_flags & NLM_F_REQUEST) != 0);
    if (i == 0 || i + 1 == all.size()) continue;
    CHECK((all[i]->nlmsg_flags & NLM_F_ACK) != 0);
    CHECK(all[i]->nlmsg_type >> 8 == NFNL_SUBSYS_NFTABLES);
    CHECK(static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(all[i]))->nfgen_family == NFPROTO_INET);
    CHECK_FALSE(batch.steps()[i].empty());
  }
}

TEST_CASE("an install replaces what was there: the table is made, removed and made anew before anything else") {
  const auto batch = build_install(layout_on({}), {}, {}).value();
  const auto all = messages(batch);
  CHECK(type_of(all[1]) == NFT_MSG_NEWTABLE);
  CHECK(type_of(all[2]) == NFT_MSG_DELTABLE);
  CHECK(type_of(all[3]) == NFT_MSG_NEWTABLE);
}

TEST_CASE(
    "chains stand where they can drop: ingress of each interface, prerouting before conntrack, output after NAT") {
  const ChainShape prerouting{NF_INET_PRE_ROUTING, -300, {}};
  const ChainShape output{NF_INET_POST_ROUTING, 300, {}};
  auto layout = layout_on({"eth1", "eth2", "eth1"});
  CHECK(chains(build_install(layout, {}, {}).value()) ==
        std::map<std::string, ChainShape>{
            {"ingress", {NF_INET_INGRESS, -300, {"eth1", "eth2"}}}, {"prerouting", prerouting}, {"output", output}});
  layout.hook = config::Hook::Prerouting;
  CHECK(chains(build_install(layout, {}, {}).value()) ==
        std::map<std::string, ChainShape>{{"prerouting", prerouting}, {"output", output}});
  CHECK(chains(build_install(layout_on({}), {}, {}).value()) ==
        std::map<std::string, ChainShape>{{"prerouting", prerouting}, {"output", output}});
}

TEST_CASE("the rules of a chain: ports, allowed, hosts, prefixes, in the expressions that nft itself would make") {
  // As `nft --debug=netlink` prints them for the rule in the comment.
  const std::vector<std::string> in = {
      // th dport != @sip_ports accept
      "payload load 2b @ transport header + 2 => reg 1; lookup reg 1 set sip_ports 0x1; immediate reg 0 accept",
      // meta l4proto != @sip_transports accept
      "meta load l4proto => reg 1; lookup reg 1 set sip_transports 0x1; immediate reg 0 accept",
      // ip saddr @allowed_v4 accept
      "meta load nfproto => reg 1; cmp eq reg 1 0x00000002; payload load 4b @ network header + 12 => reg 1; "
      "lookup reg 1 set allowed_v4; immediate reg 0 accept",
      // ip6 saddr @allowed_v6 accept
      "meta load nfproto => reg 1; cmp eq reg 1 0x0000000a; payload load 16b @ network header + 8 => reg 1; "
      "lookup reg 1 set allowed_v6; immediate reg 0 accept",
      // ip saddr @blocked_v4 drop
      "meta load nfproto => reg 1; cmp eq reg 1 0x00000002; payload load 4b @ network header + 12 => reg 1; "
      "lookup reg 1 set blocked_v4; immediate reg 0 drop",
      // ip6 saddr & ffff:ffff:ffff:ffff:: @blocked_v6 drop
      "meta load nfproto => reg 1; cmp eq reg 1 0x0000000a; payload load 16b @ network header + 8 => reg 1; "
      "bitwise reg 1 = ( reg 1 & 0xffffffff 0xffffffff 0x00000000 0x00000000 ) ^ "
      "0x00000000 0x00000000 0x00000000 0x00000000; lookup reg 1 set blocked_v6; immediate reg 0 drop",
      // ip saddr & 255.255.255.0 @blocked_net_v4 drop
      "meta load nfproto => reg 1; cmp eq reg 1 0x00000002; payload load 4b @ network header + 12 => reg 1; "
      "bitwise reg 1 = ( reg 1 & 0x00ffffff ) ^ 0x00000000; lookup reg 1 set blocked_net_v4; immediate reg 0 drop",
      // ip6 saddr & ffff:ffff:ffff:: @blocked_net_v6 drop
      "meta load nfproto => reg 1; cmp eq reg 1 0x0000000a; payload load 16b @ network header + 8 => reg 1; "
      "bitwise reg 1 = ( reg 1 & 0xffffffff 0x0000ffff 0x00000000 0x00000000 ) ^ "
      "0x00000000 0x00000000 0x00000000 0x00000000; lookup reg 1 set blocked_net_v6; immediate reg 0 drop",
  };
  auto layout = layout_on({"eth1"});
  const auto batch = build_install(layout, {}, {}).value();
  CHECK(rules(batch, "ingress") == in);
  CHECK(rules(batch, "prerouting") == in);

  SECTION("output looks at the other end: daddr and sport") {
    auto out = in;
    const auto turn = [&](const std::string& from, const std::string& to) {
      for (auto& rule : out)
        if (const auto at = rule.find(from); at != rule.npos) rule.replace(at, from.size(), to);
    };
    turn("transport header + 2 ", "transport header + 0 ");
    turn("4b @ network header + 12 ", "4b @ network header + 16 ");
    turn("16b @ network header + 8 ", "16b @ network header + 24 ");
    CHECK(rules(batch, "output") == out);
  }
  SECTION("scope all asks for no ports") {
    layout.scope = config::Scope::All;
    const auto all = build_install(layout, {}, {}).value();
    CHECK(rules(all, "ingress") == std::vector(in.begin() + 2, in.end()));
    CHECK(elements_added(all, "sip_ports").empty());
  }
  SECTION("a source of full length needs no mask") {
    layout.source_v6 = 128;
    CHECK(rules(build_install(layout, {}, {}).value(), "ingress")[5].find("bitwise") == std::string::npos);
  }
}

TEST_CASE("the SIP ports are those of the settings and 5061, each once") {
  auto layout = layout_on({});
  layout.ports = {5080, 5060, 5080};
  const auto batch = build_install(layout, {}, {}).value();
  CHECK(elements_added(batch, "sip_ports") == std::vector<Element_>{{"5060"}, {"5061"}, {"5080"}});
  CHECK(elements_added(batch, "sip_transports") == std::vector<Element_>{{"6"}, {"17"}});
}

TEST_CASE(
    "a never-blocked range is its first address and the one after its last; the family's last address has none after") {
  const auto batch =
      build_allowed(prefixes({"203.0.113.128/25", "10.0.0.0/8", "255.255.255.255", "2001:db8::/32", "ff00::/8"}));
  CHECK(elements_added(batch, "allowed_v4") ==
        std::vector<Element_>{
            {"10.0.0.0"}, {"11.0.0.0", 0, true}, {"203.0.113.128"}, {"203.0.114.0", 0, true}, {"255.255.255.255"}});
  CHECK(elements_added(batch, "allowed_v6") ==
        std::vector<Element_>{{"2001:db8::"}, {"2001:db9::", 0, true}, {"ff00::"}});
  // Emptied first, in the same transaction.
  const auto steps = element_steps(batch);
  REQUIRE(steps.size() == 4);
  CHECK(steps[0].what == "delete allowed_v4");
  CHECK(steps[0].elements.empty());
  CHECK(steps[1].what == "delete allowed_v6");
}

TEST_CASE("a change needs no knowledge of what stands: add if absent, delete, and add again what is to stay") {
  const std::vector<Change> changes = {add(host("198.51.100.66"), 310s), erase(host("198.51.100.7"))};
  const auto batch = build_changes(Layout{}, changes).value();
  const auto steps = element_steps(batch);
  REQUIRE(steps.size() == 3);
  CHECK(steps[0].what == "add blocked_v4");
  CHECK(steps[1].what == "delete blocked_v4");
  CHECK(steps[2].what == "add blocked_v4");
  CHECK(steps[0].elements.size() == 2);
  CHECK(steps[1].elements.size() == 2);
  CHECK(steps[2].elements == std::vector<Element_>{{"198.51.100.66", 310'000}});
}

TEST_CASE("each subject goes into its own set, by kind and family, as the masked address") {
  const std::vector<Change> standing = {add(host("198.51.100.66")), add(host("2001:db8:1:2::dead")),
                                        add(range("198.51.100.0/24")), add(range("2001:db8:1::/48"), 0s)};
  const auto batch = build_install(layout_on({}), {}, standing).value();
  CHECK(elements_added(batch, "blocked_v4") == std::vector<Element_>{{"198.51.100.66", 300'000}});
  CHECK(elements_added(batch, "blocked_v6") == std::vector<Element_>{{"2001:db8:1:2::", 300'000}});
  CHECK(elements_added(batch, "blocked_net_v4") == std::vector<Element_>{{"198.51.100.0", 300'000}});
  CHECK(elements_added(batch, "blocked_net_v6") == std::vector<Element_>{{"2001:db8:1::", 0}}); // stays until deleted
}

TEST_CASE("of several changes to one subject the last counts") {
  const auto x = host("198.51.100.66");
  const auto y = host("198.51.100.67");
  const auto batch = build_changes(Layout{}, std::vector{add(x, 5s), erase(y), erase(x), add(y, 7s)}).value();
  const auto steps = element_steps(batch);
  REQUIRE(steps.size() == 3);
  CHECK(steps[1].elements.size() == 2);
  CHECK(steps[2].elements == std::vector<Element_>{{"198.51.100.67", 7'000}});
}

TEST_CASE("what no set can hold is refused, by name") {
  const struct {
    const char* claim;
    policy::Subject subject;
  } rows[] = {
      {"an endpoint", {policy::SubjectKind::Endpoint, policy::Prefix::parse("198.51.100.66").value(), 5061}},
      {"a prefix of another length", range("198.51.100.0/25")},
      {"a prefix as a host", {policy::SubjectKind::Host, policy::Prefix::parse("198.51.100.0/24").value()}},
      {"an IPv6 address alone", {policy::SubjectKind::Host, policy::Prefix::parse("2001:db8::1").value()}},
  };
  for (const auto& row : rows) {
    INFO(row.claim);
    const auto batch = build_changes(Layout{}, std::vector{add(host("198.51.100.1")), add(row.subject)});
    REQUIRE_FALSE(batch);
    CHECK(batch.error().code == EINVAL);
    CHECK(batch.error().message.find(policy::to_string(row.subject)) != std::string::npos);
  }
}

TEST_CASE("a layout that would match everything, or name no interface, is refused") {
  auto layout = layout_on({});
  layout.prefix_v4 = 0;
  CHECK(build_install(layout, {}, {}).error().code == EINVAL);
  layout = layout_on({});
  layout.source_v6 = 129;
  CHECK(build_install(layout, {}, {}).error().code == EINVAL);
  CHECK(build_install(layout_on({"a-name-that-is-too-long"}), {}, {}).error().code == EINVAL);
}

TEST_CASE("what the dataplane takes from the kernel stands in a table of its own, replaced in the same transaction") {
  const auto tables_of = [](const Layout& layout) {
    std::vector<std::string> steps;
    const auto batch = build_install(layout, {}, {});
    REQUIRE(batch);
    for (const auto* message : messages(*batch)) {
      if ((message->nlmsg_type >> 8) != NFNL_SUBSYS_NFTABLES) continue;
      const auto* family = static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(message));
      if (family->nfgen_family == NFPROTO_NETDEV) steps.push_back(batch->steps()[message->nlmsg_seq]);
    }
    return steps;
  };
  Layout layout;
  layout.hook = config::Hook::Prerouting;
  layout.ports = {5060};
  CHECK(tables_of(layout).empty());
  layout.taken = {"eth1", "eth2"};
  CHECK(tables_of(layout) == std::vector<std::string>{"make the table netdev sipward",
                                                      "remove the earlier table netdev sipward",
                                                      "make the table netdev sipward anew", "make the chain ingress"});
}

TEST_CASE("a storm's elements are spread over messages that an attribute's length can still tell, and none is lost") {
  std::vector<Change> storm;
  for (int i = 0; i < 10'000; ++i) {
    const auto high = static_cast<std::uint8_t>(i >> 8), low = static_cast<std::uint8_t>(i);
    storm.push_back(add({policy::SubjectKind::Host, policy::Prefix::host(policy::Address::v4(10, 0, high, low))}));
    policy::Address six = policy::Address::parse("2001:db8::").value();
    six.octets[6] = high;
    six.octets[7] = low;
    storm.push_back(add({policy::SubjectKind::Host, policy::Prefix::of(six, 64)}));
  }
  const auto batch = build_changes(Layout{}, storm).value();
  std::map<std::string, std::size_t> total;
  for (const auto& step : element_steps(batch)) total[step.what] += step.elements.size();
  CHECK(total == std::map<std::string, std::size_t>{{"add blocked_v4", 20'000},
                                                    {"delete blocked_v4", 10'000},
                                                    {"add blocked_v6", 20'000},
                                                    {"delete blocked_v6", 10'000}});
  for (const auto* message : messages(batch)) CHECK(message->nlmsg_len < Batch::kRoom);
}

TEST_CASE("flush empties the four blocked sets and nothing else; remove needs no table to be there") {
  const auto steps = element_steps(build_flush());
  REQUIRE(steps.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(steps[i].what == std::string("delete ") + kBlockedSets[i].name);
    CHECK(steps[i].elements.empty());
  }
  const auto removal = build_remove();
  const auto all = messages(removal);
  REQUIRE(all.size() == 4);
  CHECK(type_of(all[1]) == NFT_MSG_NEWTABLE);
  CHECK(type_of(all[2]) == NFT_MSG_DELTABLE);
}
