// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/checksum.h"

#include <cstddef>
#include <cstring>
#include <optional>

#include "dataplane/frame.h"

namespace sipward::dataplane {
namespace {

using Octets = std::span<std::uint8_t>;

constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;

std::uint16_t u16(Octets octets, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(octets[at] << 8 | octets[at + 1]);
}

// The one's-complement sum of RFC 1071, in host order, not folded.
std::uint64_t sum(Octets octets) noexcept {
  std::uint64_t total = 0;
  std::size_t at = 0;
  for (; at + 4 <= octets.size(); at += 4) total += (std::uint64_t{u16(octets, at)} << 16) + u16(octets, at + 2);
  if (at + 2 <= octets.size()) {
    total += u16(octets, at);
    at += 2;
  }
  if (at < octets.size()) total += static_cast<std::uint64_t>(octets[at]) << 8;
  return total;
}
std::uint16_t fold(std::uint64_t total) noexcept {
  while (total > 0xffff) total = (total >> 16) + (total & 0xffff);
  return static_cast<std::uint16_t>(total);
}

// A TCP or UDP packet in a frame, and the sum of its pseudo-header (RFC 9293, RFC 768, RFC 8200 section 8.1).
struct Transport {
  Octets octets;
  std::uint8_t protocol;
  std::uint64_t pseudo_sum;
};
Transport transport(Octets octets, std::uint8_t protocol, Octets addresses) noexcept {
  return Transport{octets, protocol, sum(addresses) + protocol + octets.size()};
}

std::optional<Transport> in_ipv4(Octets ip) noexcept {
  if (ip.size() < 20) return std::nullopt;
  const std::size_t header = (ip[0] & 0x0fu) * 4u;
  const std::size_t total = u16(ip, 2);
  if (header < 20 || total < header || total > ip.size() || (u16(ip, 6) & 0x3fff) != 0) return std::nullopt;
  return transport(ip.subspan(header, total - header), ip[9], ip.subspan(12, 8));
}

std::optional<Transport> in_ipv6(Octets ip) noexcept {
  constexpr std::size_t kHeader = 40;
  if (ip.size() < kHeader || kHeader + u16(ip, 4) > ip.size()) return std::nullopt;
  const Octets addresses = ip.subspan(8, 32);
  std::uint8_t next = ip[6];
  Octets rest = ip.subspan(kHeader, u16(ip, 4));
  for (int i = 0; i < kMaxExtensionHeaders && (next == 0 || next == 60) && rest.size() >= 8; ++i) {
    const std::size_t length = (rest[1] + std::size_t{1}) * 8;
    if (length > rest.size()) return std::nullopt;
    next = rest[0];
    rest = rest.subspan(length);
  }
  return transport(rest, next, addresses);
}

std::optional<Transport> in_frame(Octets frame) noexcept {
  std::size_t at = 12;
  if (frame.size() < at + 2) return std::nullopt;
  for (int tag = 0; tag < kMaxVlanTags && is_vlan(u16(frame, at)); ++tag) {
    at += 4;
    if (frame.size() < at + 2) return std::nullopt;
  }
  const std::uint16_t ethertype = u16(frame, at);
  const Octets ip = frame.subspan(at + 2);
  if (ethertype == 0x0800) return in_ipv4(ip);
  if (ethertype == 0x86dd) return in_ipv6(ip);
  return std::nullopt;
}

} // namespace

void complete_checksum(Octets frame) noexcept {
  const auto found = in_frame(frame);
  if (!found || (found->protocol != kTcp && found->protocol != kUdp)) return;
  const std::size_t field = found->protocol == kTcp ? 16 : 6;
  const Octets octets = found->octets;
  if (octets.size() < field + 2) return;
  const std::uint16_t pseudo = fold(found->pseudo_sum);
  if (u16(octets, field) != pseudo) return;
  // The field stands in for the pseudo-header in the sum.
  std::uint16_t whole = static_cast<std::uint16_t>(~fold(sum(octets)));
  if (whole == 0 && found->protocol == kUdp) whole = 0xffff; // 0 would say that there is none
  octets[field] = static_cast<std::uint8_t>(whole >> 8);
  octets[field + 1] = static_cast<std::uint8_t>(whole);
}

} // namespace sipward::dataplane
