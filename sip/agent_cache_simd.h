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
  [[gnu::always_inline]] static const Mark* find(AgentCache& cache, const Marks& marks, std::string_view datagram,
                                                 Span value) noexcept {
    if (!AgentCache::is_kept(value) || !may_read_32(value.begin, datagram.size())) [[unlikely]]
      return cache.find_plain(marks, datagram, value);
    const __m256i octets = first_octets(datagram.data() + value.begin, value.size());
    AgentCache::Entry& entry = cache.entry_of(datagram.data() + value.end);
    const __m256i other =
        _mm256_xor_si256(octets, _mm256_load_si256(reinterpret_cast<const __m256i*>(entry.name.data())));
    if (!_mm256_testz_si256(other, other) || entry.marks != marks.id()) [[unlikely]]
      AgentCache::learn(entry, std::bit_cast<AgentCache::Words>(octets), marks, value.in(datagram));
    return entry.mark;
  }
};

} // namespace sipward::sip
