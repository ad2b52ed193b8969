// SPDX-License-Identifier: GPL-2.0-or-later
#include <numeric>

#include "tests/dataplane_lab.h"

// Forwarding through the dataplane's face, from capture files to capture files. DPDK can be started once in a process:
// CTest gives each case its own.
namespace sipward::test {
namespace {

using namespace std::chrono_literals;
using dataplane::Dataplane;
using policy::Why;
using Frames = std::vector<Octets>;

// A port that plays one capture and records into another what leaves by it.
class Tape {
public:
  explicit Tape(int number) : number_(number) {}
  void add(const Octets& frame) {
    played_.add(frame);
    frames_.push_back(frame);
  }
  const Frames& played() const { return frames_; }
  std::string port(const std::string& more = "") {
    played_.port();
    const auto number = std::to_string(number_);
    return "vdev:net_pcap" + number + ",rx_pcap=" + played_.path().string() + ",tx_pcap=" + record().string() + more;
  }
  // What left by the port, once the dataplane is gone.
  Frames recorded() const {
    std::array<char, PCAP_ERRBUF_SIZE> error{};
    const std::unique_ptr<pcap_t, void (*)(pcap_t*)> file(pcap_open_offline(record().c_str(), error.data()),
                                                          pcap_close);
    REQUIRE(file != nullptr);
    Frames frames;
    pcap_pkthdr* header = nullptr;
    const u_char* octets = nullptr;
    while (pcap_next_ex(file.get(), &header, &octets) == 1) frames.emplace_back(octets, octets + header->caplen);
    fs::remove(record());
    return frames;
  }

private:
  fs::path record() const { return played_.path().string() + ".sent"; }
  const int number_;
  Capture played_;
  Frames frames_;
};

std::unique_ptr<Dataplane> between(const std::vector<std::string>& outside, const std::string& inside,
                                   std::unique_ptr<policy::Rules> by = rules()) {
  auto wanted = options(outside.front());
  wanted.outside = outside;
  wanted.inside = inside;
  wanted.memory_bytes = std::uint64_t{128} << 20;
  by->drop_convicting = true;
  auto plane = Dataplane::start(wanted, std::move(by), [](std::string_view line) { std::cerr << line << '\n'; });
  if (!plane) FAIL(plane.error());
  return std::move(*plane);
}

std::uint64_t verdicts(const Dataplane& plane, Why why) {
  return plane.counters().verdicts[static_cast<std::size_t>(why)];
}
void check_algebra(const Dataplane& plane) {
  const auto c = plane.counters();
  CHECK(c.received == c.passed + c.dropped);
  CHECK(c.received == std::accumulate(c.verdicts.begin(), c.verdicts.end(), std::uint64_t{0}));
}

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
                              ethernet(kEtherIpv4, ipv4({.fragment = 0x2000}, udp(5060, 5060, "x")))}) {
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
  CHECK(plane->sources().find(policy::source_key(policy::Address::v4(198, 51, 100, 20), 64))->successes == 100);
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
