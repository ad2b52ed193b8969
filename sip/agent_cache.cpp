// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/agent_cache.h"

#include <algorithm>

#include "sip/marks.h"

namespace sipward::sip {

const AgentCache::Entry& AgentCache::entry_plain(const Marks& marks, std::string_view datagram, Span value) noexcept {
  const std::string_view name = value.in(datagram);
  if (name.size() - 1 >= kOctets || value.end < 16) [[unlikely]]
    return look_up(marks, name);
  std::array<char, kOctets> octets{};
  std::copy(name.begin(), name.end(), octets.begin());
  Entry& entry = slot(datagram.data() + value.end);
  if (entry.name != octets || entry.marks != marks.id()) [[unlikely]]
    return learn(entry, marks, name);
  return entry;
}

const AgentCache::Entry& AgentCache::learn(Entry& entry, const Marks& marks, std::string_view name) noexcept {
  entry.name = {};
  std::copy(name.begin(), name.end(), entry.name.begin());
  entry.marks = marks.id();
  entry.mark = marks.user_agent(name);
  entry.hard = entry.mark && entry.mark->weight == Weight::Hard ? entry.mark : nullptr;
  return entry;
}

const AgentCache::Entry& AgentCache::look_up(const Marks& marks, std::string_view name) noexcept {
  other_.mark = name.empty() ? nullptr : marks.user_agent(name);
  other_.hard = other_.mark && other_.mark->weight == Weight::Hard ? other_.mark : nullptr;
  return other_;
}

} // namespace sipward::sip
