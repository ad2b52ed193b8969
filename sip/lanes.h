// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// 64 octets at once, on AVX2 or AVX-512 as the including file is compiled. Everything here has internal linkage: a copy
// for one processor must never serve another.
namespace sipward::sip {
namespace {

constexpr std::size_t kBlock = 64;

#if defined(__AVX512BW__) && defined(__AVX512VBMI2__)

struct Octets {
  __m512i all;
};
inline Octets load_octets(const char* at) noexcept { return {_mm512_loadu_si512(at)}; }
inline Octets folded(Octets o) noexcept { return {_mm512_or_si512(o.all, _mm512_set1_epi8(0x20))}; }
inline std::uint64_t equal(Octets o, char c) noexcept { return _mm512_cmpeq_epi8_mask(o.all, _mm512_set1_epi8(c)); }
inline std::uint64_t equal_either(Octets o, char a, char b) noexcept { return equal(o, a) | equal(o, b); }

// Writes base + the place of each of the first 32 set bits; anything may stand behind those, up to out[31].
inline void write_places(std::uint64_t bits, std::size_t base, std::uint16_t* out) noexcept {
  alignas(64) static constexpr std::uint8_t kIota[64] = {
      0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
      22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
      44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
  const __m512i places = _mm512_maskz_compress_epi8(bits, _mm512_load_si512(kIota));
  const __m512i wide = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(places));
  _mm512_storeu_si512(out, _mm512_add_epi16(wide, _mm512_set1_epi16(static_cast<short>(base))));
}
constexpr std::uint32_t kPlacesAtOnce = 32;

#else

struct Octets {
  __m256i low, high;
};
inline Octets load_octets(const char* at) noexcept {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 32))};
}
inline Octets folded(Octets o) noexcept {
  const __m256i fold = _mm256_set1_epi8(0x20);
  return {_mm256_or_si256(o.low, fold), _mm256_or_si256(o.high, fold)};
}
inline std::uint64_t bits_of(__m256i low, __m256i high) noexcept {
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(low)) |
         static_cast<std::uint64_t>(static_cast<std::uint32_t>(_mm256_movemask_epi8(high))) << 32;
}
inline std::uint64_t equal(Octets o, char c) noexcept {
  const __m256i wanted = _mm256_set1_epi8(c);
  return bits_of(_mm256_cmpeq_epi8(o.low, wanted), _mm256_cmpeq_epi8(o.high, wanted));
}
inline std::uint64_t equal_either(Octets o, char a, char b) noexcept {
  const __m256i x = _mm256_set1_epi8(a), y = _mm256_set1_epi8(b);
  return bits_of(_mm256_or_si256(_mm256_cmpeq_epi8(o.low, x), _mm256_cmpeq_epi8(o.low, y)),
                 _mm256_or_si256(_mm256_cmpeq_epi8(o.high, x), _mm256_cmpeq_epi8(o.high, y)));
}
inline void write_places(std::uint64_t bits, std::size_t base, std::uint16_t* out) noexcept {
  for (int i = 0; i < 4; ++i) {
    out[i] = static_cast<std::uint16_t>(base + _tzcnt_u64(bits));
    bits = _blsr_u64(bits);
  }
}
constexpr std::uint32_t kPlacesAtOnce = 4;

#endif

// The block at `at` of `readable` >= 64 octets. Near the end the last 64 octets are loaded, and the bits moved down.
struct Block {
  Octets octets;
  std::uint32_t shift;
};
inline Block block_at(const char* data, std::size_t readable, std::size_t at) noexcept {
  const std::size_t over = at + kBlock > readable ? at + kBlock - readable : 0;
  return {load_octets(data + at - over), static_cast<std::uint32_t>(over)};
}

// Bits of a block at which an empty line may end: a line end with another one or two octets before it. `before` is the
// block before this one.
inline std::uint64_t short_lines(std::uint64_t lf, std::uint64_t before) noexcept {
  return lf & ((lf << 1 | before >> 63) | (lf << 2 | before >> 62));
}
inline bool ends_empty_line(const char* data, std::size_t lf) noexcept {
  return data[lf - 1] == '\n' || (data[lf - 1] == '\r' && data[lf - 2] == '\n');
}

} // namespace
} // namespace sipward::sip
