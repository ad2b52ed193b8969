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
inline constexpr std::size_t kMaxLines = 256;         // lines looked at, those of folded headers among them

// One header, its continuation lines included (RFC 3261, section 7.3.1).
//
//   User-Agent : friendly-scanner\r\n
//   |name      | |value_begin    |end
//              |colon
struct alignas(8) HeaderLine { // no initialisers: an Index has a thousand octets of these
  std::uint16_t name;
  std::uint16_t colon; // == end, where the line has none
  std::uint16_t end;
  Header header;
  std::uint8_t unused; // makes it one 64-bit word, to be written at once
  friend bool operator==(const HeaderLine&, const HeaderLine&) = default;
};

struct Index {
  Kind kind;
  Method method;
  Malformation malformation; // of the start line; values are not judged here
  Keepalive keepalive;
  std::uint16_t status;
  Span method_token, request_uri;
  std::uint16_t header_count; // lines[1] .. lines[header_count]
  std::uint16_t body;         // where the body begins; 0: no empty line was found
  // The first header of each kind, as an index into lines, and how many there are. lines[0] is absent: all zeroes.
  std::array<std::uint8_t, kHeaderKinds> first;
  std::array<std::uint8_t, kHeaderKinds> counts;
  std::array<HeaderLine, kMaxHeaders + 1> lines;

  const HeaderLine& line(Header header) const noexcept { return lines[first[static_cast<std::size_t>(header)]]; }
  // The value of a header without the white space around it; absent if there is no such header.
  Span value(Header header, std::string_view datagram) const noexcept { return value(line(header), datagram); }
  static Span value(const HeaderLine& line, std::string_view datagram) noexcept;
};

// Reads every header's place. Any thread; total, allocates nothing. Longer input than 65,535 octets is read as if it
// ended there.
void index(std::string_view datagram, Index& out) noexcept;

// The same without SIMD: what runs on a CPU without AVX2, and the reference for the tests.
void index_plain(std::string_view datagram, Index& out) noexcept;

} // namespace sipward::sip
