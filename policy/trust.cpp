// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/trust.h"

#include <memory>

// A line changes hands by a compare-and-swap of its key to kOwned; its fields are then made afresh, and the new key is
// released. Whoever held a pointer to the old trustee may leave a mark on the new one: a user more, a success more.
namespace sipward::policy {
namespace {

constexpr SourceKey kOwned = ~SourceKey{0};
constexpr auto kRelaxed = std::memory_order_relaxed;

} // namespace

TrustTable::TrustTable(std::span<std::byte> memory, std::uint32_t capacity, Secret secret) noexcept
    : lines_(reinterpret_cast<Trustee*>(memory.data())), mask_(lines_for(capacity) / kWays - 1), secret_(secret) {
  std::uninitialized_value_construct_n(lines_, lines());
}

Trustee* TrustTable::find(SourceKey key, std::uint32_t now_s) const noexcept {
  Trustee* const bucket = bucket_of(key);
  for (std::size_t i = 0; i < kWays; ++i)
    if (bucket[i].key.load(std::memory_order_acquire) == key) // pairs with the release in find_or_insert()
      return bucket[i].valid(now_s) ? &bucket[i] : nullptr;
  return nullptr;
}

Trustee* TrustTable::find_or_insert(SourceKey key, std::uint32_t now_s) noexcept {
  Trustee* const bucket = bucket_of(key);
  for (;;) {
    Trustee* soonest = nullptr;
    SourceKey held = 0;
    for (std::size_t i = 0; i < kWays; ++i) {
      SourceKey at = bucket[i].key.load(std::memory_order_acquire);
      if (at == key && bucket[i].valid(now_s)) return &bucket[i];
      if (at == key) { // its trust has run out: it begins anew, in its own line
        soonest = &bucket[i], held = at;
        break;
      }
      if (at == kOwned) continue;
      if (soonest == nullptr || at == 0 ||
          (held != 0 && bucket[i].until_s.load(kRelaxed) < soonest->until_s.load(kRelaxed)))
        soonest = &bucket[i], held = at;
    }
    if (soonest == nullptr) { // all are changing hands
      pause();
      continue;
    }
    if (!soonest->key.compare_exchange_strong(held, kOwned, std::memory_order_acquire, kRelaxed)) continue;
    for (auto& word : soonest->users) word.store(0, kRelaxed);
    soonest->until_s.store(now_s + 1, kRelaxed); // until the caller says how long
    soonest->since_s.store(now_s, kRelaxed);
    soonest->heard_s.store(0, kRelaxed);
    for (auto* count : {&soonest->hour, &soonest->this_hour, &soonest->last_hour}) count->store(0, kRelaxed);
    soonest->key.store(key, std::memory_order_release);
    return soonest;
  }
}

bool TrustTable::forgotten(SourceKey key, std::uint32_t now_s) const noexcept {
  const Trustee* const bucket = bucket_of(key);
  for (std::size_t i = 0; i < kWays; ++i)
    if (bucket[i].key.load(std::memory_order_acquire) == key) return !bucket[i].valid(now_s);
  return false;
}

void TrustTable::forget(SourceKey key) noexcept {
  Trustee* const bucket = bucket_of(key);
  for (std::size_t i = 0; i < kWays; ++i)
    if (bucket[i].key.load(std::memory_order_acquire) == key) bucket[i].until_s.store(0, kRelaxed);
}

void TrustTable::copy(const TrustTable& other, std::uint32_t now_s) noexcept {
  other.each(0, other.lines(), now_s, [&](const Trustee& from) {
    const SourceKey key = from.key.load(kRelaxed);
    if (key == kOwned) return;
    Trustee* const to = find_or_insert(key, now_s);
    const auto take = [](auto& field, const auto& value) { field.store(value.load(kRelaxed), kRelaxed); };
    for (std::size_t i = 0; i < to->users.size(); ++i) take(to->users[i], from.users[i]);
    take(to->until_s, from.until_s), take(to->since_s, from.since_s), take(to->heard_s, from.heard_s);
    take(to->hour, from.hour), take(to->this_hour, from.this_hour), take(to->last_hour, from.last_hour);
  });
}

std::vector<Prefix> trusted_within(const TrustTable& trust, std::span<const Prefix> peers, const Prefix& prefix,
                                   std::uint8_t ipv6_prefix, std::uint32_t now_s) {
  std::vector<Prefix> found;
  trust.each(0, trust.lines(), now_s, [&](const Trustee& trustee) {
    const auto source = source_prefix(trustee.key.load(kRelaxed), ipv6_prefix);
    if (prefix.holds(source)) found.push_back(source);
  });
  for (const auto& peer : peers)
    if (prefix.holds(peer)) found.push_back(peer);
  return found;
}

} // namespace sipward::policy
