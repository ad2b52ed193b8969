// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <string_view>

#include "sip/message.h"

// Octets as SIP sees them: white space, case, digits. Private to sip/.
namespace sipward::sip::text {

constexpr bool is_space(char c) noexcept { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_alpha(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

// A set of octets, for a membership test that is one look into a table.
class Octets256 {
public:
  constexpr explicit Octets256(std::string_view members) noexcept {
    for (const char c : members) in_[static_cast<unsigned char>(c)] = true;
  }
  constexpr bool operator()(char c) const noexcept { return in_[static_cast<unsigned char>(c)]; }

private:
  bool in_[256] = {};
};

inline constexpr Octets256 kWhite{" \t\r\n"};
// RFC 3261, section 25.1.
inline constexpr Octets256 kToken{"-.!%*_+`'~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"};
constexpr bool is_token(char c) noexcept { return kToken(c); }

// `b` is in lower case already.
constexpr bool equals(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != b[i]) return false;
  return true;
}

constexpr Span span(std::size_t begin, std::size_t end) noexcept {
  return {static_cast<std::uint16_t>(begin), static_cast<std::uint16_t>(end)};
}

// [begin, end) without the white space at both ends. Where nothing is left, the span is empty at `end`.
constexpr Span trim(std::string_view datagram, std::size_t begin, std::size_t end) noexcept {
  const auto all_white = [datagram](std::size_t i) { // four at a time, because a flood of them is as long as it likes
    int white = 0;
    for (std::size_t k = 0; k < 4; ++k) white += kWhite(datagram[i + k]);
    return white == 4;
  };
  while (begin + 4 <= end && all_white(begin)) begin += 4;
  while (begin < end && is_space(datagram[begin])) ++begin;
  while (begin + 4 <= end && all_white(end - 4)) end -= 4;
  while (end > begin && is_space(datagram[end - 1])) --end;
  return span(begin, end);
}

} // namespace sipward::sip::text
