// SPDX-License-Identifier: GPL-2.0-or-later
#include <random>

#include "tests/pieces.h"
#include "tests/tape.h"

// Fragments through the dataplane's face, from capture to capture. DPDK can be started once in a process: CTest gives
// each case its own.
namespace sipward::test {
namespace {

using namespace std::chrono_literals;
using policy::Why;

// The servers of rules(), and one that has an IPv6 address.
std::unique_ptr<policy::Rules> servers() {
  auto made = rules();
  made->servers.push_back(policy::Address::parse("2001:db8:10::5").value());
  return made;
}
void add(Tape& tape, const Frames& frames) {
  for (const auto& frame : frames) tape.add(frame);
}

TEST_CASE("a mark in the second fragment convicts, and none of them leaves, clean ones leave octet by octet") {
  Tape outside(0), inside(1);
  Frames expected;
  std::uint16_t number = 0;
  std::uint64_t fragments = 0;
  std::mt19937 random(1);
  for (const bool v6 : {false, true})
    for (const std::size_t count : {2u, 3u, 8u})
      for (const bool shuffled : {false, true})
        for (const bool scanner : {false, true}) {
          const auto text = long_request(scanner ? "friendly-scanner" : "a phone", 1800);
          REQUIRE(text.find("User-Agent") > text.size() / 2 + 8); // the second, even of two
          auto frames = pieces({.v6 = v6,
                                .behind_options = count == 3,
                                .number = ++number,
                                .source = v6 ? (scanner ? "2001:db8:66::1" : "2001:db8:77::1")
                                             : (scanner ? "198.51.100.66" : "203.0.113.1")},
                               udp(5062, 5060, text), count);
          if (shuffled) std::ranges::shuffle(frames, random);
          add(outside, frames);
          fragments += frames.size();
          if (!scanner) expected.insert(expected.end(), frames.begin(), frames.end());
        }
  auto plane = between({outside.port()}, inside.port(), servers());
  REQUIRE(within(5s, [&] { return plane->counters().received == fragments; }));
  plane->stop();
  check_algebra(*plane);
  CHECK(verdicts(*plane, Why::Scanner) + verdicts(*plane, Why::Blocked) == fragments / 2);
  CHECK(verdicts(*plane, Why::Clean) == fragments / 2);
  CHECK(plane->counters().offences >= 2);
  plane.reset();
  CHECK(inside.recorded() == expected);
}

TEST_CASE("what is not ours passes amid fragments of SIP, in its order, and answers are read whole") {
  Tape outside(0), inside(1);
  Frames expected;
  const auto sip = pieces({}, udp(5062, 5060, long_request("a phone")), 8);
  for (std::size_t i = 0; i < sip.size(); ++i) {
    const auto media = pieces({.number = static_cast<std::uint16_t>(100 + i)},
                              udp(10000, 10002, std::string(8900, static_cast<char>('a' + i))), 7);
    const auto ping = pieces({.number = static_cast<std::uint16_t>(100 + i)}, Octets(8900, 8), 7, 1);
    for (std::size_t n = 0; n < 7; ++n) {
      expected.push_back(media[n]);
      expected.push_back(ping[n]);
    }
    outside.add(sip[i]);
    for (std::size_t n = 0; n < 7; ++n) add(outside, {media[n], ping[n]});
  }
  // The last fragment completes the message before the last media and pings.
  expected.insert(expected.end() - 14, sip.begin(), sip.end());
  auto text = answer(200, "REGISTER");
  text.insert(text.find("CSeq:"), "X-Long: " + std::string(2000, 'x') + "\r\n");
  add(inside, pieces({.source = "192.0.2.10", .destination = "198.51.100.66"}, udp(5060, 5062, text), 3));

  auto plane = between({outside.port()}, inside.port());
  const std::size_t frames = outside.played().size() + 3;
  REQUIRE(within(5s, [&] { return plane->counters().received == frames; }));
  plane->stop();
  check_algebra(*plane);
  CHECK(plane->counters().dropped == 0);
  CHECK(verdicts(*plane, Why::Answer) == 3);
  CHECK(verdicts(*plane, Why::Fragment) == 8 * 7);
  CHECK(verdicts(*plane, Why::NotUdp) == 8 * 7);
  plane.reset();
  CHECK(inside.recorded() == expected);
  CHECK(outside.recorded() == inside.played());
}

TEST_CASE("a datagram's fragments may come by several outside ports") {
  Tape first(0), second(1), inside(2);
  const auto clean = pieces({}, udp(5062, 5060, long_request("a phone")), 2);
  const auto scan =
      pieces({.number = 8, .source = "198.51.100.67"}, udp(5062, 5060, long_request("friendly-scanner")), 2);
  add(first, {clean[0], scan[0]});
  add(second, {scan[1], clean[1]});
  auto plane = between({first.port(), second.port()}, inside.port());
  REQUIRE(within(5s, [&] { return plane->counters().received == 4; }));
  plane->stop();
  check_algebra(*plane);
  CHECK(verdicts(*plane, Why::Scanner) == 2);
  plane.reset();
  CHECK(std::ranges::is_permutation(inside.recorded(), clean)); // which port is read first is chance
}

TEST_CASE("what is not whole is dropped in time, and at the latest by stop()") {
  Tape outside(0), inside(1);
  const auto frames = pieces({}, udp(5062, 5060, long_request("friendly-scanner")), 3);
  add(outside, {frames[2], frames[1]});
  auto plane = between({outside.port()}, inside.port());
  std::this_thread::sleep_for(50ms);
  check_algebra(*plane);
  CHECK(plane->counters().received == 0); // held: counted when released
  plane->stop();
  check_algebra(*plane);
  CHECK(verdicts(*plane, Why::FragmentOverdue) == 2);
  CHECK(plane->counters().dropped == 2);
  plane.reset();
  CHECK(inside.recorded().empty());
}

TEST_CASE("a sleeping worker wakes for what is overdue") {
  Tape outside(0), inside(1);
  outside.add(pieces({}, udp(5062, 5060, long_request("friendly-scanner")), 3)[0]);
  auto plane = between({outside.port()}, inside.port());
  CHECK(within(5s, [&] { return verdicts(*plane, Why::FragmentOverdue) == 1; }));
  check_algebra(*plane);
}

TEST_CASE("a flood of first fragments takes neither the packet buffers nor anybody's message") {
  Tape outside(0), inside(1);
  for (std::uint16_t i = 0; i < 6'000; ++i)
    outside.add(pieces({.number = i}, udp(5062, 5060, long_request("a phone")), 8)[i % 8]);
  const auto message = pieces({.number = 30'000, .source = "203.0.113.1"}, udp(5062, 5060, long_request("a phone")), 8);
  add(outside, message);
  auto plane = between({outside.port()}, inside.port()); // 4,095 buffers
  REQUIRE(within(10s, [&] { return verdicts(*plane, Why::Clean) == 8; }));
  plane->stop();
  check_algebra(*plane);
  CHECK(plane->counters().received == 6'008);
  CHECK(verdicts(*plane, Why::FragmentDisplaced) + verdicts(*plane, Why::FragmentOverdue) == 6'000);
  plane.reset();
  CHECK(inside.recorded() == message);
}

TEST_CASE("a copy in fragments is judged whole, and freed") {
  Capture capture;
  for (std::uint16_t i = 0; i < 2000; ++i)
    for (const auto& frame : pieces({.v6 = true, .number = i}, udp(5062, 5060, long_request("friendly-scanner")), 3))
      capture.add(frame);
  auto plane = dataplane::Dataplane::start(options(capture.port()), servers(), nullptr);
  REQUIRE(plane);
  REQUIRE(within(5s, [&] { return (*plane)->counters().received == 6000; }));
  (*plane)->stop();
  check_algebra(**plane);
  CHECK(verdicts(**plane, Why::Scanner) == 6000);
  CHECK((*plane)->counters().dropped == 0);
}

} // namespace
} // namespace sipward::test
