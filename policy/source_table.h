// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "policy/address.h"
#include "policy/meter.h"
#include "policy/time.h"

// The source table: what is known of each sender, one 64-byte cache line apiece, in memory that the caller hands in.
//
// Fixed capacity, no locks, no allocation. Several workers read and write the same lines: each field is an atomic of
// its own, and no field's value promises anything about another's. A source lives in one of the kWays lines after its
// hash's slot (an open addressing window of fixed size). When the window is full the newcomer takes the line of a
// forgettable source: one whose meters have drained and that is not blocked. Nothing is lost by that, since an unknown
// source would be treated the same.
namespace sipward::policy {

// One point in time, in every unit that a line uses. Made once per burst.
struct Now {
  explicit Now(Time at) noexcept
      : time(at), tick(ticks(at)), ms(static_cast<std::uint32_t>(at.time_since_epoch().count() / 1'000'000)),
        s(static_cast<std::uint32_t>(at.time_since_epoch().count() / 1'000'000'000)) {}
  Time time;
  Ticks tick;
  std::uint32_t ms; // modulo 2^32
  std::uint32_t s;
};

// The classes of traffic that are metered apart.
enum class Class : std::uint8_t { Register, Invite, Options, Request, Malformed };
inline constexpr std::size_t kClasses = 5;

// What tells sources apart: an IPv4 address, or the first `ipv6_prefix` (at most 64) bits of an IPv6 address. Never 0.
using SourceKey = std::uint64_t;
SourceKey source_key(const Address& address, std::uint8_t ipv6_prefix) noexcept;

struct alignas(64) Source {
  std::atomic<SourceKey> key;
  std::atomic<std::uint64_t> users;               // linear counting of the users tried: one bit of 64 per hash
  std::array<std::atomic<Ticks>, kClasses> tat;   // theoretical arrival times, see Meter
  std::atomic<std::uint32_t> seen_s;              // last packet
  std::atomic<std::uint32_t> packets;             // since the line was made
  std::atomic<std::uint32_t> busy_since_ms;       // when the meters last left empty
  std::atomic<std::uint32_t> busy_packets;        // packets since then
  std::atomic<std::uint32_t> blocked_until_s;     // 0: not blocked
  std::atomic<std::uint32_t> reported_s;          // the last offence that went to the control thread; 0: none
  std::atomic<std::uint16_t> failures, successes; // answers seen to its REGISTERs, saturating

  // Worker thread. Notes one more packet, and forgets meters that lie further back than their clock reaches.
  void touch(const Now& now) noexcept;
  // Worker thread. One more request of a class: does it keep within the rate?
  bool meter(Class c, const Meter& limit, const Now& now) noexcept;
  // Worker thread. True for one caller a second: the one that reports this source's offence.
  bool claim_report(const Now& now) noexcept;

  void try_user(std::uint64_t hash) noexcept {
    users.fetch_or(std::uint64_t{1} << (hash >> 58), std::memory_order_relaxed);
  }
  std::uint32_t users_tried() const noexcept; // an estimate; saturates at 266
  bool blocked(const Now& now) const noexcept { return blocked_until_s.load(std::memory_order_relaxed) > now.s; }
  bool drained(const Now& now) const noexcept;
  bool forgettable(const Now& now) const noexcept { return !blocked(now) && drained(now); }
  double rate_per_s(const Now& now) const noexcept; // since it became busy; 0 while there is only an instant to measure
};
static_assert(sizeof(Source) == 64, "a source is one cache line");

class SourceTable {
public:
  static constexpr std::size_t kWays = 8;
  struct Secret {
    std::uint64_t a, b;
  };
  // Octets of memory that a table of `capacity` sources needs. The capacity is rounded up to a power of two.
  static std::size_t octets(std::uint32_t capacity) noexcept;

  // `memory`: at least octets(capacity), aligned to 64, kept by the caller for as long as the table lives. `secret`
  // keys the hash: drawn at random, nobody outside can aim at one window.
  SourceTable(std::span<std::byte> memory, std::uint32_t capacity, Secret secret) noexcept;
  SourceTable(const SourceTable&) = delete;
  SourceTable& operator=(const SourceTable&) = delete;

  // Any thread.
  Source* find(SourceKey key) noexcept;
  // Any worker. nullptr: every line of the window is pinned by a blocked source; judge the packet by itself (counted).
  Source* find_or_insert(SourceKey key, const Now& now) noexcept;

  // Any thread; approximate while workers run.
  struct Occupancy {
    std::uint64_t used, evicted,
        pinned; // lines taken; sources displaced before they were forgettable; newcomers turned away
  };
  Occupancy occupancy() const noexcept;
  std::uint32_t capacity() const noexcept { return static_cast<std::uint32_t>(lines_.size()); }
  // A keyed hash of any 64-bit value, for the estimators.
  std::uint64_t hash(std::uint64_t value) const noexcept;

private:
  std::size_t slot(SourceKey key) const noexcept { return hash(key) & mask_; }
  Source* claim(SourceKey key, std::size_t first, const Now& now, bool& retry) noexcept;

  std::span<Source> lines_;
  std::size_t mask_;
  Secret secret_;
  alignas(64) std::atomic<std::uint64_t> used_ = 0;
  std::atomic<std::uint64_t> evicted_ = 0, pinned_ = 0;
};

} // namespace sipward::policy
