// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "tests/dataplane_lab.h"

// The dataplane on a real interface of the kernel's: one end of a veth pair, in a network namespace of the test's own.
namespace sipward::test {
namespace {

using namespace std::chrono_literals;
using policy::Why;

void run(const std::string& command) {
  INFO(command);
  REQUIRE(std::system(command.c_str()) == 0);
}

// Frames sent into swt-far arrive at swt-near.
class Veth {
public:
  Veth() {
    if (unshare(CLONE_NEWNET) != 0)
      skip("a network namespace of its own needs root: " + std::string(std::strerror(errno)));
    if (std::system("ip link add swt-near type veth peer name swt-far") != 0) skip("ip(8) or veth is missing");
    std::ofstream("/proc/sys/net/ipv6/conf/all/disable_ipv6") << 1; // no neighbour discovery in between
    run("ip link set swt-near up && ip link set swt-far up");
    socket_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    REQUIRE(socket_ >= 0);
  }
  Veth(const Veth&) = delete;
  Veth& operator=(const Veth&) = delete;
  ~Veth() { close(socket_); }

  void send(const Octets& frame) const {
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(if_nametoindex("swt-far"));
    REQUIRE(sendto(socket_, frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) ==
            static_cast<ssize_t>(frame.size()));
  }
  short flags() const {
    ifreq request{};
    std::strcpy(request.ifr_name, "swt-near");
    REQUIRE(ioctl(socket_, SIOCGIFFLAGS, &request) == 0);
    return request.ifr_flags;
  }

private:
  int socket_ = -1;
};

Octets scanner(unsigned n, const std::string& body = "") {
  return ethernet(kEtherIpv4, ipv4({.source = "198.51.100." + std::to_string(n % 250)},
                                   udp(5062, 5060, request("OPTIONS", "friendly-scanner") + body)));
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// The share of one CPU that this process uses.
double cpu_over(std::chrono::milliseconds time) {
  const double before = cpu_seconds();
  std::this_thread::sleep_for(time);
  return (cpu_seconds() - before) / std::chrono::duration<double>(time).count();
}

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

// Holds the one thread that takes this signal until the test lets it go.
std::atomic<bool> held = false, let_go = false;
void hold(int) {
  held = true;
  while (!let_go) usleep(1000);
}

TEST_CASE("what does not fit into the receive ring is counted: sent == received + lost") {
  const Veth veth;
  const auto plane = started(options("swt-near"));
  pid_t worker = 0;
  for (const auto& task : fs::directory_iterator("/proc/self/task")) {
    std::string name;
    std::ifstream(task.path() / "comm") >> name;
    if (name == "worker-0") worker = std::atoi(task.path().filename().c_str());
  }
  REQUIRE(worker != 0);
  std::signal(SIGUSR1, hold);
  REQUIRE(syscall(SYS_tgkill, getpid(), worker, SIGUSR1) == 0);
  REQUIRE(within(2s, [] { return held.load(); }));
  constexpr unsigned kSent = 6000;
  for (unsigned i = 0; i < kSent; ++i) veth.send(scanner(i));
  let_go = true;
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
