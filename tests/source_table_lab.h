// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "policy/source_table.h"

// What the tests of the source table share: a table with memory of its own, keys, points in time.
namespace sipward::policy {

inline constexpr SourceTable::Secret kSecret = {0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9,
                                                0xd6e8feb86659fd93};

inline Now at(Duration since_epoch) { return Now(Time(since_epoch)); }

inline SourceKey key(std::uint32_t n) {
  return source_key(Address::v4(static_cast<std::uint8_t>(n >> 24), static_cast<std::uint8_t>(n >> 16),
                                static_cast<std::uint8_t>(n >> 8), static_cast<std::uint8_t>(n)),
                    64);
}

inline SourceKey key(std::string_view text, std::uint8_t ipv6_prefix = 64) {
  return source_key(Address::parse(text).value(), ipv6_prefix);
}

// A table with memory of its own.
struct Table {
  explicit Table(std::uint32_t capacity, SourceTable::Secret secret = kSecret)
      : memory(static_cast<std::byte*>(std::aligned_alloc(64, SourceTable::octets(capacity)))),
        sources({memory.get(), SourceTable::octets(capacity)}, capacity, secret) {}
  SourceTable* operator->() { return &sources; }
  Source& line(SourceKey k, const Now& now) {
    Source* source = sources.find_or_insert(k, now);
    REQUIRE(source != nullptr);
    return *source;
  }
  struct Free {
    void operator()(std::byte* octets) const { std::free(octets); }
  };
  std::unique_ptr<std::byte, Free> memory;
  SourceTable sources;
};

} // namespace sipward::policy
