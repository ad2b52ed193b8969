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

// One pass over the header's octets, 64 at a time, that looks for the first line beginning with a u, and for the empty
// line. Whatever is unusual (another header with a u, a space before the colon, a folded value, no empty line, very
// many lines) is left to the index. No branch depends on the order of the headers.
namespace sipward::sip {
namespace {

class Look {
public:
  Look(const char* data, std::size_t size) noexcept : data_(data), size_(size) {}

  // False: leave it to the index. The datagram is longer than kBlock.
  [[gnu::always_inline]] bool scan() noexcept {
    std::size_t at = 0;
    for (; at + kBlock < size_; at += kBlock)
      if (step(Block::whole(data_ + at), Block::whole(data_ + at + 1), at)) return good_;
    if (at + 1 < size_) step(Block(data_, at, size_), Block(data_, at + 1, size_), at);
    return good_;
  }
  // The start line, without its line end.
  std::size_t start_end() const noexcept { return first_lf_ - (data_[first_lf_ - 1] == '\r'); }
  bool has_start() const noexcept { return first_lf_ > 0; }

  // The value of the header found, as a Span; 0 if there is none. False: leave it to the index.
  [[gnu::always_inline]] bool read_agent(std::uint32_t& value) const noexcept {
    value = 0;
    if (agent_ == 0) return true;
    if (agent_ + 16 > size_) [[unlikely]]
      return false;
    const __m128i name = _mm_setr_epi8('U', 'S', 'E', 'R', '-', 'A', 'G', 'E', 'N', 'T', ':', 0, 0, 0, 0, 0);
    const __m128i letters = _mm_setr_epi8(-33, -33, -33, -33, -1, -33, -33, -33, -33, -33, -1, 0, 0, 0, 0, 0);
    const __m128i octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data_ + agent_));
    if (!_mm_testz_si128(_mm_xor_si128(octets, name), letters)) [[unlikely]]
      return false;
    const std::size_t begin = agent_ + 11;
    const std::uint64_t ends = Block(data_, begin, size_).equal('\n');
    const std::size_t lf = begin + _tzcnt_u64(ends);
    if (ends == 0 || begin + 1 >= lf) [[unlikely]]
      return false;
    const std::size_t first = begin + (data_[begin] == ' '), last = lf - (data_[lf - 1] == '\r');
    if (is_control_or_space(data_[first]) || is_control_or_space(data_[last - 1]) || continues(data_ + lf + 1))
        [[unlikely]]
      return false;
    value = static_cast<std::uint32_t>(first | last << 16);
    return true;
  }

private:
  // `before` is `octets` and the one in front of it. True: there is no need to go on.
  [[gnu::always_inline]] bool step(const Block& before, const Block& octets, std::size_t at) noexcept {
    const std::uint64_t lines = before.equal('\n');
    if (at == 0) first_lf_ = _tzcnt_u64(lines) & 63;
    std::uint64_t agents = octets.equal_folded('u') & lines;
    lines_ += static_cast<std::uint32_t>(_mm_popcnt_u64(lines));
    for (std::uint64_t odd = octets.at_most(' ') & lines; odd != 0; odd = _blsr_u64(odd)) [[unlikely]] {
        const std::size_t line = at + 1 + _tzcnt_u64(odd);
        if (line >= size_) break;
        if (!is_empty(line)) continue;
        take(agents & _blsmsk_u64(odd), at);
        good_ = lines_ <= kMaxHeaders && line < kMaxHeaderOctets - 1;
        return true;
      }
    take(agents, at);
    return false;
  }
  [[gnu::always_inline]] void take(std::uint64_t agents, std::size_t at) noexcept {
    agents = agent_ != 0 ? 0 : agents;
    agent_ = agents != 0 ? at + 1 + _tzcnt_u64(agents) : agent_;
  }
  bool is_empty(std::size_t line) const noexcept {
    return data_[line] == '\n' || (data_[line] == '\r' && line + 1 < size_ && data_[line + 1] == '\n');
  }
  // Does the line that begins here continue the one before it? It may be the empty one.
  static bool continues(const char* line) noexcept {
    return is_control_or_space(line[0]) && line[0] != '\n' && !(line[0] == '\r' && line[1] == '\n');
  }

  const char* data_;
  std::size_t size_;
  std::size_t agent_ = 0, first_lf_ = 0;
  std::uint32_t lines_ = 0;
  bool good_ = false;
};

[[gnu::noinline]] FirstLook look_by_index(std::string_view datagram) noexcept {
  Index index;
  index_simd(datagram, index);
  return first_look_by_index(datagram, index);
}

[[gnu::always_inline]] inline FirstLook first_look_simd(std::string_view datagram) noexcept {
  const char* const data = datagram.data();
  const std::size_t size = datagram.size() < 65'535 ? datagram.size() : 65'535;
  if (size > kBlock && is_letter(data[0])) [[likely]] {
    Look look(data, size);
    StartLine start;
    std::uint32_t agent;
    if (look.scan() && look.has_start() && read_usual_start_line<false>(data, size, look.start_end(), start) &&
        look.read_agent(agent)) [[likely]]
      return std::bit_cast<FirstLook>(std::array<std::uint64_t, 2>{
          start.kind | start.method << 8 | static_cast<std::uint64_t>(start.status) << 32, agent});
  }
  return look_by_index(datagram);
}

} // namespace
} // namespace sipward::sip
