// SPDX-License-Identifier: GPL-2.0-or-later
#include <cerrno>

#include "tests/nft_messages.h"

using namespace sipward;
using namespace sipward::test;
using namespace sipward::daemon::nft;
using namespace std::chrono_literals;

TEST_CASE(
    "a batch is one transaction whose every message asks for an acknowledgement and is named by its sequence number") {
  const auto batch = build_install(layout_on({"eth1"}), prefixes({"203.0.113.0/25"}), {}).value().batch;
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
  const auto batch = build_install(layout_on({}), {}, {}).value().batch;
  const auto all = messages(batch);
  CHECK(type_of(all[1]) == NFT_MSG_NEWTABLE);
  CHECK(type_of(all[2]) == NFT_MSG_DELTABLE);
  CHECK(type_of(all[3]) == NFT_MSG_NEWTABLE);
}

TEST_CASE("the SIP ports are those of the settings and 5061, each once") {
  auto layout = layout_on({});
  layout.ports = {5080, 5060, 5080};
  const auto batch = build_install(layout, {}, {}).value().batch;
  CHECK(elements_added(batch, "sip_ports") == std::vector<Key>{{"5060"}, {"5061"}, {"5080"}});
  CHECK(elements_added(batch, "sip_transports") == std::vector<Key>{{"6"}, {"17"}});
}

TEST_CASE(
    "a never-blocked range is its first address and the one after its last; the family's last address has none after") {
  const auto batch =
      build_never_blocked(prefixes({"203.0.113.128/25", "10.0.0.0/8", "255.255.255.255", "2001:db8::/32", "ff00::/8"}));
  CHECK(elements_added(batch, "never_blocked_v4") ==
        std::vector<Key>{
            {"10.0.0.0"}, {"11.0.0.0", 0, true}, {"203.0.113.128"}, {"203.0.114.0", 0, true}, {"255.255.255.255"}});
  CHECK(elements_added(batch, "never_blocked_v6") ==
        std::vector<Key>{{"2001:db8::"}, {"2001:db9::", 0, true}, {"ff00::"}});
  // Emptied first, in the same transaction.
  const auto steps = element_steps(batch);
  REQUIRE(steps.size() == 4);
  CHECK(steps[0].what == "delete never_blocked_v4");
  CHECK(steps[0].elements.empty());
  CHECK(steps[1].what == "delete never_blocked_v6");
}

TEST_CASE("a change needs no knowledge of what stands: add if absent, delete, and add again what is to stay") {
  const std::vector<Change> changes = {add(host("198.51.100.66"), 310s), erase(host("198.51.100.7"))};
  const auto batch = build_changes(Layout{}, {}, changes, Manner::Careful).value().batch;
  const auto steps = element_steps(batch);
  REQUIRE(steps.size() == 3);
  CHECK(steps[0].what == "add blocked_v4");
  CHECK(steps[1].what == "delete blocked_v4");
  CHECK(steps[2].what == "add blocked_v4");
  CHECK(steps[0].elements.size() == 2);
  CHECK(steps[1].elements.size() == 2);
  CHECK(steps[2].elements == std::vector<Key>{{"198.51.100.66", 310'000}});
}

TEST_CASE("a quick change takes for granted what stands: delete, and add what is new") {
  const std::vector<Change> changes = {add(host("198.51.100.66"), 310s), erase(host("198.51.100.7"))};
  const auto batch = build_changes(Layout{}, {}, changes, Manner::Quick).value().batch;
  const auto steps = element_steps(batch);
  REQUIRE(steps.size() == 2);
  CHECK(steps[0].what == "delete blocked_v4");
  CHECK(steps[0].elements.size() == 1);
  CHECK(steps[1].what == "add blocked_v4");
  CHECK(steps[1].elements == std::vector<Key>{{"198.51.100.66", 310'000}});
  CHECK((messages(batch)[2]->nlmsg_flags & NLM_F_EXCL) != 0); // the kernel refuses what stands already
}

TEST_CASE("each subject goes into its own set, by kind and family, as the masked address") {
  const std::vector<Change> standing = {add(host("198.51.100.66")),           add(host("2001:db8:1:2::dead")),
                                        add(range("198.51.100.0/24")),        add(range("2001:db8:1::/48"), 0s),
                                        add(endpoint("198.51.100.66", 5061)), add(endpoint("2001:db8:1:2::dead", 1))};
  const auto batch = build_install(layout_on({}), {}, standing).value().batch;
  CHECK(elements_added(batch, "blocked_v4") == std::vector<Key>{{"198.51.100.66", 300'000}});
  CHECK(elements_added(batch, "blocked_v6") == std::vector<Key>{{"2001:db8:1:2::", 300'000}});
  CHECK(elements_added(batch, "blocked_net_v4") == std::vector<Key>{{"198.51.100.0", 300'000}});
  CHECK(elements_added(batch, "blocked_net_v6") == std::vector<Key>{{"2001:db8:1::", 0}}); // stays until deleted
  CHECK(elements_added(batch, "blocked_endpoint_v4") == std::vector<Key>{{"198.51.100.66:5061", 300'000}});
  CHECK(elements_added(batch, "blocked_endpoint_v6") == std::vector<Key>{{"[2001:db8:1:2::dead]:1", 300'000}});
}

TEST_CASE("of several changes to one subject the last counts") {
  const auto x = host("198.51.100.66");
  const auto y = host("198.51.100.67");
  const auto batch =
      build_changes(Layout{}, {}, std::vector{add(x, 5s), erase(y), erase(x), add(y, 7s)}, Manner::Careful)
          .value()
          .batch;
  const auto steps = element_steps(batch);
  REQUIRE(steps.size() == 3);
  CHECK(steps[1].elements.size() == 2);
  CHECK(steps[2].elements == std::vector<Key>{{"198.51.100.67", 7'000}});
}

TEST_CASE("what no set can hold is refused, by name") {
  const auto prefix_host = [](const char* text) {
    return policy::Subject{policy::SubjectKind::Host, policy::Prefix::parse(text).value()};
  };
  const struct {
    const char* claim;
    Change change;
  } rows[] = {
      {"a prefix as a host", add(prefix_host("198.51.100.0/24"))},
      {"an IPv6 address alone", add(prefix_host("2001:db8::1"))},
      {"a prefix as an endpoint",
       add({policy::SubjectKind::Endpoint, policy::Prefix::parse("198.51.100.0/24").value(), 5061})},
      {"everything", add(range("0.0.0.0/0"))},
      {"an endpoint, for all its traffic", add_all(endpoint("198.51.100.66", 5061))},
      {"a limited prefix", limit(range("198.51.100.0/24"), 10, 20)},
      {"a limited endpoint", limit(endpoint("198.51.100.66", 5061), 10, 20)},
      {"an allowed endpoint", allow(endpoint("198.51.100.66", 5061))},
      {"a limit of nothing", limit(host("198.51.100.66"), 0, 20)},
      {"a limit without a burst, which the kernel would make 5", limit(host("198.51.100.66"), 10, 0)},
      {"a limit past the kernel's clock", limit(host("198.51.100.66"), kRateMax + 1, 20)},
  };
  for (const auto& row : rows) {
    INFO(row.claim);
    const auto plan = build_changes(Layout{}, {}, std::vector{add(host("198.51.100.1")), row.change}, Manner::Careful);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == EINVAL);
    CHECK(plan.error().message.find(policy::to_string(row.change.subject)) != std::string::npos);
  }
}

TEST_CASE("a set's name says what it holds, and is understood again") {
  Layout layout;
  layout.prefix_v4 = 22;
  const struct {
    policy::Subject subject;
    Effect effect;
    const char* name;
  } rows[] = {
      {host("198.51.100.66"), Effect::Drop, "blocked_v4"},
      {host("2001:db8:1:2::7"), Effect::Drop, "blocked_v6"},
      {endpoint("198.51.100.66", 5061), Effect::Drop, "blocked_endpoint_v4"},
      {endpoint("2001:db8::1", 5061), Effect::Drop, "blocked_endpoint_v6"},
      {range("198.51.100.0/22"), Effect::Drop, "blocked_net_v4"},
      {range("198.51.100.0/24"), Effect::Drop, "blocked_net_v4_24"},
      {range("2001:db8:1::/48"), Effect::Drop, "blocked_net_v6"},
      {range("2001:db8::/32"), Effect::Drop, "blocked_net_v6_32"},
      {range("2001:db8::7/128"), Effect::Drop, "blocked_net_v6_128"},
      {host("198.51.100.66"), Effect::DropAll, "blocked_all_v4"},
      {host("2001:db8:1:2::7"), Effect::DropAll, "blocked_all_v6"},
      {range("198.51.100.0/22"), Effect::DropAll, "blocked_all_v4_22"},
      {host("198.51.100.66"), Effect::Limit, "limited_v4"},
      {host("2001:db8:1:2::7"), Effect::Limit, "limited_v6"},
      {endpoint("198.51.100.66", 5061), Effect::Spare, "known_endpoint_v4"},
      {known("2001:db8:1:2::7", 5061), Effect::Spare, "known_endpoint_v6"},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    const auto set = set_of(row.subject, row.effect, layout).value();
    CHECK(name_of(set) == row.name);
    CHECK(set_named(row.name, row.subject.prefix.length) == set);
  }
  for (const char* name : {"", "v4", "_v4", "blocked", "blocked_v5", "blocked_v4_24", "allowed_v4", "never_blocked_v6",
                           "sip_ports", "blocked_net_v4_", "blocked_net_v4_33", "blocked_net_v4_0",
                           "blocked_net_v4_300", "blocked_all_v6_129", "myblocked_v4"}) {
    INFO(name);
    CHECK_FALSE(set_named(name, std::nullopt));
  }
}

TEST_CASE("a limit is the element's own: rate and burst, and what is over it is counted") {
  const auto x = host("198.51.100.66");
  const auto batch = build_changes(Layout{}, {}, std::vector{limit(x, 10, 20), add(x)}, Manner::Careful).value().batch;
  const auto steps = element_steps(batch);
  REQUIRE(steps.size() == 6); // a host can be limited and blocked at once
  CHECK(steps[2].what == "add blocked_v4");
  CHECK(steps[3].what == "add limited_v4");
  CHECK(steps[4].what == "delete limited_v4");
  CHECK(steps[5].what == "add limited_v4");
  CHECK(steps[5].elements == std::vector<Key>{{"198.51.100.66", 300'000, false, "limit 10/s burst 20, counter"}});
}

TEST_CASE("allowed ranges may overlap and touch: their sets are filled anew with what they are together") {
  const auto plan = build_changes(Layout{}, {},
                                  std::vector{allow(range("10.0.0.0/24")), allow(host("10.0.0.7")),
                                              allow(host("10.0.1.0")), allow(host("2001:db8::1"))},
                                  Manner::Careful)
                        .value();
  CHECK(set_steps(plan.batch) == std::vector<std::string>{"empty the set allowed_v4", "empty the set allowed_v6",
                                                          "add 2 elements in allowed_v4",
                                                          "add 2 elements in allowed_v6"});
  CHECK(elements_added(plan.batch, "allowed_v4") == std::vector<Key>{{"10.0.0.0"}, {"10.0.1.1", 0, true}});
  CHECK(elements_added(plan.batch, "allowed_v6") == std::vector<Key>{{"2001:db8::"}, {"2001:db8:0:1::", 0, true}});

  SECTION("the smaller of two goes, the larger stays, and what touched it parts") {
    const auto then =
        build_changes(Layout{}, *plan.standing, std::vector{disallow(host("10.0.0.7")), disallow(host("10.0.1.0"))},
                      Manner::Careful)
            .value();
    CHECK(elements_added(then.batch, "allowed_v4") == std::vector<Key>{{"10.0.0.0"}, {"10.0.1.0", 0, true}});
  }
  SECTION("the larger of two goes, the smaller stays") {
    const auto then =
        build_changes(Layout{}, *plan.standing, std::vector{disallow(range("10.0.0.0/24"))}, Manner::Careful).value();
    CHECK(elements_added(then.batch, "allowed_v4") ==
          std::vector<Key>{{"10.0.0.7"}, {"10.0.0.8", 0, true}, {"10.0.1.0"}, {"10.0.1.1", 0, true}});
  }
  SECTION("what stands already, or is not there, changes nothing") {
    const auto then = build_changes(Layout{}, *plan.standing,
                                    std::vector{allow(host("10.0.0.7")), disallow(host("10.0.0.8"))}, Manner::Careful)
                          .value();
    CHECK(set_steps(then.batch).empty());
    CHECK_FALSE(then.standing);
  }
  SECTION("an allowed host and its block go into one batch, and an install holds both") {
    const std::vector both = {allow(host("198.51.100.66")), add(range("198.51.100.0/24"))};
    CHECK(set_steps(build_changes(Layout{}, {}, both, Manner::Careful).value().batch).size() == 6);
    const auto whole = build_install(layout_on({}), {}, both).value();
    CHECK(elements_added(whole.batch, "allowed_v4") == std::vector<Key>{{"198.51.100.66"}, {"198.51.100.67", 0, true}});
    CHECK(elements_added(whole.batch, "blocked_net_v4") == std::vector<Key>{{"198.51.100.0", 300'000}});
    CHECK(whole.standing->allowed.size() == 1);
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
    const auto batch = build_install(layout, {}, {}).value().batch;
    for (const auto* message : messages(batch)) {
      if ((message->nlmsg_type >> 8) != NFNL_SUBSYS_NFTABLES) continue;
      const auto* family = static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(message));
      if (family->nfgen_family == NFPROTO_NETDEV) steps.push_back(batch.steps()[message->nlmsg_seq]);
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
  const auto batch = build_changes(Layout{}, {}, storm, Manner::Careful).value().batch;
  std::map<std::string, std::size_t> total;
  for (const auto& step : element_steps(batch)) total[step.what] += step.elements.size();
  CHECK(total == std::map<std::string, std::size_t>{{"add blocked_v4", 20'000},
                                                    {"delete blocked_v4", 10'000},
                                                    {"add blocked_v6", 20'000},
                                                    {"delete blocked_v6", 10'000}});
  for (const auto* message : messages(batch)) CHECK(message->nlmsg_len < Batch::kRoom);
}

TEST_CASE("flush empties the sets it is told of and nothing else; remove needs no table to be there") {
  const auto sets = standing_sets(Layout{});
  const auto steps = element_steps(build_flush(sets));
  REQUIRE(steps.size() == 10);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    CHECK(steps[i].what == "delete " + name_of(sets[i]));
    CHECK(steps[i].elements.empty());
  }
  const auto removal = build_remove();
  const auto all = messages(removal);
  REQUIRE(all.size() == 4);
  CHECK(type_of(all[1]) == NFT_MSG_NEWTABLE);
  CHECK(type_of(all[2]) == NFT_MSG_DELTABLE);
}
