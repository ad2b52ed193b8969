// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/source_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>

// Memory orders. A line belongs to whoever's key it carries. Taking one over goes:
//   key: old -> kClaimed   compare-and-swap, acquire  (one claimer wins; nobody else writes the line as its owner)
//   fields := fresh        relaxed
//   key: kClaimed -> new   sequentially consistent    (a release; pairs with the load of `key` in find())
// so whoever finds its key finds a fresh line. A worker that still holds a pointer to the old occupant may add one
// packet to the new one's meters; that is an error of one packet in a line chosen because nobody was using it. All else
// is relaxed: counters.

namespace sipward::policy {
namespace {

constexpr SourceKey kEmpty = 0;
constexpr SourceKey kClaimed = ~SourceKey{0}; // ff../64 is multicast: no source has it
constexpr SourceKey kReleased = kClaimed - 1; // was claimed twice for one key and given back

constexpr int kMaxTries = 1000;
constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr std::uint32_t kHorizonS = 3600;
constexpr auto kHorizonTicks = static_cast<std::int32_t>(kHorizonS * kTicksPerSecond);
static_assert(kHorizon == std::chrono::seconds(kHorizonS));

void saturating_add(std::atomic<std::uint32_t>& counter) noexcept {
  const auto value = counter.load(kRelaxed);
  if (value != std::numeric_limits<std::uint32_t>::max()) counter.store(value + 1, kRelaxed);
}

void begin(Source& line, const Now& now) noexcept {
  for (auto& tat : line.tat) tat.store(now.tick, kRelaxed);
  line.seen_s.store(now.s, kRelaxed);
  line.packets.store(0, kRelaxed);
  line.busy_since_ms.store(now.ms, kRelaxed);
  line.busy_packets.store(0, kRelaxed);
  line.users.store(0, kRelaxed);
  line.blocked_until_s.store(0, kRelaxed);
  line.reported_s.store(0, kRelaxed);
  line.failures.store(0, kRelaxed);
  line.successes.store(0, kRelaxed);
}

// How much is lost with a line that is not blocked: of the forgettable ones the longest idle is worth least (one that
// was made a moment ago is forgettable too, until its first request has been metered), then it goes by debt.
constexpr std::uint32_t kForgettable = kHorizonS + 1;
std::uint32_t worth(const Source& line, const Now& now) noexcept {
  if (line.drained(now)) {
    const auto idle_s = static_cast<std::int32_t>(now.s - line.seen_s.load(kRelaxed));
    return kForgettable - static_cast<std::uint32_t>(std::clamp(idle_s, 0, static_cast<std::int32_t>(kHorizonS)));
  }
  std::int32_t debt = 0;
  for (const auto& tat : line.tat) debt = std::max(debt, static_cast<std::int32_t>(tat.load(kRelaxed) - now.tick));
  return kForgettable + static_cast<std::uint32_t>(debt) + 1;
}

bool vacant(SourceKey key) noexcept { return key == kEmpty || key == kReleased; }

} // namespace

SourceKey source_key(const Address& address, std::uint8_t ipv6_prefix) noexcept {
  std::uint64_t key = 0;
  if (address.family == Family::V4) {
    for (std::size_t i = 0; i < 4; ++i) key = key << 8 | address.octets[i];
    return key |
           std::uint64_t{1} << 32; // ::/31 is never a source's network (RFC 4291, 2.5): the two families cannot meet
  }
  const Address masked = address.masked(ipv6_prefix < 64 ? ipv6_prefix : 64);
  for (std::size_t i = 0; i < 8; ++i) key = key << 8 | masked.octets[i];
  return vacant(key) || key == kClaimed ? 1 : key; // ::/64 and ff../64 are no sources either; they share one line
}

void Source::touch(const Now& now) noexcept {
  // A packet may carry a time slightly before the last one's when two workers share a source; that is no idle time.
  const auto idle_s = static_cast<std::int32_t>(now.s - seen_s.load(kRelaxed));
  const bool forgotten = idle_s > static_cast<std::int32_t>(kHorizonS);
  for (auto& t : tat) {
    // A class may be quiet for hours while the source is not: its meter is drawn along before the circle closes.
    Ticks old = t.load(kRelaxed);
    if (forgotten || static_cast<std::int32_t>(now.tick - old) > kHorizonTicks / 2)
      t.compare_exchange_strong(old, now.tick, kRelaxed); // fails only if another worker has just metered a request
  }
  if (drained(now)) {
    busy_since_ms.store(now.ms, kRelaxed);
    busy_packets.store(0, kRelaxed);
  }
  seen_s.store(now.s, kRelaxed);
  // Plain increments, not atomic additions: two workers may lose a packet of the count, none of the meter.
  saturating_add(packets);
  saturating_add(busy_packets);
}

bool Source::meter(Class c, const Meter& limit, const Now& now) noexcept {
  auto& cell = tat[static_cast<std::size_t>(c)];
  Ticks old = cell.load(kRelaxed);
  for (;;) {
    const auto [next, conforms] = limit.add(old, now.tick);
    if (!conforms) return false;
    if (cell.compare_exchange_weak(old, next, kRelaxed)) return true; // no request is metered twice or not at all
  }
}

bool Source::claim_report(const Now& now) noexcept {
  auto last = reported_s.load(kRelaxed);
  const std::uint32_t mine = now.s + 1; // second 0 counts too
  if (last != 0 && static_cast<std::int32_t>(mine - last) <= 0) return false;
  return reported_s.compare_exchange_strong(last, mine, kRelaxed);
}

std::uint32_t Source::users_tried() const noexcept {
  // Linear counting (Whang et al., 1990): n = -m ln(empty / m).
  const int empty = 64 - std::popcount(users.load(kRelaxed));
  return static_cast<std::uint32_t>(std::lround(-64.0 * std::log((empty > 0 ? empty : 1) / 64.0)));
}

bool Source::drained(const Now& now) const noexcept {
  if (now.s - seen_s.load(kRelaxed) > kHorizonS && seen_s.load(kRelaxed) < now.s) return true;
  for (const auto& t : tat)
    if (!Meter::drained(t.load(kRelaxed), now.tick)) return false;
  return true;
}

double Source::rate_per_s(const Now& now) const noexcept {
  const std::uint32_t elapsed_ms = now.ms - busy_since_ms.load(kRelaxed);
  const std::uint32_t count = busy_packets.load(kRelaxed);
  return elapsed_ms == 0 || count < 2 ? 0 : (count - 1) * 1000.0 / elapsed_ms;
}

std::size_t SourceTable::octets(std::uint32_t capacity) noexcept {
  return std::bit_ceil(std::size_t{capacity < kWays ? kWays : capacity}) * sizeof(Source);
}

SourceTable::SourceTable(std::span<std::byte> memory, std::uint32_t capacity, Secret secret) noexcept
    : secret_(secret) {
  const std::size_t count = octets(capacity) / sizeof(Source);
  auto* first = reinterpret_cast<Source*>(memory.data());
  std::uninitialized_value_construct_n(first, count);
  lines_ = {first, count};
  mask_ = count - 1;
}

std::uint64_t SourceTable::hash(std::uint64_t value) const noexcept {
  // Two rounds of a 64 x 64 -> 128 bit multiplication, folded, each keyed by one half of the secret.
  const auto fold = [](std::uint64_t x, std::uint64_t y) {
    __extension__ using Wide = unsigned __int128; // no ISO type, but both compilers have it
    const auto product = static_cast<Wide>(x) * y;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  return fold(fold(value ^ secret_.a, secret_.b | 1) ^ secret_.b, secret_.a | 1);
}

Source* SourceTable::find(SourceKey key) noexcept {
  const std::size_t first = slot(key);
  for (std::size_t i = 0; i < kWays; ++i) {
    Source& line = lines_[(first + i) & mask_];
    const SourceKey held =
        line.key.load(std::memory_order_seq_cst); // an acquire, which pairs with the store in claim()
    if (held == key) return &line;
    if (held == kEmpty) return nullptr; // a newcomer takes the first vacant line, and no line ever becomes empty again
  }
  return nullptr;
}

Source* SourceTable::find_or_insert(SourceKey key, const Now& now) noexcept {
  const std::size_t first = slot(key);
  for (int tries = 0; tries < kMaxTries; ++tries) {
    if (Source* line = find(key)) return line;
    bool retry = false;
    Source* line = claim(key, first, now, retry);
    if (line != nullptr || !retry) return line;
  }
  pinned_.fetch_add(1, kRelaxed);
  return nullptr;
}

// Takes a line of the window for `key`. `retry`: the window changed meanwhile, look again. A retry means that another
// worker got a line or is a few stores away from having one; should it have been put to sleep just there, kMaxTries
// ends the wait.
Source* SourceTable::claim(SourceKey key, std::size_t first, const Now& now, bool& retry) noexcept {
  Source* best = nullptr;
  SourceKey best_key = kClaimed;
  std::uint32_t best_rank = std::numeric_limits<std::uint32_t>::max();
  for (std::size_t i = 0; i < kWays; ++i) {
    Source& line = lines_[(first + i) & mask_];
    const SourceKey held = line.key.load(std::memory_order_acquire);
    if (held == key || held == kClaimed) {
      retry = true; // ours by now, or perhaps about to be: its claimer is a few stores away from done
      return nullptr;
    }
    if (!vacant(held) && line.blocked(now)) continue;
    const std::uint32_t rank = vacant(held) ? 0 : worth(line, now);
    if (rank < best_rank) {
      best = &line;
      best_key = held;
      best_rank = rank;
    }
  }
  if (best == nullptr) {
    pinned_.fetch_add(1, kRelaxed);
    return nullptr;
  }
  SourceKey expected = best_key;
  if (!best->key.compare_exchange_strong(expected, kClaimed, std::memory_order_acquire, kRelaxed)) {
    retry = true;
    return nullptr;
  }
  if (vacant(best_key)) used_.fetch_add(1, kRelaxed);
  if (best_rank > kForgettable) evicted_.fetch_add(1, kRelaxed);
  begin(*best, now);
  // Two workers may have claimed different lines for one key. This store and the loads in find() are sequentially
  // consistent, so at least one of the two sees the other's line. The line that stands first in the window stays; a
  // later one goes back, or, unseen, drains and is forgotten.
  best->key.store(key, std::memory_order_seq_cst); // a release too
  Source* winner = find(key);
  if (winner != best) {
    expected = key; // it may have been taken from us already: then it is not ours to give back
    if (best->key.compare_exchange_strong(expected, kReleased, std::memory_order_release, kRelaxed))
      used_.fetch_sub(1, kRelaxed);
  }
  retry = winner == nullptr;
  return winner;
}

SourceTable::Occupancy SourceTable::occupancy() const noexcept {
  return {used_.load(kRelaxed), evicted_.load(kRelaxed), pinned_.load(kRelaxed)};
}

} // namespace sipward::policy
