// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/tape.h"

// Forwarding through the dataplane's face, from capture files to capture files. DPDK can be started once in a process:
// CTest gives each case its own.
namespace sipward::test {
namespace {

using namespace std::chrono_literals;
using dataplane::Dataplane;
using policy::Why;
Octets from(std::string_view source, std::string_view payload) {
  return ethernet(kEtherIpv4, ipv4({.source = source}, udp(5062, 5060, payload)));
}
Octets numbered(unsigned number, std::uint8_t destination = 2) {
  Octets frame = ethernet(0x88b5, Octets(46 + number % 1400, 0));
  frame[5] = destination;
  frame[14] = static_cast<std::uint8_t>(number >> 8);
  frame[15] = static_cast<std::uint8_t>(number);
  return frame;
}

TEST_CASE("everything but the convicted comes out as it went in, and in its order, both ways") {
  Tape outside(0), inside(1);
  Frames expected;
  for (unsigned i = 0; i < 1000; ++i) {
    outside.add(numbered(i));
    expected.push_back(numbered(i));
    if (i % 3 == 0) outside.add(from("198.51.100.66", request("OPTIONS", "friendly-scanner")));
    if (i % 50 == 0) {
      for (const auto& row : {from("198.51.100.20", request("REGISTER", "a phone")),
                              ethernet(0x0806, Octets(28, 0), {0x8100}), ethernet(kEtherIpv4, Octets(10, 0)),
                              ethernet(kEtherIpv4, ipv4({.fragment = 0x2000}, udp(10000, 10002, "media")))}) {
        outside.add(row);
        expected.push_back(row);
      }
    }
    inside.add(i % 10 != 0 ? numbered(i)
                           : ethernet(kEtherIpv4, ipv4({.source = "192.0.2.10", .destination = "198.51.100.20"},
                                                       udp(5060, 5062, answer(200, "REGISTER")))));
  }
  auto plane = between({outside.port()}, inside.port());
  const auto frames = outside.played().size() + inside.played().size();
  REQUIRE(within(10s, [&] { return plane->counters().received == frames; }));
  plane->stop();
  check_algebra(*plane);
  CHECK(plane->counters().dropped == 334);
  CHECK(verdicts(*plane, Why::Scanner) == 334);
  CHECK(verdicts(*plane, Why::Answer) == 100);
  CHECK(plane->ledger().sources.find(policy::source_key(policy::Address::v4(198, 51, 100, 20), 64))->successes == 1);
  plane.reset();
  CHECK(inside.recorded() == expected);
  CHECK(outside.recorded() == inside.played());
}

TEST_CASE("the blocked are dropped: what is judged, and TCP to the SIP ports") {
  Tape outside(0), inside(1);
  for (int i = 0; i < 20; ++i) {
    outside.add(from("198.51.100.20", request("OPTIONS", "a phone")));
    Octets tcp(20, 0);
    tcp[2] = 5061 >> 8;
    tcp[3] = 5061 & 0xff;
    outside.add(ethernet(kEtherIpv4, ipv4({.source = "198.51.100.20", .protocol = 6}, tcp)));
    outside.add(ethernet(kEtherIpv4, ipv4({.source = "198.51.100.20", .protocol = 1}, Octets(20, 0))));
  }
  auto by = rules();
  by->blocked = {policy::Prefix::parse("198.51.100.0/24").value()};
  auto plane = between({outside.port()}, inside.port(), std::move(by));
  REQUIRE(within(5s, [&] { return plane->counters().received == 60; }));
  plane->stop();
  check_algebra(*plane);
  CHECK(verdicts(*plane, Why::BlockedPrefix) == 40);
  plane.reset();
  CHECK(inside.recorded().size() == 20);
}

TEST_CASE("from inside a frame goes to the outside port behind which its addressee is, or to all") {
  Tape first(0), second(1), inside(2);
  for (const auto destination : {7, 8, 9}) inside.add(numbered(1, static_cast<std::uint8_t>(destination)));
  Octets group = numbered(2);
  group[0] = 0x33;
  inside.add(group);
  const auto by = [](std::uint8_t station) {
    Octets frame = numbered(100);
    frame[11] = station;
    return frame;
  };
  first.add(by(7));
  second.add(by(8));
  auto plane = between({first.port(), second.port()}, inside.port());
  REQUIRE(within(5s, [&] { return plane->counters().received == 6; }));
  plane->stop();
  check_algebra(*plane);
  CHECK(plane->counters().passed == 6);
  plane.reset();
  CHECK(inside.recorded().size() == 2);
  const auto& sent = inside.played();
  CHECK(first.recorded() == Frames{sent[0], sent[2], sent[3]});
  CHECK(second.recorded() == Frames{sent[1], sent[2], sent[3]});
}

TEST_CASE("forwarding for long neither loses frames nor the buffers that they were in") {
  Tape outside(0);
  outside.add(from("198.51.100.66", request("OPTIONS", "friendly-scanner")));
  for (unsigned i = 0; i < 20; ++i) outside.add(numbered(i));
  const auto plane = between({outside.port(",infinite_rx=1")}, "vdev:net_null0");
  constexpr std::uint64_t kFrames = 200'000; // of 4,095 buffers
  CHECK(within(20s, [&] { return verdicts(*plane, Why::Scanner) + verdicts(*plane, Why::Blocked) > kFrames / 21; }));
  plane->stop();
  check_algebra(*plane);
  CHECK(verdicts(*plane, Why::TransmitFull) == 0);
}

TEST_CASE("the port at fault is named by its key") {
  auto wanted = options("vdev:net_null0");
  wanted.inside = "swt-nowhere";
  const auto plane = Dataplane::start(wanted, rules(), nullptr);
  REQUIRE_FALSE(plane);
  CHECK_THAT(plane.error(), Catch::Contains("ports.inside: there is no interface swt-nowhere"));
}

} // namespace
} // namespace sipward::test
