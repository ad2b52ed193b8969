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

struct MethodSlot {
  std::uint64_t token;
  Method method;
};
constexpr std::size_t kMethodSlots = 64;
constexpr std::size_t method_slot(std::uint64_t token, std::uint64_t multiplier) noexcept {
  return token * multiplier >> 58;
}

constexpr std::array<MethodSlot, 13> kShortMethods{{
    {packed_token("REGISTER"), Method::Register},
    {packed_token("INVITE"), Method::Invite},
    {packed_token("ACK"), Method::Ack},
    {packed_token("BYE"), Method::Bye},
    {packed_token("CANCEL"), Method::Cancel},
    {packed_token("OPTIONS"), Method::Options},
    {packed_token("NOTIFY"), Method::Notify},
    {packed_token("PUBLISH"), Method::Publish},
    {packed_token("MESSAGE"), Method::Message},
    {packed_token("INFO"), Method::Info},
    {packed_token("PRACK"), Method::Prack},
    {packed_token("UPDATE"), Method::Update},
    {packed_token("REFER"), Method::Refer},
}};

consteval std::uint64_t find_method_multiplier() {
  for (std::uint64_t candidate = 0x9e37'79b9'7f4a'7c15;; candidate += 0x1000'0002) {
    std::uint64_t taken = 0;
    bool good = true;
    for (const MethodSlot& known : kShortMethods) {
      const std::uint64_t bit = std::uint64_t{1} << method_slot(known.token, candidate);
      good = good && (taken & bit) == 0;
      taken |= bit;
    }
    if (good) return candidate;
  }
}
constexpr std::uint64_t kMethodMultiplier = find_method_multiplier();

consteval std::array<MethodSlot, kMethodSlots> make_method_table() {
  std::array<MethodSlot, kMethodSlots> table{};
  for (const MethodSlot& known : kShortMethods) table[method_slot(known.token, kMethodMultiplier)] = known;
  return table;
}
constexpr std::array<MethodSlot, kMethodSlots> kMethodTable = make_method_table();

// `count` <= 8 octets as a method in any case; Other if it is not one of the table's.
inline Method short_method(std::uint64_t octets, std::uint32_t count) noexcept {
  const std::uint64_t token = _bzhi_u64(octets, count * 8) & 0xdfdf'dfdf'dfdf'dfdf;
  const MethodSlot& slot = kMethodTable[method_slot(token, kMethodMultiplier)];
  // A NUL at the end is not the same as nothing: "ACK", NUL has the token of "ACK".
  return slot.token == token && (octets >> (8 * count - 8) & 0xff) != 0 ? slot.method : Method::Other;
}

// A sip URI of `length` octets that the plain way would take: nothing odd in it, a host, and at most one colon behind
// the scheme's, so that it is no IPv6 address.
[[gnu::always_inline]] inline bool is_plain_uri(const char* data, std::size_t readable, std::size_t begin,
                                                std::uint32_t length) noexcept {
  std::uint32_t scheme;
  std::memcpy(&scheme, data + begin, sizeof scheme);
  if ((scheme & 0xffdfdfdf) != 0x3a504953 || length < 5) return false; // "SIP:"
  const Block uri = Block::first(data, begin, readable, length);
  const std::uint64_t good = uri.between('!', '~') & ~(uri.equal('<') | uri.equal('>') | uri.equal('"'));
  const std::uint64_t at = uri.equal('@');
  const auto host = static_cast<std::uint32_t>(at != 0 ? _tzcnt_u64(at) + 1 : 4);
  if (host >= length || _bzhi_u64(~good, length) != 0 || _mm_popcnt_u64(uri.equal(':')) > 2) return false;
  const char first = data[begin + host];
  return first != ';' && first != '?';
}

// The line [0, end) of a datagram of `size` >= 64 octets. False: unusual, read_start_line() knows. A first look does
// not judge the URI.
template<bool JudgeUri>
[[gnu::always_inline]] inline bool read_usual_start_line(const char* data, std::size_t size, std::size_t end,
                                                         StartLine& out) noexcept {
  std::uint64_t head, tail;
  std::memcpy(&head, data, sizeof head);
  if (end < 12) return false;
  std::memcpy(&tail, data + end - 8, sizeof tail);
  if (head == packed_token("SIP/2.0 ")) {
    const auto digit = [data](std::size_t i) { return static_cast<unsigned>(data[i]) - '0'; };
    const unsigned a = digit(8), b = digit(9), c = digit(10);
    if (a - 1 > 5 || b > 9 || c > 9 || data[11] != ' ') return false;
    out = {static_cast<std::uint32_t>(Kind::Response), 0, a * 100 + b * 10 + c, 0, 0};
    return true;
  }
  const auto first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
  const std::uint32_t space =
      _tzcnt_u32(static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(first, _mm_set1_epi8(' ')))));
  if (tail != packed_token(" SIP/2.0") || space - 1 > 7 || end < space + 14) return false;
  const auto length = static_cast<std::uint32_t>(end - 8 - space - 1);
  if (length > 64 || space + 1 + 64 > size) return false;
  const Method method = short_method(head, space);
  if (method == Method::Other || (JudgeUri && !is_plain_uri(data, size, space + 1, length))) return false;
  out = {static_cast<std::uint32_t>(Kind::Request), static_cast<std::uint32_t>(method), 0, space,
         static_cast<std::uint32_t>(end - 8)};
  return true;
}

} // namespace
} // namespace sipward::sip
