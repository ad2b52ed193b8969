// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <array>
#include <bit>
#include <cstring>

#include "sip/index_simd.h"
#include "sip/lanes.h"
#include "sip/simd.h"
#include "sip/start_line_simd.h"

// One pass over the header's octets that notes line ends, and lines beginning with f or u. Among those are From and
// User-Agent; whatever is unusual (a space before the colon, a folded value, a line that no LF ends, very many lines)
// is left to the index.
namespace sipward::sip {
namespace {

constexpr std::size_t kMaxLook = 4096;     // octets; longer headers are left to the index
constexpr std::size_t kMaxCandidates = 16; // likewise

struct Scan {
  std::uint64_t lf[kMaxLook / kBlock + 3];
  std::uint16_t candidates[kMaxCandidates + kBlock];
  std::uint32_t count = 0;
  std::uint32_t lines = 0;
};

inline void note(Scan& scan, std::uint64_t candidates, std::size_t at) noexcept {
  scan.candidates[scan.count] = static_cast<std::uint16_t>(at + _tzcnt_u64(candidates));
  scan.count += candidates != 0;
  for (candidates = _blsr_u64(candidates); candidates != 0; candidates = _blsr_u64(candidates))
    [[unlikely]] scan.candidates[scan.count++] = static_cast<std::uint16_t>(at + _tzcnt_u64(candidates));
}

// False: leave it to the index. `size` is at least kBlock.
[[gnu::always_inline]] inline bool scan_header(const char* data, std::size_t size, Scan& scan) noexcept {
  const std::size_t limit = size < kMaxLook ? size : kMaxLook;
  std::uint64_t before = 0;
  std::uint64_t* words = scan.lf;
  for (std::size_t at = 0; at < limit; at += kBlock) {
    const Block block = block_at(data, size, at);
    const std::uint64_t lf = equal(block.octets, '\n') >> block.shift;
    const std::uint64_t names = equal_either(folded(block.octets), 'f', 'u') >> block.shift & (lf << 1 | before >> 63);
    std::uint64_t candidates = short_lines(lf, before);
    before = lf;
    *words++ = lf;
    scan.lines += static_cast<std::uint32_t>(_mm_popcnt_u64(lf));
    for (; candidates != 0; candidates = _blsr_u64(candidates)) {
      if (!ends_empty_line(data, at + _tzcnt_u64(candidates))) continue;
      note(scan, names & _blsmsk_u64(candidates), at);
      words[0] = words[1] = 0;
      return scan.lines <= kMaxHeaders && scan.count <= kMaxCandidates;
    }
    note(scan, names, at);
    if (scan.count > kMaxCandidates) return false;
  }
  return false;
}

// The first line end at or after `from`, within the scanned header; 0 if there is none in its block of 64 and the next
// one. Whole words are loaded: a load across two of the stores just made would have to wait for them.
[[gnu::always_inline]] inline std::size_t next_lf(const Scan& scan, std::size_t from) noexcept {
  const std::size_t block = from / kBlock;
  const std::uint64_t near = scan.lf[block] >> from % kBlock, far = scan.lf[block + 1];
  const std::size_t in_far = far != 0 ? (block + 1) * kBlock + _tzcnt_u64(far) : 0;
  return near != 0 ? from + _tzcnt_u64(near) : in_far;
}

inline bool is_space(char c) noexcept { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

// The value after the colon; false if the line is long or goes on in the next one.
[[gnu::always_inline]] inline bool read_value(const char* data, const Scan& scan, std::size_t colon,
                                              std::uint32_t& out) noexcept {
  const std::size_t lf = next_lf(scan, colon);
  if (lf == 0 || data[lf + 1] == ' ' || data[lf + 1] == '\t') return false; // lf + 1: the empty line is still to come
  std::size_t begin = colon + 1;
  begin += data[begin] == ' ';
  std::size_t end = lf - (data[lf - 1] == '\r');
  while (begin < end && is_space(data[begin])) ++begin;
  while (end > begin && is_space(data[end - 1])) --end;
  if (begin > end) begin = end;
  out = static_cast<std::uint32_t>(begin | end << 16); // a Span, in a register
  return true;
}

inline std::uint32_t same(__m128i octets, __m128i fold, __m128i pattern) noexcept {
  return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_or_si128(octets, fold), pattern)));
}

// Which of the candidates are User-Agent and From. False: unusual.
[[gnu::always_inline]] inline bool find_headers(const char* data, std::size_t size, const Scan& scan,
                                                std::uint32_t& agent_value, std::uint32_t& from_value) noexcept {
  const __m128i agent = _mm_setr_epi8('u', 's', 'e', 'r', '-', 'a', 'g', 'e', 'n', 't', ':', 0, 0, 0, 0, 0);
  const __m128i agent_fold = _mm_setr_epi8(32, 32, 32, 32, 0, 32, 32, 32, 32, 32, 0, 0, 0, 0, 0, 0);
  const __m128i from = _mm_setr_epi8('f', 'r', 'o', 'm', ':', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m128i from_fold = _mm_setr_epi8(32, 32, 32, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  std::size_t agent_colon = 0, from_colon = 0;
  std::size_t odd = 0;
  for (std::uint32_t i = scan.count; i-- > 0;) {
    const std::size_t at = scan.candidates[i];
    if (at + 16 > size) return false;
    const auto octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + at));
    const std::uint32_t a = same(octets, agent_fold, agent), f = same(octets, from_fold, from);
    // In numbers, not in branches: which candidate comes first is a coin's toss.
    const auto is_agent = static_cast<std::size_t>((a & 0x3ff) == 0x3ff);
    const auto is_from = static_cast<std::size_t>((f & 0xf) == 0xf);
    const auto is_f = static_cast<std::size_t>(f & 1) & ~is_from & 1;
    const std::size_t colon = at + 1 + 9 * is_agent + 3 * is_from;
    const char next = data[colon];
    const auto named = static_cast<std::size_t>(next == ':');
    odd |= (is_agent | is_from | is_f) & static_cast<std::size_t>(next <= ' ');
    const std::size_t set_agent = 0 - (is_agent & named), set_from = 0 - ((is_from | is_f) & named);
    agent_colon = (colon & set_agent) | (agent_colon & ~set_agent);
    from_colon = (colon & set_from) | (from_colon & ~set_from);
  }
  if (odd != 0) return false;
  if (agent_colon != 0 && !read_value(data, scan, agent_colon, agent_value)) return false;
  return from_colon == 0 || read_value(data, scan, from_colon, from_value);
}

[[gnu::noinline]] FirstLook look_by_index(std::string_view datagram) noexcept {
  Index index;
  index_simd(datagram, index);
  return first_look_by_index(datagram, index);
}

[[gnu::always_inline]] inline FirstLook first_look_simd(std::string_view datagram) noexcept {
  const char* const data = datagram.data();
  const std::size_t size = datagram.size() < 65'535 ? datagram.size() : 65'535;
  Scan scan;
  StartLine start;
  std::uint32_t agent = 0, from = 0;
  if (size >= kBlock && (data[0] | 0x20) >= 'a' && (data[0] | 0x20) <= 'z' && scan_header(data, size, scan))
      [[likely]] {
    const std::size_t lf = next_lf(scan, 0);
    if (lf != 0 && read_usual_start_line<false>(data, size, lf - (data[lf - 1] == '\r'), start)) [[likely]] {
      if (find_headers(data, size, scan, agent, from)) [[likely]]
        return std::bit_cast<FirstLook>(std::array<std::uint64_t, 2>{start.kind | start.method << 8 |
                                                                         static_cast<std::uint64_t>(start.status) << 32,
                                                                     agent | static_cast<std::uint64_t>(from) << 32});
    }
  }
  return look_by_index(datagram);
}

} // namespace
} // namespace sipward::sip
