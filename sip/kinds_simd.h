// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "sip/index.h"

// Index::first and Index::counts, collected header by header. For files compiled for AVX2 and BMI only.
namespace sipward::sip {
namespace {

#if defined(__AVX512BW__) && defined(__AVX512VL__)

// In two registers, to be stored at once: stores to where a kind belongs, followed so soon by loads of the one or the
// other, make the processor guess which of them meet, and guess wrongly.
class Kinds {
public:
  explicit Kinds(Index&) noexcept {}
  // The next header's.
  [[gnu::always_inline]] void add(std::size_t kind) noexcept {
    seen_ |= 1u << kind;
    place_ = _mm256_sub_epi8(place_, minus_one_);
    last_ = _mm256_mask_mov_epi8(last_, _cvtu32_mask32(1u << kind), place_);
    counts_ = _mm256_mask_sub_epi8(counts_, _cvtu32_mask32(1u << kind), counts_, minus_one_);
  }
  // Bit k: there is one of this kind.
  std::uint32_t seen() const noexcept { return seen_; }
  // False: some known kind was repeated, and `out.first` is its last one.
  [[gnu::always_inline]] bool store(Index& out) const noexcept {
    constexpr __mmask32 kKnown = ~1u;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.first.data()), _mm256_maskz_mov_epi8(kKnown, last_));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.counts.data()), counts_);
    return _mm256_mask_cmpgt_epu8_mask(kKnown, counts_, _mm256_set1_epi8(1)) == 0;
  }

private:
  const __m256i minus_one_ = _mm256_set1_epi8(-1);
  __m256i place_ = _mm256_setzero_si256();
  __m256i last_ = _mm256_setzero_si256(), counts_ = _mm256_setzero_si256();
  std::uint32_t seen_ = 0;
};

#else

class Kinds {
public:
  explicit Kinds(Index& out) noexcept : out_(out) { out.first = {}; }
  [[gnu::always_inline]] void add(std::size_t kind) noexcept {
    out_.first[kind] = static_cast<std::uint8_t>(++headers_);
    seen_ |= 1u << kind;
    others_ += kind == 0;
  }
  std::uint32_t seen() const noexcept { return seen_; }
  // Bits tell how many there are of each, as long as there is one. Stored at once, because it is soon read at once.
  [[gnu::always_inline]] bool store(Index& out) const noexcept {
    const std::uint32_t known = seen_ & ~1u;
    const __m256i octet_of = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, //
                                              2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit_of = _mm256_set1_epi64x(static_cast<long long>(0x8040'2010'0804'0201));
    const __m256i octets = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(known)), octet_of);
    const __m256i ones =
        _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_cmpeq_epi8(_mm256_and_si256(octets, bit_of), bit_of));
    const __m256i others = _mm256_zextsi128_si256(_mm_cvtsi32_si128(static_cast<int>(others_)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.counts.data()), _mm256_or_si256(ones, others));
    out.first[0] = 0;
    return static_cast<std::uint32_t>(_mm_popcnt_u32(known)) + others_ == headers_;
  }

private:
  Index& out_;
  std::uint32_t headers_ = 0, others_ = 0, seen_ = 0;
};

#endif

} // namespace
} // namespace sipward::sip
