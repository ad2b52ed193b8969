// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "policy/atomic.h"

// A fixed-size memory of hashes: when each was met last, and a note of eight bits. Lossy by design: a full bucket of
// eight (one cache line) forgets its oldest, and of two workers who write one place at once the later stays. Whoever
// asks must be content with "not that I know of". No locks, no allocation, any number of threads.
//
//   a place   | tag, 36 bits | when, 20 bits | note, 8 bits |     0: empty
//
// `when` counts in the caller's unit, modulo 2^20: seconds come round after 12 days, minutes after two years.
namespace sipward::policy {

class RecentSet {
public:
  // Octets of memory for so many hashes, a multiple of 64. The number is rounded up to a power of two.
  static std::size_t octets(std::uint32_t entries) noexcept { return places_for(entries) * sizeof(std::uint64_t); }

  // `memory`: at least octets(entries), aligned to 64, kept by the caller for as long as this lives.
  RecentSet(std::span<std::byte> memory, std::uint32_t entries) noexcept
      : places_(reinterpret_cast<Atomic<std::uint64_t>*>(memory.data())), mask_(places_for(entries) / kWays - 1) {
    std::uninitialized_value_construct_n(places_, places_for(entries));
  }
  RecentSet(const RecentSet&) = delete;
  RecentSet& operator=(const RecentSet&) = delete;

  // Any thread. A hash that is about to be asked for.
  void prefetch(std::uint64_t hash) const noexcept { __builtin_prefetch(bucket_of(hash), 1); }

  // Any thread. The note of a hash that was put at most `lifetime` before `when`.
  std::optional<std::uint8_t> find(std::uint64_t hash, std::uint32_t when, std::uint32_t lifetime) const noexcept {
    const Atomic<std::uint64_t>* const bucket = bucket_of(hash);
    for (std::size_t i = 0; i < kWays; ++i) {
      const std::uint64_t place = bucket[i].load(std::memory_order_relaxed);
      if (place >> kTagShift == hash >> kTagShift && place != 0 && age(place, when) <= lifetime)
        return static_cast<std::uint8_t>(place);
    }
    return std::nullopt;
  }

  // Any thread. Puts a hash, or changes what stands there for it.
  void put(std::uint64_t hash, std::uint32_t when, std::uint8_t note) noexcept {
    Atomic<std::uint64_t>* const bucket = bucket_of(hash);
    std::size_t oldest = 0;
    std::uint32_t most = 0;
    for (std::size_t i = 0; i < kWays; ++i) {
      const std::uint64_t place = bucket[i].load(std::memory_order_relaxed);
      if (place != 0 && place >> kTagShift == hash >> kTagShift) {
        oldest = i;
        break;
      }
      const std::uint32_t worth = place == 0 ? kNever : age(place, when);
      if (worth >= most) most = worth, oldest = i;
    }
    bucket[oldest].store(hash >> kTagShift << kTagShift | std::uint64_t{when & kWhenMask} << kNoteBits | note,
                         std::memory_order_relaxed);
  }

  // Any thread. True: it was there. A worker who puts it at the same moment may bring it back.
  bool forget(std::uint64_t hash) noexcept {
    Atomic<std::uint64_t>* const bucket = bucket_of(hash);
    bool was_there = false;
    for (std::size_t i = 0; i < kWays; ++i) {
      const std::uint64_t place = bucket[i].load(std::memory_order_relaxed);
      if (place == 0 || place >> kTagShift != hash >> kTagShift) continue;
      bucket[i].store(0, std::memory_order_relaxed);
      was_there = true;
    }
    return was_there;
  }

  // What is left of a hash in here: enough to put it, or to forget it, in a set of as many places.
  std::uint64_t kept(std::uint64_t hash) const noexcept { return (hash >> kTagShift << kTagShift) | (hash & mask_); }
  // Any thread; approximate while others put. Every hash that was put at most `lifetime` before `when`, as it is kept,
  // with its age and its note.
  template<typename Take>
  void each(std::uint32_t when, std::uint32_t lifetime, Take take) const {
    for (std::uint64_t i = 0; i < (mask_ + 1) * kWays; ++i) {
      const std::uint64_t place = places_[i].load(std::memory_order_relaxed);
      if (place == 0 || age(place, when) > lifetime) continue;
      take(place >> kTagShift << kTagShift | i / kWays, age(place, when), static_cast<std::uint8_t>(place));
    }
  }
  // Any thread. Takes over what stands in another set of as many places, approximately while others put into that one.
  void copy(const RecentSet& other) noexcept {
    for (std::uint64_t i = 0; i < (mask_ + 1) * kWays; ++i)
      places_[i].store(other.places_[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
  }

private:
  static constexpr std::size_t kWays = 8;
  static constexpr unsigned kNoteBits = 8, kTagShift = 28;
  static constexpr std::uint32_t kWhenMask = 0xf'ffff, kNever = kWhenMask + 1, kAhead = 4;
  static std::size_t places_for(std::uint32_t entries) noexcept {
    return std::bit_ceil(std::size_t{entries < kWays ? std::uint32_t{kWays} : entries});
  }
  // Another worker's clock may be a moment ahead: what it has just put is not old.
  static std::uint32_t age(std::uint64_t place, std::uint32_t when) noexcept {
    const std::uint32_t age = (when - static_cast<std::uint32_t>(place >> kNoteBits)) & kWhenMask;
    return age > kWhenMask - kAhead ? 0 : age;
  }
  Atomic<std::uint64_t>* bucket_of(std::uint64_t hash) const noexcept { return &places_[(hash & mask_) * kWays]; }

  Atomic<std::uint64_t>* places_;
  std::uint64_t mask_; // of buckets: the tag's bits are others
};

} // namespace sipward::policy
