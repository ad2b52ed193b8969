// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/drop_rules.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <list>
#include <string>

#include "dataplane/flow_nic.h"

namespace sipward::dataplane {
namespace {

using policy::Prefix;

Prefix prefix(const char* text) { return Prefix::parse(text).value(); }

// A NIC with room for so many rules, which counts 7 packets for each.
struct FakeNic final : DropRules::Nic {
  FakeNic(std::list<DropRules::Rule>& holds, std::size_t room, bool v6 = true)
      : rules(holds), most(room), takes_v6(v6) {}
  bool takes(policy::Family family) const override { return takes_v6 || family == policy::Family::V4; }
  void* install(const DropRules::Rule& rule) override {
    if (rules.size() == most) return nullptr;
    return &rules.emplace_back(rule);
  }
  void remove(void* installed) override {
    CHECK(std::erase_if(rules, [&](const auto& rule) { return &rule == installed; }) == 1);
  }
  std::uint64_t dropped(void*) const override { return 7; }
  std::list<DropRules::Rule>& rules;
  std::size_t most;
  bool takes_v6;
};

struct Lab {
  std::list<DropRules::Rule> first, second; // what two NICs hold
  std::vector<std::unique_ptr<DropRules::Nic>> nics;
  Lab& nic(std::list<DropRules::Rule>& holds, std::size_t room, bool takes_v6 = true) {
    nics.push_back(std::make_unique<FakeNic>(holds, room, takes_v6));
    return *this;
  }
};
bool holds(const std::list<DropRules::Rule>& rules, const char* source) {
  return std::ranges::any_of(rules, [&](const auto& rule) { return rule.source == prefix(source); });
}

TEST_CASE("a blocked source has a rule for each SIP port at every NIC, until it is let in") {
  Lab lab;
  DropRules rules(std::move(lab.nic(lab.first, 10).nic(lab.second, 10).nics), {5060, 5080});
  rules.add(prefix("198.51.100.66/32"), 100);
  rules.add(prefix("2001:db8:66:1::/64"), 100);
  CHECK(rules.sources() == 2);
  for (const auto* nic : {&lab.first, &lab.second}) {
    REQUIRE(nic->size() == 4);
    CHECK(nic->front().port == 5060);
    CHECK(std::next(nic->begin())->port == 5080);
  }
  CHECK(rules.dropped(prefix("198.51.100.66/32")) == 4 * 7);
  CHECK(rules.dropped(prefix("198.51.100.67/32")) == 0);
  rules.add(prefix("198.51.100.66/32"), 100); // once more: its count begins anew
  CHECK(lab.first.size() == 4);
  CHECK(rules.dropped(prefix("198.51.100.66/32")) == 0);
  rules.remove(prefix("198.51.100.66/32"));
  rules.remove(prefix("198.51.100.66/32"));
  CHECK(lab.first.size() == 2);
  CHECK_FALSE(holds(lab.first, "198.51.100.66/32"));
  CHECK(holds(lab.second, "2001:db8:66:1::/64"));
}

TEST_CASE("whoever loses everything has one rule, for no port") {
  Lab lab;
  DropRules rules(std::move(lab.nic(lab.first, 10).nics), {});
  rules.add(prefix("198.51.100.66/32"), 100);
  REQUIRE(lab.first.size() == 1);
  CHECK(lab.first.front().port == 0);
}

TEST_CASE("of more sources than there is room for, the faster have it") {
  Lab lab;
  DropRules rules(std::move(lab.nic(lab.first, 100).nics), {5060}, 2);
  rules.add(prefix("198.51.100.1/32"), 50);
  rules.add(prefix("198.51.100.2/32"), 100);
  rules.add(prefix("198.51.100.3/32"), 50);
  CHECK(rules.refused() == 1);
  rules.add(prefix("198.51.100.4/32"), 70);
  CHECK(rules.refused() == 1);
  CHECK(lab.first.size() == 2);
  CHECK(holds(lab.first, "198.51.100.2/32"));
  CHECK(holds(lab.first, "198.51.100.4/32"));
}

TEST_CASE("a NIC that turns out to be full is asked no further, and holds no half of a source's rules") {
  Lab lab;
  DropRules rules(std::move(lab.nic(lab.first, 100).nic(lab.second, 5).nics), {5060, 5080});
  for (const char* source : {"198.51.100.1/32", "198.51.100.2/32", "198.51.100.3/32", "198.51.100.4/32"})
    rules.add(prefix(source), 10);
  CHECK(rules.sources() == 2);
  CHECK(rules.refused() == 2);
  CHECK(lab.first.size() == 4);
  CHECK(lab.second.size() == 4);
  rules.add(prefix("198.51.100.5/32"), 20); // faster
  CHECK(rules.sources() == 2);
  CHECK(holds(lab.second, "198.51.100.5/32"));
}

TEST_CASE("a family that a NIC does not take is left to the workers") {
  Lab lab;
  DropRules rules(std::move(lab.nic(lab.first, 100, false).nics), {5060});
  rules.add(prefix("2001:db8:66:1::/64"), 100);
  rules.add(prefix("198.51.100.1/32"), 100);
  CHECK(rules.sources() == 1);
  CHECK(rules.refused() == 0);
  CHECK(lab.first.size() == 1);
}

TEST_CASE("without such NICs nothing happens; and at the end no rule is left behind") {
  DropRules none({}, {5060});
  none.add(prefix("198.51.100.1/32"), 100);
  CHECK((none.nics() + none.sources() + none.refused()) == 0);
  Lab lab;
  {
    DropRules rules(std::move(lab.nic(lab.first, 100).nics), {5060});
    rules.add(prefix("198.51.100.1/32"), 100);
    CHECK(lab.first.size() == 1);
  }
  CHECK(lab.first.empty());
}

std::string octets(const void* from, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", static_cast<const unsigned char*>(from)[i]);
    text += two;
  }
  return text;
}

TEST_CASE("in DPDK's words it is UDP from there to the port") {
  const DropFlow flow({prefix("198.51.100.66/32"), 5060}, true);
  CHECK(flow.attributes()->ingress == 1);
  const auto* items = flow.pattern();
  CHECK(items[0].type == RTE_FLOW_ITEM_TYPE_ETH);
  CHECK(items[0].spec == nullptr);
  REQUIRE(items[1].type == RTE_FLOW_ITEM_TYPE_IPV4);
  CHECK(octets(&static_cast<const rte_flow_item_ipv4*>(items[1].spec)->hdr.src_addr, 4) == "c6336442");
  CHECK(octets(&static_cast<const rte_flow_item_ipv4*>(items[1].mask)->hdr.src_addr, 4) == "ffffffff");
  CHECK(static_cast<const rte_flow_item_ipv4*>(items[1].mask)->hdr.dst_addr == 0);
  REQUIRE(items[2].type == RTE_FLOW_ITEM_TYPE_UDP);
  CHECK(octets(&static_cast<const rte_flow_item_udp*>(items[2].spec)->hdr.dst_port, 2) == "13c4");
  CHECK(octets(&static_cast<const rte_flow_item_udp*>(items[2].mask)->hdr.dst_port, 2) == "ffff");
  CHECK(items[3].type == RTE_FLOW_ITEM_TYPE_END);
  CHECK(flow.actions()[0].type == RTE_FLOW_ACTION_TYPE_COUNT);
  CHECK(flow.actions()[1].type == RTE_FLOW_ACTION_TYPE_DROP);
  CHECK(flow.actions()[2].type == RTE_FLOW_ACTION_TYPE_END);
}

TEST_CASE("an IPv6 source is its prefix, and who loses everything is told by the address alone") {
  const DropFlow flow({prefix("2001:db8:66:1::/64"), 0}, false);
  const auto* items = flow.pattern();
  REQUIRE(items[1].type == RTE_FLOW_ITEM_TYPE_IPV6);
  CHECK(octets(static_cast<const rte_flow_item_ipv6*>(items[1].spec)->hdr.src_addr, 16) ==
        "20010db8006600010000000000000000");
  CHECK(octets(static_cast<const rte_flow_item_ipv6*>(items[1].mask)->hdr.src_addr, 16) ==
        "ffffffffffffffff0000000000000000");
  CHECK(items[2].type == RTE_FLOW_ITEM_TYPE_END);
  CHECK(flow.actions()[0].type == RTE_FLOW_ACTION_TYPE_DROP);
  CHECK(flow.actions()[1].type == RTE_FLOW_ACTION_TYPE_END);
}

TEST_CASE("other SIP ports are dropped at the NICs from then on, and what was counted before stays counted") {
  Lab lab;
  DropRules rules(std::move(lab.nic(lab.first, 10).nics), {5060});
  rules.add(prefix("198.51.100.66/32"), 100);
  rules.set_ports({5060, 5080});
  REQUIRE(lab.first.size() == 2);
  CHECK(lab.first.back().port == 5080);
  CHECK(rules.dropped(prefix("198.51.100.66/32")) == 7);
  rules.set_ports({});
  REQUIRE(lab.first.size() == 1);
  CHECK(lab.first.front().port == 0);
  rules.remove(prefix("198.51.100.66/32"));
  CHECK(lab.first.empty());
}

TEST_CASE("where the NICs hold fewer sources with more ports, those without room are the workers' alone") {
  Lab lab;
  DropRules rules(std::move(lab.nic(lab.first, 3).nics), {5060});
  for (const auto* source : {"198.51.100.66/32", "198.51.100.67/32", "198.51.100.68/32"})
    rules.add(prefix(source), 100);
  rules.set_ports({5060, 5080});
  CHECK(rules.sources() == 1);
  CHECK(rules.refused() == 2);
  CHECK(lab.first.size() == 2);
}

} // namespace
} // namespace sipward::dataplane
