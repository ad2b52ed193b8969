// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/frames.h"

// Datagrams in fragments, as frames.
namespace sipward::test {

struct Pieces {
  bool v6 = false;
  bool behind_options = false; // IPv6: hop-by-hop options before the fragment header
  std::uint16_t number = 7;
  std::string_view source = v6 ? "2001:db8:66::1" : "198.51.100.66";
  std::string_view destination = v6 ? "2001:db8:10::5" : "192.0.2.10";
};

// One fragment; `offset` in octets.
inline Octets piece(const Pieces& of, const Octets& data, std::size_t offset, bool more, std::uint8_t next = 17) {
  if (!of.v6)
    return ethernet(kEtherIpv4, ipv4({.source = of.source,
                                      .destination = of.destination,
                                      .protocol = next,
                                      .fragment = static_cast<std::uint16_t>((more ? 0x2000u : 0u) | offset / 8),
                                      .number = of.number},
                                     data));
  Octets inner = ipv6_fragment(next, static_cast<std::uint16_t>(offset | (more ? 1u : 0u)), data, of.number);
  if (of.behind_options) inner = extension(44, 0, 8, inner);
  const auto first = static_cast<std::uint8_t>(of.behind_options ? 0 : 44);
  return ethernet(kEtherIpv6, ipv6({.source = of.source, .destination = of.destination, .next = first}, inner));
}

// A whole datagram's payload, UDP header and all, in so many fragments of about the same size.
inline std::vector<Octets> pieces(const Pieces& of, const Octets& whole, std::size_t count, std::uint8_t next = 17) {
  std::vector<Octets> frames;
  const std::size_t size = ((whole.size() + count - 1) / count + 7) / 8 * 8;
  for (std::size_t at = 0; at < whole.size(); at += size) {
    const std::size_t end = std::min(at + size, whole.size());
    frames.push_back(
        piece(of, {whole.begin() + static_cast<std::ptrdiff_t>(at), whole.begin() + static_cast<std::ptrdiff_t>(end)},
              at, end < whole.size(), next));
  }
  return frames;
}

// A long request whose scanner mark, if any, stands behind `before` octets of other headers.
inline std::string long_request(std::string_view user_agent, std::size_t before = 1000) {
  std::string text = request("INVITE", user_agent);
  const auto at = text.find("User-Agent:");
  std::string more;
  while (more.size() < before)
    more += "X-Route-Note: sip:" + std::to_string(more.size()) + "@192.0.2.1;lr;padding=0123456789\r\n";
  return text.insert(at, more);
}

} // namespace sipward::test
