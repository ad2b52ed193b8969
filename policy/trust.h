// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "policy/atomic.h"
#include "policy/source_table.h"

// Who has shown himself an honest party: our server answered his REGISTER or his call with success. What is known of
// each, in a table of its own, so that a flood of strangers pushes out none of them.
namespace sipward::policy {

// How much a source is trusted: limits grow with it (kTrustFactors). None: a stranger.
inline constexpr std::size_t kTrustLevels = 5;
inline constexpr std::array<std::uint32_t, kTrustLevels> kTrustFactors{1, 4, 16, 64, 256};

// Somebody known who comes from a new address is trusted there for so long, until our server answers him.
inline constexpr std::uint32_t kProvisionalS = 60;

struct alignas(64) Trustee {
  Atomic<SourceKey> key;                      // 0: an empty line
  std::array<Atomic<std::uint64_t>, 4> users; // linear counting of those who registered: one bit of 256 per hash
  Atomic<std::uint32_t> until_s, since_s;     // trusted until then, unless it succeeds again; and since when
  Atomic<std::uint32_t> hour;                 // the hour in which it succeeded last ...
  Atomic<std::uint32_t> this_hour, last_hour; // ... successes of any kind in it, and in the hour before
  Atomic<std::uint32_t> heard_s;              // the last success since we started; 0: none yet

  void count_user(std::uint64_t hash) noexcept {
    users[hash >> 62].fetch_or(std::uint64_t{1} << (hash >> 56 & 63), std::memory_order_relaxed);
  }
  std::uint32_t registered() const noexcept { // an estimate; saturates at 1,420
    int empty = 256;
    for (const auto& word : users) empty -= std::popcount(word.load(std::memory_order_relaxed));
    return static_cast<std::uint32_t>(std::lround(-256.0 * std::log((empty > 0 ? empty : 1) / 256.0)));
  }
  // One more success. Two workers may lose one.
  void count_answer(std::uint32_t now_s) noexcept {
    heard_s.store(now_s + 1, std::memory_order_relaxed);
    const std::uint32_t now_hour = now_s / 3600, before = hour.load(std::memory_order_relaxed);
    const std::uint32_t count = this_hour.load(std::memory_order_relaxed);
    if (now_hour == before) return this_hour.store(count + 1, std::memory_order_relaxed);
    last_hour.store(now_hour == before + 1 ? count : 0, std::memory_order_relaxed);
    this_hour.store(1, std::memory_order_relaxed);
    hour.store(now_hour, std::memory_order_relaxed);
  }
  void resume_answers(std::uint32_t per_hour, std::uint32_t now_s) noexcept { // after a restart
    hour.store(now_s / 3600, std::memory_order_relaxed);
    this_hour.store(0, std::memory_order_relaxed);
    last_hour.store(per_hour, std::memory_order_relaxed);
  }
  std::uint32_t answered_per_hour() const noexcept { // of its last two hours the busier
    return std::max(this_hour.load(std::memory_order_relaxed), last_hour.load(std::memory_order_relaxed));
  }
  bool heard() const noexcept { return heard_s.load(std::memory_order_relaxed) != 0; }
  bool provisional(std::uint32_t now_s) const noexcept {
    return !heard() && until_s.load(std::memory_order_relaxed) <= now_s + kProvisionalS;
  }
  bool valid(std::uint32_t now_s) const noexcept { return until_s.load(std::memory_order_relaxed) > now_s; }
  // 1 for a home, 2 for an office, 3 for a large one, 4 beyond: users or, of a trunk that registers none, answers.
  std::uint8_t level() const noexcept {
    const std::uint32_t size = std::max(registered(), answered_per_hour() / kAnswersLikeAUser);
    return size <= 8 ? 1 : size <= 64 ? 2 : size <= 512 ? 3 : 4;
  }

  static constexpr std::uint32_t kAnswersLikeAUser = 64; // an hour: a phone that registers anew each minute has 60
};
static_assert(sizeof(Trustee) == 64);

class TrustTable {
public:
  static std::size_t octets(std::uint32_t capacity) noexcept { return lines_for(capacity) * sizeof(Trustee); }
  // `memory`: at least octets(capacity), aligned to 64, kept by the caller for as long as the table lives.
  TrustTable(std::span<std::byte> memory, std::uint32_t capacity, Secret secret) noexcept;
  TrustTable(const TrustTable&) = delete;
  TrustTable& operator=(const TrustTable&) = delete;

  // Any thread. nullptr: not trusted, or no longer.
  Trustee* find(SourceKey key, std::uint32_t now_s) const noexcept;
  // Any worker, or the control thread while it restores what was known. In a full bucket the one whose trust ends
  // soonest makes room.
  Trustee* find_or_insert(SourceKey key, std::uint32_t now_s) noexcept;
  void forget(SourceKey key) noexcept;                               // any thread
  bool forgotten(SourceKey key, std::uint32_t now_s) const noexcept; // it was trusted, and has not been displaced

  // Control thread. Takes over whom another table trusts, each for as long as that one does.
  void copy(const TrustTable& other, std::uint32_t now_s) noexcept;

  // Control thread: every trustee of lines [from, from + count).
  template<typename Each>
  void each(std::size_t from, std::size_t count, std::uint32_t now_s, Each take) const {
    for (std::size_t i = from; i < from + count && i <= mask_ * kWays + kWays - 1; ++i)
      if (lines_[i].key.load(std::memory_order_acquire) != 0 && lines_[i].valid(now_s)) take(lines_[i]);
  }
  std::size_t lines() const noexcept { return (mask_ + 1) * kWays; }

private:
  static constexpr std::size_t kWays = 8;
  static std::size_t lines_for(std::uint32_t capacity) noexcept {
    return std::bit_ceil(std::size_t{capacity < kWays ? std::uint32_t{kWays} : capacity});
  }
  Trustee* bucket_of(SourceKey key) const noexcept { return &lines_[(keyed_hash(key, secret_) & mask_) * kWays]; }

  Trustee* lines_;
  std::size_t mask_; // of buckets
  Secret secret_;
};

// Control thread. Whoever is trusted in a prefix, each as a source of the table is; and the peers in it.
std::vector<Prefix> trusted_within(const TrustTable& trust, std::span<const Prefix> peers, const Prefix& prefix,
                                   std::uint8_t ipv6_prefix, std::uint32_t now_s);

} // namespace sipward::policy
