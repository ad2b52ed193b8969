// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/frame.h"

#include <catch2/catch.hpp>
#include <memory>
#include <random>

#include "tests/frame_table.h"

namespace sipward::dataplane {
namespace {

using test::Octets;

// A copy in a heap buffer of exactly its size, so that the address sanitizer sees a read of one octet more.
struct Exact {
  explicit Exact(std::span<const std::uint8_t> octets) : size(octets.size()), memory(new std::uint8_t[octets.size()]) {
    std::ranges::copy(octets, memory.get());
  }
  std::span<const std::uint8_t> view() const { return {memory.get(), size}; }
  std::size_t size;
  std::unique_ptr<std::uint8_t[]> memory;
};

// Touches every octet that was handed out, and checks that it lies inside the frame.
bool payload_is_inside(const policy::Datagram& datagram, std::span<const std::uint8_t> frame) {
  if (datagram.payload.empty()) return true;
  const auto* begin = reinterpret_cast<const std::uint8_t*>(datagram.payload.data());
  unsigned sum = 0;
  for (const char c : datagram.payload) sum += static_cast<std::uint8_t>(c);
  return begin >= frame.data() && begin + datagram.payload.size() <= frame.data() + frame.size() && sum < 1u << 30;
}

TEST_CASE("each frame is what it is") {
  for (const auto& row : test::frame_cases()) {
    INFO(row.name);
    const Exact frame(row.octets);
    policy::Datagram datagram;
    CHECK(parse_frame(frame.view(), frame.size + row.cut, datagram) == row.kind);
    if (row.kind != FrameKind::Udp) continue;
    CHECK(datagram.payload == row.payload);
    CHECK(datagram.truncated == row.truncated);
    CHECK(datagram.source_port == 40000);
    CHECK(datagram.destination_port == 5060);
    const bool v4 = datagram.source.family == policy::Family::V4;
    CHECK(to_string(datagram.source) == (v4 ? "198.51.100.66" : "2001:db8:66::1"));
    CHECK(to_string(datagram.destination) == (v4 ? "192.0.2.10" : "2001:db8:10::5"));
  }
}

TEST_CASE("an IPv6 packet from an IPv4-mapped address is its IPv4 host's") {
  auto octets = test::ethernet(test::kEtherIpv6, test::ipv6({}, test::udp(1, 2, "x")));
  const std::array<std::uint8_t, 16> mapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 66};
  std::ranges::copy(mapped, octets.begin() + 14 + 8);
  policy::Datagram datagram;
  REQUIRE(parse_frame(octets, octets.size(), datagram) == FrameKind::Udp);
  CHECK(datagram.source == policy::Address::v4(198, 51, 100, 66));
}

TEST_CASE("each prefix of each frame is read without reading past its end") {
  for (const auto& row : test::frame_cases())
    for (std::size_t size = 0; size <= row.octets.size(); ++size) {
      const Exact frame(std::span(row.octets).first(size));
      policy::Datagram datagram;
      INFO(row.name << ", " << size << " octets");
      const auto alone = parse_frame(frame.view(), size, datagram);
      CHECK(payload_is_inside(datagram, frame.view()));
      if (alone == FrameKind::Udp) CHECK_FALSE(datagram.truncated); // as far as anybody can tell, this was all
      policy::Datagram cut;
      const auto captured = parse_frame(frame.view(), row.octets.size() + row.cut, cut);
      CHECK(payload_is_inside(cut, frame.view()));
      // A capture that cuts makes a good frame bad or truncated, never into something else.
      CHECK((captured == row.kind || captured == FrameKind::Bad));
      if (captured == FrameKind::Udp && row.kind == FrameKind::Udp) CHECK(row.payload.starts_with(cut.payload));
    }
}

TEST_CASE("frames that chance has mangled are read without reading past their end") {
  const auto cases = test::frame_cases();
  std::mt19937 random(99);
  std::array<int, 5> kinds{};
  bool inside = true;
  for (int i = 0; i < 200'000; ++i) {
    Octets octets = cases[random() % cases.size()].octets;
    for (unsigned n = 1 + random() % 4; n > 0; --n)
      octets[12 + random() % (octets.size() - 12)] = static_cast<std::uint8_t>(random());
    if (random() % 4 == 0) octets.resize(random() % (octets.size() + 1));
    const Exact frame(octets);
    policy::Datagram datagram;
    const std::size_t on_the_wire = frame.size + (random() % 4 == 0 ? random() % 70'000 : 0);
    ++kinds[static_cast<std::size_t>(parse_frame(frame.view(), on_the_wire, datagram))];
    inside = inside && payload_is_inside(datagram, frame.view());
  }
  CHECK(inside);
  for (const int count : kinds) CHECK(count > 1000); // the loop reaches every outcome
}

TEST_CASE("an IP packet without a frame around it is read the same") {
  const auto packet = test::ipv4({}, test::udp(40000, 5060, "hi"));
  policy::Datagram datagram;
  CHECK(parse_ip(packet, packet.size(), datagram) == FrameKind::Udp);
  CHECK(datagram.payload == "hi");
  CHECK(parse_ip({}, 0, datagram) == FrameKind::Bad);
  CHECK(datagram.payload.empty());
}

TEST_CASE("a frame that is not judged has a verdict of its own") {
  CHECK(why_not_judged(FrameKind::NotIp) == policy::Why::NotIp);
  CHECK(why_not_judged(FrameKind::NotUdp) == policy::Why::NotUdp);
  CHECK(why_not_judged(FrameKind::Fragment) == policy::Why::Fragment);
  CHECK(why_not_judged(FrameKind::Bad) == policy::Why::BadFrame);
}

} // namespace
} // namespace sipward::dataplane
