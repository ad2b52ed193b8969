// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft_sets.h"

#include <cerrno>
#include <charconv>

namespace sipward::daemon::nft {
namespace {

using policy::Family;
using policy::SubjectKind;

struct Naming {
  std::string_view name; // "_v4" or "_v6" follows, and the length of prefixes that are made on demand
  Effect effect;
  SubjectKind kind;
  bool on_demand;
};
constexpr std::array<Naming, 8> kNamings = {{
    {"blocked", Effect::Drop, SubjectKind::Host, false},
    {"blocked_endpoint", Effect::Drop, SubjectKind::Endpoint, false},
    {"blocked_net", Effect::Drop, SubjectKind::Prefix, false},
    {"blocked_net", Effect::Drop, SubjectKind::Prefix, true},
    {"blocked_all", Effect::DropAll, SubjectKind::Host, true},
    {"blocked_all", Effect::DropAll, SubjectKind::Prefix, true},
    {"limited", Effect::Limit, SubjectKind::Host, false},
    {"known_endpoint", Effect::Spare, SubjectKind::Endpoint, false},
}};

constexpr bool carries_length(const Naming& naming) noexcept {
  return naming.on_demand && naming.kind == SubjectKind::Prefix;
}

std::uint8_t usual_length(Effect effect, SubjectKind kind, Family family, const Layout& layout) noexcept {
  const bool v4 = family == Family::V4;
  switch (kind) {
  case SubjectKind::Host: return v4 ? std::uint8_t{32} : layout.source_v6;
  case SubjectKind::Prefix: return v4 ? layout.prefix_v4 : layout.prefix_v6;
  case SubjectKind::Endpoint: break;
  }
  // Of an IPv6 source its ports are known, and not which of its addresses they belong to.
  if (!v4 && effect == Effect::Spare) return layout.source_v6;
  return policy::bits(family);
}

constexpr std::string_view verb(Effect effect) noexcept {
  switch (effect) {
  case Effect::Drop: return "blocked";
  case Effect::DropAll: return "wholly blocked";
  case Effect::Limit: return "limited";
  case Effect::Spare: return "known";
  case Effect::Allow: break;
  }
  return "allowed";
}

} // namespace

std::string name_of(const SubjectSet& set) {
  for (const auto& naming : kNamings) {
    if (naming.effect != set.effect || naming.kind != set.kind || naming.on_demand != set.on_demand) continue;
    std::string name(naming.name);
    name += set.family == Family::V4 ? "_v4" : "_v6";
    if (carries_length(naming)) name += "_" + std::to_string(set.length);
    return name;
  }
  return {};
}

std::optional<SubjectSet> set_named(std::string_view name, std::optional<std::uint8_t> length) {
  std::optional<std::uint8_t> carried;
  if (const auto at = name.find_last_not_of("0123456789"); at != name.npos && name[at] == '_') {
    std::uint8_t number = 0;
    const auto [end, fault] = std::from_chars(name.data() + at + 1, name.data() + name.size(), number);
    if (fault != std::errc() || end != name.data() + name.size()) return std::nullopt;
    carried = number;
    name = name.substr(0, at);
  }
  const auto family = name.ends_with("_v4") ? Family::V4 : Family::V6;
  if (!name.ends_with("_v4") && !name.ends_with("_v6")) return std::nullopt;
  name.remove_suffix(3);
  for (const auto& naming : kNamings) {
    if (naming.name != name || carries_length(naming) != carried.has_value()) continue;
    const auto bits = carried ? *carried : length.value_or(policy::bits(family));
    if (bits < 1 || bits > policy::bits(family)) return std::nullopt;
    return SubjectSet{naming.effect, naming.kind, family, bits, naming.on_demand};
  }
  return std::nullopt;
}

std::array<SubjectSet, 10> standing_sets(const Layout& layout) noexcept {
  std::array<SubjectSet, 10> sets;
  std::size_t count = 0;
  for (const auto& naming : kNamings) {
    if (naming.on_demand) continue;
    for (const auto family : {Family::V4, Family::V6})
      sets[count++] = {naming.effect, naming.kind, family, usual_length(naming.effect, naming.kind, family, layout),
                       false};
  }
  return sets;
}

std::optional<SubjectSet> set_called(std::string_view name, const Layout& layout) {
  for (const auto& set : standing_sets(layout))
    if (name_of(set) == name) return set;
  const auto set = set_named(name, std::nullopt);
  if (!set || set->kind != SubjectKind::Host) return set;
  auto host = *set;
  host.length = usual_length(set->effect, set->kind, set->family, layout);
  return host;
}

std::expected<SubjectSet, Error> set_of(const policy::Subject& subject, Effect effect, const Layout& layout) {
  const auto family = subject.prefix.base.family;
  const auto length = subject.prefix.length;
  const bool usual = length == usual_length(effect, subject.kind, family, layout);
  const bool on_demand = effect == Effect::DropAll || !usual;
  // Only prefixes may have any length: hosts and endpoints are what the layout says they are.
  if (length >= 1 && length <= policy::bits(family) && (usual || subject.kind == SubjectKind::Prefix))
    for (const auto& naming : kNamings)
      if (naming.effect == effect && naming.kind == subject.kind && naming.on_demand == on_demand)
        return SubjectSet{effect, subject.kind, family, length, on_demand};
  return std::unexpected(Error{EINVAL, "nftables: no set holds " + policy::to_string(subject) + " as a " +
                                           std::string(verb(effect)) + " " +
                                           std::string(policy::to_string(subject.kind))});
}

} // namespace sipward::daemon::nft
