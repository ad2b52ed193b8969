// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <numeric>
#include <set>
#include <thread>

#include "tests/dataplane_lab.h"

// The dataplane through its face, on DPDK's own drivers and a capture file. DPDK can be started once in a process:
// CTest gives each case its own.
namespace sipward::test {
namespace {

using namespace std::chrono_literals;
using dataplane::Counters;
using dataplane::Dataplane;
using policy::Why;

bool algebra_holds(const Counters& c) {
  return c.received == c.passed + c.dropped &&
         c.received == std::accumulate(c.verdicts.begin(), c.verdicts.end(), std::uint64_t{0});
}
std::uint64_t verdicts(const Dataplane& plane, Why why) {
  return plane.counters().verdicts[static_cast<std::size_t>(why)];
}

Octets from(std::string_view source, std::string_view payload, std::uint16_t port = 5060) {
  return ethernet(kEtherIpv4, ipv4({.source = source}, udp(5062, port, payload)));
}

TEST_CASE("each frame of a capture is counted under what became of it") {
  Capture capture;
  std::uint64_t octets = 0;
  std::array<std::uint64_t, policy::kWhys> expected{};
  const auto add = [&](Why why, const Octets& frame, std::size_t times = 1) {
    for (std::size_t i = 0; i < times; ++i) capture.add(frame);
    octets += frame.size() * times;
    expected[static_cast<std::size_t>(why)] += times;
  };
  add(Why::Scanner, from("198.51.100.66", request("OPTIONS", "friendly-scanner")), 40);
  add(Why::Clean, from("198.51.100.20", request("REGISTER", "a phone")), 30);
  add(Why::Keepalive, from("198.51.100.20", "\r\n\r\n"), 5);
  add(Why::Malformed, from("198.51.100.21", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 6);
  add(Why::Unrelated, from("198.51.100.22", "media", 10002), 7);
  add(Why::Answer,
      ethernet(kEtherIpv4, ipv4({.source = "192.0.2.10", .destination = "198.51.100.20"},
                                udp(5060, 5062, answer(200, "REGISTER")))),
      3);
  add(Why::NotIp, ethernet(0x0806, Octets(28, 0)), 4);
  add(Why::NotUdp, ethernet(kEtherIpv4, ipv4({.protocol = 6}, Octets(20, 0))), 8);
  add(Why::Fragment, ethernet(kEtherIpv4, ipv4({.fragment = 0x2000}, udp(10000, 10002, "a lot of media"))), 2);
  add(Why::BadFrame, ethernet(kEtherIpv4, ipv4({.ihl = 3}, udp(5060, 5060, "x"))), 9);

  const auto plane = started(options(capture.port()));
  REQUIRE(within(5s, [&] { return plane->counters().received >= capture.frames(); }));
  plane->stop();
  const Counters counters = plane->counters();
  CHECK(algebra_holds(counters));
  CHECK(counters.received == capture.frames());
  CHECK(counters.octets == octets);
  CHECK(counters.truncated == 0);
  for (std::size_t why = 0; why < policy::kWhys; ++why) {
    INFO(to_string(static_cast<Why>(why)));
    CHECK(counters.verdicts[why] == expected[why]);
  }
  CHECK(plane->lost().rx == 0);
  CHECK(plane->lost().offences == 0);
  CHECK_FALSE(plane->on_hugepages());
  CHECK(plane->gone().empty());
  policy::Source* phone = plane->ledger().sources.find(policy::source_key(policy::Address::v4(198, 51, 100, 20), 64));
  REQUIRE(phone != nullptr);
  CHECK(phone->packets == 35);
  CHECK(phone->successes == 1); // the same answer three times
}

TEST_CASE("offences ring the bell, are handed out once, and outlast stop()") {
  Capture capture;
  for (int i = 0; i < 200; ++i)
    capture.add(from("198.51.100." + std::to_string(i), request("OPTIONS", "friendly-scanner")));
  const auto plane = started(options(capture.port()));
  pollfd bell{plane->offence_event(), POLLIN, 0};
  CHECK(poll(&bell, 1, 5000) == 1);
  REQUIRE(within(5s, [&] { return plane->counters().received == 200; }));
  plane->stop();
  std::set<policy::Address> who;
  const auto drain = [&] {
    int count = 0;
    plane->drain([&](const policy::Offence& offence) {
      ++count;
      who.insert(offence.source);
      CHECK(offence.evidence.user_agent.view() == "friendly-scanner");
      CHECK(offence.packets_before == 1);
    });
    return count;
  };
  CHECK(drain() == 200);
  CHECK(who.size() == 200);
  CHECK(plane->counters().offences == 200);
  CHECK(poll(&bell, 1, 0) == 0);
  CHECK(drain() == 0);
}

TEST_CASE("offences that nobody collects are lost by count, not by waiting") {
  Capture capture;
  constexpr unsigned kOffenders = 5000; // the ring holds 4,096
  for (unsigned i = 0; i < kOffenders; ++i)
    capture.add(from("10.0." + std::to_string(i / 250) + "." + std::to_string(i % 250),
                     request("OPTIONS", "friendly-scanner")));
  auto wanted = options(capture.port());
  wanted.source_capacity = 65536;
  const auto plane = started(wanted);
  REQUIRE(within(10s, [&] { return plane->counters().received == kOffenders; }));
  plane->stop();
  int drained = 0;
  plane->drain([&](const policy::Offence&) { ++drained; });
  CHECK(drained == 4096);
  CHECK(plane->counters().offences == 4096);
  CHECK(plane->lost().offences == kOffenders - 4096);
}

TEST_CASE("new rules take effect under load, and no packet is lost between them") {
  Capture capture;
  capture.add(from("198.51.100.20", request("OPTIONS", "a phone")));
  const auto plane = started(options(capture.port() + ",infinite_rx=1"));
  REQUIRE(within(5s, [&] { return verdicts(*plane, Why::Clean) > 100; }));
  CHECK(verdicts(*plane, Why::Unrelated) == 0);
  auto elsewhere = rules();
  elsewhere->servers = {policy::Address::v4(192, 0, 2, 77)};
  plane->publish(std::move(elsewhere));
  REQUIRE(within(5s, [&] { return verdicts(*plane, Why::Unrelated) > 100; }));
  const auto clean = verdicts(*plane, Why::Clean);
  std::this_thread::sleep_for(20ms);
  CHECK(verdicts(*plane, Why::Clean) == clean);
  for (int i = 0; i < 500; ++i) { // each snapshot of rules is freed while workers read the next
    auto next = rules();
    if (i % 2 == 0) next->blocked = {policy::Prefix::parse("198.51.100.0/24").value()};
    plane->publish(std::move(next));
    if (i % 10 == 0) std::this_thread::sleep_for(1ms);
    if (!algebra_holds(plane->counters())) FAIL("the algebra is broken after " << i << " publications");
  }
  CHECK(verdicts(*plane, Why::BlockedPrefix) > 0);
  CHECK(plane->counters().dropped == verdicts(*plane, Why::BlockedPrefix));
  CHECK(plane->lost().rx == 0);
}

TEST_CASE("stop() ends though packets never do, and nothing is counted after it") {
  Capture capture;
  capture.add(from("198.51.100.20", request("OPTIONS", "a phone")));
  auto wanted = options(capture.port() + ",infinite_rx=1");
  wanted.idle = config::Idle::Busy;
  wanted.cores = {0};
  const auto plane = started(wanted);
  REQUIRE(within(5s, [&] { return plane->counters().received > 1000; }));
  const auto before = std::chrono::steady_clock::now();
  plane->stop();
  CHECK(std::chrono::steady_clock::now() - before < 2s);
  const auto received = plane->counters().received;
  CHECK(algebra_holds(plane->counters()));
  std::this_thread::sleep_for(20ms);
  CHECK(plane->counters().received == received);
}

TEST_CASE("two ports are two workers, and one source to both") {
  Capture first, second;
  for (unsigned i = 0; i < 50; ++i) {
    first.add(from("198.51.100.20", request("REGISTER", "a phone", "100", i)));
    second.add(from("198.51.100.20", request("REGISTER", "a phone", "100", 50 + i)));
  }
  auto wanted = options(first.port());
  auto other = second.port();
  other.replace(other.find("pcap0"), 5, "pcap1");
  wanted.outside.push_back(other);
  const auto plane = started(wanted);
  REQUIRE(within(5s, [&] { return plane->counters().received == 100; }));
  plane->stop();
  CHECK(verdicts(*plane, Why::Clean) + verdicts(*plane, Why::RegisterFlood) == 100);
  CHECK(verdicts(*plane, Why::Clean) >= 75);
  CHECK(verdicts(*plane, Why::Clean) <= 80); // the burst, and what leaked out meanwhile
}

TEST_CASE("a capture needs no privileges, nor a current directory that it may look into") {
  Capture capture;
  capture.add(from("198.51.100.20", request("REGISTER", "a phone")));
  const auto wanted = options(capture.port());
  if (geteuid() == 0) {
    std::filesystem::current_path("/root");
    REQUIRE(chown(capture.path().c_str(), 65534, 65534) == 0);
    REQUIRE((setgroups(0, nullptr) == 0 && setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0));
  }
  const auto plane = started(wanted);
  CHECK(within(5s, [&] { return plane->counters().received == 1; }));
}

// --- what cannot start says why

void fails(const dataplane::Options& wanted, std::initializer_list<const char*> words) {
  const auto plane = Dataplane::start(wanted, rules(), nullptr);
  REQUIRE_FALSE(plane);
  for (const auto* word : words) CHECK_THAT(plane.error(), Catch::Contains(word));
}

TEST_CASE("a missing interface is named, with those there are") {
  fails(options("swt-nowhere"), {"ports.outside: there is no interface swt-nowhere", "lo"});
}

TEST_CASE("an interface name too long for the kernel is missing like any other") {
  fails(options("an-interface-with-a-long-name"), {"there is no interface an-interface-with-a-long-name"});
}

TEST_CASE("a missing capture is named") {
  fails(options("vdev:net_pcap0,rx_pcap=/nowhere/at-all.pcap"),
        {"cannot open vdev:net_pcap0", "/nowhere/at-all.pcap", "No such file"});
}

TEST_CASE("a driver that DPDK does not have is named") {
  fails(options("vdev:net_nowhere0"), {"DPDK does not start", "librte_net_nowhere"});
}

TEST_CASE("too little memory for the sources is said with both numbers") {
  Capture capture;
  auto wanted = options(capture.port());
  wanted.source_capacity = 1 << 22;
  fails(wanted, {"sources.capacity 4194304 needs 420 MiB", "memory.size is 64 MiB"});
}

TEST_CASE("too little memory for packets is said") {
  Capture capture;
  auto wanted = options(capture.port());
  wanted.memory_bytes = std::uint64_t{8} << 20;
  fails(wanted, {"memory.size is too small", "vdev:net_pcap0"});
}

TEST_CASE("hugepages that are not there are said, with what to do") {
  auto wanted = options("lo");
  wanted.hugepages = config::Hugepages::On;
  wanted.memory_bytes = std::uint64_t{1} << 50;
  fails(wanted, {"memory.hugepages is on", "vm.nr_hugepages"});
}

TEST_CASE("without hugepages enough, auto runs on ordinary memory") {
  Capture capture;
  auto wanted = options(capture.port());
  wanted.hugepages = config::Hugepages::Auto;
  CHECK(Dataplane::start(wanted, rules(), nullptr).has_value());
}

} // namespace
} // namespace sipward::test
