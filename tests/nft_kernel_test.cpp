// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <iostream>
#include <numeric>
#include <set>
#include <thread>

#include "tests/nft_lab.h"

using namespace sipward;
using namespace sipward::test;
using namespace std::chrono_literals;
using daemon::nft::Change;
using daemon::nft::Nft;
using nlohmann::json;

TEST_CASE("a table made is a table that nft lists: sets, chains, elements with their timeouts and counters") {
  auto nft = fresh();
  CHECK_FALSE(nft.installed().value());
  must(nft.install(layout_on({"swn-a", "swn-b"}), prefixes({"203.0.113.10", "10.0.0.0/8", "2001:db8:a::/48"}),
                   std::vector{add(host("198.51.100.66")), add(host("2001:db8:1:2::7"), 600s),
                               add(range("198.51.100.0/24")), add(range("2001:db8:1::/48"))}));
  CHECK(nft.installed().value());

  std::set<std::string> chains, sets;
  for (const auto& item : listed("table inet sipward")) {
    if (item.contains("chain")) {
      const auto& chain = item["chain"];
      chains.insert(chain["name"].get<std::string>() + " " + chain["hook"].get<std::string>() + " " +
                    chain["prio"].dump() + " " + chain["policy"].get<std::string>());
    }
    if (item.contains("set"))
      sets.insert(
          item["set"]["name"].get<std::string>() + " " +
          (item["set"]["type"].is_string() ? item["set"]["type"].get<std::string>() : item["set"]["type"].dump()));
  }
  CHECK(chains == std::set<std::string>{"ingress ingress -300 accept", "prerouting prerouting -300 accept",
                                        "output postrouting 300 accept"});
  CHECK(sets ==
        std::set<std::string>{"blocked_v4 ipv4_addr", "blocked_v6 ipv6_addr", "blocked_net_v4 ipv4_addr",
                              "blocked_net_v6 ipv6_addr", "blocked_endpoint_v4 [\"ipv4_addr\",\"inet_service\"]",
                              "blocked_endpoint_v6 [\"ipv6_addr\",\"inet_service\"]", "limited_v4 ipv4_addr",
                              "known_endpoint_v4 [\"ipv4_addr\",\"inet_service\"]",
                              "known_endpoint_v6 [\"ipv6_addr\",\"inet_service\"]", "limited_v6 ipv6_addr",
                              "allowed_v4 ipv4_addr", "allowed_v6 ipv6_addr", "never_blocked_v4 ipv4_addr",
                              "never_blocked_v6 ipv6_addr", "sip_ports inet_service", "sip_transports inet_proto"});

  const auto hosts = elements("blocked_v4");
  REQUIRE(values("blocked_v4") == Texts{"198.51.100.66"});
  CHECK(hosts.at("198.51.100.66")["timeout"] == 300);
  CHECK(hosts.at("198.51.100.66")["expires"] >= 298);
  CHECK(hosts.at("198.51.100.66")["counter"] == json{{"packets", 0}, {"bytes", 0}});
  CHECK(values("blocked_v6") == Texts{"2001:db8:1:2::"});
  CHECK(elements("blocked_v6").at("2001:db8:1:2::")["timeout"] == 600);
  CHECK(values("blocked_net_v4") == Texts{"198.51.100.0"});
  CHECK(values("blocked_net_v6") == Texts{"2001:db8:1::"});
  CHECK(values("never_blocked_v4") == Texts{"203.0.113.10", R"({"prefix":{"addr":"10.0.0.0","len":8}})"});
  CHECK(values("never_blocked_v6") == Texts{R"({"prefix":{"addr":"2001:db8:a::","len":48}})"});
  CHECK(values("sip_ports") == Texts{"5060", "5061"});
  CHECK(values("sip_transports") == Texts{"tcp", "udp"});
}

TEST_CASE("nft prints the rules as a person would have written them") {
  auto nft = fresh();
  must(nft.install(layout_on({"swn-b"}), {}, {}));
  CHECK(output_of("nft list chain inet sipward output") ==
        "table inet sipward {\n"
        "\tchain output {\n"
        "\t\ttype filter hook postrouting priority 300; policy accept;\n"
        "\t\tth sport != @sip_ports accept\n"
        "\t\tmeta l4proto != @sip_transports accept\n"
        "\t\tip daddr @never_blocked_v4 accept\n"
        "\t\tip6 daddr @never_blocked_v6 accept\n"
        "\t\tip daddr . th dport @blocked_endpoint_v4 drop\n"
        "\t\tip6 daddr . th dport @blocked_endpoint_v6 drop\n"
        "\t\tip daddr @allowed_v4 accept\n"
        "\t\tip6 daddr @allowed_v6 accept\n"
        "\t\tip daddr @blocked_v4 drop\n"
        "\t\tip6 daddr & ffff:ffff:ffff:ffff:: == @blocked_v6 drop\n"
        "\t\tip daddr & 255.255.255.0 == @blocked_net_v4 drop\n"
        "\t\tip6 daddr & ffff:ffff:ffff:: == @blocked_net_v6 drop\n"
        "\t}\n"
        "}\n");
  const auto ingress = output_of("nft list chain inet sipward ingress");
  CHECK(ingress.find("device \"swn-b\" priority raw") != std::string::npos);
  CHECK(ingress.find("\t\tip saddr @blocked_v4 drop\n") != std::string::npos);
}

TEST_CASE("what nft lists can be loaded again by nft") {
  auto nft = fresh();
  must(nft.install(layout_on({"swn-a", "swn-b"}), prefixes({"203.0.113.0/25", "255.255.255.255"}),
                   std::vector{add(host("198.51.100.66")), add(range("2001:db8:1::/48"))}));
  run("nft list ruleset >/tmp/swn-saved.nft && nft flush ruleset && nft -f /tmp/swn-saved.nft; rc=$?; rm -f "
      "/tmp/swn-saved.nft; exit $rc");
  CHECK(values("blocked_v4") == Texts{"198.51.100.66"});
  // And we go on with a table that nft made.
  must(nft.commit(std::vector{add(host("198.51.100.67")), erase(host("198.51.100.66"))}));
  CHECK(values("blocked_v4") == Texts{"198.51.100.67"});
}

TEST_CASE("installing again replaces the table, with other chains, and touches nobody else's") {
  auto nft = fresh();
  run("nft add table inet admin && nft 'add chain inet admin input { type filter hook input priority 0 ; }'");
  must(nft.install(layout_on({"swn-b"}), prefixes({"10.0.0.0/8"}), std::vector{add(host("198.51.100.66"))}));
  auto layout = layout_on({"swn-b"}, config::Scope::All);
  layout.hook = config::Hook::Prerouting;
  layout.prefix_v4 = 20;
  must(nft.install(layout, {}, std::vector{add(range("198.51.96.0/20"))}));
  CHECK(values("blocked_v4").empty());
  CHECK(values("blocked_net_v4") == Texts{"198.51.96.0"});
  CHECK(values("never_blocked_v4").empty());
  const auto text = output_of("nft list table inet sipward");
  CHECK(text.find("chain ingress") == std::string::npos);
  CHECK(text.find("sip_ports") == std::string::npos);
  CHECK(text.find("ip saddr & 255.255.240.0 == @blocked_net_v4 drop") != std::string::npos);

  must(nft.remove());
  CHECK_FALSE(nft.installed().value());
  must(nft.remove()); // nothing there is no error
  CHECK(output_of("nft list tables") == "table inet admin\n");
}

TEST_CASE("an element is added, renewed with a new timeout, and deleted; deleting what is not there is no error") {
  auto nft = fresh();
  const auto subject = host("198.51.100.66");
  must(nft.install(layout_on({}), {}, {}));
  CHECK_FALSE(nft.read(subject).value().has_value());
  must(nft.commit({}));
  must(nft.commit(std::vector{add(subject, 100s)}));
  const auto first = nft.read(subject).value();
  REQUIRE(first);
  CHECK(first->subject == subject);
  CHECK(first->remaining > 98s);
  CHECK(first->remaining <= 100s);

  must(nft.commit(std::vector{add(subject, 1000s), erase(host("198.51.100.99")), add(host("2001:db8:1::1"), 50s)}));
  CHECK(nft.read(subject).value()->remaining > 990s);
  must(nft.commit(std::vector{add(subject, 30s)}));
  CHECK(nft.read(subject).value()->remaining <= 30s);
  must(nft.commit(std::vector{add(subject, 0s)})); // until deleted
  CHECK(nft.read(subject).value()->remaining == 0ms);
  must(nft.commit(std::vector{add(subject, 20s)}));
  CHECK(nft.read(subject).value()->remaining > 18s);

  must(nft.commit(std::vector{erase(subject), erase(range("198.51.100.0/24"))}));
  CHECK_FALSE(nft.read(subject).value().has_value());
  CHECK(nft.read(host("2001:db8:1::ffff")).value().has_value()); // the same /64
  must(nft.commit(std::vector{erase(subject)}));
  CHECK(nft.read_all().value().size() == 1);
}

TEST_CASE("an element leaves by itself when its time is over, and can then be deleted or added again") {
  auto nft = fresh();
  must(nft.install(layout_on({}), {}, {}));
  must(
      nft.commit(std::vector{add(host("198.51.100.1"), 1s), add(host("198.51.100.2"), 1s), add(host("198.51.100.3"))}));
  CHECK(nft.read_all().value().size() == 3);
  std::this_thread::sleep_for(1100ms);
  CHECK_FALSE(nft.read(host("198.51.100.1")).value().has_value());
  CHECK(nft.read_all().value().size() == 1);
  must(nft.commit(std::vector{erase(host("198.51.100.1")), add(host("198.51.100.2"))}));
  CHECK(values("blocked_v4") == Texts{"198.51.100.2", "198.51.100.3"});
}

TEST_CASE("elements that somebody else took away, or brought, do not make a commit fail") {
  auto nft = fresh();
  must(nft.install(layout_on({}), {}, std::vector{add(host("198.51.100.1")), add(host("198.51.100.2"))}));
  run("nft delete element inet sipward blocked_v4 '{ 198.51.100.1 }'");
  run("nft add element inet sipward blocked_v4 '{ 198.51.100.3 timeout 5m, 198.51.100.4 timeout 5m }'");
  must(nft.commit(std::vector{erase(host("198.51.100.1")), erase(host("198.51.100.3")), add(host("198.51.100.4"))}));
  CHECK(values("blocked_v4") == Texts{"198.51.100.2", "198.51.100.4"});
}

TEST_CASE("a transaction is all or nothing, and the refusal names what was refused") {
  auto nft = fresh();
  // A table that lacks a set.
  run("nft add table inet sipward && nft 'add set inet sipward blocked_v4 { type ipv4_addr; flags timeout; counter; "
      "}'");
  const auto done = nft.commit(std::vector{add(host("198.51.100.66")), add(host("2001:db8:1:2::7"))});
  REQUIRE_FALSE(done);
  CHECK(done.error().code == ENOENT);
  CHECK(done.error().message.find("add 2001:db8:1:2:: in blocked_v6: No such file or directory") != std::string::npos);
  CHECK(values("blocked_v4").empty());
}

TEST_CASE("interfaces taken from the kernel drop everything, and are given back") {
  auto nft = fresh();
  must(nft.give_back()); // nothing was taken
  auto layout = layout_on({});
  layout.hook = config::Hook::Prerouting;
  layout.taken = {"swn-a", "swn-b"};
  must(nft.install(layout, {}, {}));
  const auto with_handles = [] { return output_of("nft --handle list table netdev sipward"); };
  const auto made = with_handles();
  must(nft.install(layout, {}, {}));
  CHECK(with_handles() == made); // what stands as it was made is left alone
  for (const char* disturbed : {"nft add rule netdev sipward ingress accept", "nft delete table netdev sipward"}) {
    INFO(disturbed);
    run(disturbed);
    must(nft.install(layout, {}, {}));
    CHECK(with_handles() != made);
    CHECK(with_handles().find("accept") == std::string::npos);
  }
  must(Nft::open().value().install(layout, {}, {})); // as after a crash
  const auto text = output_of("nft list table netdev sipward");
  CHECK(text.find("hook ingress devices = { swn-a, swn-b } priority -300; policy drop;") != std::string::npos);
  must(nft.give_back());
  CHECK(output_of("nft list tables").find("netdev") == std::string::npos);
  CHECK(*nft.installed());
  layout.taken = {"swn-nowhere"};
  CHECK(nft.install(layout, {}, {}).error().message.find("swn-nowhere") != std::string::npos);
}

TEST_CASE("a table flushed away is told as ENOENT, and an install brings it back") {
  auto nft = fresh();
  must(nft.install(layout_on({}), {}, {}));
  run("nft flush ruleset");
  CHECK(nft.commit(std::vector{add(host("198.51.100.66"))}).error().code == ENOENT);
  CHECK(nft.replace_never_blocked({}).error().code == ENOENT);
  CHECK_FALSE(nft.read(host("198.51.100.66")).value().has_value());
  must(nft.flush_elements()); // nothing to empty
  must(nft.install(layout_on({}), {}, std::vector{add(host("198.51.100.66"))}));
  must(nft.flush_elements());
  CHECK(nft.read_all().value().empty());
}

TEST_CASE("an interface that is not there is an error that names it, and the earlier table stays") {
  auto nft = fresh();
  must(nft.install(layout_on({"swn-b"}), {}, std::vector{add(host("198.51.100.66"))}));
  const auto done = nft.install(layout_on({"swn-b", "swn-none"}), {}, {});
  REQUIRE_FALSE(done);
  CHECK(done.error().code == ENODEV);
  CHECK(done.error().message.find("swn-none") != std::string::npos);
  CHECK(values("blocked_v4") == Texts{"198.51.100.66"});
}

TEST_CASE("the never-blocked ranges are replaced as a whole, up to the last address of a family") {
  auto nft = fresh();
  must(nft.install(layout_on({}), prefixes({"10.0.0.0/8"}), {}));
  must(nft.replace_never_blocked(prefixes({"0.0.0.0/8", "10.0.0.0/7", "224.0.0.0/3", "::1", "ff00::/8"})));
  CHECK(values("never_blocked_v4") == Texts{R"({"prefix":{"addr":"0.0.0.0","len":8}})",
                                            R"({"prefix":{"addr":"10.0.0.0","len":7}})",
                                            R"({"prefix":{"addr":"224.0.0.0","len":3}})"});
  CHECK(values("never_blocked_v6") == Texts{"::1", R"({"prefix":{"addr":"ff00::","len":8}})"});
  must(nft.replace_never_blocked(prefixes({"0.0.0.0/0", "255.255.255.255"})));
  CHECK(values("never_blocked_v4") == Texts{R"({"prefix":{"addr":"0.0.0.0","len":0}})"});
  must(nft.replace_never_blocked(prefixes({"255.255.255.255", "255.255.255.253"})));
  CHECK(values("never_blocked_v4") == Texts{"255.255.255.253", "255.255.255.255"});
  must(nft.replace_never_blocked({}));
  CHECK(values("never_blocked_v4").empty());

  std::vector<policy::Prefix> many; // every second address: nothing to join, more than one message
  for (int i = 0; i < 5'000; ++i) many.push_back(numbered(i * 2).prefix);
  must(nft.replace_never_blocked(policy::PrefixSet(many)));
  CHECK(values("never_blocked_v4").size() == many.size());
  must(nft.replace_never_blocked(policy::PrefixSet(many))); // the same again
  CHECK(values("never_blocked_v4").size() == many.size());
}

TEST_CASE("a storm of 131,072 goes in, is renewed, installed and taken out, each in one transaction") {
  constexpr int kStorm = 131'072;
  auto nft = fresh();
  must(nft.install(layout_on({}), {}, {}));
  std::vector<Change> storm;
  for (int i = 0; i < kStorm; ++i) storm.push_back(add(numbered(i)));
  const auto all_remain = [&](std::chrono::seconds at_least) {
    int found = 0;
    for (int i = 0; i < kStorm; ++i) {
      const auto element = nft.read(numbered(i));
      if (!element) must(element);
      found += *element && (*element)->remaining > at_least ? 1 : 0;
    }
    return found == kStorm;
  };
  must(nft.commit(storm));
  CHECK(all_remain(200s));
  for (auto& change : storm) change.timeout = 900s;
  must(nft.commit(storm));
  CHECK(all_remain(800s));
  must(nft.install(layout_on({}), {}, storm));
  CHECK(all_remain(800s));
  for (auto& change : storm) change.kind = Change::Kind::Delete;
  must(nft.commit(storm));
  CHECK(nft.read_all().value().empty());
}

TEST_CASE("what stands is read whole, even while the kernel's hash is still growing") {
  constexpr int kMany = 20'000;
  std::vector<Change> many;
  for (int i = 0; i < kMany; ++i) many.push_back(add(numbered(i)));
  for (int round = 0; round < 3; ++round) {
    auto nft = fresh();
    must(nft.install(layout_on({}), {}, {}));
    must(nft.commit(many));
    const auto all = nft.read_all();
    must(all);
    REQUIRE(all->size() == kMany);
    for (int i = 0; i < kMany; ++i)
      if ((*all)[static_cast<std::size_t>(i)].subject != numbered(i)) FAIL("element " << i << " is not what was added");
  }
}

TEST_CASE("what stands is read whole while others keep changing tables") {
  auto nft = fresh();
  must(nft.install(layout_on({}), {}, {}));
  std::vector<Change> standing;
  for (int i = 0; i < 3'000; ++i) standing.push_back(add(numbered(i)));
  must(nft.commit(standing));
  const pid_t child = fork();
  if (child == 0) { // commits every two milliseconds, for a while
    auto other = Nft::open();
    for (int i = 0; other && i < 500; ++i) {
      if (!other->commit(std::vector{add(host("198.51.100.66")), add(host("198.51.100.67"))})) _exit(1);
      std::this_thread::sleep_for(2ms);
    }
    _exit(other ? 0 : 1);
  }
  for (int i = 0; i < 50; ++i) {
    const auto all = nft.read_all();
    must(all);
    CHECK(std::ranges::count_if(*all, [](const auto& e) { return e.subject < numbered(3'000); }) == 3'000);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

TEST_CASE("without CAP_NET_ADMIN the very opening says so") {
  const pid_t child = fork();
  if (child == 0) {
    if (setresuid(65534, 65534, 65534) != 0) _exit(2);
    const auto nft = Nft::open();
    _exit(!nft && nft.error().code == EPERM && nft.error().message.find("CAP_NET_ADMIN") != std::string::npos ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

// Not a test: nft_kernel_test "[measure]" prints how long the kernel takes from the decision to its acknowledgement.
TEST_CASE("measure", "[.][measure]") {
  auto nft = fresh();
  must(nft.install(layout_on({"swn-b"}), {}, {}));
  int next = 0;
  const auto measure = [&](const char* what, int times, int batch) {
    std::vector<double> taken_us;
    for (int i = 0; i < times; ++i) {
      const auto before = std::chrono::steady_clock::now();
      std::vector<Change> changes;
      for (int k = 0; k < batch; ++k) changes.push_back(add(numbered(next++)));
      must(nft.commit(changes));
      taken_us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - before).count());
    }
    std::ranges::sort(taken_us);
    std::cout << what << ": p50 " << taken_us[taken_us.size() / 2] << " us, p99 "
              << taken_us[taken_us.size() * 99 / 100] << " us, worst " << taken_us.back() << " us, n " << times << ", "
              << std::llround(times * batch * 1e6 / std::accumulate(taken_us.begin(), taken_us.end(), 0.0))
              << " a second\n";
  };
  measure("one element", 2'000, 1);
  measure("64 elements", 157, 64);
  measure("10,000 elements", 20, 10'000);
  next = 0;
  measure("10,000 renewals", 20, 10'000);
}
