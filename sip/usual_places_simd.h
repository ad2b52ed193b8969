// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>

#include "sip/index.h"
#include "sip/lanes.h"

// Where the values of a message stand if they are written as nearly everybody writes them. For files compiled for AVX2
// and BMI only.
namespace sipward::sip {
namespace {

// By the place of the header, made at once.
class UsualPlaces {
public:
  static constexpr std::size_t kMost = 31; // headers of a message that is read so

  [[gnu::always_inline]] explicit UsualPlaces(const Index& index) noexcept {
    constexpr int kShift = 2 - (2 << 16); // behind ": ", and before CRLF
    static_assert(sizeof(Index::Place) == 4 && sizeof(Index::places) >= 4 * (kMost + 2));
    const Index::Place* const places = behind(index.places.data(), index.header_count);
#if defined(__AVX512BW__)
    for (std::size_t i = 0; i < words_.size(); i += 16) {
      const __m512i own = _mm512_loadu_si512(places + i), next = _mm512_loadu_si512(places + i + 1);
      const __m512i sum = _mm512_add_epi32(_mm512_srli_epi32(own, 16), _mm512_slli_epi32(next, 16));
      _mm512_store_si512(&words_[i], _mm512_add_epi32(sum, _mm512_set1_epi32(kShift)));
    }
#else
    const auto load = [places](std::size_t i) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(places + i));
    };
    for (std::size_t i = 0; i < words_.size(); i += 8) {
      const __m256i sum = _mm256_add_epi32(_mm256_srli_epi32(load(i), 16), _mm256_slli_epi32(load(i + 1), 16));
      _mm256_store_si256(reinterpret_cast<__m256i*>(&words_[i]), _mm256_add_epi32(sum, _mm256_set1_epi32(kShift)));
    }
#endif
  }
  // A Span in one word: from two octets behind the colon of the header at place i to two before the next line, where
  // CRLF begins. Where there is no such header it means nothing; nor in a message of more than kMost headers.
  [[gnu::always_inline]] std::uint32_t operator[](std::size_t i) const noexcept { return words_[i]; }

private:
  alignas(64) std::array<std::uint32_t, kMost + 1> words_;
};

} // namespace
} // namespace sipward::sip
