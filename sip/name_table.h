// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "sip/header_names.h"

// The known header names in a table without collisions, for lookups that branch on nothing. Private to sip/.
namespace sipward::sip {

// The octets that end with a name's last one, and the LF before its first: comparing that compares the length as well.
//
//   ... 0 0 \n c s e q     pattern
//   ... 0 0 ff df df df df mask: letters in any case
//
// Of a name longer than 14 octets only the last 15 stand here; who finds it must look at the rest. In place of the
// first octet, which is not compared, stands the header.
struct alignas(32) NameSlot {
  char pattern[16];
  unsigned char mask[16];
  constexpr Header header() const noexcept { return static_cast<Header>(pattern[0]); }
};

inline constexpr std::size_t kNameSlots = 64;
inline constexpr std::size_t kWholeName = 14; // octets that a slot compares wholly

// A name's key: its last two octets (of the shortest the LF before it, too) and its length.
constexpr std::uint32_t name_key(std::uint32_t last_two, std::uint32_t length) noexcept {
  return (last_two | 0x2020) + (length << 16);
}
constexpr std::size_t name_slot(std::uint32_t key, std::uint32_t multiplier) noexcept { return key * multiplier >> 26; }

constexpr std::uint32_t name_key(std::string_view name) noexcept {
  const auto octet = [name](std::size_t from_end) {
    return static_cast<std::uint32_t>(from_end <= name.size() ? static_cast<unsigned char>(name[name.size() - from_end])
                                                              : '\n');
  };
  return name_key(octet(2) | octet(1) << 8, static_cast<std::uint32_t>(name.size()));
}

// A multiplier that gives each name a slot of its own.
consteval std::uint32_t find_multiplier() {
  for (std::uint32_t candidate = 0x9e37'79b9;; candidate += 0x0001'0002) {
    std::uint64_t taken = 0;
    bool good = true;
    for (const HeaderName& known : kHeaderNames) {
      const std::uint64_t bit = std::uint64_t{1} << name_slot(name_key(known.name), candidate);
      good = good && (taken & bit) == 0;
      taken |= bit;
    }
    if (good) return candidate;
  }
}
inline constexpr std::uint32_t kNameMultiplier = find_multiplier();

struct NameTable {
  std::array<NameSlot, kNameSlots> slots{};
};

consteval NameTable make_name_table() {
  NameTable table;
  for (NameSlot& slot : table.slots) slot.mask[15] = 0xff; // what matches an empty one is Header::Other
  for (const HeaderName& known : kHeaderNames) {
    const std::size_t at = name_slot(name_key(known.name), kNameMultiplier), size = known.name.size();
    NameSlot& slot = table.slots[at];
    for (std::size_t i = 0; i < size && i < 15; ++i) {
      const char c = known.name[size - 1 - i];
      slot.pattern[15 - i] = text::is_alpha(c) ? static_cast<char>(c & 0xdf) : c;
      slot.mask[15 - i] = text::is_alpha(c) ? 0xdf : 0xff;
    }
    if (size <= kWholeName) slot.pattern[15 - size] = '\n', slot.mask[15 - size] = 0xff;
    slot.pattern[0] = static_cast<char>(known.header);
  }
  return table;
}
inline constexpr NameTable kNameTable = make_name_table();

} // namespace sipward::sip
