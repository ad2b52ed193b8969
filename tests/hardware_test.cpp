// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/tape.h"
#include "tests/veth.h"

// What a NIC does for us, where it does. Of the drivers that need none, net_tap looks at checksums (in software).
namespace sipward::test {
namespace {

using namespace std::chrono_literals;
using policy::Why;

// RFC 768, over a UDP packet whose own is zero.
Octets with_checksum(Octets packet, std::string_view source, std::string_view destination) {
  Octets sum_over;
  for (const auto text : {source, destination}) {
    const auto address = policy::Address::parse(text).value();
    sum_over.insert(sum_over.end(), address.wire().begin(), address.wire().end());
  }
  put16(sum_over, 17);
  put16(sum_over, packet.size());
  append(sum_over, packet);
  if (sum_over.size() % 2 != 0) sum_over.push_back(0);
  std::uint32_t sum = 0;
  for (std::size_t at = 0; at < sum_over.size(); at += 2)
    sum += static_cast<std::uint32_t>(sum_over[at] << 8 | sum_over[at + 1]);
  while (sum > 0xffff) sum = (sum >> 16) + (sum & 0xffff);
  packet[6] = static_cast<std::uint8_t>(~sum >> 8);
  packet[7] = static_cast<std::uint8_t>(~sum);
  return packet;
}
Octets scanner(std::string_view source, int wrong_by = 0) {
  const Octets packet = udp(5062, 5060, request("OPTIONS", "friendly-scanner"));
  if (source.find(':') != source.npos) {
    Octets made = with_checksum(packet, source, "2001:db8:10::5");
    made[7] = static_cast<std::uint8_t>(made[7] + wrong_by);
    return ethernet(kEtherIpv6, ipv6({.source = source}, made));
  }
  Octets made = with_checksum(packet, source, "192.0.2.10");
  made[7] = static_cast<std::uint8_t>(made[7] + wrong_by);
  return ethernet(kEtherIpv4, ipv4({.source = source}, made));
}
Octets with_wrong_header(Octets frame) {
  frame[14 + 10] ^= 0x55;
  return frame;
}

// What the kernel sends by the device swt-near is received from DPDK's port of it.
const std::string kPort = "vdev:net_tap0,iface=swt-near";
class Wire {
public:
  Wire() {
    if (unshare(CLONE_NEWNET) != 0) skip("a network namespace of its own needs root");
    if (access("/dev/net/tun", R_OK | W_OK) != 0) skip("there is no /dev/net/tun");
    std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << 1;
  }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  ~Wire() { close(socket_); }
  void send(const Octets& frame) {
    if (socket_ < 0) {
      run("ip link set swt-near up");
      socket_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    }
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(if_nametoindex("swt-near"));
    REQUIRE(sendto(socket_, frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) ==
            static_cast<ssize_t>(frame.size()));
  }

private:
  int socket_ = -1;
};
std::unique_ptr<policy::Rules> two_servers() {
  auto by = rules();
  by->servers.push_back(policy::Address::parse("2001:db8:10::5").value());
  return by;
}

TEST_CASE("a datagram with a wrong checksum convicts nobody, and is counted as that") {
  Wire wire;
  auto plane = dataplane::Dataplane::start(options(kPort), two_servers(), nullptr);
  if (!plane) FAIL(plane.error());
  std::uint64_t frames = 0;
  for (const int wrong_by : {1, 0}) { // the forged ones first
    for (const std::string_view source : {"198.51.100.66", "2001:db8:66::66"}) {
      wire.send(scanner(source, wrong_by));
      ++frames;
    }
    if (wrong_by == 0) continue;
    wire.send(with_wrong_header(scanner("198.51.100.66")));
    ++frames;
    REQUIRE(within(2s, [&] { return (*plane)->counters().received == frames; }));
    CHECK((*plane)->counters().offences == 0);
    CHECK((*plane)->counters().passed == frames);
  }
  wire.send(
      ethernet(kEtherIpv4, ipv4({.source = "198.51.100.67"}, udp(5062, 5060, request("OPTIONS", "friendly-scanner")))));
  REQUIRE(within(2s, [&] { return (*plane)->counters().received == frames + 1; }));
  (*plane)->stop();
  check_algebra(**plane);
  CHECK(verdicts(**plane, Why::BadChecksum) == 3);
  CHECK(verdicts(**plane, Why::Scanner) == 3); // the last one has no checksum at all, which is none that is wrong
  CHECK((*plane)->counters().offences == 3);
}

TEST_CASE("inline it leaves as it came, unless its sender stands blocked") {
  Wire wire;
  Tape inside(1);
  auto wanted = options(kPort);
  wanted.inside = inside.port();
  wanted.memory_bytes = std::uint64_t{128} << 20;
  auto by = two_servers();
  by->drop_convicting = true;
  by->blocked = {policy::Prefix::parse("203.0.113.0/24").value()};
  auto plane = dataplane::Dataplane::start(wanted, std::move(by), nullptr);
  if (!plane) FAIL(plane.error());
  const Frames sent = {scanner("198.51.100.66", 1), scanner("203.0.113.66", 1), scanner("198.51.100.66"),
                       with_wrong_header(scanner("198.51.100.67"))};
  for (const auto& frame : sent) wire.send(frame);
  REQUIRE(within(2s, [&] { return (*plane)->counters().received == sent.size(); }));
  (*plane)->stop();
  check_algebra(**plane);
  CHECK(verdicts(**plane, Why::BadChecksum) == 2);
  CHECK(verdicts(**plane, Why::BlockedPrefix) == 1);
  CHECK(verdicts(**plane, Why::Scanner) == 1);
  plane->reset();
  CHECK(inside.recorded() == Frames{sent[0], sent[3]});
}

TEST_CASE("a driver without flow rules is not asked for any, and its blocked sources are dropped all the same") {
  Tape outside(0), inside(1);
  outside.add(scanner("198.51.100.66"));
  auto plane = between({outside.port()}, inside.port());
  REQUIRE(within(2s, [&] { return plane->counters().received == 1; }));
  plane->drop_early(policy::Prefix::parse("198.51.100.66/32").value(), 100);
  CHECK(plane->early().nics == 0);
  CHECK(plane->early().sources == 0);
  CHECK(plane->early().refused == 0);
  CHECK(verdicts(*plane, Why::Scanner) == 1);
}

TEST_CASE("a driver that says yes to a rule and then refuses it costs nothing but the try") {
  Wire wire;
  Tape inside(1);
  auto wanted = options(kPort);
  wanted.inside = inside.port();
  wanted.memory_bytes = std::uint64_t{128} << 20;
  auto by = two_servers();
  by->drop_convicting = true;
  const auto plane = dataplane::Dataplane::start(wanted, std::move(by), nullptr);
  if (!plane) FAIL(plane.error());
  if ((*plane)->early().nics == 0) skip("net_tap takes no rules here");
  const auto source = policy::Prefix::parse("198.51.100.66/32").value();
  (*plane)->drop_early(source, 100);
  wire.send(scanner("198.51.100.66"));
  // Where the kernel has what net_tap makes its rules of (the multiq queueing discipline, the flower classifier), the
  // scanner's packet is never seen; where it has not, the worker drops it.
  if ((*plane)->early().sources == 1) {
    std::this_thread::sleep_for(100ms);
    CHECK((*plane)->counters().received == 0);
    (*plane)->let_in(source);
    wire.send(scanner("198.51.100.66"));
  } else {
    CHECK((*plane)->early().refused == 1);
  }
  CHECK(within(2s, [&] { return verdicts(**plane, Why::Scanner) == 1; }));
  CHECK((*plane)->early().sources == 0);
}

} // namespace
} // namespace sipward::test
