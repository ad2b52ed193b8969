// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include "tests/nft_changes.h"

// What a real kernel makes of our batches, seen from outside: by `nft`, and by packets. The process moves into a
// network namespace of its own before the first test, so nothing here touches the host. Documentation addresses
// throughout.
//
// The wire is a pair of veth interfaces: frames written to swn-a arrive at swn-b, which owns 192.0.2.10 and
// 2001:db8::10.
using namespace sipward;
using namespace sipward::test;
using namespace sipward::daemon;
using namespace std::chrono_literals;
using nft::Change;
using nft::Layout;
using nft::Nft;
using nlohmann::json;

namespace {

std::string output_of(const std::string& command) {
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen((command + " 2>&1").c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> part{};
  while (const auto size = fread(part.data(), 1, part.size(), pipe.get())) text.append(part.data(), size);
  return text;
}
void run(const std::string& command) {
  INFO(command);
  REQUIRE(std::system(command.c_str()) == 0);
}

policy::Subject numbered(int number) {
  return {.kind = policy::SubjectKind::Host,
          .prefix = policy::Prefix::host(policy::Address::v4(10, static_cast<std::uint8_t>(number >> 16),
                                                             static_cast<std::uint8_t>(number >> 8),
                                                             static_cast<std::uint8_t>(number)))};
}
Layout layout_on(std::initializer_list<const char*> interfaces, config::Scope scope = config::Scope::Sip) {
  Layout layout;
  layout.interfaces.assign(interfaces.begin(), interfaces.end());
  layout.scope = scope;
  layout.ports = {5060};
  return layout;
}

// A socket, and no table left over from the test before.
Nft fresh() {
  run("nft flush ruleset");
  auto nft = Nft::open();
  REQUIRE(nft);
  return std::move(*nft);
}

template<class Result>
void must(const Result& result) {
  INFO((result ? std::string() : result.error().message));
  REQUIRE(result);
}

json listed(const std::string& what) {
  const auto text = output_of("nft -j list " + what);
  INFO(text);
  return json::parse(text).at("nftables");
}

// The elements of a set as `nft -j` tells them: value → the element's object (empty if it has no attributes).
std::map<std::string, json> elements(const std::string& set) {
  std::map<std::string, json> result;
  for (const auto& item : listed("set inet sipward " + set)) {
    if (!item.contains("set") || !item["set"].contains("elem")) continue;
    for (const auto& elem : item["set"]["elem"]) {
      const bool dressed = elem.is_object() && elem.contains("elem");
      const json& value = dressed ? elem["elem"]["val"] : elem;
      result[value.is_string() ? value.get<std::string>() : value.dump()] = dressed ? elem["elem"] : json::object();
    }
  }
  return result;
}
std::vector<std::string> values(const std::string& set) {
  std::vector<std::string> result;
  for (const auto& [value, _] : elements(set)) result.push_back(value);
  return result;
}
using Texts = std::vector<std::string>;

// Frames, by hand: what our own stack would refuse to send.
struct Frame {
  std::string from;
  std::uint8_t protocol = IPPROTO_UDP;
  std::uint16_t port = 5060;
  std::uint16_t fragment = 0; // the IPv4 header's flags and offset
};

void put16(std::vector<std::uint8_t>& octets, unsigned value) {
  octets.push_back(static_cast<std::uint8_t>(value >> 8));
  octets.push_back(static_cast<std::uint8_t>(value));
}

std::vector<std::uint8_t> octets_of(const Frame& frame, const std::array<std::uint8_t, 6>& to) {
  const auto from = policy::Address::parse(frame.from).value();
  const bool v4 = from.family == policy::Family::V4;
  const auto target = policy::Address::parse(v4 ? "192.0.2.10" : "2001:db8::10").value();
  std::vector<std::uint8_t> out(to.begin(), to.end());
  out.insert(out.end(), {2, 0, 0, 0, 0, 1});
  put16(out, v4 ? ETHERTYPE_IP : ETHERTYPE_IPV6);

  std::vector<std::uint8_t> payload;
  put16(payload, 40000);
  put16(payload, frame.port);
  payload.resize(40, 0x20); // a UDP or TCP header and a little more; nobody here looks at the rest
  payload[4] = 0, payload[5] = 40;

  const auto begin = out.size();
  if (v4) {
    out.insert(out.end(), {0x45, 0});
    put16(out, 20 + static_cast<unsigned>(payload.size()));
    put16(out, 0);
    put16(out, frame.fragment);
    out.insert(out.end(), {64, frame.protocol, 0, 0});
  } else {
    out.insert(out.end(), {0x60, 0, 0, 0});
    put16(out, static_cast<unsigned>(payload.size()));
    out.insert(out.end(), {frame.protocol, 64});
  }
  out.insert(out.end(), from.wire().begin(), from.wire().end());
  out.insert(out.end(), target.wire().begin(), target.wire().end());
  if (v4) {
    unsigned sum = 0;
    for (std::size_t i = begin; i < out.size(); i += 2) sum += static_cast<unsigned>(out[i] << 8 | out[i + 1]);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    out[begin + 10] = static_cast<std::uint8_t>(~sum >> 8);
    out[begin + 11] = static_cast<std::uint8_t>(~sum);
  }
  out.insert(out.end(), payload.begin(), payload.end());
  return out;
}

class Wire {
public:
  Wire() : socket_(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL))) {
    REQUIRE(socket_ >= 0);
    unsigned part[6];
    const auto link = output_of("ip -o link show swn-b");
    const auto at = link.find("link/ether ");
    REQUIRE(at != link.npos);
    REQUIRE(std::sscanf(link.c_str() + at + 11, "%x:%x:%x:%x:%x:%x", part, part + 1, part + 2, part + 3, part + 4,
                        part + 5) == 6);
    std::ranges::transform(part, to_.begin(), [](unsigned octet) { return static_cast<std::uint8_t>(octet); });
  }
  ~Wire() { close(socket_); }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  void send(const Frame& frame) const {
    const auto octets = octets_of(frame, to_);
    sockaddr_ll where{};
    where.sll_family = AF_PACKET;
    where.sll_ifindex = static_cast<int>(if_nametoindex("swn-a"));
    where.sll_halen = 6;
    const auto sent =
        sendto(socket_, octets.data(), octets.size(), 0, reinterpret_cast<const sockaddr*>(&where), sizeof where);
    REQUIRE(sent == static_cast<ssize_t>(octets.size()));
  }

private:
  int socket_;
  std::array<std::uint8_t, 6> to_{};
};

std::uint64_t dropped(Nft& nft) {
  const auto all = nft.read_all();
  must(all);
  std::uint64_t sum = 0;
  for (const auto& element : *all) sum += element.packets;
  return sum;
}
// What came through: a table of somebody else's, after ours, counts everything from swn-a's stranger.
void make_probe() {
  run("nft add table inet probe");
  run("nft 'add chain inet probe pre { type filter hook prerouting priority 0 ; }'");
  run("nft 'add rule inet probe pre meta iifname swn-b ether saddr 02:00:00:00:00:01 counter'");
}
std::uint64_t passed() {
  for (const auto& item : listed("chain inet probe pre"))
    if (item.contains("rule"))
      for (const auto& expr : item["rule"]["expr"])
        if (expr.contains("counter")) return expr["counter"]["packets"].get<std::uint64_t>();
  FAIL("the probe has no counter");
  return 0;
}

enum class Fate : std::uint8_t { Passed, Dropped, Lost };
// Exactly one of the two counters moves; which, is the frame's fate.
Fate fate_of(const Frame& frame, const Wire& wire, Nft& nft) {
  const auto dropped_before = dropped(nft);
  const auto passed_before = passed();
  wire.send(frame);
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (dropped(nft) == dropped_before + 1) return Fate::Dropped;
    if (passed() == passed_before + 1) return Fate::Passed;
    std::this_thread::sleep_for(5ms);
  }
  return Fate::Lost;
}

} // namespace

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
      sets.insert(item["set"]["name"].get<std::string>() + " " + item["set"]["type"].get<std::string>());
  }
  CHECK(chains == std::set<std::string>{"ingress ingress -300 accept", "prerouting prerouting -300 accept",
                                        "output postrouting 300 accept"});
  CHECK(sets == std::set<std::string>{"blocked_v4 ipv4_addr", "blocked_v6 ipv6_addr", "blocked_net_v4 ipv4_addr",
                                      "blocked_net_v6 ipv6_addr", "allowed_v4 ipv4_addr", "allowed_v6 ipv6_addr",
                                      "sip_ports inet_service", "sip_transports inet_proto"});

  const auto hosts = elements("blocked_v4");
  REQUIRE(values("blocked_v4") == Texts{"198.51.100.66"});
  CHECK(hosts.at("198.51.100.66")["timeout"] == 300);
  CHECK(hosts.at("198.51.100.66")["expires"] >= 298);
  CHECK(hosts.at("198.51.100.66")["counter"] == json{{"packets", 0}, {"bytes", 0}});
  CHECK(values("blocked_v6") == Texts{"2001:db8:1:2::"});
  CHECK(elements("blocked_v6").at("2001:db8:1:2::")["timeout"] == 600);
  CHECK(values("blocked_net_v4") == Texts{"198.51.100.0"});
  CHECK(values("blocked_net_v6") == Texts{"2001:db8:1::"});
  CHECK(values("allowed_v4") == Texts{"203.0.113.10", R"({"prefix":{"addr":"10.0.0.0","len":8}})"});
  CHECK(values("allowed_v6") == Texts{R"({"prefix":{"addr":"2001:db8:a::","len":48}})"});
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
  CHECK(values("allowed_v4").empty());
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
  must(nft.install(layout, {}, {})); // as after a crash
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
  CHECK(nft.replace_allowed({}).error().code == ENOENT);
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
  must(nft.replace_allowed(prefixes({"0.0.0.0/8", "10.0.0.0/7", "224.0.0.0/3", "::1", "ff00::/8"})));
  CHECK(values("allowed_v4") == Texts{R"({"prefix":{"addr":"0.0.0.0","len":8}})",
                                      R"({"prefix":{"addr":"10.0.0.0","len":7}})",
                                      R"({"prefix":{"addr":"224.0.0.0","len":3}})"});
  CHECK(values("allowed_v6") == Texts{"::1", R"({"prefix":{"addr":"ff00::","len":8}})"});
  must(nft.replace_allowed(prefixes({"0.0.0.0/0", "255.255.255.255"})));
  CHECK(values("allowed_v4") == Texts{R"({"prefix":{"addr":"0.0.0.0","len":0}})"});
  must(nft.replace_allowed(prefixes({"255.255.255.255", "255.255.255.253"})));
  CHECK(values("allowed_v4") == Texts{"255.255.255.253", "255.255.255.255"});
  must(nft.replace_allowed({}));
  CHECK(values("allowed_v4").empty());

  std::vector<policy::Prefix> many; // every second address: nothing to join, more than one message
  for (int i = 0; i < 5'000; ++i) many.push_back(numbered(i * 2).prefix);
  must(nft.replace_allowed(policy::PrefixSet(many)));
  CHECK(values("allowed_v4").size() == many.size());
  must(nft.replace_allowed(policy::PrefixSet(many))); // the same again
  CHECK(values("allowed_v4").size() == many.size());
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

TEST_CASE("packets: the blocked lose the SIP service and nothing else, by host and by prefix, in either family") {
  auto nft = fresh();
  make_probe();
  const Wire wire;
  const std::vector standing = {add(host("198.51.100.66")), add(host("2001:db8:bad:1::1")),
                                add(range("203.0.113.0/24")), add(range("2001:db8:f00d::/48"))};
  const auto allowed = prefixes({"203.0.113.10", "2001:db8:f00d:1::5", "198.51.100.128/25"});
  constexpr auto kUdp = IPPROTO_UDP, kTcp = IPPROTO_TCP, kIcmp = IPPROTO_ICMP;
  const struct {
    const char* claim;
    Frame frame;
    Fate sip_scope, all_scope;
  } rows[] = {
      {"a stranger passes", {"198.51.100.67", kUdp, 5060}, Fate::Passed, Fate::Passed},
      {"a blocked host is dropped", {"198.51.100.66", kUdp, 5060}, Fate::Dropped, Fate::Dropped},
      {"over TCP as well", {"198.51.100.66", kTcp, 5060}, Fate::Dropped, Fate::Dropped},
      {"on 5061 as well", {"198.51.100.66", kTcp, 5061}, Fate::Dropped, Fate::Dropped},
      {"but keeps other services", {"198.51.100.66", kUdp, 53}, Fate::Passed, Fate::Dropped},
      {"and ICMP, even where its checksum reads as a SIP port",
       {"198.51.100.66", kIcmp, 5060},
       Fate::Passed,
       Fate::Dropped},
      {"the first fragment of a blocked host, which has the ports",
       {"198.51.100.66", kUdp, 5060, 0x2000},
       Fate::Dropped,
       Fate::Dropped},
      {"a later fragment of a stranger passes", {"198.51.100.67", kUdp, 53, 100}, Fate::Passed, Fate::Passed},
      {"a blocked IPv6 /64: another of its hosts", {"2001:db8:bad:1::2", kUdp, 5060}, Fate::Dropped, Fate::Dropped},
      {"the /64 beside it", {"2001:db8:bad:2::1", kUdp, 5060}, Fate::Passed, Fate::Passed},
      {"a blocked /24", {"203.0.113.77", kUdp, 5060}, Fate::Dropped, Fate::Dropped},
      {"one never blocked in it", {"203.0.113.10", kUdp, 5060}, Fate::Passed, Fate::Passed},
      {"the /24 beside it", {"203.0.112.255", kUdp, 5060}, Fate::Passed, Fate::Passed},
      {"a blocked /48", {"2001:db8:f00d:9::1", kUdp, 5060}, Fate::Dropped, Fate::Dropped},
      {"one never blocked in it", {"2001:db8:f00d:1::5", kUdp, 5060}, Fate::Passed, Fate::Passed},
      {"a range never blocked", {"198.51.100.200", kUdp, 5060}, Fate::Passed, Fate::Passed},
  };
  for (const auto scope : {config::Scope::Sip, config::Scope::All}) {
    for (const auto hook : {config::Hook::Ingress, config::Hook::Prerouting}) {
      auto layout = layout_on({"swn-b"}, scope);
      layout.hook = hook;
      must(nft.install(layout, allowed, standing));
      for (const auto& row : rows) {
        INFO(row.claim << (scope == config::Scope::Sip ? ", scope sip" : ", scope all")
                       << (hook == config::Hook::Ingress ? ", hook ingress" : ", hook prerouting"));
        CHECK(fate_of(row.frame, wire, nft) == (scope == config::Scope::Sip ? row.sip_scope : row.all_scope));
      }
    }
  }
}

TEST_CASE("an element's counter counts the packets and octets that it dropped") {
  auto nft = fresh();
  const Wire wire;
  must(nft.install(layout_on({"swn-b"}), {}, std::vector{add(host("198.51.100.66")), add(host("198.51.100.67"))}));
  for (int i = 0; i < 10; ++i) wire.send({"198.51.100.66"});
  for (int attempt = 0; attempt < 100 && dropped(nft) < 10; ++attempt) std::this_thread::sleep_for(5ms);
  const auto element = nft.read(host("198.51.100.66")).value();
  REQUIRE(element);
  CHECK(element->packets == 10);
  CHECK(element->octets == 10 * 60); // IP header and what follows
  CHECK(nft.read(host("198.51.100.67")).value()->packets == 0);
  CHECK(elements("blocked_v4").at("198.51.100.66")["counter"]["packets"] == 10);
}

TEST_CASE("answers to the blocked are dropped on the way out, and counted") {
  auto nft = fresh();
  must(nft.install(
      layout_on({"swn-b"}), prefixes({"203.0.113.10"}),
      std::vector{add(host("198.51.100.66")), add(range("203.0.113.0/24")), add(host("2001:db8:bad:1::1"))}));
  const struct {
    const char* claim;
    std::uint16_t port;
    const char* to;
    int error;
  } rows[] = {
      {"SIP to a blocked host", 5060, "198.51.100.66", EPERM}, {"another service to it", 8080, "198.51.100.66", 0},
      {"SIP to a stranger", 5060, "198.51.100.67", 0},         {"SIP into a blocked /24", 5060, "203.0.113.77", EPERM},
      {"SIP to one allowed in it", 5060, "203.0.113.10", 0},
  };
  for (const auto& row : rows) {
    INFO(row.claim);
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in here{}, there{};
    here.sin_family = there.sin_family = AF_INET;
    here.sin_port = htons(row.port);
    there.sin_port = htons(5060);
    inet_pton(AF_INET, "192.0.2.10", &here.sin_addr);
    inet_pton(AF_INET, row.to, &there.sin_addr);
    REQUIRE(bind(fd, reinterpret_cast<const sockaddr*>(&here), sizeof here) == 0);
    const auto sent = sendto(fd, "x", 1, 0, reinterpret_cast<const sockaddr*>(&there), sizeof there);
    const int error = sent < 0 ? errno : 0;
    close(fd);
    CHECK(error == row.error);
  }
  CHECK(nft.read(host("198.51.100.66")).value()->packets == 1);
  CHECK(nft.read(range("203.0.113.0/24")).value()->packets == 1);
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
              << taken_us[taken_us.size() * 99 / 100] << " us, worst " << taken_us.back() << " us, n " << times << "\n";
  };
  measure("one element", 2'000, 1);
  measure("64 elements", 200, 64);
  measure("10,000 elements", 20, 10'000);
  next = 0;
  measure("10,000 renewals", 20, 10'000);
}

int main(int argc, char** argv) {
  const auto skip = [](const char* reason) {
    std::cerr << "skipped: " << reason << "\n";
    return 77;
  };
  if (geteuid() != 0) return skip("needs root, for a network namespace of its own");
  if (std::system("nft --version >/dev/null 2>&1 && ip -V >/dev/null 2>&1") != 0) return skip("needs nft and ip");
  if (unshare(CLONE_NEWNET) != 0) return skip("cannot make a network namespace here");
  const char* wire = "set -e; ip link set lo up; ip link add swn-a type veth peer name swn-b;"
                     "ip link set swn-a up; ip link set swn-b up;"
                     "ip addr add 192.0.2.10/24 dev swn-b; ip addr add 2001:db8::10/64 dev swn-b nodad;"
                     "ip route add default dev swn-b";
  if (std::system(wire) != 0) return skip("cannot make veth interfaces here");
  return Catch::Session().run(argc, argv);
}
