// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <cerrno>
#include <thread>

#include "tests/nft_lab.h"

// The sets of endpoints, limits and allowed ranges, and those made on demand, as a real kernel holds them.
using namespace sipward;
using namespace sipward::test;
using namespace std::chrono_literals;
using daemon::nft::Change;
using daemon::nft::Effect;
using daemon::nft::Element;
using daemon::nft::Limit;
using daemon::nft::Nft;

namespace {

std::string table() { return output_of("nft list table inet sipward"); }
bool tells(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

// One of each, and as an operator would ask for them: "host 198.51.100.66/32 limit".
const std::vector<Change> kOneOfEach = {
    add(host("198.51.100.66")),
    add(host("2001:db8:1:2::7"), 600s),
    add(endpoint("203.0.113.77", 5071)),
    add(endpoint("2001:db8:1:2::7", 5072)),
    add(range("198.51.100.0/24")),
    add(range("2001:db8:1::/48")),
    add(range("203.0.112.0/20")),
    add_all(host("198.51.100.67")),
    add_all(range("2001:db8:2::/48")),
    limit(host("198.51.100.66"), 10, 20),
    limit(host("2001:db8:1:2::7"), 25, 50),
    spare(known("198.51.100.66", 5071), 30, 60),
    spare(known("2001:db8:1:2::7", 5072), 35, 70),
};

} // namespace

TEST_CASE("nft lists limits, endpoints, allowed ranges and sets made on demand with what they mean") {
  auto nft = fresh();
  must(nft.install(layout_on({}), {}, kOneOfEach));
  must(nft.commit(std::vector{allow(host("198.51.100.7")), allow(range("203.0.113.128/25"))}));
  CHECK(elements("limited_v4").at("198.51.100.66")["limit"] ==
        nlohmann::json{{"rate", 10}, {"burst", 20}, {"per", "second"}, {"inv", true}});
  CHECK(elements("limited_v6").at("2001:db8:1:2::")["timeout"] == 300);
  CHECK(elements("known_endpoint_v4").at(R"({"concat":["198.51.100.66",5071]})")["limit"] ==
        nlohmann::json{{"rate", 30}, {"burst", 60}, {"per", "second"}});
  CHECK(values("known_endpoint_v6") == Texts{R"({"concat":["2001:db8:1:2::",5072]})"});
  CHECK(values("blocked_endpoint_v4") == Texts{R"({"concat":["203.0.113.77",5071]})"});
  CHECK(values("blocked_endpoint_v6") == Texts{R"({"concat":["2001:db8:1:2::7",5072]})"});
  CHECK(values("allowed_v4") == Texts{"198.51.100.7", R"({"prefix":{"addr":"203.0.113.128","len":25}})"});
  CHECK(values("blocked_net_v4_20") == Texts{"203.0.112.0"});
  CHECK(values("blocked_all_v4") == Texts{"198.51.100.67"});
  CHECK(values("blocked_all_v6_48") == Texts{"2001:db8:2::"});

  // How many bits an element stands for.
  CHECK(tells(output_of("nft list set inet sipward blocked_v6"), "comment \"/64\""));
  CHECK(tells(output_of("nft list set inet sipward limited_v6"), "comment \"/64\""));
  CHECK(tells(output_of("nft list set inet sipward blocked_net_v4"), "comment \"/24\""));
  CHECK_FALSE(tells(output_of("nft list set inet sipward blocked_v4"), "comment"));

  const auto text = output_of("nft list chain inet sipward prerouting");
  CHECK(tells(text, "priority raw; policy accept;\n"
                    "\t\tip saddr != @never_blocked_v4 ip saddr != @allowed_v4 ip saddr @blocked_all_v4 drop\n"
                    "\t\tip6 saddr != @never_blocked_v6 ip6 saddr != @allowed_v6 "
                    "ip6 saddr & ffff:ffff:ffff:: == @blocked_all_v6_48 drop\n"
                    "\t\tth dport != @sip_ports accept\n"));
  CHECK(tells(text, "\t\tip saddr . th sport @blocked_endpoint_v4 drop\n"));
  CHECK(tells(text, "\t\tip saddr . th sport @known_endpoint_v4 accept\n"));
  CHECK(tells(text, "\t\tip saddr @limited_v4 drop\n"));
  CHECK(tells(text, "\t\tip saddr & 255.255.240.0 == @blocked_net_v4_20 drop\n"));
}

TEST_CASE("all elements are read back as they were given, also by a process that knows nothing of the layout") {
  auto nft = fresh();
  auto layout = layout_on({});
  layout.source_v6 = 56;
  layout.prefix_v4 = 20; // so that the others are made on demand
  auto changes = kOneOfEach;
  for (auto& change : changes)
    if ((change.subject.kind == policy::SubjectKind::Host || change.effect == Effect::Spare) &&
        change.subject.prefix.base.family == policy::Family::V6)
      change.subject.prefix = policy::Prefix::of(change.subject.prefix.base, 56);
  must(nft.install(layout, {}, changes));
  auto another = Nft::open();
  must(another);
  for (auto* reader : {&nft, &*another}) {
    const auto all = reader->read_all();
    must(all);
    REQUIRE(all->size() == changes.size());
    for (const auto& change : changes) {
      INFO(policy::to_string(change.subject));
      const auto found = std::ranges::find_if(*all, [&](const Element& element) {
        return element.subject == change.subject && element.effect == change.effect;
      });
      REQUIRE(found != all->end());
      CHECK(found->limit == change.limit);
      CHECK(found->remaining > change.timeout - 5s);
      CHECK(found->remaining <= change.timeout);
    }
  }
  for (const auto& change : changes) CHECK(nft.read(change.subject, change.effect).value().has_value());
  CHECK_FALSE(nft.read(host("198.51.100.67")).value().has_value()); // it is blocked otherwise
}

TEST_CASE("a limit is renewed with another rate and runs out like a block") {
  auto nft = fresh();
  const auto x = host("198.51.100.66");
  must(nft.install(layout_on({}), {}, std::vector{limit(x, 10, 20)}));
  must(nft.commit(std::vector{limit(x, 15, 30, 900s)}));
  const auto renewed = nft.read(x, Effect::Limit).value();
  REQUIRE(renewed);
  CHECK(renewed->limit == Limit{15, 30});
  CHECK(renewed->remaining > 890s);
  must(nft.commit(std::vector{limit(x, 15, 30, 1s), add(endpoint("198.51.100.66", 5071), 1s)}));
  std::this_thread::sleep_for(1100ms);
  CHECK(nft.read_all().value().empty());
  must(nft.commit(std::vector{limit(x, 1, 1), unlimit(x), erase(endpoint("198.51.100.66", 5071))}));
  CHECK(nft.read_all().value().empty());
}

TEST_CASE("a set on demand comes with its first element, goes with its last, and leaves the table as it was") {
  auto nft = fresh();
  must(nft.install(layout_on({"swn-a", "swn-b"}), prefixes({"203.0.113.10"}), std::vector{add(host("198.51.100.66"))}));
  const auto sets_and_rules = [] { return output_of("nft -s list table inet sipward | sed 's/ expires.*//'"); };
  const auto before = sets_and_rules();
  const auto x = range("203.0.112.0/20"), y = range("198.51.96.0/20");
  must(nft.commit(std::vector{add(x), add(y), add_all(x), add_all(host("2001:db8::1"))}));
  must(nft.commit(std::vector{erase(y), erase_all(x), erase(range("192.0.2.0/28"))}));
  const auto text = table();
  CHECK(tells(text, "blocked_net_v4_20"));
  CHECK(tells(text, "blocked_all_v6"));
  CHECK_FALSE(tells(text, "blocked_all_v4"));
  CHECK_FALSE(tells(text, "blocked_net_v4_28"));
  CHECK(nft.read(x).value().has_value());
  must(nft.commit(std::vector{erase(x), erase_all(host("2001:db8::1"))}));
  CHECK(sets_and_rules() == before);
  CHECK_FALSE(nft.read(x).value().has_value());

  SECTION("also if the kernel let its last element run out") {
    must(nft.commit(std::vector{add(x, 1s)}));
    std::this_thread::sleep_for(1100ms);
    must(nft.commit(std::vector{erase(x)}));
    CHECK(sets_and_rules() == before);
  }
  SECTION("a flushed table is told, and an install brings back what was on demand too") {
    must(nft.commit(std::vector{add(x)}));
    run("nft flush ruleset");
    CHECK(nft.commit(std::vector{add(y)}).error().code == ENOENT);
    must(nft.install(layout_on({"swn-b"}), {}, std::vector{add(x), add(y)}));
    CHECK(values("blocked_net_v4_20") == Texts{"198.51.96.0", "203.0.112.0"});
    must(nft.commit(std::vector{erase(x), erase(y)}));
    CHECK_FALSE(tells(table(), "blocked_net_v4_20"));
  }
  SECTION("every length of both families at once, and none after it") {
    std::vector<Change> all;
    for (std::uint8_t length = 1; length <= 128; ++length) {
      const auto six = policy::Address::parse("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").value();
      all.push_back(add({policy::SubjectKind::Prefix, policy::Prefix::of(six, length)}));
      if (length <= 32)
        all.push_back(add_all(
            {policy::SubjectKind::Prefix, policy::Prefix::of(policy::Address::v4(255, 255, 255, 255), length)}));
    }
    must(nft.commit(all));
    CHECK(nft.read_all().value().size() == all.size() + 1);
    for (auto& change : all) change.kind = Change::Kind::Delete;
    must(nft.commit(all));
    CHECK(sets_and_rules() == before);
  }
}

TEST_CASE("allowed ranges that overlap, touch and part again stand as what they are together") {
  auto nft = fresh();
  must(nft.install(layout_on({}), {}, std::vector{allow(host("203.0.113.7")), allow(host("203.0.113.8"))}));
  CHECK(values("allowed_v4") == Texts{R"({"range":["203.0.113.7","203.0.113.8"]})"});
  must(nft.commit(std::vector{allow(range("203.0.113.0/24"))}));
  CHECK(values("allowed_v4") == Texts{R"({"prefix":{"addr":"203.0.113.0","len":24}})"});
  must(nft.commit(std::vector{disallow(range("203.0.113.0/24")), disallow(host("203.0.113.8"))}));
  CHECK(values("allowed_v4") == Texts{"203.0.113.7"});
  must(nft.commit(std::vector{disallow(host("203.0.113.7")), allow(host("255.255.255.255"))}));
  CHECK(values("allowed_v4") == Texts{"255.255.255.255"});
  must(nft.replace_never_blocked(prefixes({"10.0.0.0/8"})));
  CHECK(values("allowed_v4") == Texts{"255.255.255.255"});
  must(nft.commit(std::vector{disallow(host("255.255.255.255")), disallow(host("192.0.2.1"))}));
  CHECK(values("allowed_v4").empty());
}

TEST_CASE("what nft lists of every set can be loaded again by nft, and we go on with it") {
  auto nft = fresh();
  auto changes = kOneOfEach;
  changes.push_back(allow(range("203.0.113.128/25")));
  must(nft.install(layout_on({"swn-b"}), prefixes({"203.0.113.10"}), changes));
  run("nft list ruleset >/tmp/swn-saved.nft && nft flush ruleset && nft -f /tmp/swn-saved.nft; rc=$?; rm -f "
      "/tmp/swn-saved.nft; exit $rc");
  CHECK(nft.read_all().value().size() == kOneOfEach.size());
  CHECK(nft.read(host("198.51.100.66"), Effect::Limit).value()->limit == Limit{10, 20});
  must(nft.commit(std::vector{limit(host("198.51.100.68"), 1, 2), erase(range("203.0.112.0/20"))}));
  CHECK(values("limited_v4") == Texts{"198.51.100.66", "198.51.100.68"});
  CHECK_FALSE(tells(table(), "blocked_net_v4_20"));
}

TEST_CASE("what an earlier process left can be lifted, element by element or as a whole, without its layout") {
  auto nft = fresh();
  must(nft.lift([](const Element&) { return true; })); // nothing there
  must(nft.flush_elements());
  auto layout = layout_on({});
  layout.prefix_v4 = 20;
  must(nft.install(layout, {}, kOneOfEach));
  auto another = Nft::open();
  must(another);
  const auto rules = output_of("nft list chain inet sipward prerouting");
  const auto asked = policy::Prefix::parse("198.51.100.0/24").value();
  const auto lifted = another->lift([&](const Element& element) { return asked.holds(element.subject.prefix); });
  must(lifted);
  CHECK(*lifted == 5); // the host, its limit, its known port, its wholly blocked neighbour, and the prefix
  CHECK(another->read_all().value().size() == kOneOfEach.size() - 5);
  CHECK(another->lift([](const Element&) { return false; }).value() == 0);
  // Rules and ranges are their maker's: this one could not say what else belongs there.
  CHECK(another->commit(std::vector{add(range("198.51.100.0/25"))}).error().code == EINVAL);
  CHECK(another->commit(std::vector{allow(host("198.51.100.7"))}).error().code == EINVAL);
  CHECK(output_of("nft list chain inet sipward prerouting") == rules);
  must(another->flush_elements());
  CHECK(another->read_all().value().empty());
  CHECK(output_of("nft list chain inet sipward prerouting") == rules);
  must(another->remove());
  CHECK(output_of("nft list tables").empty());
}
