// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstring>

#include "sip/header_names.h"
#include "sip/lanes.h"
#include "sip/name_table.h"
#include "sip/start_line.h"
#include "sip/start_line_simd.h"

// The index in three strides, each without a branch that depends on the order of the headers:
//   1. line ends: 64 octets at a time into a bitmap, the set bits into an array (as simdjson does), up to the empty
//   line;
//   2. each line's first 32 octets: its colon, and its name by a perfect hash;
//   3. first and count of each kind, from the last line to the first.
// Folded lines, long names and spaces before a colon are rare, and go the longer way line by line.
//
// Compiled for AVX2 and BMI. Nothing here may be an inline function that another translation unit uses too: the linker
// might keep this one's copy.
namespace sipward::sip {
namespace {

struct LineEnds {
  std::uint32_t count = 0;
  bool blank = false; // the last line is the empty one
  std::uint16_t at[kMaxLines + kBlock + 8];
};

// Appends the positions of the set bits: as many at once as the processor can, the rest one by one.
[[gnu::always_inline]] inline std::uint16_t* append(std::uint16_t* out, std::uint64_t bits, std::size_t base) noexcept {
  const auto count = static_cast<std::uint32_t>(_mm_popcnt_u64(bits));
  write_places(bits, base, out);
  if (count > kPlacesAtOnce) [[unlikely]] {
    for (std::uint32_t i = 0; i < count; ++i) {
      out[i] = static_cast<std::uint16_t>(base + _tzcnt_u64(bits));
      bits = _blsr_u64(bits);
    }
  }
  return out + count;
}

// Where a datagram may be read, and how far it is looked at.
struct Extent {
  const char* data;
  std::size_t readable; // at least kBlock
  std::size_t limit;    // at most readable
  bool whole;           // the limit is the end of the datagram
};

// The line ends in [begin, limit). A line that no LF ends is ended by the limit if that is the end of the datagram.
[[gnu::always_inline]] inline void find_line_ends(const Extent& extent, std::size_t begin, LineEnds& ends) noexcept {
  const char* const data = extent.data;
  const std::size_t limit = extent.limit;
  std::uint64_t before = 0;
  std::uint16_t* out = ends.at;
  for (std::size_t at = begin; at < limit && out <= ends.at + kMaxLines + 1; at += kBlock) {
    const Block block = block_at(data, extent.readable, at);
    std::uint64_t bits = equal(block.octets, '\n') >> block.shift;
    if (limit - at < kBlock) bits = _bzhi_u64(bits, static_cast<std::uint32_t>(limit - at));
    std::uint64_t candidates = short_lines(bits, before);
    before = bits;
    for (; candidates != 0; candidates = _blsr_u64(candidates)) {
      if (!ends_empty_line(data, at + _tzcnt_u64(candidates))) continue;
      ends.blank = true;
      out = append(out, bits & _blsmsk_u64(candidates), at);
      ends.count = static_cast<std::uint32_t>(out - ends.at);
      return;
    }
    out = append(out, bits, at);
  }
  ends.count = static_cast<std::uint32_t>(out - ends.at);
  const std::size_t next = ends.count == 0 ? begin : ends.at[ends.count - 1] + 1u;
  if (!extent.whole || next >= limit || ends.count > kMaxLines + 1) return;
  ends.blank = limit - next == 1 && data[next] == '\r' && ends.count > 0;
  ends.at[ends.count++] = static_cast<std::uint16_t>(limit);
}

// Loads 32 octets at any place of a datagram without reading past it: near the end, from a padded copy.
class Window {
public:
  Window(const char* data, std::size_t size) noexcept : data_(data), last_(size - 32) {
    const auto tail = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + last_));
    _mm256_store_si256(reinterpret_cast<__m256i*>(tail_), tail);
    _mm256_store_si256(reinterpret_cast<__m256i*>(tail_ + 32), _mm256_setzero_si256());
  }
  const char* at(std::size_t i) const noexcept { return i <= last_ ? data_ + i : tail_ + (i - last_); }

private:
  const char* data_;
  std::size_t last_;
  alignas(32) char tail_[64];
};

// Which octets of the first 32 are white space.
inline std::uint32_t spaces(__m256i octets) noexcept {
  const auto is = [octets](char c) { return _mm256_cmpeq_epi8(octets, _mm256_set1_epi8(c)); };
  return static_cast<std::uint32_t>(
      _mm256_movemask_epi8(_mm256_or_si256(_mm256_or_si256(is(' '), is('\t')), is('\r'))));
}

// The kind of the header whose first `length` octets are its name. Exact: an octet that is a colon follows at once, and
// is compared with the name's own, which makes comparing lengths needless.
template<bool Exact>
[[gnu::always_inline]] inline std::uint64_t look_up(__m256i octets, std::uint32_t length) noexcept {
  const auto first = static_cast<std::uint32_t>(_mm256_cvtsi256_si32(octets));
  const std::size_t at = name_slot(_bzhi_u32(first | 0x2020'2020, length * 8), length, kNameMultiplier);
  const NameSlot& slot = kNameTable.slots[at];
  const auto pattern = _mm256_load_si256(reinterpret_cast<const __m256i*>(slot.pattern));
  const auto fold = _mm256_load_si256(reinterpret_cast<const __m256i*>(slot.fold));
  const auto same =
      static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_or_si256(octets, fold), pattern)));
  const NameMeta meta = kNameTable.metas[at];
  const auto header = static_cast<std::uint64_t>(meta.header);
  if constexpr (Exact) return _bzhi_u32(~same, length + 1) == 0 ? header : 0;
  return meta.length == length && _bzhi_u32(~same, length) == 0 ? header : 0;
}

// A line whose colon is not within its first 32 octets.
[[gnu::noinline]] HeaderLine read_long_name(const char* data, __m256i octets, std::size_t begin,
                                            std::size_t end) noexcept {
  HeaderLine out{static_cast<std::uint16_t>(begin), static_cast<std::uint16_t>(end), static_cast<std::uint16_t>(end),
                 Header::Other, 0};
  const void* found = end - begin > 32 ? std::memchr(data + begin + 32, ':', end - begin - 32) : nullptr;
  if (!found) return out;
  const auto colon = static_cast<std::size_t>(static_cast<const char*>(found) - data);
  out.colon = static_cast<std::uint16_t>(colon);
  const std::uint32_t length = _tzcnt_u32(spaces(octets));
  if (length == 0 || length == 32) return out;
  const auto header = static_cast<Header>(look_up<false>(octets, length));
  if (header == Header::Other) return out;
  for (std::size_t i = begin + length; i < colon; ++i)
    if (data[i] != ' ' && data[i] != '\t' && data[i] != '\r') return out;
  out.header = header;
  return out;
}

// A HeaderLine as one word. Kept in a register: four narrow stores would make the next reader of the line wait.
[[gnu::always_inline]] inline std::uint64_t read_line(const char* data, const Window& window, std::size_t begin,
                                                      std::size_t lf) noexcept {
  const std::size_t end = lf - (data[lf - 1] == '\r');
  const auto octets = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(window.at(begin)));
  const auto colons =
      static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(octets, _mm256_set1_epi8(':'))));
  const std::uint32_t colon = _tzcnt_u32(colons); // 32: none
  if (colon == 32 || colon >= end - begin) [[unlikely]]
    return std::bit_cast<std::uint64_t>(read_long_name(data, octets, begin, end));
  const std::uint64_t places = begin | (begin + colon) << 16 | end << 32;
  if (data[begin + colon - 1] <= ' ')
      [[unlikely]] { // white space before the colon; or no name, and this is the line before
    const std::uint32_t ink = _bzhi_u32(~spaces(octets), colon);
    const std::uint32_t length = ink == 0 ? 0 : 32 - static_cast<std::uint32_t>(__builtin_clz(ink));
    return places | look_up<false>(octets, length) << 48;
  }
  return places | look_up<true>(octets, colon) << 48;
}

inline void put(Index& out, std::size_t i, std::uint64_t line) noexcept {
  std::memcpy(static_cast<void*>(&out.lines[i]), &line, sizeof line);
}

inline bool is_fold(char c) noexcept { return c == ' ' || c == '\t'; }

// Every line but the start line, one by one: for messages with folded headers.
[[gnu::noinline]] void add_folded(const char* data, const Window& window, const LineEnds& ends, std::size_t lines,
                                  Index& out) noexcept {
  for (std::size_t i = 1; i <= lines; ++i) {
    const std::size_t begin = ends.at[i - 1] + 1u;
    if (is_fold(data[begin])) {
      const std::size_t lf = ends.at[i];
      if (out.header_count > 0)
        out.lines[out.header_count].end = static_cast<std::uint16_t>(lf - (data[lf - 1] == '\r'));
      continue;
    }
    if (out.header_count == kMaxHeaders) {
      out.body = 0;
      return;
    }
    put(out, ++out.header_count, read_line(data, window, begin, ends.at[i]));
  }
}

inline void add_lines(const char* data, const Window& window, const LineEnds& ends, std::size_t lines,
                      Index& out) noexcept {
  const std::size_t count = lines < kMaxHeaders ? lines : kMaxHeaders;
  bool folded = lines > kMaxHeaders; // perhaps: the lines after these may continue the last one
  std::size_t lf = ends.at[count];
  for (std::size_t i = count; i > 0; --i) {
    const std::size_t before = ends.at[i - 1];
    const std::uint64_t line = read_line(data, window, before + 1, lf);
    folded |= data[before + 1] <= ' '; // or something stranger, which the longer way reads as well
    put(out, i, line);
    const std::size_t kind = line >> 48;
    out.first[kind] = static_cast<std::uint8_t>(i);
    ++out.counts[kind];
    lf = before;
  }
  out.header_count = static_cast<std::uint16_t>(count);
  if (folded) [[unlikely]] {
    out.header_count = 0;
    out.first = {};
    out.counts = {};
    add_folded(data, window, ends, lines, out);
    for (std::size_t i = out.header_count; i > 0; --i) {
      const auto kind = static_cast<std::size_t>(out.lines[i].header);
      out.first[kind] = static_cast<std::uint8_t>(i);
      ++out.counts[kind];
    }
  }
}

void index_message(const Extent& extent, std::size_t size, std::size_t begin, Index& out) noexcept {
  const Window window(extent.data, extent.readable);
  LineEnds ends;
  find_line_ends(extent, begin, ends);
  if (ends.count == 0) return;
  const std::size_t lf = ends.at[0], end = lf - (extent.data[lf - 1] == '\r');
  StartLine start;
  if (begin == 0 && read_usual_start_line<true>(extent.data, extent.readable, end, start)) [[likely]] {
    out.kind = static_cast<Kind>(start.kind);
    out.method = static_cast<Method>(start.method);
    out.status = static_cast<std::uint16_t>(start.status);
    out.malformation = Malformation::None;
    out.method_token = {0, static_cast<std::uint16_t>(start.method_end)};
    if (start.method_end != 0) out.request_uri = std::bit_cast<Span>((start.method_end + 1) | start.uri_end << 16);
  } else {
    read_start_line({extent.data, size}, begin, end, out);
    if (out.malformation == Malformation::NotSip) return;
  }

  std::size_t lines = ends.count - 1;
  if (lines > kMaxLines) {
    lines = kMaxLines;
    ends.blank = false;
  }
  if (ends.blank) {
    const std::size_t body = ends.at[ends.count - 1] + 1u;
    out.body = static_cast<std::uint16_t>(body < size ? body : size);
    --lines;
  }
  add_lines(extent.data, window, ends, lines, out);
  if (out.header_count == 0 && out.malformation == Malformation::None) {
    out.kind = Kind::Malformed;
    out.malformation = Malformation::NoHeaders;
  }
}

inline bool is_letter(char c) noexcept { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }

[[gnu::always_inline]] inline void index_simd(std::string_view datagram, Index& out) noexcept {
  reset(out);
  const std::size_t size = datagram.size() < 65'535 ? datagram.size() : 65'535;
  const char* data = datagram.data();
  std::size_t begin = 0;
  if (size <= 8 || !is_letter(data[0])) [[unlikely]] {
    if (read_keepalive({data, size}, out)) return;
    begin = skip_line_ends({data, size});
  }
  const std::size_t limit = size < kMaxHeaderOctets ? size : kMaxHeaderOctets;
  if (size >= kBlock) [[likely]]
    return index_message({data, size, limit, limit == size}, size, begin, out);
  char padded[kBlock] = {};
  std::memcpy(padded, data, size);
  index_message({padded, kBlock, limit, true}, size, begin, out);
}

} // namespace
} // namespace sipward::sip
