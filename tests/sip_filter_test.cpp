// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/sip_filter.h"

#include <catch2/catch.hpp>
#include <pcap/pcap.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/frame_table.h"

namespace sipward::dataplane {
namespace {

// libpcap's interpreter runs the kernel's instruction format.
class Filter {
public:
  explicit Filter(std::span<const std::uint16_t> ports) {
    for (const auto& from : sip_filter(ports)) program_.push_back({from.code, from.jt, from.jf, from.k});
  }
  bool valid() const { return bpf_validate(program_.data(), static_cast<int>(program_.size())) != 0; }
  bool keeps(std::span<const std::uint8_t> octets, std::size_t wire_length) const {
    const auto kept =
        bpf_filter(program_.data(), octets.data(), static_cast<u_int>(wire_length), static_cast<u_int>(octets.size()));
    return kept != 0;
  }
  std::size_t size() const { return program_.size(); }

private:
  std::vector<bpf_insn> program_;
};

const std::vector<std::uint16_t> kSip = {5060, 5080};

bool has_port(const policy::Datagram& datagram) {
  return std::ranges::count(kSip, datagram.source_port) + std::ranges::count(kSip, datagram.destination_port) > 0;
}

TEST_CASE("the filter keeps what the parser would find on a SIP port, and fragments; little else") {
  const Filter filter(kSip);
  REQUIRE(filter.valid());
  for (const auto& row : test::frame_cases()) {
    INFO(row.name);
    const bool keeps = filter.keeps(row.octets, row.octets.size() + row.cut);
    if (row.by_extension) {
      CHECK(keeps);
      continue;
    }
    switch (row.kind) {
    case FrameKind::Udp:
      // The filter believes the ethertype: IPv6 in an IPv4 frame is nobody's traffic.
      CHECK(keeps == (row.name != "IPv6 in an IPv4 frame"));
      break;
    case FrameKind::Fragment: CHECK(keeps); break;
    case FrameKind::NotIp:
    case FrameKind::NotUdp: CHECK_FALSE(keeps); break;
    case FrameKind::BadChecksum: break; // a NIC's word, not the parser's
    case FrameKind::Bad: break;         // either
    }
  }
}

TEST_CASE("a datagram is kept by either port, in each encapsulation") {
  const Filter filter(kSip);
  struct Row {
    const char* name;
    std::uint16_t source, destination;
    bool kept;
  };
  static constexpr Row kRows[] = {
      {"to the server", 40000, 5060, true},
      {"from the server", 5060, 40000, true},
      {"the other port", 5080, 40000, true},
      {"media", 40000, 10002, false},
      {"DNS", 53, 40000, false},
      {"a port whose octets lie the other way", 50195, 40000, false},
      {"one below", 5059, 5061, false},
  };
  for (const auto& row : kRows) {
    INFO(row.name);
    const auto datagram = test::udp(row.source, row.destination, "payload");
    for (const std::initializer_list<std::uint16_t> tags :
         {std::initializer_list<std::uint16_t>{}, {0x8100}, {0x88a8, 0x8100}}) {
      for (std::size_t options = 0; options <= 40; options += 4) {
        const auto frame = test::ethernet(test::kEtherIpv4, test::ipv4({.options = options}, datagram), tags);
        CHECK(filter.keeps(frame, frame.size()) == row.kept);
      }
      const auto frame = test::ethernet(test::kEtherIpv6, test::ipv6({}, datagram), tags);
      CHECK(filter.keeps(frame, frame.size()) == row.kept);
    }
  }
}

TEST_CASE("64 ports fit, and each of them is looked at") {
  std::vector<std::uint16_t> ports;
  for (unsigned i = 0; i < kMaxSipPorts; ++i) ports.push_back(static_cast<std::uint16_t>(5000 + 7 * i));
  const Filter filter(ports);
  REQUIRE(filter.valid());
  CHECK(filter.size() < BPF_MAXINSNS);
  for (unsigned port = 4990; port < 5500; ++port) {
    const bool wanted = std::ranges::count(ports, port) > 0;
    const auto one = static_cast<std::uint16_t>(port);
    const auto to = test::ethernet(test::kEtherIpv4, test::ipv4({}, test::udp(40000, one, "x")));
    const auto from = test::ethernet(test::kEtherIpv6, test::ipv6({}, test::udp(one, 40000, "x")), {0x8100});
    INFO(port);
    CHECK(filter.keeps(to, to.size()) == wanted);
    CHECK(filter.keeps(from, from.size()) == wanted);
  }
  const auto fragment = test::ethernet(test::kEtherIpv4, test::ipv4({.fragment = 0x2000}, test::udp(1, 2, "x")));
  CHECK(filter.keeps(fragment, fragment.size())); // the longest jumps are right too
  const auto options = test::ethernet(test::kEtherIpv6, test::ipv6({.next = 135}, test::extension(17, 0, 8, {})));
  CHECK(filter.keeps(options, options.size()));
}

TEST_CASE("of frames that chance has mangled the filter loses none that the parser would judge") {
  const Filter filter(kSip);
  const auto cases = test::frame_cases();
  std::mt19937 random(5);
  int judged = 0, lost = 0;
  for (int i = 0; i < 200'000; ++i) {
    auto octets = cases[random() % cases.size()].octets;
    for (auto n = 1 + random() % 3; n > 0; --n)
      octets[12 + random() % (octets.size() - 12)] = static_cast<std::uint8_t>(random());
    policy::Datagram datagram;
    const auto kind = parse_frame(octets, octets.size(), datagram);
    if (kind != FrameKind::Fragment && (kind != FrameKind::Udp || !has_port(datagram))) continue;
    // Where the ethertype and the packet's version contradict each other the filter believes the one, the parser the
    // other.
    std::size_t type = 12;
    while (octets[type] == 0x81 || octets[type] == 0x88 || octets[type] == 0x91) type += 4;
    if ((octets[type] == 0x86) != (octets[type + 2] >> 4 == 6)) continue;
    ++judged;
    lost += !filter.keeps(octets, octets.size());
  }
  CHECK(judged > 10'000);
  CHECK(lost == 0);
}

} // namespace
} // namespace sipward::dataplane
