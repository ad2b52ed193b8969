// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/trust.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <map>
#include <memory>
#include <thread>

namespace sipward::policy {
namespace {

constexpr Secret kSecret{0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9, 0xd6e8feb86659fd93};
constexpr std::uint32_t kNow = 100'000;

struct Table {
  explicit Table(std::uint32_t capacity)
      : memory(static_cast<std::byte*>(std::aligned_alloc(64, TrustTable::octets(capacity))), &std::free),
        table({memory.get(), TrustTable::octets(capacity)}, capacity, kSecret) {}
  TrustTable* operator->() { return &table; }
  Trustee& trust(SourceKey key, std::uint32_t until_s) {
    Trustee* trustee = table.find_or_insert(key, kNow);
    REQUIRE(trustee != nullptr);
    trustee->until_s = until_s;
    return *trustee;
  }
  std::unique_ptr<std::byte, void (*)(void*)> memory;
  TrustTable table;
};

TEST_CASE("who is trusted is found until the end of it, and then begins anew") {
  Table table(64);
  CHECK(table->find(5, kNow) == nullptr);
  table.trust(5, kNow + 10).count_user(~std::uint64_t{0});
  CHECK(table->find(5, kNow + 9)->registered() == 1);
  CHECK(table->find(5, kNow + 10) == nullptr);
  CHECK(table->find_or_insert(5, kNow + 11)->registered() == 0);
}

TEST_CASE("trust that was forfeited is gone at once") {
  Table table(64);
  table.trust(5, kNow + 10);
  table.trust(6, kNow + 10);
  table->forget(5);
  CHECK(table->find(5, kNow) == nullptr);
  CHECK(table->find(6, kNow) != nullptr);
}

TEST_CASE("in a full bucket the one whose trust ends soonest makes room") {
  Table table(8);
  for (SourceKey key = 1; key <= 8; ++key) table.trust(key, kNow + static_cast<std::uint32_t>(key == 3 ? 5 : 50 + key));
  table.trust(9, kNow + 20);
  CHECK(table->find(3, kNow) == nullptr);
  for (const SourceKey key : {1u, 2u, 4u, 5u, 6u, 7u, 8u, 9u}) CHECK(table->find(key, kNow) != nullptr);
}

TEST_CASE("a source's level goes by its users, or by its answers in an hour, and not by its age") {
  Trustee trustee{};
  const auto users = [&](std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) trustee.count_user(keyed_hash(i, kSecret));
    return static_cast<int>(trustee.level());
  };
  CHECK(users(1) == 1);
  CHECK(users(20) == 2);
  CHECK(users(150) == 3);
  CHECK(users(2000) == 4);

  Trustee phone{};
  for (std::uint32_t minute = 0; minute < 60 * 24 * 30; ++minute) phone.count_answer(kNow + minute * 60);
  CHECK(phone.answered_per_hour() == 60);
  CHECK(phone.level() == 1);
  Trustee trunk{};
  for (std::uint32_t i = 0; i < 80'000; ++i) trunk.count_answer(kNow + i / 10); // ten a second
  CHECK(trunk.level() == 4);
  Trustee restarted{};
  restarted.resume_answers(trunk.answered_per_hour(), kNow);
  CHECK(restarted.level() == 4);
  trunk.count_answer(kNow + 6 * 3600);
  CHECK(trunk.level() == 1);
}

TEST_CASE("each() takes all who are trusted now, in any parts") {
  Table table(64);
  for (SourceKey key = 1; key <= 20; ++key) table.trust(key, kNow + static_cast<std::uint32_t>(key));
  std::map<SourceKey, int> taken;
  for (std::size_t from = 0; from < table->lines(); from += 7)
    table->each(from, 7, kNow + 10, [&](const Trustee& trustee) { ++taken[trustee.key]; });
  CHECK(taken.size() == 10);
  for (const auto& [key, times] : taken) {
    CHECK(key > 10);
    CHECK(times == 1);
  }
}

TEST_CASE("two workers trust, find and forget the same few sources; each found is whom it was asked for") {
  Table table(8); // one bucket: they push each other out
  std::atomic<int> wrong = 0;
  const auto work = [&](SourceKey first) {
    for (std::uint32_t i = 0; i < 100'000; ++i) {
      const SourceKey key = first + i % 12;
      Trustee* trustee = table->find_or_insert(key, kNow);
      trustee->until_s.store(kNow + 100 + i % 50, std::memory_order_relaxed);
      trustee->count_user(keyed_hash(i, kSecret));
      trustee->count_answer(kNow);
      if (const Trustee* found = table->find(key, kNow); found != nullptr && found->level() > 4) ++wrong;
      if (i % 16 == 0) table->forget(key);
    }
  };
  std::jthread one(work, 1), other(work, 7);
  one.join(), other.join();
  CHECK(wrong == 0);
  std::map<SourceKey, int> lines;
  table->each(0, table->lines(), kNow, [&](const Trustee& trustee) { ++lines[trustee.key]; });
  for (const auto& [key, count] : lines) CHECK(key <= 18);
}

} // namespace
} // namespace sipward::policy
