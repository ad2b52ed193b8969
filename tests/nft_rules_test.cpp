// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "tests/nft_messages.h"

using namespace sipward;
using namespace sipward::test;
using namespace sipward::daemon::nft;

TEST_CASE(
    "chains stand where they can drop: ingress of each interface, prerouting before conntrack, output after NAT") {
  const ChainShape prerouting{NF_INET_PRE_ROUTING, -300, {}};
  const ChainShape output{NF_INET_POST_ROUTING, 300, {}};
  auto layout = layout_on({"eth1", "eth2", "eth1"});
  CHECK(chains(build_install(layout, {}, {}).value().batch) ==
        std::map<std::string, ChainShape>{
            {"ingress", {NF_INET_INGRESS, -300, {"eth1", "eth2"}}}, {"prerouting", prerouting}, {"output", output}});
  layout.hook = config::Hook::Prerouting;
  CHECK(chains(build_install(layout, {}, {}).value().batch) ==
        std::map<std::string, ChainShape>{{"prerouting", prerouting}, {"output", output}});
  CHECK(chains(build_install(layout_on({}), {}, {}).value().batch) ==
        std::map<std::string, ChainShape>{{"prerouting", prerouting}, {"output", output}});
}

namespace {

const std::string kV4 = "meta load nfproto => reg 1; cmp eq reg 1 0x00000002; ";
const std::string kV6 = "meta load nfproto => reg 1; cmp eq reg 1 0x0000000a; ";
const std::string kAddress4 = "payload load 4b @ network header + 12 => reg 1; ";
const std::string kAddress6 = "payload load 16b @ network header + 8 => reg 1; ";
const std::string kMask64 = "bitwise reg 1 = ( reg 1 & 0xffffffff 0xffffffff 0x00000000 0x00000000 ) ^ "
                            "0x00000000 0x00000000 0x00000000 0x00000000; ";
const std::string kMask48 = "bitwise reg 1 = ( reg 1 & 0xffffffff 0x0000ffff 0x00000000 0x00000000 ) ^ "
                            "0x00000000 0x00000000 0x00000000 0x00000000; ";
const std::string kAccept = "; immediate reg 0 accept";
const std::string kDrop = "; immediate reg 0 drop";

std::string in(const std::string& set) { return "lookup reg 1 set " + set; }
std::string not_in(const std::string& set) { return "lookup reg 1 set " + set + " 0x1"; }

// The rules of prerouting, as `nft --debug=netlink` prints them for the rule in the comment.
std::vector<std::string> usual_rules() {
  return {
      // th dport != @sip_ports accept
      "payload load 2b @ transport header + 2 => reg 1; " + not_in("sip_ports") + kAccept,
      // meta l4proto != @sip_transports accept
      "meta load l4proto => reg 1; " + not_in("sip_transports") + kAccept,
      // ip saddr @never_blocked_v4 accept
      kV4 + kAddress4 + in("never_blocked_v4") + kAccept,
      // ip6 saddr @never_blocked_v6 accept
      kV6 + kAddress6 + in("never_blocked_v6") + kAccept,
      // ip saddr . th sport @blocked_endpoint_v4 drop
      kV4 + kAddress4 + "payload load 2b @ transport header + 0 => reg 9; " + in("blocked_endpoint_v4") + kDrop,
      // ip6 saddr . th sport @blocked_endpoint_v6 drop
      kV6 + kAddress6 + "payload load 2b @ transport header + 0 => reg 2; " + in("blocked_endpoint_v6") + kDrop,
      // ip saddr @allowed_v4 accept
      kV4 + kAddress4 + in("allowed_v4") + kAccept,
      // ip6 saddr @allowed_v6 accept
      kV6 + kAddress6 + in("allowed_v6") + kAccept,
      // ip saddr @blocked_v4 drop
      kV4 + kAddress4 + in("blocked_v4") + kDrop,
      // ip6 saddr & ffff:ffff:ffff:ffff:: @blocked_v6 drop
      kV6 + kAddress6 + kMask64 + in("blocked_v6") + kDrop,
      // ip saddr . th sport @known_endpoint_v4 accept
      kV4 + kAddress4 + "payload load 2b @ transport header + 0 => reg 9; " + in("known_endpoint_v4") + kAccept,
      // ip6 saddr & ffff:ffff:ffff:ffff:: . th sport @known_endpoint_v6 accept
      kV6 + kAddress6 + kMask64 + "payload load 2b @ transport header + 0 => reg 2; " + in("known_endpoint_v6") +
          kAccept,
      // ip saddr @limited_v4 drop
      kV4 + kAddress4 + in("limited_v4") + kDrop,
      // ip6 saddr & ffff:ffff:ffff:ffff:: @limited_v6 drop
      kV6 + kAddress6 + kMask64 + in("limited_v6") + kDrop,
      // ip saddr & 255.255.255.0 @blocked_net_v4 drop
      kV4 + kAddress4 + "bitwise reg 1 = ( reg 1 & 0x00ffffff ) ^ 0x00000000; " + in("blocked_net_v4") + kDrop,
      // ip6 saddr & ffff:ffff:ffff:: @blocked_net_v6 drop
      kV6 + kAddress6 + kMask48 + in("blocked_net_v6") + kDrop,
  };
}

bool asks_limits(const std::string& rule) {
  return rule.find("limited_v") != rule.npos || rule.find("known_endpoint_v") != rule.npos;
}

} // namespace

TEST_CASE(
    "the rules of a chain: ports, never blocked, endpoints, allowed, hosts, limits, prefixes, as nft makes them") {
  const auto usual = usual_rules();
  auto layout = layout_on({"eth1"});
  const auto batch = build_install(layout, {}, {}).value().batch;
  CHECK(rules(batch, "prerouting") == usual);

  SECTION("ingress asks no limits: prerouting will, and a packet must not be counted twice") {
    auto ingress = usual;
    std::erase_if(ingress, asks_limits);
    CHECK(rules(batch, "ingress") == ingress);
  }
  SECTION("output looks at the other end, daddr, dport and our sport, and asks no limits") {
    auto out = usual;
    std::erase_if(out, asks_limits);
    const auto turn = [&](const std::string& from, const std::string& to) {
      for (auto& rule : out)
        if (const auto at = rule.find(from); at != rule.npos) rule.replace(at, from.size(), to);
    };
    turn("transport header + 0 ", "their port");
    turn("transport header + 2 ", "transport header + 0 ");
    turn("their port", "transport header + 2 ");
    turn("4b @ network header + 12 ", "4b @ network header + 16 ");
    turn("16b @ network header + 8 ", "16b @ network header + 24 ");
    CHECK(rules(batch, "output") == out);
  }
  SECTION("scope all asks for no SIP port, and for a transport that has ports where one is asked for") {
    layout.scope = config::Scope::All;
    auto rest = std::vector(usual.begin() + 2, usual.end());
    for (auto& rule : rest)
      if (rule.find("_endpoint_v") != rule.npos)
        rule = "meta load l4proto => reg 1; " + in("sip_transports") + "; " + rule;
    const auto all = build_install(layout, {}, {}).value().batch;
    CHECK(rules(all, "prerouting") == rest);
    CHECK(elements_added(all, "sip_ports").empty());
    CHECK(elements_added(all, "sip_transports").size() == 2);
  }
  SECTION("a source of full length needs no mask") {
    layout.source_v6 = 128;
    CHECK(rules(build_install(layout, {}, {}).value().batch, "ingress")[9] ==
          kV6 + kAddress6 + in("blocked_v6") + kDrop);
  }
}

TEST_CASE("a prefix of another length gets a set and a rule of its own, with the first and until the last one") {
  const auto layout = layout_on({"eth1"});
  const auto x = range("198.51.96.0/20"), y = range("203.0.112.0/20");
  const auto rule =
      kV4 + kAddress4 + "bitwise reg 1 = ( reg 1 & 0x00f0ffff ) ^ 0x00000000; " + in("blocked_net_v4_20") + kDrop;
  auto with = usual_rules();
  with.push_back(rule);
  using Texts = std::vector<std::string>;

  const auto first = build_changes(layout, {}, std::vector{add(x)}, Manner::Careful).value();
  CHECK(set_steps(first.batch) == Texts{"make the set blocked_net_v4_20", "add 198.51.96.0 in blocked_net_v4_20",
                                        "delete 198.51.96.0 in blocked_net_v4_20",
                                        "add 198.51.96.0 in blocked_net_v4_20"});
  CHECK(rules(first.batch, "prerouting") == with);
  CHECK(rules(first.batch, "ingress").back() == rule);
  CHECK(rules(first.batch, "output").size() == with.size() - 4);

  const auto second = build_changes(layout, *first.standing, std::vector{add(y), add(x)}, Manner::Careful).value();
  CHECK(rules(second.batch, "prerouting").empty()); // they stay as they are
  const auto third = build_changes(layout, *second.standing, std::vector{erase(x)}, Manner::Careful).value();
  CHECK(rules(third.batch, "prerouting").empty());

  const auto last = build_changes(layout, *third.standing, std::vector{erase(y)}, Manner::Careful).value();
  CHECK(set_steps(last.batch) == Texts{"make the set blocked_net_v4_20", "add 203.0.112.0 in blocked_net_v4_20",
                                       "delete 203.0.112.0 in blocked_net_v4_20", "remove the set blocked_net_v4_20"});
  CHECK(rules(last.batch, "prerouting") == usual_rules());
  CHECK(last.standing == Standing{});

  SECTION("deleting what never was leaves nothing behind") {
    const auto never = build_changes(layout, {}, std::vector{erase(x)}, Manner::Careful).value();
    CHECK(set_steps(never.batch).back() == "remove the set blocked_net_v4_20");
    CHECK(rules(never.batch, "prerouting").empty());
    CHECK_FALSE(never.standing);
  }
  SECTION("an install makes it with the table") {
    const auto whole = build_install(layout, {}, std::vector{add(x)}).value();
    CHECK(rules(whole.batch, "prerouting") == with);
    CHECK(elements_added(whole.batch, "blocked_net_v4_20").size() == 1);
    CHECK(whole.standing == first.standing);
  }
}

TEST_CASE("blocked with --scope all: a set and a rule of their own, before the ports are looked at") {
  const auto layout = layout_on({"eth1"});
  const std::vector changes = {add_all(host("198.51.100.66")), add_all(range("2001:db8:1::/48"))};
  const auto plan = build_changes(layout, {}, changes, Manner::Careful).value();
  const auto all = rules(plan.batch, "ingress");
  REQUIRE(all.size() == 14);
  // ip saddr != @never_blocked_v4 ip saddr != @allowed_v4 ip saddr @blocked_all_v4 drop
  CHECK(all[0] == kV4 + kAddress4 + not_in("never_blocked_v4") + "; " + kAddress4 + not_in("allowed_v4") + "; " +
                      kAddress4 + in("blocked_all_v4") + kDrop);
  // the same of ip6 saddr & ffff:ffff:ffff::
  CHECK(all[1] == kV6 + kAddress6 + not_in("never_blocked_v6") + "; " + kAddress6 + not_in("allowed_v6") + "; " +
                      kAddress6 + kMask48 + in("blocked_all_v6_48") + kDrop);
  CHECK(all[2] == usual_rules()[0]);
  CHECK(elements_added(plan.batch, "blocked_v4").empty());
}
