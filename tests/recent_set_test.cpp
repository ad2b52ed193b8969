// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/recent_set.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <set>
#include <string>

#include "policy/keyed_hash.h"

namespace sipward::policy {
namespace {

constexpr Secret kSecret{0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9, 0xd6e8feb86659fd93};

struct Set {
  explicit Set(std::uint32_t entries)
      : memory(static_cast<std::byte*>(std::aligned_alloc(64, RecentSet::octets(entries))), &std::free),
        set({memory.get(), RecentSet::octets(entries)}, entries) {}
  RecentSet* operator->() { return &set; }
  std::unique_ptr<std::byte, void (*)(void*)> memory;
  RecentSet set;
};

std::uint64_t hash(std::uint64_t n) { return keyed_hash(n, kSecret); }

TEST_CASE("what was put is found with its note for as long as it is asked for, and no longer") {
  Set set(64);
  CHECK_FALSE(set->find(hash(1), 100, 32));
  set->put(hash(1), 100, 7);
  CHECK(set->find(hash(1), 100, 0) == 7);
  CHECK(set->find(hash(1), 132, 32) == 7);
  CHECK_FALSE(set->find(hash(1), 133, 32));
  CHECK_FALSE(set->find(hash(2), 100, 32));
}

TEST_CASE("putting it again changes its note and its time, and takes no second place") {
  Set set(8);
  for (std::uint64_t n = 0; n < 8; ++n) set->put(hash(n), 10, static_cast<std::uint8_t>(n));
  for (int i = 0; i < 100; ++i) set->put(hash(3), 20, 99);
  CHECK(set->find(hash(3), 20, 0) == 99);
  for (std::uint64_t n = 0; n < 8; ++n) CHECK(set->find(hash(n), 20, 10));
}

TEST_CASE("a full bucket forgets its oldest") {
  Set set(8);
  for (std::uint32_t n = 0; n < 8; ++n) set->put(hash(n), 10 + n, 0);
  set->put(hash(100), 20, 0);
  CHECK_FALSE(set->find(hash(0), 20, 100));
  for (std::uint32_t n = 1; n < 8; ++n) CHECK(set->find(hash(n), 20, 100));
  CHECK(set->find(hash(100), 20, 100));
}

TEST_CASE("time goes round, and another worker's clock may be a moment ahead") {
  Set set(64);
  constexpr std::uint32_t kRound = 1 << 20;
  set->put(hash(1), kRound - 1, 1);
  CHECK(set->find(hash(1), kRound + 3, 4) == 1);
  CHECK_FALSE(set->find(hash(1), kRound + 3, 3));
  set->put(hash(2), 101, 2);
  CHECK(set->find(hash(2), 100, 0) == 2);
  CHECK_FALSE(set->find(hash(2), 90, 32)); // eleven ahead is no clock of ours: it is of the round before
}

TEST_CASE("a set of so many entries keeps nearly all of half as many") {
  Set set(4096);
  for (std::uint64_t n = 0; n < 2048; ++n) set->put(hash(n), 10, 0);
  int kept = 0;
  for (std::uint64_t n = 0; n < 2048; ++n) kept += set->find(hash(n), 10, 0).has_value();
  CHECK(kept > 2000);
}

TEST_CASE("the hash of a text is of its octets, its length, its number and its secret") {
  const Secret other{1, kSecret.b, kSecret.c, kSecret.d};
  std::set<std::uint64_t> hashes;
  int texts = 0;
  for (const std::string_view text :
       {std::string_view(), std::string_view("\0", 1), std::string_view("\0\0", 2), std::string_view("a"),
        std::string_view("a\0", 2), std::string_view("abcdefgh"), std::string_view("abcdefgh\0", 9),
        std::string_view("abcdefghi"), std::string_view("abcdefgi"), std::string_view("bbcdefghi")})
    for (const std::uint64_t with : {0u, 1u})
      for (const Secret& secret : {kSecret, other}) {
        hashes.insert(text_hash(text, with, secret));
        ++texts;
        CHECK(text_hash(std::string(text), with, secret) == text_hash(text, with, secret));
      }
  CHECK(hashes.size() == static_cast<std::size_t>(texts));
}

TEST_CASE("hashes of names that count up fill the places evenly") {
  std::array<int, 64> places{};
  for (int i = 0; i < 6400; ++i) ++places[text_hash("user" + std::to_string(i), 0, kSecret) >> 58];
  for (const int place : places) CHECK((place > 50 && place < 150));
}

TEST_CASE("what is kept of a hash finds it again in another set of as many places") {
  constexpr std::uint32_t kEntries = 1024;
  alignas(64) static std::array<std::byte, 16384> first_memory{}, second_memory{};
  REQUIRE(RecentSet::octets(kEntries) <= first_memory.size());
  RecentSet first(first_memory, kEntries), second(second_memory, kEntries);
  first.put(0x123456789abcdef0, 100, 1);
  first.put(0xfedcba9876543210, 200, 0);
  int seen = 0;
  first.each(200, 150, [&](std::uint64_t kept, std::uint32_t age, std::uint8_t note) {
    ++seen;
    second.put(kept, 200 - age, note);
    CHECK(age == (note == 1 ? 100 : 0));
    CHECK(kept == first.kept(note == 1 ? 0x123456789abcdef0 : 0xfedcba9876543210));
  });
  CHECK(seen == 2);
  CHECK(second.find(0x123456789abcdef0, 200, 100) == std::uint8_t{1});
  CHECK_FALSE(second.find(0x123456789abcdef0, 200, 99));
  CHECK(second.find(0xfedcba9876543210, 200, 0) == std::uint8_t{0});
  first.each(400, 150, [&](auto, auto, auto) { ++seen; });
  CHECK(seen == 2);
  RecentSet third(second_memory, kEntries);
  third.copy(first);
  CHECK(third.find(0x123456789abcdef0, 200, 100) == std::uint8_t{1});
  CHECK(third.forget(third.kept(0x123456789abcdef0)));
  CHECK_FALSE(third.find(0x123456789abcdef0, 200, 100));
}

} // namespace
} // namespace sipward::policy
