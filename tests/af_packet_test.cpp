// SPDX-License-Identifier: GPL-2.0-or-later
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/veth.h"

// The dataplane on a real interface of the kernel's: one end of a veth pair, in a network namespace of the test's own.
namespace sipward::test {
namespace {

using namespace std::chrono_literals;
using policy::Why;

TEST_CASE("on a quiet interface the worker sleeps") {
  const Veth veth;
  const auto plane = started(options("swt-near"));
  std::this_thread::sleep_for(200ms);
  const double share = cpu_over(5s);
  std::cout << "idle: " << share * 100 << " % of a CPU over 5 s" << std::endl;
  CHECK(share < 0.03);
}

TEST_CASE("an offence is there within a millisecond of its packet, from a sleeping worker") {
  const Veth veth;
  const auto plane = started(options("swt-near"));
  pollfd bell{plane->offence_event(), POLLIN, 0};
  std::vector<double> latencies_us;
  for (unsigned i = 0; i < 200; ++i) {
    std::this_thread::sleep_for(5ms); // long enough to fall asleep
    const auto frame = scanner(i);
    const auto sent = std::chrono::steady_clock::now();
    veth.send(frame);
    REQUIRE(poll(&bell, 1, 2000) == 1);
    latencies_us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - sent).count());
    int offences = 0;
    plane->drain([&](const policy::Offence&) { ++offences; });
    CHECK(offences == 1);
  }
  std::ranges::sort(latencies_us);
  std::cout << "packet sent to offence readable: median " << latencies_us[100] << " us, 90 % " << latencies_us[180]
            << " us, worst " << latencies_us.back() << " us" << std::endl;
  CHECK(latencies_us[100] < (kSanitized ? 10'000 : 1'000));
}

TEST_CASE("only SIP and fragments get past the socket's filter") {
  const Veth veth;
  const auto plane = started(options("swt-near"));
  for (int i = 0; i < 50; ++i) {
    veth.send(ethernet(kEtherIpv4, ipv4({}, udp(10000, 10002, "media"))));
    veth.send(ethernet(kEtherIpv4, ipv4({.protocol = 6}, Octets(20, 0))));
    veth.send(ethernet(0x0806, Octets(28, 0)));
  }
  veth.send(ethernet(kEtherIpv6, ipv6({.next = 44}, ipv6_fragment(17, 1, udp(1, 2, "x")))));
  veth.send(ethernet(kEtherIpv4, ipv4({}, udp(5062, 5060, request("OPTIONS", "a phone")))));
  veth.send(ethernet(kEtherIpv4, ipv4({}, udp(5062, 5060, request("OPTIONS", "a phone"))), {0x8100}));
  CHECK(within(2s, [&] { return plane->counters().received == 3; }));
  std::this_thread::sleep_for(50ms);
  const auto counters = plane->counters();
  CHECK(counters.received == 3);
  CHECK(counters.verdicts[static_cast<std::size_t>(Why::Fragment)] == 1);
  CHECK(counters.verdicts[static_cast<std::size_t>(Why::Clean)] == 2); // the tag is read too, where the kernel put it
}

TEST_CASE("fragments of an IPv4 datagram are judged as the datagram they make") {
  // DPDK asks the kernel for it (PACKET_FANOUT_FLAG_DEFRAG); a scanner does not hide by splitting his request.
  const Veth veth;
  const auto plane = started(options("swt-near"));
  const Octets whole = udp(5062, 5060, request("OPTIONS", "friendly-scanner"));
  const auto half = whole.begin() + 16;
  veth.send(ethernet(kEtherIpv4, ipv4({.fragment = 2}, Octets(half, whole.end()))));
  veth.send(ethernet(kEtherIpv4, ipv4({.fragment = 0x2000}, Octets(whole.begin(), half))));
  CHECK(within(2s, [&] { return plane->counters().received == 1; }));
  CHECK(plane->counters().verdicts[static_cast<std::size_t>(Why::Scanner)] == 1);
}

TEST_CASE("an interface that goes down and up again costs no CPU, and is heard again") {
  const Veth veth;
  const auto plane = started(options("swt-near"));
  run("ip link set swt-near down");
  CHECK(cpu_over(1s) < 0.1);
  run("ip link set swt-near up");
  CHECK(cpu_over(500ms) < 0.1);
  CHECK(plane->gone().empty());
  veth.send(scanner(1));
  CHECK(within(2s, [&] { return plane->counters().received == 1; }));
}

TEST_CASE("an interface that is deleted is named, also after another has its name") {
  const Veth veth;
  const auto plane = started(options("swt-near"));
  CHECK(plane->gone().empty());
  run("ip link del swt-near");
  CHECK(plane->gone() == "swt-near");
  CHECK(cpu_over(500ms) < 0.1);
  run("ip link add swt-near type veth peer name swt-far && ip link set swt-near up && ip link set swt-far up");
  CHECK(plane->gone() == "swt-near");
}

TEST_CASE("a datagram longer than the ring's slot is judged by its beginning and counted as truncated") {
  const Veth veth;
  const auto plane = started(options("swt-near"));
  run("ip link set swt-near mtu 9000 && ip link set swt-far mtu 9000"); // after the ring was made
  veth.send(scanner(1, std::string(5000, 'x')));
  veth.send(scanner(2));
  CHECK(within(2s, [&] { return plane->counters().received == 2; }));
  CHECK(plane->counters().truncated == 1);
  CHECK(plane->counters().verdicts[static_cast<std::size_t>(Why::Scanner)] == 2);
}

TEST_CASE("a promiscuous interface stays so") {
  const Veth veth;
  run("ip link set swt-near promisc on");
  const auto plane = started(options("swt-near"));
  CHECK((veth.flags() & IFF_PROMISC) != 0);
}

TEST_CASE("an interface does not become promiscuous") {
  const Veth veth;
  const auto plane = started(options("swt-near"));
  CHECK((veth.flags() & IFF_PROMISC) == 0);
}

TEST_CASE("a tunnel is refused: it has no Ethernet frames") {
  const Veth veth;
  if (std::system("ip tuntap add dev swt-tun mode tun") != 0) skip("no tun device here");
  const auto plane = dataplane::Dataplane::start(options("swt-tun"), rules(), nullptr);
  REQUIRE_FALSE(plane);
  CHECK_THAT(plane.error(), Catch::Contains("swt-tun carries no Ethernet frames"));
}

TEST_CASE("without the capability for it the error names CAP_NET_RAW") {
  const Veth veth;
  REQUIRE(setresuid(65534, 65534, 65534) == 0);
  const auto plane = dataplane::Dataplane::start(options("swt-near"), rules(), nullptr);
  REQUIRE_FALSE(plane);
  CHECK_THAT(plane.error(), Catch::Contains("CAP_NET_RAW") && Catch::Contains("swt-near"));
}

TEST_CASE("what does not fit into the receive ring is counted: sent == received + lost") {
  const Veth veth;
  const auto plane = started(options("swt-near"));
  hold_worker(0);
  constexpr unsigned kSent = 6000;
  for (unsigned i = 0; i < kSent; ++i) veth.send(scanner(i));
  let_go();
  CHECK(within(5s, [&] { return plane->counters().received + plane->lost().rx == kSent; }));
  CHECK(plane->counters().received == 4096);
  CHECK(plane->lost().rx == kSent - 4096);
  CHECK(plane->lost().rx == kSent - 4096); // the kernel's own counter starts again at each look; ours does not
  veth.send(scanner(1));
  CHECK(within(2s, [&] { return plane->counters().received == 4097; }));
}

TEST_CASE("both ends of a wire can be read at once, each packet where it passes") {
  const Veth veth;
  auto wanted = options("swt-near");
  wanted.outside.push_back("swt-far");
  const auto plane = started(wanted);
  for (unsigned i = 0; i < 100; ++i) veth.send(scanner(i));
  CHECK(within(2s, [&] { return plane->counters().received >= 100; }));
  plane->stop();
  CHECK(plane->lost().rx == 0);
}

} // namespace
} // namespace sipward::test
