// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "sip/message.h"
#include "sip/splats.h"

// 64 octets at once, on AVX2 or AVX-512 as the including file is compiled. Everything here has internal linkage: a copy
// for one processor must never serve another.
namespace sipward::sip {
namespace {

constexpr std::size_t kBlock = 64;

// Made in a register and stored at once: two narrow stores, read as one word soon after, would make the reader wait.
[[gnu::always_inline]] inline Span span_at(std::size_t begin, std::size_t end) noexcept {
  return std::bit_cast<Span>(static_cast<std::uint32_t>(begin | end << 16));
}

inline bool is_white(char c) noexcept { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
inline bool is_control_or_space(char c) noexcept { return static_cast<unsigned char>(c) <= ' '; }

// By low nibble: the white space that has it, or what cannot have it.
alignas(16) constexpr char kSpaceTable[16] = {' ', 0, 0, 0, 0, 0, 0, 0, 0, '\t', '\n', 0, 0, '\r', 0, 0};

// By low nibble: a u, CR and LF as setting bit 5 makes them.
alignas(16) constexpr char kNoteTable[16] = {0, 0, 0, 0, 0, 'u', 0, 0, 0, 0, '\n' | 0x20, 0, 0, '\r' | 0x20, 0, 0};

#if defined(__AVX512BW__) && defined(__AVX512VBMI2__)

// Up to 64 octets at `at` of `readable` >= 64; those behind the last one are zeroes, and are not touched.
class Block {
public:
  Block(const char* data, std::size_t at, std::size_t readable) noexcept
      : Block(data + at, readable - at < kBlock ? _bzhi_u64(~0ull, static_cast<std::uint32_t>(readable - at)) : ~0ull) {
  }
  // 64 octets, all of which may be read.
  static Block whole(const char* from) noexcept { return Block(_mm512_loadu_si512(from)); }
  // The first `length` <= 64 of those at `at`.
  static Block first(const char* data, std::size_t at, std::size_t, std::size_t length) noexcept {
    return {data + at, _bzhi_u64(~0ull, static_cast<std::uint32_t>(length))};
  }
  // Bit i: is it octet i?
  std::uint64_t equal(char c) const noexcept { return bits_of(_mm512_cmpeq_epi8_mask(all_, splat(c))); }
  std::uint64_t not_equal(char c) const noexcept { return bits_of(_mm512_cmpneq_epi8_mask(all_, splat(c))); }
  std::uint64_t at_most(char c) const noexcept { return bits_of(_mm512_cmple_epu8_mask(all_, splat(c))); }
  std::uint64_t between(char low, char high) const noexcept {
    return bits_of(_mm512_cmple_epu8_mask(_mm512_sub_epi8(all_, splat(low)), splat(static_cast<char>(high - low))));
  }
  // The same, but none of these three.
  std::uint64_t between_but(char low, char high, char a, char b, char c) const noexcept {
    const __mmask64 in =
        _mm512_cmple_epu8_mask(_mm512_sub_epi8(all_, splat(low)), splat(static_cast<char>(high - low)));
    const __mmask64 not_a = _mm512_mask_cmpneq_epi8_mask(in, all_, splat(a));
    return bits_of(_mm512_mask_cmpneq_epi8_mask(_mm512_mask_cmpneq_epi8_mask(not_a, all_, splat(b)), all_, splat(c)));
  }
  // Space, tab, CR and LF.
  std::uint64_t spaces() const noexcept {
    const __m512i table = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(kSpaceTable)));
    return bits_of(_mm512_cmpeq_epi8_mask(_mm512_shuffle_epi8(table, all_), all_));
  }

  // Bit i of `lines`: a line begins at octet i; and of `odd`: with white space or a control character, or it is empty.
  // `before` is `octets` and the one in front of it.
  [[gnu::always_inline]] friend void find_lines(const Block& before, const Block& octets, std::uint64_t& lines,
                                                std::uint64_t& odd) noexcept {
    const __mmask64 begins = _mm512_cmpeq_epi8_mask(before.all_, splat('\n'));
    odd = _mm512_mask_cmple_epu8_mask(begins, octets.all_, splat(' ')); // hardly ever any: let it stay a mask
    lines = bits_of(begins);
  }

private:
  // Opaque, so that the compiler moves no arithmetic to mask registers: the way there and back takes ten cycles.
  static std::uint64_t bits_of(__mmask64 mask) noexcept {
    std::uint64_t bits = mask;
    asm("" : "+r"(bits));
    return bits;
  }
  friend class LinesOfNote;
  Block(const char* from, std::uint64_t mask) noexcept : all_(_mm512_maskz_loadu_epi8(mask, from)) {}
  explicit Block(__m512i all) noexcept : all_(all) {}
  static __m512i splat(char c) noexcept { return _mm512_load_si512(kSplats[static_cast<unsigned char>(c)].octets); }
  __m512i all_;
};

// Looks for lines that begin with a u, and for empty ones; a line that begins with - or * is found as well.
class LinesOfNote {
public:
  // Bit i: such a line begins at octet i; `before` is `octets` and the one in front of it.
  [[gnu::always_inline]] std::uint64_t in(const Block& before, const Block& octets) noexcept {
    last_ = _mm512_cmpeq_epi8_mask(before.all_, Block::splat('\n'));
    lines_ = _mm512_mask_sub_epi8(lines_, last_, lines_, one_);
    const __m512i folded = _mm512_or_si512(octets.all_, Block::splat(' '));
    return Block::bits_of(_mm512_mask_cmpeq_epi8_mask(last_, folded, _mm512_shuffle_epi8(table_, folded)));
  }
  // The LFs in the last `before`.
  std::uint64_t last_ends() const noexcept { return Block::bits_of(last_); }
  // No more than 128 lines were seen, for sure (an octet may be looked at twice).
  bool few() const noexcept {
    const __m512i eights = _mm512_sad_epu8(lines_, _mm512_setzero_si512());
    return _mm512_cmpgt_epu64_mask(eights, _mm512_set1_epi64(16)) == 0;
  }

private:
  const __m512i table_ = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(kNoteTable)));
  const __m512i one_ = _mm512_set1_epi8(-1);
  __m512i lines_ = _mm512_setzero_si512();
  __mmask64 last_ = 0;
};

// Writes where bits of one block after another are set, beginning with the block at octet 1.
class PlaceWriter {
public:
  // The next block is that at `at`, and has `count` bits set.
  [[gnu::always_inline]] void write(std::uint64_t bits, std::size_t, std::uint32_t count, std::uint16_t* out) noexcept {
    alignas(64) static constexpr std::uint8_t kIota[64] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const __m512i places = _mm512_maskz_compress_epi8(bits, _mm512_load_si512(kIota));
    store(_mm512_castsi512_si128(places), out);
    if (count > 16) [[unlikely]] {
      store(_mm512_extracti32x4_epi32(places, 1), out + 16);
      store(_mm512_extracti32x4_epi32(places, 2), out + 32);
      store(_mm512_extracti32x4_epi32(places, 3), out + 48);
    }
    at_ = _mm256_add_epi16(at_, _mm256_set1_epi16(kBlock));
  }

private:
  [[gnu::always_inline]] void store(__m128i places, std::uint16_t* out) const noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_add_epi16(_mm256_cvtepu8_epi16(places), at_));
  }
  __m256i at_ = _mm256_set1_epi16(1);
};
#else

// Up to 64 octets at `at` of `readable` >= 64. Near the end the last 64 octets are loaded, and the bits moved down.
class Block {
public:
  Block(const char* data, std::size_t at, std::size_t readable) noexcept : Block(data, at, readable, kBlock) {}
  // 64 octets, all of which may be read.
  static Block whole(const char* from) noexcept { return {from, 0, kBlock, kBlock}; }
  // The first `length` <= 64 of those at `at`.
  static Block first(const char* data, std::size_t at, std::size_t readable, std::size_t length) noexcept {
    return {data, at, readable, length};
  }
  // Bit i: is it octet i?
  std::uint64_t equal(char c) const noexcept {
    const __m256i wanted = splat(c);
    return bits_of(_mm256_cmpeq_epi8(low_, wanted), _mm256_cmpeq_epi8(high_, wanted));
  }
  std::uint64_t not_equal(char c) const noexcept { return ~equal(c); }
  std::uint64_t at_most(char c) const noexcept { return at_most(low_, high_, c) | ~keep_; } // as if zeroes followed
  std::uint64_t between(char low, char high) const noexcept {
    const __m256i base = splat(low);
    return at_most(_mm256_sub_epi8(low_, base), _mm256_sub_epi8(high_, base), static_cast<char>(high - low));
  }
  std::uint64_t between_but(char low, char high, char a, char b, char c) const noexcept {
    return between(low, high) & ~(equal(a) | equal(b) | equal(c));
  }
  // Space, tab, CR and LF.
  std::uint64_t spaces() const noexcept {
    const __m256i table = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(kSpaceTable)));
    return bits_of(_mm256_cmpeq_epi8(_mm256_shuffle_epi8(table, low_), low_),
                   _mm256_cmpeq_epi8(_mm256_shuffle_epi8(table, high_), high_));
  }

  [[gnu::always_inline]] friend void find_lines(const Block& before, const Block& octets, std::uint64_t& lines,
                                                std::uint64_t& odd) noexcept {
    lines = before.equal('\n');
    odd = lines & octets.at_most(' ');
  }

private:
  friend class LinesOfNote;
  Block(const char* data, std::size_t at, std::size_t readable, std::size_t length) noexcept
      : over_(static_cast<std::uint32_t>(at + kBlock > readable ? at + kBlock - readable : 0)),
        keep_(_bzhi_u64(~0ull >> over_, static_cast<std::uint32_t>(length))) {
    const char* from = data + at - over_;
    low_ = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    high_ = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32));
  }
  static __m256i splat(char c) noexcept {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(kSplats[static_cast<unsigned char>(c)].octets));
  }
  std::uint64_t bits_of(__m256i low, __m256i high) const noexcept {
    const std::uint64_t bits = static_cast<std::uint32_t>(_mm256_movemask_epi8(low)) |
                               static_cast<std::uint64_t>(static_cast<std::uint32_t>(_mm256_movemask_epi8(high))) << 32;
    return bits >> over_ & keep_;
  }
  std::uint64_t at_most(__m256i low, __m256i high, char c) const noexcept {
    const __m256i most = splat(c);
    return bits_of(_mm256_cmpeq_epi8(_mm256_max_epu8(low, most), most),
                   _mm256_cmpeq_epi8(_mm256_max_epu8(high, most), most));
  }
  std::uint32_t over_;
  std::uint64_t keep_;
  __m256i low_, high_;
};

class LinesOfNote {
public:
  [[gnu::always_inline]] std::uint64_t in(const Block& before, const Block& octets) noexcept {
    last_ = before.equal('\n');
    lines_ += static_cast<std::uint32_t>(_mm_popcnt_u64(last_));
    const __m256i table = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(kNoteTable)));
    const __m256i low = _mm256_or_si256(octets.low_, Block::splat(' '));
    const __m256i high = _mm256_or_si256(octets.high_, Block::splat(' '));
    return last_ & octets.bits_of(_mm256_cmpeq_epi8(low, _mm256_shuffle_epi8(table, low)),
                                  _mm256_cmpeq_epi8(high, _mm256_shuffle_epi8(table, high)));
  }
  std::uint64_t last_ends() const noexcept { return last_; }
  bool few() const noexcept { return lines_ <= 128; }

private:
  std::uint32_t lines_ = 0;
  std::uint64_t last_ = 0;
};

class PlaceWriter {
public:
  [[gnu::always_inline]] void write(std::uint64_t bits, std::size_t at, std::uint32_t count,
                                    std::uint16_t* out) noexcept {
    const auto next = [&bits, at] {
      const auto place = static_cast<std::uint16_t>(at + _tzcnt_u64(bits));
      bits = _blsr_u64(bits);
      return place;
    };
    for (std::uint32_t i = 0; i < 8; ++i) out[i] = next();
    for (std::uint32_t i = 8; i < count; ++i) [[unlikely]] out[i] = next();
  }
};

#endif

// Appends the place of each bit set in the block at `at`; up to kBlock may be written, whatever they mean.
[[gnu::always_inline]] inline std::uint16_t* append(PlaceWriter& writer, std::uint16_t* out, std::uint64_t bits,
                                                    std::size_t at) noexcept {
  const auto count = static_cast<std::uint32_t>(_mm_popcnt_u64(bits));
  writer.write(bits, at, count, out);
  return out + count;
}

// `pointer`, once `number` is known. What is loaded from there need not guess, then, whether it meets one of the stores
// before it, when where those go follows from `number` too: a wrong guess takes back everything behind it.
template<class T>
[[gnu::always_inline]] inline const T* behind(const T* pointer, std::size_t number) noexcept {
  asm("and $0, %0" : "+r"(number) : : "cc");
  return pointer + number;
}

// Does the value that ends with this LF end with CRLF behind something visible?
[[gnu::always_inline]] inline bool ends_usually(const char* data, std::size_t lf) noexcept {
  std::uint16_t last;
  std::memcpy(&last, data + lf - 2, sizeof last);
  constexpr std::uint32_t kCrInk = '\r' << 8 | '!', kInks = 0xff - '!';
  return last - kCrInk <= kInks;
}

} // namespace
} // namespace sipward::sip
