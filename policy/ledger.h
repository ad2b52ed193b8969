// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "policy/source_table.h"

// What the judge remembers, all of it, in memory that the caller hands in. Shared by all workers.
namespace sipward::policy {

class Ledger {
public:
  // Octets of memory that a ledger of `capacity` sources needs, a multiple of 64.
  static std::size_t octets(std::uint32_t capacity) noexcept { return SourceTable::octets(capacity); }

  // `memory`: at least octets(capacity), aligned to 64, zeroed, kept by the caller for as long as the ledger lives.
  Ledger(std::span<std::byte> memory, std::uint32_t capacity, Secret secret) noexcept
      : sources(memory, capacity, secret) {}

  SourceTable sources;
};

} // namespace sipward::policy
