// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/agent_cache.h"

#include <cstring>

#include "sip/marks.h"

namespace sipward::sip {
namespace {

// 32 octets of ones, then 32 zeroes: from octet 32 - n on, it lets n octets through.
alignas(64) constexpr std::array<std::uint64_t, 8> kKeep{~0ull, ~0ull, ~0ull, ~0ull};

} // namespace

const Mark* AgentCache::find(const Marks& marks, std::string_view datagram, Span value) noexcept {
  const std::size_t size = value.size();
  if (size == 0) return nullptr;
  if (size > kOctets || value.begin + kOctets > datagram.size()) [[unlikely]]
    return marks.user_agent(value.in(datagram));
  Words name, keep;
  std::memcpy(name.data(), datagram.data() + value.begin, kOctets);
  std::memcpy(keep.data(), reinterpret_cast<const char*>(kKeep.data()) + kOctets - size, kOctets);
  for (std::size_t i = 0; i < name.size(); ++i) name[i] &= keep[i];
  const std::uint64_t mixed = (name[0] + (name[1] << 1 ^ name[1] >> 31)) ^ (name[2] << 3 ^ name[3] << 17);
  Entry& entry = entries_[mixed * 0x9e37'79b9'7f4a'7c15 >> (64 - kBits)];
  std::uint64_t other = entry.marks ^ marks.id();
  for (std::size_t i = 0; i < name.size(); ++i) other |= entry.name[i] ^ name[i];
  if (other != 0) [[unlikely]] {
    entry.name = name;
    entry.marks = marks.id();
    entry.mark = marks.user_agent(value.in(datagram));
  }
  return entry.mark;
}

} // namespace sipward::sip
