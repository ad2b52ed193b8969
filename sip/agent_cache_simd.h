// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <bit>

#include "sip/agent_cache.h"
#include "sip/marks.h"

// A name and what is remembered are compared at once. For files compiled for AVX2 and BMI only.
namespace sipward::sip {
namespace {

#if defined(__AVX512BW__) && defined(__AVX512VL__)

// The first `size` <= 32 octets, and zeroes behind them.
[[gnu::always_inline]] inline __m256i first_octets(const char* octets, std::size_t size) noexcept {
  return _mm256_maskz_loadu_epi8(_bzhi_u32(~0u, static_cast<std::uint32_t>(size)), octets);
}
inline bool may_read_32(std::size_t, std::size_t) noexcept { return true; } // what is masked is not read

#else

[[gnu::always_inline]] inline __m256i first_octets(const char* octets, std::size_t size) noexcept {
  // From octet 32 - n on, it lets n octets through.
  alignas(64) static constexpr std::uint64_t kKeep[8] = {~0ull, ~0ull, ~0ull, ~0ull};
  const char* const keep = reinterpret_cast<const char*>(kKeep) + 32 - size;
  return _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(octets)),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keep)));
}
inline bool may_read_32(std::size_t begin, std::size_t end) noexcept { return begin + 32 <= end; }

#endif

} // namespace

class AgentCacheSimd {
public:
  [[gnu::always_inline]] static const AgentCache::Entry& entry(AgentCache& cache, const Marks& marks,
                                                               std::string_view datagram, Span value) noexcept {
    auto word = std::bit_cast<std::uint32_t>(value);
    asm("" : "+r"(word)); // in one piece: the compiler would take it apart in a vector register
    const std::size_t begin = word & 0xffff, end = word >> 16, size = end - begin;
    const char* const octets = datagram.data() + begin;
    if (size - 1 >= AgentCache::kOctets || end < 16 || !may_read_32(begin, datagram.size())) [[unlikely]]
      return cache.look_up(marks, {octets, size});
    const __m256i name = first_octets(octets, size);
    AgentCache::Entry& entry = cache.slot(octets + size);
    const __m256i other =
        _mm256_xor_si256(name, _mm256_load_si256(reinterpret_cast<const __m256i*>(entry.name.data())));
    if (!_mm256_testz_si256(other, other) || entry.marks != marks.id()) [[unlikely]]
      return AgentCache::learn(entry, marks, {octets, size});
    return entry;
  }
};

} // namespace sipward::sip
