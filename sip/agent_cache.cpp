// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/agent_cache.h"

#include <bit>
#include <cstring>

#include "sip/marks.h"

namespace sipward::sip {
namespace {

// 32 octets of ones, then 32 zeroes: from octet 32 - n on, it lets n octets through.
alignas(64) constexpr std::array<std::uint64_t, 8> kKeep{~0ull, ~0ull, ~0ull, ~0ull};

std::uint64_t word(const char* octets) noexcept {
  std::uint64_t out;
  std::memcpy(&out, octets, sizeof out);
  return out;
}

} // namespace

const Mark* AgentCache::find(const Marks& marks, std::string_view datagram, Span value) noexcept {
  const std::size_t size = value.size();
  if (size > kOctets || value.begin + kOctets > datagram.size()) [[unlikely]]
    return marks.user_agent(value.in(datagram));
  if (size == 0) return nullptr;
  const char* const octets = datagram.data() + value.begin;
  const char* const keep = reinterpret_cast<const char*>(kKeep.data()) + kOctets - size;
  const std::uint64_t a = word(octets) & word(keep), b = word(octets + 8) & word(keep + 8),
                      c = word(octets + 16) & word(keep + 16), d = word(octets + 24) & word(keep + 24);
  Entry& entry = entries_[((a ^ std::rotl(b, 21)) + (c ^ std::rotl(d, 43))) * 0x9e37'79b9'7f4a'7c15 >> (64 - kBits)];
  const Words& name = entry.name;
  if (((name[0] ^ a) | (name[1] ^ b) | (name[2] ^ c) | (name[3] ^ d) | (entry.marks ^ marks.id())) != 0) [[unlikely]]
    learn(entry, marks, value.in(datagram));
  return entry.mark;
}

void AgentCache::learn(Entry& entry, const Marks& marks, std::string_view name) noexcept {
  entry.name = {};
  std::memcpy(entry.name.data(), name.data(), name.size());
  entry.marks = marks.id();
  entry.mark = marks.user_agent(name);
}

} // namespace sipward::sip
