// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "tests/veth.h"

// Two workers on one interface of the kernel's, each with a packet socket of its own.
namespace sipward::test {
namespace {

using namespace std::chrono_literals;
using dataplane::Dataplane;
using policy::Why;

dataplane::Options with_two() {
  if (std::thread::hardware_concurrency() < 2) skip("this machine has one CPU");
  auto wanted = options("swt-near");
  wanted.cores = {0, 1};
  return wanted;
}
Octets from(const std::string& source, const std::string& destination, std::uint16_t port = 5062) {
  return ethernet(kEtherIpv4,
                  ipv4({.source = source, .destination = destination}, udp(port, 5060, request("OPTIONS", "a phone"))));
}
Octets from_v6(const std::string& source, std::uint16_t port = 5062) {
  return ethernet(kEtherIpv6, ipv6({.source = source, .destination = "2001:db8:10::5"},
                                   udp(port, 5060, request("OPTIONS", "a phone"))));
}
std::vector<std::uint64_t> received(const Dataplane& plane) {
  std::vector<std::uint64_t> each;
  for (const auto& counters : plane.counters_by_worker()) each.push_back(counters.received);
  return each;
}
// What arrives while something is done, by worker.
std::vector<std::uint64_t> received_by(const Dataplane& plane, std::uint64_t frames, const std::function<void()>& act) {
  const auto before = received(plane);
  const auto total = plane.counters().received;
  act();
  REQUIRE(within(2s, [&] { return plane.counters().received == total + frames; }));
  auto each = received(plane);
  for (std::size_t i = 0; i < each.size(); ++i) each[i] -= before[i];
  return each;
}
Octets tagged(Octets frame, int tags) {
  for (int i = 0; i < tags; ++i) frame.insert(frame.begin() + 12, {0x81, 0x00, 0x00, 0x07});
  return frame;
}

TEST_CASE("what two addresses send each other meets on one queue, and many meet on both") {
  const Veth veth;
  const auto plane = started(with_two());
  REQUIRE(received(*plane).size() == 2);
  std::uint64_t first = 0;
  for (int host = 1; host <= 40; ++host) {
    const auto source = "198.51.100." + std::to_string(host);
    const auto each = received_by(*plane, 15, [&] {
      for (std::uint16_t port = 5062; port < 5067; ++port) {
        veth.send(from(source, "192.0.2.10", port));
        veth.send(from("192.0.2.10", source, port));
        veth.send(tagged(from(source, "192.0.2.10", port), 1));
      }
    });
    INFO(source << ": " << each[0] << " and " << each[1]);
    CHECK(std::ranges::count(each, 15u) == 1);
    first += each[0] != 0;
  }
  CHECK(first > 5); // of 40: fewer are less likely than one in 700,000
  CHECK(first < 35);
  CHECK(plane->counters().received == 600);
  CHECK(plane->lost().rx == 0);
}

TEST_CASE("an IPv6 source meets on one queue with all its addresses, and many meet on both") {
  const Veth veth;
  const auto plane = started(with_two());
  std::uint64_t first = 0;
  for (int subscriber = 1; subscriber <= 40; ++subscriber) {
    const auto source = "2001:db8:66:" + std::to_string(subscriber) + "::";
    const auto each = received_by(*plane, 12, [&] {
      for (std::uint16_t host = 1; host <= 4; ++host) {
        veth.send(from_v6(source + std::to_string(host), 5062 + host));
        veth.send(tagged(from_v6(source + std::to_string(host)), 1));
        veth.send(tagged(from_v6(source + std::to_string(host)), 2));
      }
    });
    INFO(source << ": " << each[0] << " and " << each[1]);
    CHECK(std::ranges::count(each, 12u) == 1);
    first += each[0] != 0;
  }
  CHECK(first > 5);
  CHECK(first < 35);
}

TEST_CASE("a source that reaches two servers by two queues is one source") {
  const Veth veth;
  auto by = rules();
  for (std::uint8_t host = 11; host < 60; ++host) by->servers.push_back(policy::Address::v4(192, 0, 2, host));
  const auto plane = Dataplane::start(with_two(), std::move(by), nullptr);
  REQUIRE(plane);
  for (unsigned i = 0; i < 100; ++i)
    veth.send(
        ethernet(kEtherIpv4, ipv4({.source = "198.51.100.20", .destination = "192.0.2." + std::to_string(10 + i % 50)},
                                  udp(5062, 5060, request("REGISTER", "a phone", "100", i)))));
  REQUIRE(within(2s, [&] { return (*plane)->counters().received == 100; }));
  CHECK(std::ranges::min(received(**plane)) > 10);
  const auto clean = (*plane)->counters().verdicts[static_cast<std::size_t>(Why::Clean)];
  CHECK(clean >= 75);
  CHECK(clean <= 80);
  CHECK((*plane)->counters().offences == 1);
}

TEST_CASE("only SIP gets past the filter of either socket, and IPv4 fragments come as one datagram") {
  const Veth veth;
  const auto plane = started(with_two());
  for (int host = 1; host <= 40; ++host) {
    const auto source = "198.51.100." + std::to_string(host);
    veth.send(ethernet(kEtherIpv4, ipv4({.source = source}, udp(10000, 10002, "media"))));
    veth.send(ethernet(kEtherIpv4, ipv4({.source = source, .protocol = 6}, Octets(20, 0))));
    veth.send(ethernet(0x0806, Octets(28, 0)));
    const Octets whole = udp(5062, 5060, request("OPTIONS", "friendly-scanner"));
    const auto half = whole.begin() + 16;
    veth.send(ethernet(kEtherIpv4, ipv4({.source = source, .fragment = 2}, Octets(half, whole.end()))));
    veth.send(ethernet(kEtherIpv4, ipv4({.source = source, .fragment = 0x2000}, Octets(whole.begin(), half))));
  }
  CHECK(within(2s, [&] { return plane->counters().received == 40; }));
  std::this_thread::sleep_for(50ms);
  CHECK(plane->counters().received == 40);
  CHECK(plane->counters().verdicts[static_cast<std::size_t>(Why::Scanner)] == 40);
}

TEST_CASE("two workers on a quiet interface sleep, and each is woken by its own queue") {
  const Veth veth;
  const auto plane = started(with_two());
  std::this_thread::sleep_for(200ms);
  const double share = cpu_over(3s);
  std::cout << "idle: " << share * 100 << " % of a CPU over 3 s, two workers" << std::endl;
  CHECK(share < 0.03);
  std::vector<double> slowest_us(2);
  for (int host = 1; host <= 100; ++host) {
    std::this_thread::sleep_for(5ms);
    const auto sent = std::chrono::steady_clock::now();
    const auto each =
        received_by(*plane, 1, [&] { veth.send(from("198.51.100." + std::to_string(host), "192.0.2.10")); });
    auto& slowest = slowest_us[each[0] != 0 ? 0 : 1];
    slowest =
        std::max(slowest, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - sent).count());
  }
  for (const double us : slowest_us) {
    CHECK(us > 0);
    CHECK(us < 50'000); // half of what a worker sleeps that nothing wakes
  }
}

TEST_CASE("a full ring loses its own packets only, by count") {
  const Veth veth;
  const auto plane = started(with_two());
  std::vector<std::string> of_worker(2); // a source that each of them reads
  for (int host = 1; of_worker[0].empty() || of_worker[1].empty(); ++host) {
    const auto source = "198.51.100." + std::to_string(host);
    const auto each = received_by(*plane, 1, [&] { veth.send(from(source, "192.0.2.10")); });
    of_worker[each[0] != 0 ? 0 : 1] = source;
  }
  const auto before = received(*plane);
  hold_worker(0);
  constexpr unsigned kSent = 6000;
  for (unsigned i = 0; i < kSent; ++i) {
    veth.send(from(of_worker[0], "192.0.2.10"));
    veth.send(from(of_worker[1], "192.0.2.10"));
    if (i % 100 == 0) REQUIRE(within(2s, [&] { return received(*plane)[1] == before[1] + i + 1; }));
  }
  CHECK(within(5s, [&] { return received(*plane)[1] == before[1] + kSent; }));
  let_go();
  CHECK(within(5s, [&] { return received(*plane)[0] + plane->lost().rx == before[0] + kSent; }));
  CHECK(plane->lost().rx == kSent - 4096);
}

TEST_CASE("an interface that goes down and up again is heard on both queues, and once") {
  const Veth veth;
  const auto plane = started(with_two());
  run("ip link set swt-near down");
  CHECK(cpu_over(1s) < 0.1);
  run("ip link set swt-near up");
  CHECK(plane->gone().empty());
  const auto each = received_by(*plane, 40, [&] {
    for (int host = 1; host <= 40; ++host) veth.send(from("198.51.100." + std::to_string(host), "192.0.2.10"));
  });
  CHECK(std::ranges::min(each) > 5);
  std::this_thread::sleep_for(50ms);
  CHECK(plane->counters().received == 40);
  run("ip link del swt-near");
  CHECK(plane->gone() == "swt-near");
}

TEST_CASE("reading by two queues does not make an interface promiscuous") {
  const Veth veth;
  const auto plane = started(with_two());
  CHECK((veth.flags() & IFF_PROMISC) == 0);
}

} // namespace
} // namespace sipward::test
