// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "sip/index_simd.h"
#include "sip/lanes.h"
#include "sip/simd.h"
#include "sip/start_line_simd.h"

// One pass over the header's octets, 64 at a time, for the lines that begin with a u and for the empty one. If the
// first of these is the User-Agent, or the empty line, that is all there is to know; whatever else it is, or a space
// before the colon, a folded value, bare LFs, very many lines, is left to the index. No branch depends on the order of
// the headers.
namespace sipward::sip {
namespace {

class Look {
public:
  Look(const char* data, std::size_t size) noexcept : data_(data), size_(size) {}

  // False: leave it to the index. The datagram is longer than kBlock.
  [[gnu::always_inline]] bool scan() noexcept {
    constexpr std::size_t kMost = 8 * kStride; // beyond that, few datagrams have headers
    for (std::size_t base = 0; base < size_ - 1 && base < kMost; base += kStride) {
      // Backwards: the first one is what stays. The last block may overlap the one before it.
      const std::size_t end = std::min(base + kStride, size_ - 1);
      std::size_t found = end - kBlock, notes = notes_at(found);
      for (std::size_t at = base + (end - base - 1) / kBlock * kBlock; at > base;) {
        at -= kBlock;
        replace_if(notes_at(at), notes, at, found);
      }
      if (base == 0) start_ends_ = lines_.last_ends();
      if (notes == 0) [[unlikely]]
        continue;
      const std::size_t line = found + 1 + _tzcnt_u64(notes);
      if ((data_[line] & 0xdf) == 'U') [[likely]]
        agent_ = line;
      else if (!is_empty(line))
        return false;
      return lines_.few();
    }
    return false;
  }
  // The end of the start line, without its line end; 0, if it is a long one.
  std::size_t start_end() const noexcept {
    if (start_ends_ == 0) [[unlikely]]
      return 0;
    const std::size_t lf = _tzcnt_u64(start_ends_);
    return lf - (data_[lf - 1] == '\r');
  }

  // The value of the header found, as a Span; 0 if there is none. False: leave it to the index.
  [[gnu::always_inline]] bool read_agent(std::uint32_t& value) const noexcept {
    value = 0;
    if (agent_ == 0) return true;
    if (agent_ + 16 > size_) [[unlikely]]
      return false;
    const __m128i name = _mm_setr_epi8('U', 'S', 'E', 'R', '-', 'A', 'G', 'E', 'N', 'T', ':', ' ', 0, 0, 0, 0);
    const __m128i letters = _mm_setr_epi8(-33, -33, -33, -33, -1, -33, -33, -33, -33, -33, -1, -1, 0, 0, 0, 0);
    const __m128i octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data_ + agent_));
    const std::size_t begin = agent_ + 12;
    if (!_mm_testz_si128(_mm_xor_si128(octets, name), letters) || is_control_or_space(data_[begin])) [[unlikely]]
      return false;
    const std::size_t from = std::min(begin, size_ - kBlock); // a whole block is had sooner than a part of one
    const std::uint64_t ends = Block::whole(data_ + from).equal('\n') >> (begin - from);
    const std::size_t lf = begin + _tzcnt_u64(ends);
    if (ends == 0 || lf + 3 > size_ || !ends_usually(data_, lf) || continues(data_ + lf + 1)) [[unlikely]]
      return false;
    value = static_cast<std::uint32_t>(begin | (lf - 1) << 16);
    return true;
  }

private:
  [[gnu::always_inline]] std::uint64_t notes_at(std::size_t at) noexcept {
    return lines_.in(Block::whole(data_ + at), Block::whole(data_ + at + 1));
  }
  // By hand, since compilers like to make it a branch, which no processor can predict.
  [[gnu::always_inline]] static void replace_if(std::uint64_t more, std::uint64_t& notes, std::size_t at,
                                                std::size_t& found) noexcept {
    asm("test %2, %2\n\tcmovne %2, %0\n\tcmovne %3, %1" : "+r"(notes), "+r"(found) : "r"(more), "r"(at) : "cc");
  }
  static constexpr std::size_t kStride = 8 * kBlock; // looked at before what was found is
  bool is_empty(std::size_t line) const noexcept {
    return data_[line] == '\n' || (data_[line] == '\r' && line + 1 < size_ && data_[line + 1] == '\n');
  }
  // Does the line that begins here continue the one before it? It may be the empty one.
  static bool continues(const char* line) noexcept {
    return is_control_or_space(line[0]) && line[0] != '\n' && !(line[0] == '\r' && line[1] == '\n');
  }

  const char* data_;
  std::size_t size_;
  std::size_t agent_ = 0;        // where the User-Agent begins, if it was found
  std::uint64_t start_ends_ = 0; // the LFs in the first block
  LinesOfNote lines_;
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
    if (look.scan() && read_usual_start_line<false>(data, size, look.start_end(), start) && look.read_agent(agent))
        [[likely]]
      return std::bit_cast<FirstLook>(std::array<std::uint64_t, 2>{
          start.kind | start.method << 8 | static_cast<std::uint64_t>(start.status) << 32, agent});
  }
  return look_by_index(datagram);
}

} // namespace
} // namespace sipward::sip
