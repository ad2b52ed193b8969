// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "sip/lanes.h"
#include "sip/message.h"

// The usual start lines: a status line, or a known method of up to eight letters, a sip URI of up to 64 octets, and the
// version, with one space between them. For files compiled for AVX2 and BMI only, which is why everything here has
// internal linkage.
namespace sipward::sip {
namespace {

// Full words: narrow members would be stored one by one and loaded as one, which the processor has to wait for.
struct StartLine {
  std::uint32_t kind, method, status;
  std::uint32_t method_end, uri_end; // of a request; the method begins at 0, the URI after one space
};

constexpr std::uint64_t packed_token(std::string_view token) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < token.size(); ++i)
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(token[i])) << (8 * i);
  return value;
}

// How a start line begins: a method or the version, in any case or not, and the space behind it.
struct alignas(32) StartSlot {
  char pattern[16];
  unsigned char mask[16]; // zeroes for what stands in place of the last three octets
  constexpr Kind kind() const noexcept { return static_cast<Kind>(pattern[13]); }
  constexpr Method method() const noexcept { return static_cast<Method>(pattern[14]); }
  constexpr std::uint8_t length() const noexcept { return static_cast<std::uint8_t>(pattern[15]); } // without the space
};
constexpr std::size_t kStartSlots = 64;
constexpr std::size_t start_slot(std::uint32_t octets, std::uint32_t multiplier) noexcept {
  return (octets & 0xdfdf'dfdf) * multiplier >> 26;
}

struct ShortStart {
  std::string_view octets;
  Method method;
};
constexpr std::array<ShortStart, 14> kShortStarts{{
    {"REGISTER ", Method::Register},
    {"INVITE ", Method::Invite},
    {"ACK ", Method::Ack},
    {"BYE ", Method::Bye},
    {"CANCEL ", Method::Cancel},
    {"OPTIONS ", Method::Options},
    {"NOTIFY ", Method::Notify},
    {"PUBLISH ", Method::Publish},
    {"MESSAGE ", Method::Message},
    {"INFO ", Method::Info},
    {"PRACK ", Method::Prack},
    {"UPDATE ", Method::Update},
    {"REFER ", Method::Refer},
    {"SIP/2.0 ", Method::Other},
}};
constexpr std::uint32_t first_four(std::string_view octets) noexcept {
  return static_cast<std::uint32_t>(packed_token(octets.substr(0, 4)));
}

consteval std::uint32_t find_start_multiplier() {
  for (std::uint32_t candidate = 0x9e37'79b9;; candidate += 0x0001'0002) {
    std::uint64_t taken = 0;
    bool good = true;
    for (const ShortStart& known : kShortStarts) {
      const std::uint64_t bit = std::uint64_t{1} << start_slot(first_four(known.octets), candidate);
      good = good && (taken & bit) == 0;
      taken |= bit;
    }
    if (good) return candidate;
  }
}
constexpr std::uint32_t kStartMultiplier = find_start_multiplier();

consteval StartSlot make_start_slot(const ShortStart& known) {
  StartSlot slot{};
  const bool any_case = known.method != Method::Other;
  for (std::size_t i = 0; i < known.octets.size(); ++i) {
    const char c = known.octets[i];
    slot.pattern[i] = c;
    slot.mask[i] = any_case && c != ' ' ? 0xdf : 0xff;
  }
  slot.pattern[13] = static_cast<char>(any_case ? Kind::Request : Kind::Response);
  slot.pattern[14] = static_cast<char>(known.method);
  slot.pattern[15] = static_cast<char>(known.octets.size() - 1);
  return slot;
}
consteval std::array<StartSlot, kStartSlots> make_start_table() {
  std::array<StartSlot, kStartSlots> table{};
  for (StartSlot& slot : table) slot = make_start_slot(kShortStarts[0]); // a free slot: what stands in another one
  for (const ShortStart& known : kShortStarts)
    table[start_slot(first_four(known.octets), kStartMultiplier)] = make_start_slot(known);
  return table;
}
constexpr std::array<StartSlot, kStartSlots> kStartTable = make_start_table();

// A sip URI of `length` octets that the plain way would take: nothing odd in it, a host, and at most one colon behind
// the scheme's, so that it is no IPv6 address.
[[gnu::always_inline]] inline bool is_plain_uri(const char* data, std::size_t readable, std::size_t begin,
                                                std::uint32_t length) noexcept {
  std::uint32_t scheme;
  std::memcpy(&scheme, data + begin, sizeof scheme);
  if ((scheme & 0xffdfdfdf) != 0x3a504953) return false; // "SIP:"
  const Block uri =
      begin + kBlock <= readable ? Block::whole(data + begin) : Block::first(data, begin, readable, length);
  const std::uint64_t at = _bzhi_u64(uri.equal('@'), length);
  const auto host = static_cast<std::uint32_t>(at != 0 ? _tzcnt_u64(at) + 1 : 4);
  if (_bzhi_u64(~uri.between_but('!', '~', '<', '>', '"'), length) != 0 ||
      _mm_popcnt_u64(_bzhi_u64(uri.equal(':'), length)) > 2 || host >= length)
    return false;
  return (data[begin + host] | 4) != '?'; // nor is it ;
}

// The line [0, end) of a datagram of `size` >= 64 octets. False: unusual, read_start_line() knows. A first look does
// not judge the URI.
template<bool JudgeUri>
[[gnu::always_inline]] inline bool read_usual_start_line(const char* data, std::size_t size, std::size_t end,
                                                         StartLine& out) noexcept {
  std::uint32_t head;
  std::memcpy(&head, data, sizeof head);
  if (end < 12) return false;
  const StartSlot& slot = kStartTable[start_slot(head, kStartMultiplier)];
  const __m128i octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
  const __m128i pattern = _mm_load_si128(reinterpret_cast<const __m128i*>(slot.pattern));
  const __m128i mask = _mm_load_si128(reinterpret_cast<const __m128i*>(slot.mask));
  if (!_mm_testz_si128(_mm_xor_si128(octets, pattern), mask)) return false;
  if (slot.kind() == Kind::Response) {
    const auto digit = [data](std::size_t i) { return static_cast<unsigned>(data[i]) - '0'; };
    const unsigned a = digit(8), b = digit(9), c = digit(10);
    if (a - 1 > 5 || b > 9 || c > 9 || data[11] != ' ') return false;
    out = {static_cast<std::uint32_t>(Kind::Response), 0, a * 100 + b * 10 + c, 0, 0};
    return true;
  }
  std::uint64_t tail;
  std::memcpy(&tail, data + end - 8, sizeof tail);
  const std::uint32_t space = slot.length();
  constexpr std::size_t kLeast = 5, kMost = 64; // of a URI
  const std::size_t length = end - 8 - (space + 1);
  if (tail != packed_token(" SIP/2.0") || length - kLeast > kMost - kLeast) return false;
  if (JudgeUri && !is_plain_uri(data, size, space + 1, static_cast<std::uint32_t>(length))) return false;
  out = {static_cast<std::uint32_t>(Kind::Request), static_cast<std::uint32_t>(slot.method()), 0, space,
         static_cast<std::uint32_t>(end - 8)};
  return true;
}

} // namespace
} // namespace sipward::sip
