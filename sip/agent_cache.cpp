// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/agent_cache.h"

#include <cstring>

#include "sip/marks.h"

namespace sipward::sip {

const Mark* AgentCache::find_plain(const Marks& marks, std::string_view datagram, Span value) noexcept {
  const std::size_t size = value.size();
  if (!is_kept(value)) [[unlikely]]
    return size == 0 ? nullptr : marks.user_agent(value.in(datagram));
  Words octets{};
  std::memcpy(octets.data(), datagram.data() + value.begin, size);
  Entry& entry = entry_of(datagram.data() + value.end);
  if (entry.name != octets || entry.marks != marks.id()) [[unlikely]]
    learn(entry, octets, marks, value.in(datagram));
  return entry.mark;
}

void AgentCache::learn(Entry& entry, const Words& octets, const Marks& marks, std::string_view name) noexcept {
  entry.name = octets;
  entry.marks = marks.id();
  entry.mark = marks.user_agent(name);
}

} // namespace sipward::sip
