// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/checksum.h"

#include <catch2/catch.hpp>
#include <memory>

#include "tests/frame_table.h"

namespace sipward::dataplane {
namespace {

using test::Octets;

// RFC 1071, in the plainest way.
std::uint16_t sum(const Octets& octets) {
  std::uint32_t total = 0;
  for (std::size_t i = 0; i < octets.size(); ++i) total += std::uint32_t{octets[i]} << (i % 2 == 0 ? 8 : 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >> 16);
  return static_cast<std::uint16_t>(total);
}

struct Row {
  const char* name;
  Octets frame;
  std::size_t addresses, address_octets; // where they stand in the frame
  std::size_t transport, field;          // where the TCP or UDP packet begins, and the checksum in it
  std::uint8_t protocol;
};
std::vector<Row> rows() {
  using namespace test;
  const Octets odd = udp(5060, 5062, "an odd number of octets");
  const Octets even = udp(5060, 5062, "an even number of octets");
  Octets tcp(27, 0x5a);
  const auto v4 = [](std::uint8_t protocol, const Octets& payload, std::size_t options = 0) {
    return ipv4({.protocol = protocol, .options = options}, payload);
  };
  return {
      {"UDP", ethernet(kEtherIpv4, v4(17, odd)), 26, 8, 34, 6, 17},
      {"UDP, even", ethernet(kEtherIpv4, v4(17, even)), 26, 8, 34, 6, 17},
      {"UDP, nothing in it", ethernet(kEtherIpv4, v4(17, udp(1, 2, ""))), 26, 8, 34, 6, 17},
      {"UDP behind IPv4 options", ethernet(kEtherIpv4, v4(17, odd, 8)), 26, 8, 42, 6, 17},
      {"TCP", ethernet(kEtherIpv4, v4(6, tcp)), 26, 8, 34, 16, 6},
      {"TCP in a VLAN", ethernet(kEtherIpv4, v4(6, tcp), {0x8100}), 30, 8, 38, 16, 6},
      {"TCP in two VLANs", ethernet(kEtherIpv4, v4(6, tcp), {0x88a8, 0x8100}), 34, 8, 42, 16, 6},
      {"UDP over IPv6", ethernet(kEtherIpv6, ipv6({}, odd)), 22, 32, 54, 6, 17},
      {"TCP over IPv6", ethernet(kEtherIpv6, ipv6({.next = 6}, tcp)), 22, 32, 54, 16, 6},
      {"UDP behind IPv6 options", ethernet(kEtherIpv6, ipv6({.next = 0}, extension(17, 0, 8, odd))), 22, 32, 62, 6, 17},
  };
}

void put(Octets& frame, std::size_t at, std::uint16_t value) {
  frame[at] = static_cast<std::uint8_t>(value >> 8);
  frame[at + 1] = static_cast<std::uint8_t>(value);
}

TEST_CASE("a half-made checksum is completed, whatever the packet stands behind, and padding does not count") {
  for (const auto& row : rows()) {
    for (const std::size_t padding : {std::size_t{0}, std::size_t{7}}) {
      INFO(row.name << ", padding " << padding);
      Octets frame = row.frame;
      const auto at = [&](std::size_t i) { return frame.begin() + static_cast<std::ptrdiff_t>(i); };
      Octets pseudo(at(row.addresses), at(row.addresses + row.address_octets));
      test::put16(pseudo, row.protocol);
      test::put16(pseudo, frame.size() - row.transport);
      put(frame, row.transport + row.field, sum(pseudo));
      const Octets before = frame;
      frame.resize(frame.size() + padding, 0xee);
      complete_checksum(frame);
      test::append(pseudo, {at(row.transport), frame.end() - static_cast<std::ptrdiff_t>(padding)});
      CHECK(sum(pseudo) == 0xffff); // right, says the receiver

      const Octets whole = frame;
      complete_checksum(frame);
      CHECK(frame == whole);
      put(frame, row.transport + row.field, 0); // UDP: none
      const Octets none = frame;
      complete_checksum(frame);
      CHECK(frame == none);
    }
  }
}

TEST_CASE("whatever the frame, nothing past its end is read or written, and no other frame is changed") {
  for (const auto& row : test::frame_cases()) {
    INFO(row.name);
    for (std::size_t size = 0; size <= row.octets.size(); ++size) {
      const auto exact = std::make_unique<std::uint8_t[]>(size); // so that a sanitizer sees an octet too many
      std::copy_n(row.octets.begin(), size, exact.get());
      complete_checksum({exact.get(), size});
      CHECK(std::equal(exact.get(), exact.get() + size, row.octets.begin()));
    }
  }
}

} // namespace
} // namespace sipward::dataplane
