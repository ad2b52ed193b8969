// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <cerrno>
#include <thread>

#include "tests/nft_lab.h"

using namespace sipward;
using namespace sipward::test;
using namespace std::chrono_literals;
using daemon::nft::Change;
using daemon::nft::Effect;
using daemon::nft::Layout;
using daemon::nft::Nft;

namespace {

Layout layout_with(config::Hook hook, config::Scope scope = config::Scope::Sip) {
  auto layout = layout_on({"swn-b"}, scope);
  layout.hook = hook;
  return layout;
}
constexpr config::Hook kHooks[] = {config::Hook::Ingress, config::Hook::Prerouting};
const char* name_of(config::Hook hook) { return hook == config::Hook::Ingress ? "ingress" : "prerouting"; }

// It arrives; it does not while the change stands; it arrives again.
void dropped_while_it_stands(const Change& change, const Frame& frame, const Wire& wire, Nft& nft) {
  INFO(policy::to_string(change.subject) << ", a packet from " << frame.from << ":" << frame.from_port);
  CHECK(fate_of(frame, wire, nft) == Fate::Passed);
  must(nft.commit(std::vector{change}));
  CHECK(fate_of(frame, wire, nft) == Fate::Dropped);
  auto removal = change;
  removal.kind = Change::Kind::Delete;
  must(nft.commit(std::vector{removal}));
  CHECK(fate_of(frame, wire, nft) == Fate::Passed);
}

} // namespace

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

TEST_CASE("packets: a blocked endpoint loses its port, and its neighbours behind the same address live") {
  auto nft = fresh();
  make_probe();
  const Wire wire;
  for (const auto hook : kHooks) {
    for (const auto scope : {config::Scope::Sip, config::Scope::All}) {
      INFO("hook " << name_of(hook) << (scope == config::Scope::Sip ? ", scope sip" : ", scope all"));
      must(nft.install(layout_with(hook, scope), {}, {}));
      for (const std::string address : {"203.0.113.77", "2001:db8:1:2::7"}) {
        const Frame bad{.from = address, .from_port = 5071};
        dropped_while_it_stands(add(endpoint(address.c_str(), 5071)), bad, wire, nft);
        must(nft.commit(std::vector{add(endpoint(address.c_str(), 5071))}));
        CHECK(fate_of(bad, wire, nft) == Fate::Dropped);
        CHECK(fate_of({.from = address, .from_port = 5072}, wire, nft) == Fate::Passed);
        CHECK(fate_of({.from = address, .protocol = IPPROTO_TCP, .from_port = 5071}, wire, nft) == Fate::Dropped);
        const Frame elsewhere{.from = address, .port = 53, .from_port = 5071};
        CHECK(fate_of(elsewhere, wire, nft) == (scope == config::Scope::Sip ? Fate::Passed : Fate::Dropped));
        CHECK(nft.read(endpoint(address.c_str(), 5071)).value()->packets >= 2);
      }
      // By its full address: another host of the same /64 may have the same port.
      CHECK(fate_of({.from = "2001:db8:1:2::8", .from_port = 5071}, wire, nft) == Fate::Passed);
      // What has no ports has other things in their place.
      must(nft.commit(std::vector{add(endpoint("203.0.113.77", 0x0800))}));
      CHECK(fate_of({.from = "203.0.113.77", .protocol = IPPROTO_ICMP, .from_port = 0x0800}, wire, nft) ==
            Fate::Passed);
    }
  }
}

TEST_CASE("packets: a limited host gets through at its rate, and not above it") {
  auto nft = fresh();
  make_probe();
  const Wire wire;
  for (const auto hook : kHooks) {
    for (const std::string address : {"203.0.113.77", "2001:db8:1:2::7"}) {
      INFO("hook " << name_of(hook) << ", " << address);
      must(nft.install(layout_with(hook), {}, {}));
      const auto subject = host(address.c_str());
      std::vector<std::chrono::steady_clock::time_point> sent; // the last ones
      // So many of n pass.
      const auto pass = [&](int n, std::chrono::milliseconds apart) {
        const auto before = passed();
        const auto dropped_before = dropped(nft);
        sent.clear();
        for (int i = 0; i < n; ++i) {
          wire.send({.from = address});
          sent.push_back(std::chrono::steady_clock::now());
          if (apart > 0ms) std::this_thread::sleep_for(apart);
        }
        const auto settled = [&] { return passed() - before + dropped(nft) - dropped_before; };
        for (int attempt = 0; attempt < 100 && settled() < static_cast<std::uint64_t>(n); ++attempt)
          std::this_thread::sleep_for(5ms);
        CHECK(settled() == static_cast<std::uint64_t>(n)); // the counter counts what is dropped, and no more
        return static_cast<int>(passed() - before);
      };
      CHECK(pass(50, 0ms) == 50);
      must(nft.commit(std::vector{limit(subject, 1, 10)}));
      const auto began = std::chrono::steady_clock::now();
      const int at_once = pass(50, 0ms);
      CHECK(at_once >= 10); // its burst; and one more for each second that this took
      CHECK(at_once <= 11 + (std::chrono::steady_clock::now() - began) / 1s);
      const auto element = nft.read(subject, Effect::Limit).value();
      REQUIRE(element);
      CHECK(element->packets == static_cast<std::uint64_t>(50 - at_once));
      CHECK(element->limit == daemon::nft::Limit{1, 10});
      CHECK(fate_of({.from = "203.0.113.78"}, wire, nft) == Fate::Passed); // whoever is not limited is not

      must(nft.commit(std::vector{limit(subject, 40, 5)})); // another rate, with a burst of its own
      const int in_time = pass(300, 5ms);
      // What a bucket of five lets through that fills at 40 a second: the sender may be held up.
      double tokens = 5;
      int expected = 0;
      for (std::size_t i = 0; i < sent.size(); ++i) {
        if (i > 0) tokens = std::min(tokens + 40 * std::chrono::duration<double>(sent[i] - sent[i - 1]).count(), 5.0);
        if (tokens >= 1) --tokens, ++expected;
      }
      CHECK(in_time >= 0.9 * expected - 2);
      CHECK(in_time <= 1.05 * expected + 2);
      must(nft.commit(std::vector{unlimit(subject)}));
      CHECK(pass(50, 0ms) == 50);
    }
  }
  SECTION("an IPv6 source is limited as a whole") {
    must(nft.commit(std::vector{limit(host("2001:db8:1:2::7"), 1, 1)}));
    CHECK(fate_of({.from = "2001:db8:1:2::7"}, wire, nft) == Fate::Passed);
    CHECK(fate_of({.from = "2001:db8:1:2::8"}, wire, nft) == Fate::Dropped);
    CHECK(fate_of({.from = "2001:db8:1:3::8"}, wire, nft) == Fate::Passed);
  }
  SECTION("answers are neither limited nor counted") {
    must(nft.commit(std::vector{limit(host("203.0.113.77"), 1, 1)}));
    for (int i = 0; i < 5; ++i) CHECK(error_of_sending(5060, "203.0.113.77") == 0);
    CHECK(fate_of({.from = "203.0.113.77"}, wire, nft) == Fate::Passed);
  }
}

TEST_CASE("packets: a known port of a limited host passes the limit, up to a rate of its own") {
  auto nft = fresh();
  make_probe();
  const Wire wire;
  for (const auto hook : kHooks) {
    for (const std::string address : {"203.0.113.77", "2001:db8:1:2::7"}) {
      INFO("hook " << name_of(hook) << ", " << address);
      must(nft.install(layout_with(hook), {}, {}));
      must(nft.commit(std::vector{limit(host(address.c_str()), 1, 1), spare(known(address.c_str(), 5071), 1, 20)}));
      const Frame phone{.from = address, .from_port = 5071}, forged{.from = address, .from_port = 40000};
      CHECK(fate_of(forged, wire, nft) == Fate::Passed); // the limit's burst
      CHECK(fate_of(forged, wire, nft) == Fate::Dropped);
      for (int i = 0; i < 20; ++i) CHECK(fate_of(phone, wire, nft) == Fate::Passed);
      // Then it is forged as well, and no free way in.
      int dropped = 0;
      for (int i = 0; i < 10; ++i) dropped += fate_of(phone, wire, nft) == Fate::Dropped;
      CHECK(dropped >= 5);
      must(nft.commit(std::vector{add(host(address.c_str()))}));
      CHECK(fate_of(phone, wire, nft) == Fate::Dropped); // of a blocked host no port is spared
      must(nft.commit(std::vector{erase(host(address.c_str()))}));
      CHECK(nft.read(known(address.c_str(), 5071), Effect::Spare).value()->packets >= 20);
    }
  }
}

TEST_CASE("packets: an allowed host passes its prefix's block and its own, but not that of its endpoint") {
  auto nft = fresh();
  make_probe();
  const Wire wire;
  const struct {
    const char *trusted, *prefix, *neighbour;
  } rows[] = {{"203.0.113.77", "203.0.113.0/24", "203.0.113.78"},
              {"2001:db8:f00d:1::5", "2001:db8:f00d::/48", "2001:db8:f00d:2::5"},
              {"203.0.113.77", "203.0.112.0/20", "203.0.112.78"}};
  for (const auto hook : kHooks) {
    for (const auto& row : rows) {
      INFO("hook " << name_of(hook) << ", " << row.trusted << " in " << row.prefix);
      must(nft.install(layout_with(hook), {}, {}));
      const Frame trusted{.from = row.trusted}, neighbour{.from = row.neighbour};
      CHECK(fate_of(trusted, wire, nft) == Fate::Passed);
      must(nft.commit(std::vector{allow(host(row.trusted)), add(range(row.prefix))}));
      CHECK(fate_of(trusted, wire, nft) == Fate::Passed);
      CHECK(fate_of(neighbour, wire, nft) == Fate::Dropped);
      CHECK(error_of_sending(5060, row.trusted) == 0);
      CHECK(error_of_sending(5060, row.neighbour) == EPERM);

      must(nft.commit(std::vector{add(endpoint(row.trusted, 5071))}));
      CHECK(fate_of({.from = row.trusted, .from_port = 5071}, wire, nft) == Fate::Dropped);
      CHECK(fate_of(trusted, wire, nft) == Fate::Passed);
      CHECK(error_of_sending(5060, row.trusted, 5071) == EPERM);
      CHECK(error_of_sending(5060, row.trusted, 5072) == 0);

      // Convicted on evidence: what allowed it goes in the batch that blocks it.
      must(nft.commit(std::vector{add(host(row.trusted))}));
      CHECK(fate_of(trusted, wire, nft) == Fate::Passed);
      must(nft.commit(std::vector{disallow(host(row.trusted)), add(host(row.trusted))}));
      CHECK(fate_of(trusted, wire, nft) == Fate::Dropped);
      must(nft.commit(std::vector{erase(host(row.trusted)), erase(range(row.prefix))}));
      CHECK(fate_of(trusted, wire, nft) == Fate::Passed);
      CHECK(fate_of(neighbour, wire, nft) == Fate::Passed);
    }
  }
}

TEST_CASE("packets: a host or prefix blocked wholly loses every service, and a prefix may have any length") {
  auto nft = fresh();
  make_probe();
  const Wire wire;
  const auto never_blocked = prefixes({"203.0.113.10", "2001:db8:f00d:1::5"});
  for (const auto hook : kHooks) {
    INFO("hook " << name_of(hook));
    must(nft.install(layout_with(hook), never_blocked, std::vector{allow(host("203.0.113.20"))}));
    const auto plain = output_of("nft list table inet sipward");
    dropped_while_it_stands(add(range("203.0.112.0/20")), {.from = "203.0.113.77"}, wire, nft);
    dropped_while_it_stands(add(range("203.0.113.76/31")), {.from = "203.0.113.77"}, wire, nft);
    dropped_while_it_stands(add(range("2001:db8:f000::/36")), {.from = "2001:db8:f00d:9::1"}, wire, nft);
    for (const char* address : {"203.0.113.77", "2001:db8:f00d:9::1"}) {
      INFO(address);
      const Frame dns{.from = address, .port = 53};
      dropped_while_it_stands(add_all(host(address)), dns, wire, nft);
      dropped_while_it_stands(add_all(host(address)), {.from = address}, wire, nft);
      CHECK(error_of_sending(8080, address) == 0);
      must(nft.commit(std::vector{add_all(host(address))}));
      CHECK(error_of_sending(8080, address) == EPERM);
      must(nft.commit(std::vector{erase_all(host(address))}));
    }
    must(nft.commit(std::vector{add_all(range("203.0.112.0/20")), add_all(range("2001:db8:f00d::/48"))}));
    CHECK(fate_of({.from = "203.0.112.1", .port = 53}, wire, nft) == Fate::Dropped);
    CHECK(fate_of({.from = "203.0.113.77", .protocol = IPPROTO_ICMP}, wire, nft) == Fate::Dropped);
    CHECK(fate_of({.from = "2001:db8:f00d:9::1", .port = 53}, wire, nft) == Fate::Dropped);
    CHECK(fate_of({.from = "203.0.113.10", .port = 53}, wire, nft) == Fate::Passed); // never blocked
    CHECK(fate_of({.from = "2001:db8:f00d:1::5", .port = 53}, wire, nft) == Fate::Passed);
    CHECK(fate_of({.from = "203.0.113.20", .port = 53}, wire, nft) == Fate::Passed); // allowed
    CHECK(fate_of({.from = "203.0.128.1", .port = 53}, wire, nft) == Fate::Passed);  // outside
    must(nft.commit(std::vector{erase_all(range("203.0.112.0/20")), erase_all(range("2001:db8:f00d::/48"))}));
    CHECK(output_of("nft list table inet sipward") == plain); // nothing is left behind
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
    CHECK(error_of_sending(row.port, row.to) == row.error);
  }
  CHECK(nft.read(host("198.51.100.66")).value()->packets == 1);
  CHECK(nft.read(range("203.0.113.0/24")).value()->packets == 1);
}
