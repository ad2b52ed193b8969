// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "sip/message.h"

// The second tier of inspection: where every header begins and ends, and which it is. A first look (first_look.h) is
// less, a Message is more: its values are read into parts.
namespace sipward::sip {

inline constexpr std::size_t kMaxHeaders = 128;       // headers read per message; further ones are not looked at
inline constexpr std::size_t kMaxHeaderOctets = 8192; // octets inspected for headers

// One header, its continuation lines included (RFC 3261, section 7.3.1).
//
//   User-Agent : friendly-scanner\r\n
//   |name      |                 |end
//              |colon
struct HeaderLine {
  std::uint16_t name;
  std::uint16_t colon; // == end, where the header has none
  std::uint16_t end;
  Header header;
  friend bool operator==(const HeaderLine&, const HeaderLine&) = default;
};

// No initialisers: it is many octets.
struct Index {
  Kind kind;
  Method method;
  Malformation malformation; // of the start line; values are not judged here
  Keepalive keepalive;
  std::uint16_t status;
  Span method_token, request_uri;
  std::uint16_t header_count; // headers 1 .. header_count
  std::uint16_t body;         // where the body begins; 0: no empty line was found

  // By Header: the first one of each known kind (0: there is none), and how many there are.
  static constexpr std::size_t kKinds = 32; // kHeaderKinds, and room to be written at once
  std::array<std::uint8_t, kKinds> first;
  std::array<std::uint8_t, kKinds> counts;

  // By header. Where its line begins, which is where the one before it ends; and where its colon stands (no colon: its
  // last octet or beyond).
  struct Place {
    std::uint16_t begin, colon;
  };
  static constexpr std::size_t kRoom = 40; // may be written behind the last one, and means nothing
  std::array<Place, kMaxHeaders + 2 + kRoom> places;
  std::array<Header, kMaxHeaders + 1> kinds;

  std::uint8_t count(Header header) const noexcept { return counts[static_cast<std::size_t>(header)]; }
  // The header at place i, 1 .. header_count.
  HeaderLine line(std::size_t i, std::string_view datagram) const noexcept;
  // The value of the header at place i without the white space around it; of place 0 it is absent.
  Span value(std::size_t i, std::string_view datagram) const noexcept {
    if (i == 0) return {};
    const std::size_t colon = places[i].colon, end = places[i + 1].begin - 1u;
    if (end - colon < 4 || end - colon > kMaxHeaderOctets) return any_value(i, datagram);
    // One space before it, CRLF behind it: so it nearly always is.
    const auto is_ink = [datagram](std::size_t at) { return static_cast<unsigned char>(datagram[at]) > ' '; };
    if (datagram[colon + 1] != ' ' || !is_ink(colon + 2) || !is_ink(end - 2) || datagram[end - 1] != '\r')
      return any_value(i, datagram);
    return {static_cast<std::uint16_t>(colon + 2), static_cast<std::uint16_t>(end - 1)};
  }
  // The value of the first header of this kind; absent if there is none.
  Span value(Header header, std::string_view datagram) const noexcept {
    return value(first[static_cast<std::size_t>(header)], datagram);
  }

private:
  Span any_value(std::size_t i, std::string_view datagram) const noexcept;
};

// Reads every header's place. Any thread; total, allocates nothing. Longer input than 65,535 octets is read as if it
// ended there.
void index(std::string_view datagram, Index& out) noexcept;

// The same without SIMD: what runs on a CPU without AVX2, and the reference for the tests.
void index_plain(std::string_view datagram, Index& out) noexcept;

} // namespace sipward::sip
