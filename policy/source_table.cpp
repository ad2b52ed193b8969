// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/source_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>

// Who may write a line: everybody its counters and meters; its key and its block only who owns it. A line is owned
// from a key to the next:
//   key: old -> kOwned   compare-and-swap, acquire (one wins; pairs with the release below: he sees the block that the
//                        owner before him wrote)
//   fields := fresh, or blocked_until_s := something   relaxed
//   key: kOwned -> key   sequentially consistent (a release; pairs with the load of `key` in find(), which therefore
//                        finds the fields that belong to it)
// Between looking at a line and owning it, it may have been blocked or used again: take() looks once more.
//
// Two newcomers may own different lines for one key. So whoever has published a key, his own or one that he gives back,
// reads its bucket again and merges what stands there twice into the first of the lines (publish()). Both the store and
// these loads are sequentially consistent: of two who publish one key, at least the later sees both lines.
//
// Nobody waits for a line unless it is owned, which takes a few stores; should the owner have been put to sleep just
// there, kMaxTries ends the wait. All else is relaxed: counters.

namespace sipward::policy {
namespace {

constexpr SourceKey kEmpty = 0;
constexpr SourceKey kOwned = ~SourceKey{0};
constexpr SourceKey kReleased = kOwned - 1; // stood twice for one key and was given up
constexpr SourceKey kNobody = 1;            // ::/64 and multicast, which are no sources, share one line
constexpr SourceKey kNoIpv6 = SourceKey{0xff} << 56;
constexpr SourceKey kIpv4 = SourceKey{0xffff} << 48;
constexpr SourceKey kIpv4Prefix = kIpv4 | SourceKey{1} << 32;

constexpr int kMaxTries = 1000;
constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kSequential = std::memory_order_seq_cst;
constexpr std::uint32_t kHorizonS = 3600;
constexpr std::uint32_t kAcquaintEvery = 64; // packets
constexpr auto kHorizonTicks = static_cast<std::int32_t>(kHorizonS * kTicksPerSecond);
constexpr std::int32_t kHorizonMs = kHorizonS * 1000;
static_assert(kHorizon == std::chrono::seconds(kHorizonS));

// What it stood at.
std::uint32_t saturating_add(Atomic<std::uint32_t>& counter) noexcept {
  const auto value = counter.load(kRelaxed);
  if (value != std::numeric_limits<std::uint32_t>::max()) counter.store(value + 1, kRelaxed);
  return value;
}

void begin(Source& line, const Now& now) noexcept {
  for (auto& tat : line.tat) tat.store(now.tick, kRelaxed);
  line.seen_s.store(now.s, kRelaxed);
  line.packets.store(0, kRelaxed);
  line.busy_since_ms.store(now.ms, kRelaxed);
  line.busy_packets.store(0, kRelaxed);
  line.users.store(0, kRelaxed);
  line.blocked_until_s.store(0, kRelaxed);
  line.flags.store(0, kRelaxed);
  for (auto* count : {&line.failures, &line.successes, &line.unanswered}) count->store(0, kRelaxed);
}

// How much is lost with a line: nothing with a vacant one; of the forgettable ones the longest idle is worth least (one
// that was made a moment ago is forgettable too, until its first request has been metered), then it goes by debt.
constexpr std::uint32_t kForgettable = kHorizonS + 1;
constexpr std::uint32_t kPinned = std::numeric_limits<std::uint32_t>::max();
std::uint32_t worth(const Source& line, const Now& now) noexcept {
  if (line.pinned(now)) return kPinned;
  if (line.drained(now)) {
    const auto idle_s = static_cast<std::int32_t>(now.s - line.seen_s.load(kRelaxed));
    return kForgettable - static_cast<std::uint32_t>(std::clamp(idle_s, 0, static_cast<std::int32_t>(kHorizonS)));
  }
  std::int32_t debt = 0;
  for (std::size_t which = 0; which < (line.has(Source::kProven) ? kMeters : kClasses); ++which)
    debt = std::max(debt, static_cast<std::int32_t>(line.tat[which].load(kRelaxed) - now.tick));
  return kForgettable + static_cast<std::uint32_t>(debt) + 1;
}

bool vacant(SourceKey key) noexcept { return key == kEmpty || key == kReleased; }

bool own(Source& line, SourceKey key) noexcept {
  return line.key.compare_exchange_strong(key, kOwned, kAcquire, kRelaxed);
}

// Of an address, as a number.
SourceKey first_octets(const Address& address, unsigned count) noexcept {
  return address.first_half() >> (64 - 8 * count);
}

} // namespace

SourceKey source_key(const Address& address, std::uint8_t ipv6_prefix) noexcept {
  if (address.family == Family::V4) return kIpv4 | first_octets(address, 4);
  const unsigned bits = ipv6_prefix < 64 ? ipv6_prefix : 64;
  const SourceKey key = bits == 0 ? 0 : address.first_half() >> (64 - bits) << (64 - bits);
  return key == kEmpty || key >= kNoIpv6 ? kNobody : key;
}

Prefix source_prefix(SourceKey key, std::uint8_t ipv6_prefix) noexcept {
  Address address;
  const bool v4 = key >> 48 == kIpv4 >> 48;
  if (!v4) address.family = Family::V6;
  const std::size_t octets = v4 ? 4 : 8;
  for (std::size_t i = 0; i < octets; ++i) address.octets[i] = static_cast<std::uint8_t>(key >> (octets - 1 - i) * 8);
  return v4 ? Prefix::host(address) : Prefix::of(address, ipv6_prefix);
}

bool SourceTable::is_source(SourceKey key) noexcept { return key != kEmpty && key != kOwned && key != kReleased; }

SourceKey prefix_key(const Prefix& prefix) noexcept {
  const Address base = prefix.base.masked(prefix.length);
  if (base.family == Family::V4) return kIpv4Prefix | first_octets(base, 4);
  return base.octets[0] == 0xff ? kNobody : kNoIpv6 | first_octets(base, 7);
}

// Which eighths of the estimator's bits have had their time between two points of time: each is cleared once in
// 8 * users_s.
std::uint64_t outdated(std::uint32_t before_s, std::uint32_t now_s, std::uint32_t users_s) noexcept {
  if (users_s == 0) return 0;
  const std::uint32_t first = before_s / users_s, last = now_s / users_s;
  if (static_cast<std::int32_t>(now_s - before_s) <= 0 || first == last) return 0;
  if (last - first >= 8) return ~std::uint64_t{0};
  std::uint64_t bits = 0;
  for (std::uint32_t phase = first + 1; phase <= last; ++phase) bits |= std::uint64_t{0xff} << phase % 8 * 8;
  return bits;
}

bool Source::touch(const Now& now, std::uint32_t users_s) noexcept {
  // A packet may carry a time slightly before the last one's when two workers share a source; that is no idle time.
  const std::uint32_t before_s = seen_s.load(kRelaxed);
  const auto idle_s = static_cast<std::int32_t>(now.s - before_s);
  const bool forgotten = idle_s > static_cast<std::int32_t>(kHorizonS);
  if (idle_s > 0 && users.load(kRelaxed) != 0) [[unlikely]]
    if (const std::uint64_t old = outdated(before_s, now.s, users_s)) users.fetch_and(~old, kRelaxed);
  bool all_drained = true;
  for (std::size_t which = 0; which < kMeters; ++which) {
    auto& t = tat[which];
    Ticks old = t.load(kRelaxed);
    const auto behind = static_cast<std::int32_t>(now.tick - old);
    // A class may be quiet for hours while the source is not: its meter is drawn along before the circle closes.
    if (forgotten || behind > kHorizonTicks / 2)
      t.compare_exchange_strong(old, now.tick, kRelaxed); // fails only if another worker has just metered a request
    else
      all_drained = all_drained && (behind >= 0 || which == kFailureMeter); // that one says nothing of a rate
  }
  const std::uint32_t busy_ms = now.ms - busy_since_ms.load(kRelaxed);
  const std::uint16_t busy = busy_packets.load(kRelaxed);
  if (all_drained) {
    busy_since_ms.store(now.ms, kRelaxed);
    busy_packets.store(1, kRelaxed);
  } else if (busy == std::numeric_limits<std::uint16_t>::max() || static_cast<std::int32_t>(busy_ms) > kHorizonMs) {
    // Busy for hours, for weeks: the older half of the count goes, before its clock (49 days) comes round.
    busy_since_ms.store(now.ms - busy_ms / 2, kRelaxed);
    busy_packets.store(static_cast<std::uint16_t>(busy / 2 + 1), kRelaxed);
  } else {
    busy_packets.store(static_cast<std::uint16_t>(busy + 1), kRelaxed);
  }
  if (idle_s > 0) seen_s.store(now.s, kRelaxed);
  // Plain increments, not atomic additions: two workers may lose a packet of the count, none of the meter.
  return saturating_add(packets) % kAcquaintEvery == 0;
}

bool Source::count_packet() noexcept { return saturating_add(packets) == 0; }

bool Source::meter(std::size_t which, const Meter& limit, const Now& now, unsigned weight) noexcept {
  auto& cell = tat[which];
  Ticks old = cell.load(kRelaxed);
  for (;;) {
    const auto [next, conforms] = limit.add(old, now.tick, weight);
    if (!conforms) return false;
    if (cell.compare_exchange_weak(old, next, kRelaxed)) return true; // no request is metered twice or not at all
  }
}

bool Source::charge(std::size_t which, const Meter& limit, const Now& now, unsigned weight) noexcept {
  auto& cell = tat[which];
  Ticks old = cell.load(kRelaxed);
  for (;;) {
    const auto [next, conforms] = limit.charge(old, now.tick, weight);
    if (cell.compare_exchange_weak(old, next, kRelaxed)) return !conforms;
  }
}

void Source::refund(Class c, const Meter& limit, const Now& now, unsigned weight) noexcept {
  auto& cell = tat[static_cast<std::size_t>(c)];
  Ticks old = cell.load(kRelaxed);
  while (!cell.compare_exchange_weak(old, limit.refund(old, now.tick, weight), kRelaxed)) continue;
}

void Source::replace(std::uint16_t mask, unsigned bits) noexcept {
  std::uint16_t old = flags.load(kRelaxed);
  while ((old & mask) != bits &&
         !flags.compare_exchange_weak(old, static_cast<std::uint16_t>((old & ~mask) | bits), kRelaxed))
    continue;
}

bool Source::claim_report(const Now& now) noexcept {
  std::uint16_t old = flags.load(kRelaxed);
  const auto mine = static_cast<std::uint16_t>(now.s % 63 + 1); // second 0 counts too
  const auto last = static_cast<std::uint16_t>(old & kReported);
  if (last == mine || last == mine % 63 + 1) return false; // in this second, or by a worker a moment ahead in the next
  return flags.compare_exchange_strong(old, static_cast<std::uint16_t>((old & ~kReported) | mine), kRelaxed);
}

std::uint32_t Source::users_tried() const noexcept {
  // Linear counting (Whang et al., 1990): n = -m ln(empty / m).
  const int empty = 64 - std::popcount(users.load(kRelaxed));
  return static_cast<std::uint32_t>(std::lround(-64.0 * std::log((empty > 0 ? empty : 1) / 64.0)));
}

bool Source::drained(const Now& now) const noexcept {
  if (now.s - seen_s.load(kRelaxed) > kHorizonS && seen_s.load(kRelaxed) < now.s) return true;
  // Unproven failures pin no line: a forged REGISTER earns a rejection too.
  const std::size_t meters = has(kProven) ? kMeters : kClasses;
  for (std::size_t which = 0; which < meters; ++which)
    if (!Meter::drained(tat[which].load(kRelaxed), now.tick)) return false;
  return true;
}

double Source::rate_per_s(const Now& now) const noexcept {
  const std::uint32_t elapsed_ms = now.ms - busy_since_ms.load(kRelaxed);
  const std::uint32_t count = busy_packets.load(kRelaxed);
  return elapsed_ms == 0 || count < 2 ? 0 : (count - 1) * 1000.0 / elapsed_ms;
}

namespace {
std::size_t lines_for(std::uint32_t capacity) noexcept {
  return std::bit_ceil(std::max(std::size_t{capacity}, SourceTable::kWays));
}
} // namespace

std::size_t SourceTable::octets(std::uint32_t capacity) noexcept {
  const std::size_t count = lines_for(capacity), tags = (count + 63) / 64 * 64; // whole cache lines, as allocators want
  return count * sizeof(Source) + tags;
}

SourceTable::SourceTable(std::span<std::byte> memory, std::uint32_t capacity, Secret secret) noexcept
    : secret_(secret) {
  const std::size_t count = lines_for(capacity), buckets = count / kWays;
  lines_ = reinterpret_cast<Source*>(memory.data());
  std::uninitialized_value_construct_n(lines_, count);
  tags_ = reinterpret_cast<Atomic<std::uint64_t>*>(memory.data() + count * sizeof(Source));
  std::uninitialized_value_construct_n(tags_, buckets);
  mask_ = buckets - 1;
}

// The line of a bucket that a newcomer gets.
struct SourceTable::Choice {
  Source* line = nullptr; // nullptr: all are pinned
  SourceKey held = kEmpty;
  std::uint32_t worth = kPinned;
  bool unsettled = false; // the newcomer's key stands there by now, or perhaps in a moment: look again
};

SourceTable::Choice SourceTable::choose(const Place& place, const Now& now) const noexcept {
  Choice best;
  for (std::size_t i = 0; i < kWays; ++i) {
    Source& at = line(place, i);
    const SourceKey held = at.key.load(kAcquire);
    if (held == place.key || held == kOwned) return {.unsettled = true};
    const std::uint32_t value = vacant(held) ? 0 : worth(at, now);
    if (value < best.worth) best = {&at, held, value};
  }
  return best;
}

Source* SourceTable::insert(const Place& place, const Now& now) noexcept {
  for (int tries = 0; tries < kMaxTries; ++tries) {
    const Choice choice = choose(place, now);
    if (!choice.unsettled) {
      if (choice.line == nullptr) break;
      if (Source* taken = take(choice, place, now)) return taken;
    }
    pause();
    if (Source* found = find(place)) return found;
  }
  pinned_.fetch_add(1, kRelaxed);
  return nullptr;
}

// nullptr: somebody was faster.
Source* SourceTable::take(const Choice& choice, const Place& place, const Now& now) noexcept {
  Source& at = *choice.line;
  if (!own(at, choice.held)) return nullptr;
  const bool was_vacant = vacant(choice.held);
  const std::uint32_t value = was_vacant ? 0 : worth(at, now);
  if (value > std::max(choice.worth, kForgettable)) { // blocked or used since it was chosen
    publish(at, place_of(choice.held));
    return nullptr;
  }
  if (was_vacant) used_.fetch_add(1, kRelaxed);
  if (value > kForgettable) evicted_.fetch_add(1, kRelaxed);
  begin(at, now);
  // Only a line's owner changes its tag; others may change those beside it. Whoever finds the key finds the tag too,
  // for the key is stored after it.
  const auto shift = 8 * static_cast<unsigned>(&at - &line(place, 0));
  const std::uint64_t old = tags(place).load(kRelaxed) >> shift & 0xff;
  tags(place).fetch_xor((old ^ tag(place)) << shift, kRelaxed);
  return publish(at, place);
}

// Gives an owned line its key, and sees to it that the key stands once: returns where. nullptr: somebody has taken the
// line already.
Source* SourceTable::publish(Source& owned, const Place& place) noexcept {
  owned.key.store(place.key, kSequential);
  for (int tries = 0; tries < kMaxTries; ++tries) {
    Source* first = nullptr;
    bool once = true;
    for (std::size_t i = 0; i < kWays && once; ++i) {
      Source& at = line(place, i);
      if (at.key.load(kSequential) != place.key) continue;
      if (first == nullptr)
        first = &at;
      else
        once = false, merge(*first, at, place.key);
    }
    if (once) return first;
    pause();
  }
  return find(place);
}

// Gives up one of two lines for one key; a block moves. False: one of the two has changed meanwhile.
bool SourceTable::merge(Source& kept, Source& dropped, SourceKey key) noexcept {
  if (!own(dropped, key)) return false;
  const std::uint32_t until_s = dropped.blocked_until_s.load(kRelaxed);
  if (until_s != 0) {
    if (!own(kept, key)) {
      dropped.key.store(key, kSequential);
      return false;
    }
    kept.blocked_until_s.store(std::max(until_s, kept.blocked_until_s.load(kRelaxed)), kRelaxed);
    kept.key.store(key, kSequential);
  }
  dropped.key.store(kReleased, std::memory_order_release);
  used_.fetch_sub(1, kRelaxed);
  return true;
}

bool SourceTable::block(SourceKey key, std::uint32_t until_s, const Now& now) noexcept {
  const Place place = place_of(key);
  for (int tries = 0; tries < kMaxTries; ++tries) {
    Source* at = find_or_insert(place, now);
    if (at == nullptr) return false;
    if (own(*at, key)) { // else a newcomer has just taken it
      at->blocked_until_s.store(until_s, kRelaxed);
      publish(*at, place);
      return true;
    }
    pause();
  }
  pinned_.fetch_add(1, kRelaxed);
  return false;
}

void SourceTable::unblock(SourceKey key) noexcept {
  const Place place = place_of(key);
  for (int tries = 0; tries < kMaxTries; ++tries) {
    Source* at = find(place);
    if (at == nullptr) return; // nobody but the control thread owns the line of a blocked source
    if (own(*at, key)) {
      at->blocked_until_s.store(0, kRelaxed);
      publish(*at, place);
      return;
    }
    pause();
  }
}

SourceTable::Occupancy SourceTable::occupancy() const noexcept {
  return {used_.load(kRelaxed), evicted_.load(kRelaxed), pinned_.load(kRelaxed)};
}

} // namespace sipward::policy
