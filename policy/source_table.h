// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "policy/address.h"
#include "policy/atomic.h"
#include "policy/keyed_hash.h"
#include "policy/meter.h"
#include "policy/time.h"

// The source table: what is known of each sender, one 64-byte cache line apiece, in memory that the caller hands in.
//
// Fixed capacity, no locks, no allocation. The lines stand in buckets of eight; a source lives in the bucket that its
// hash names. One octet of the hash, its tag, stands apart, the eight tags of a bucket in one word, so that a source
// costs the fetch of one line however full its bucket is, and an unknown one of none:
//
//   tags    [ t0 t1 .. t7 ][ .. ] ..            one octet for each line
//             |  |      |
//   lines   [ s0 s1 .. s7 ][ .. ] ..            64 octets each
//
// When the bucket is full the newcomer takes the line of a forgettable source: one whose meters have drained and that
// is not pinned by a block. Nothing is lost by that, since an unknown source would be treated the same. Without one it
// takes the least indebted source's; a pinned one's never.
//
// What holds while several workers and the control thread use it at once (tests/source_table_model_test.cpp goes
// through all interleavings of small cases):
// - Once every call has returned, no key stands twice, and whoever was inserted or blocked is found until somebody else
//   takes the line by the rules above. While calls run, one key may stand in two lines; all but the first are given up
//   before the calls that made them return, with what other workers have metered there since (not a block: it moves).
// - No request is metered twice or not at all in one line; two workers may lose a packet of its counts.
// - A pinned line is never taken, not even if the block comes while a newcomer is choosing it.
// - A fresh line carries nothing of the source before it, but for this: a worker holds its pointer for one packet; if
//   the line changes hands meanwhile, that packet's marks land on the new source. Never its block.
// - find() may miss a source in the few stores while its line is being blocked or unblocked; find_or_insert() waits.
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
inline constexpr std::size_t kFailureMeter = kClasses, kMeters = kClasses + 1; // failures drain like a meter too

// What tells sources apart: an IPv4 address, or the first `ipv6_prefix` (at most 64) bits of an IPv6 address. Prefixes
// of either family have keys of their own, so that their meters may live in the same table. Multicast is nobody's
// source address, so whatever is no IPv6 source is told by a first octet of ff:
//
//   0000 0000 0000 0000   an empty line            pppp pppp pppp pppp   IPv6 source: the prefix
//   ffff 0000 aaaa aaaa   IPv4 source              ffpp pppp pppp pppp   IPv6 prefix, at most 56 bits of it
//   ffff 0001 aaaa aaaa   IPv4 prefix              ffff ffff ffff ffff   and one below: the table's own
//
// A prefix's length is not in its key: prefixes in one table are all of one length for each family.
using SourceKey = std::uint64_t;
SourceKey source_key(const Address& address, std::uint8_t ipv6_prefix) noexcept;
SourceKey prefix_key(const Prefix& prefix) noexcept;
Prefix source_prefix(SourceKey key, std::uint8_t ipv6_prefix) noexcept; // of a source's key: the source, as a prefix

struct alignas(64) Source {
  Atomic<SourceKey> key;
  Atomic<std::uint64_t> users;            // linear counting of the users tried in vain: one bit of 64 per hash
  std::array<Atomic<Ticks>, kMeters> tat; // theoretical arrival times, see Meter
  Atomic<std::uint32_t> seen_s;           // last packet
  Atomic<std::uint32_t> blocked_until_s;  // 0: not blocked. Written by SourceTable::block() only
  Atomic<std::uint32_t> packets;          // since the line was made
  Atomic<std::uint32_t> busy_since_ms;    // when the meters last left empty, or later: see touch()
  Atomic<std::uint16_t> busy_packets;     // packets since then
  Atomic<std::uint16_t> flags;            // below
  // Of its tries, saturating: rejected, answered with success, and challenged without showing credentials as yet.
  Atomic<std::uint8_t> failures, successes, unanswered;

  static constexpr std::uint16_t kReported = 0x003f; // the second of the last report, modulo 63, and 1; 0: none yet
  static constexpr std::uint16_t kProven = 0x0040;   // has echoed what only a receiver of our answers can know
  static constexpr std::uint16_t kFlooding = 0x0080; // was convicted of a flood, and its meter is still full
  static constexpr std::uint16_t kLimited = 0x0100;  // it stands limited: what exceeds a rate is dropped
  static constexpr std::uint16_t kWatched = 0x0200;  // something stands in the endpoints' table
  static constexpr std::uint16_t kSoft = 0x0c00;     // soft marks: the most of one message, up to 3
  static constexpr std::uint16_t kLevel = 0x7000;    // of trust (trust.h)
  static constexpr unsigned kSoftShift = 10, kLevelShift = 12;

  // Worker thread. Notes one more packet, forgets meters that lie further back than their clock reaches, and of the
  // users tried an eighth for every `users_s` seconds gone by. True for the first packet of this line, and for every
  // 64th after it: time to look again at whom we trust.
  bool touch(const Now& now, std::uint32_t users_s = 0) noexcept; // 0: none
  // Worker thread. Notes one more packet, and no more: its sender is blocked. True: as above.
  bool count_packet() noexcept;
  // Worker thread. One more request of a class, or `weight` eighths of one: does it keep within the rate?
  bool meter(std::size_t which, const Meter& limit, const Now& now, unsigned weight = Meter::kWhole) noexcept;
  bool meter(Class c, const Meter& limit, const Now& now, unsigned weight = Meter::kWhole) noexcept {
    return meter(static_cast<std::size_t>(c), limit, now, weight);
  }
  // Worker thread. Adds to a meter whatever its limit says: does it stand above it now?
  bool charge(std::size_t which, const Meter& limit, const Now& now, unsigned weight) noexcept;
  // Worker thread. Takes back what has been added.
  void refund(Class c, const Meter& limit, const Now& now, unsigned weight) noexcept;
  // Worker thread. True for one caller a second: the one that reports this source's offence.
  bool claim_report(const Now& now) noexcept;

  void try_user(std::uint64_t hash) noexcept {
    users.fetch_or(std::uint64_t{1} << (hash >> 58), std::memory_order_relaxed);
  }
  void clear_user(std::uint64_t hash) noexcept {
    users.fetch_and(~(std::uint64_t{1} << (hash >> 58)), std::memory_order_relaxed);
  }
  std::uint32_t users_tried() const noexcept;                 // an estimate; saturates at 266
  static void count(Atomic<std::uint8_t>& counter) noexcept { // two workers may lose one
    const auto value = counter.load(std::memory_order_relaxed);
    if (value != 255) counter.store(static_cast<std::uint8_t>(value + 1), std::memory_order_relaxed);
  }
  static void count_down(Atomic<std::uint8_t>& counter, unsigned by = 1) noexcept {
    const auto value = counter.load(std::memory_order_relaxed);
    if (value != 0) counter.store(static_cast<std::uint8_t>(value > by ? value - by : 0), std::memory_order_relaxed);
  }

  bool has(std::uint16_t flag) const noexcept { return (flags.load(std::memory_order_relaxed) & flag) != 0; }
  void set(std::uint16_t flag) noexcept {
    if (!has(flag)) flags.fetch_or(flag, std::memory_order_relaxed);
  }
  void clear(std::uint16_t flag) noexcept {
    if (has(flag)) flags.fetch_and(static_cast<std::uint16_t>(~flag), std::memory_order_relaxed);
  }
  std::uint8_t level() const noexcept {
    return static_cast<std::uint8_t>((flags.load(std::memory_order_relaxed) & kLevel) >> kLevelShift);
  }
  void set_level(std::uint8_t level) noexcept { replace(kLevel, static_cast<unsigned>(level) << kLevelShift); }
  std::uint8_t soft() const noexcept {
    return static_cast<std::uint8_t>((flags.load(std::memory_order_relaxed) & kSoft) >> kSoftShift);
  }
  void set_soft(unsigned soft) noexcept { replace(kSoft, (soft < 3 ? soft : 3) << kSoftShift); }
  void replace(std::uint16_t mask, unsigned bits) noexcept;

  bool blocked(const Now& now) const noexcept { return blocked_until_s.load(std::memory_order_relaxed) > now.s; }
  bool pinned(const Now& now) const noexcept { return blocked(now); } // its line is not for others
  bool drained(const Now& now) const noexcept;
  bool forgettable(const Now& now) const noexcept { return !pinned(now) && drained(now); }
  double rate_per_s(const Now& now) const noexcept; // since it became busy; 0 while there is only an instant to measure
};
static_assert(sizeof(Source) == 64, "a source is one cache line");

class SourceTable {
public:
  static constexpr std::size_t kWays = 8;
  using Secret = policy::Secret;
  // Octets of memory that a table of `capacity` sources needs, a multiple of 64. The capacity is rounded up to a power
  // of two.
  static std::size_t octets(std::uint32_t capacity) noexcept;

  // `memory`: at least octets(capacity), aligned to 64, kept by the caller for as long as the table lives. `secret`
  // keys the hash: drawn at random, nobody outside can aim at one bucket.
  SourceTable(std::span<std::byte> memory, std::uint32_t capacity, Secret secret) noexcept;
  SourceTable(const SourceTable&) = delete;
  SourceTable& operator=(const SourceTable&) = delete;

  // Any thread, for a burst of keys: prefetch() all, then prefetch_line() all, then find() or find_or_insert() all. One
  // by one they wait for memory, each for itself.
  struct Place {
    SourceKey key;
    std::uint64_t hash;
    Source* likely; // a hint, or nullptr: the line that is being fetched
  };
  Place prefetch(SourceKey key) const noexcept {
    const Place place = place_of(key);
    __builtin_prefetch(&tags(place));
    return place;
  }
  void prefetch_line(Place& place) const noexcept {
    const std::uint64_t matches = matching(place);
    place.likely = &line(place, first_of(matches));
    __builtin_prefetch(place.likely, 1);
    if (matches == 0) // a newcomer looks at the whole bucket
      for (std::size_t i = 1; i < kWays; ++i) __builtin_prefetch(&line(place, i));
  }

  // Any thread.
  Source* find(const Place& place) const noexcept {
    if (place.likely != nullptr && holds(*place.likely, place.key)) return place.likely;
    for (std::uint64_t matches = matching(place); matches != 0; matches &= matches - 1)
      if (Source& at = line(place, first_of(matches)); holds(at, place.key)) return &at;
    return nullptr;
  }
  Source* find(SourceKey key) const noexcept { return find(place_of(key)); }
  // Any worker. nullptr: every line of the bucket is pinned; judge the packet by itself (counted).
  Source* find_or_insert(const Place& place, const Now& now) noexcept {
    Source* found = find(place);
    return found != nullptr ? found : insert(place, now);
  }
  Source* find_or_insert(SourceKey key, const Now& now) noexcept { return find_or_insert(place_of(key), now); }

  // Control thread only. Pins a source, known or not, until a second of Now's clock. False: its bucket is full of
  // pinned ones (counted).
  bool block(SourceKey key, std::uint32_t until_s, const Now& now) noexcept;
  void unblock(SourceKey key) noexcept;

  // Any thread; approximate while workers run. Every source, with its key.
  template<typename Take>
  void each(Take take) const {
    each(0, capacity(), [&](std::size_t, SourceKey key, const Source& source) { take(key, source); });
  }
  // The same for lines [from, from + count), with the line's number.
  template<typename Take>
  void each(std::size_t from, std::size_t count, Take take) const {
    const std::size_t end = count < capacity() - from ? from + count : capacity();
    for (std::size_t i = from; i < end; ++i)
      if (const SourceKey key = lines_[i].key.load(std::memory_order_acquire); is_source(key)) take(i, key, lines_[i]);
  }
  static bool is_source(SourceKey key) noexcept; // neither an empty line's nor the table's own

  // Any thread; approximate while workers run.
  struct Occupancy {
    std::uint64_t used;    // lines that hold a source, forgettable or not
    std::uint64_t evicted; // sources displaced before they were forgettable
    std::uint64_t pinned;  // newcomers turned away
  };
  Occupancy occupancy() const noexcept;
  std::uint32_t capacity() const noexcept { return static_cast<std::uint32_t>((mask_ + 1) * kWays); }
  // A keyed hash of any 64-bit value, for the estimators.
  std::uint64_t hash(std::uint64_t value) const noexcept { return keyed_hash(value, secret_); }

private:
  struct Choice;
  Place place_of(SourceKey key) const noexcept { return {key, hash(key), nullptr}; }
  std::size_t bucket(const Place& place) const noexcept { return place.hash & mask_; }
  Source& line(const Place& place, std::size_t i) const noexcept { return lines_[bucket(place) * kWays + i]; }
  Atomic<std::uint64_t>& tags(const Place& place) const noexcept { return tags_[bucket(place)]; }
  static std::uint64_t tag(const Place& place) noexcept { return place.hash >> 56; } // bits that name no bucket
  // The top bit of each octet of the bucket's tags that is the place's tag.
  std::uint64_t matching(const Place& place) const noexcept {
    constexpr std::uint64_t kOnes = 0x0101010101010101, kLow = 0x7f * kOnes;
    const std::uint64_t other = tags(place).load(std::memory_order_acquire) ^ tag(place) * kOnes;
    return ~(((other & kLow) + kLow) | other | kLow);
  }
  static std::size_t first_of(std::uint64_t matches) noexcept { // of none: 0
    return static_cast<std::size_t>(std::countr_zero(matches)) / 8 % kWays;
  }
  static bool holds(const Source& at, SourceKey key) noexcept { return at.key.load(std::memory_order_acquire) == key; }
  Source* insert(const Place& place, const Now& now) noexcept;
  Choice choose(const Place& place, const Now& now) const noexcept;
  Source* take(const Choice& choice, const Place& place, const Now& now) noexcept;
  Source* publish(Source& owned, const Place& place) noexcept;
  bool merge(Source& kept, Source& dropped, SourceKey key) noexcept;

  Source* lines_;
  Atomic<std::uint64_t>* tags_;
  std::size_t mask_; // of buckets
  Secret secret_;
  alignas(64) Atomic<std::uint64_t> used_ = 0;
  Atomic<std::uint64_t> evicted_ = 0, pinned_ = 0;
};

} // namespace sipward::policy
