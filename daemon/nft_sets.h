// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/nft.h"
#include "policy/address.h"
#include "policy/block.h"

// The sets of our table by their names, and which of them holds whom. Pure.
namespace sipward::daemon::nft {

// Interval sets.
inline constexpr std::array<const char*, 2> kNeverBlocked = {"never_blocked_v4", "never_blocked_v6"};
inline constexpr std::array<const char*, 2> kAllowed = {"allowed_v4", "allowed_v6"};
// What `scope: sip` asks for.
inline constexpr const char* kPorts = "sip_ports";
inline constexpr const char* kTransports = "sip_transports";

// One of each pair, by family.
constexpr const char* of(const std::array<const char*, 2>& pair, policy::Family family) noexcept {
  return pair[family == policy::Family::V4 ? 0 : 1];
}

// A set whose elements are subjects: of one effect, kind and family, by so many bits of their address.
struct SubjectSet {
  Effect effect = Effect::Drop;
  policy::SubjectKind kind = policy::SubjectKind::Host;
  policy::Family family = policy::Family::V4;
  std::uint8_t length = 32;
  bool on_demand = false; // made with its first element, removed with its last; the others stand as long as the table
  friend auto operator<=>(const SubjectSet&, const SubjectSet&) = default;
};
std::string name_of(const SubjectSet& set); // "blocked_v4", "blocked_net_v4_20"
// The other way round; a name tells the length only if it carries it, else it is `length`. Nothing for any other set.
std::optional<SubjectSet> set_named(std::string_view name, std::optional<std::uint8_t> length);

// Those that every table has.
std::array<SubjectSet, 10> standing_sets(const Layout& layout) noexcept;
// The set of that name in a table of this layout; nothing if its elements are no subjects.
std::optional<SubjectSet> set_called(std::string_view name, const Layout& layout);
// The set that a subject belongs into. EINVAL if there is none for it: a limited prefix, a host of another length than
// the layout's, anything allowed.
std::expected<SubjectSet, Error> set_of(const policy::Subject& subject, Effect effect, const Layout& layout);

} // namespace sipward::daemon::nft
