// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "sip/header_names.h"

// The known header names in a table without collisions, for lookups that branch on nothing. Private to sip/.
namespace sipward::sip {

// A name and its colon as 32 octets, ready to be compared with (line | fold). `fold` is 0x20 at letters only, so that
// CR is not taken for '-'.
struct alignas(64) NameSlot {
  char pattern[32];
  char fold[32];
};
struct NameMeta {
  std::uint8_t length; // 0: an empty slot
  Header header;
};

inline constexpr std::size_t kNameSlots = 64;

// `head`: the first four octets (fewer if the name is shorter), letters in lower case; `length`: of the name.
constexpr std::size_t name_slot(std::uint64_t head, std::uint64_t length, std::uint64_t multiplier) noexcept {
  return ((head | length << 32) * multiplier) >> 58;
}

constexpr std::uint32_t name_head(std::string_view name) noexcept {
  std::uint32_t head = 0;
  for (std::size_t i = 0; i < name.size() && i < 4; ++i)
    head |= static_cast<std::uint32_t>(static_cast<unsigned char>(name[i]) | 0x20u) << (8 * i);
  return head;
}

// A multiplier that gives each name a slot of its own.
consteval std::uint64_t find_multiplier() {
  for (std::uint64_t candidate = 0x9e37'79b9'7f4a'7c15;; candidate += 0x0001'0000'1002) {
    std::uint64_t taken = 0;
    bool good = true;
    for (const HeaderName& known : kHeaderNames) {
      const std::uint64_t bit = std::uint64_t{1} << name_slot(name_head(known.name), known.name.size(), candidate);
      good = good && (taken & bit) == 0;
      taken |= bit;
    }
    if (good) return candidate;
  }
}
inline constexpr std::uint64_t kNameMultiplier = find_multiplier();

struct NameTable {
  std::array<NameSlot, kNameSlots> slots{};
  std::array<NameMeta, kNameSlots> metas{};
};

consteval NameTable make_name_table() {
  NameTable table;
  for (const HeaderName& known : kHeaderNames) {
    const auto length = static_cast<std::uint32_t>(known.name.size());
    const std::size_t at = name_slot(name_head(known.name), length, kNameMultiplier);
    for (std::size_t i = 0; i < length; ++i) {
      table.slots[at].pattern[i] = known.name[i];
      table.slots[at].fold[i] = text::is_alpha(known.name[i]) ? 0x20 : 0;
    }
    table.slots[at].pattern[length] = ':';
    table.metas[at] = {static_cast<std::uint8_t>(length), known.header};
  }
  return table;
}
inline constexpr NameTable kNameTable = make_name_table();

} // namespace sipward::sip
