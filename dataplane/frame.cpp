// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/frame.h"

#include <algorithm>
#include <memory>

namespace sipward::dataplane {
namespace {

using Octets = std::span<const std::uint8_t>;

constexpr std::size_t kEthernetHeader = 14;
constexpr std::size_t kVlanTag = 4;
constexpr std::size_t kIpv6Header = 40;
constexpr std::size_t kUdpHeader = 8;
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;

std::uint16_t u16(Octets octets, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(octets[at] << 8 | octets[at + 1]);
}

// `octets` begins at a TCP header: of it only the ports are of interest.
void note_ports(Octets octets, policy::Datagram& datagram) noexcept {
  if (octets.size() < 4) return;
  datagram.source_port = u16(octets, 0);
  datagram.destination_port = u16(octets, 2);
}

// `octets` begins at the UDP header; `length` is what the IP header says is left for it.
FrameKind parse_udp(Octets octets, std::size_t length, policy::Datagram& datagram) noexcept {
  if (length < kUdpHeader || octets.size() < kUdpHeader) return FrameKind::Bad;
  datagram.source_port = u16(octets, 0);
  datagram.destination_port = u16(octets, 2);
  const std::size_t udp_length = u16(octets, 4);
  if (udp_length < kUdpHeader || udp_length > length) return FrameKind::Bad;
  datagram.truncated = octets.size() < udp_length;
  const Octets payload = octets.subspan(kUdpHeader, std::min(octets.size(), udp_length) - kUdpHeader);
  datagram.payload = {reinterpret_cast<const char*>(payload.data()), payload.size()};
  return FrameKind::Udp;
}

// `octets` begins at the IP header, whose packet is `total` octets long.
FrameKind fragment_of(Octets octets, std::size_t total, policy::Datagram& datagram) noexcept {
  datagram.truncated = octets.size() < total;
  octets = octets.first(std::min(octets.size(), total));
  datagram.payload = {reinterpret_cast<const char*>(octets.data()), octets.size()};
  return FrameKind::Fragment;
}

FrameKind parse_ipv4(Octets octets, std::size_t wire_length, policy::Datagram& datagram) noexcept {
  if (octets.size() < 20) return FrameKind::Bad;
  const std::size_t header = (octets[0] & 0x0fu) * 4u;
  std::size_t total = u16(octets, 2);
  if (total == 0)
    total = wire_length; // segmentation offload: the length did not fit, the frame's end is the datagram's
  if (header < 20 || header > octets.size() || total < header || total > wire_length) return FrameKind::Bad;
  std::ranges::copy(octets.subspan<12, 4>(), datagram.source.octets.begin()); // of family V4 they are already
  std::ranges::copy(octets.subspan<16, 4>(), datagram.destination.octets.begin());
  const Octets rest = octets.first(std::min(octets.size(), total)).subspan(header);
  if (octets[9] == kTcp && (u16(octets, 6) & 0x3fff) == 0) note_ports(rest, datagram);
  if (octets[9] != kUdp) return FrameKind::NotUdp;
  if ((u16(octets, 6) & 0x3fff) != 0) return fragment_of(octets, total, datagram); // more fragments, or an offset
  return parse_udp(rest, total - header, datagram);
}

FrameKind parse_ipv6(Octets octets, std::size_t wire_length, policy::Datagram& datagram) noexcept {
  if (octets.size() < kIpv6Header) return FrameKind::Bad;
  const std::size_t payload = u16(octets, 4);
  const std::size_t total =
      payload == 0 ? wire_length : kIpv6Header + payload; // 0: a jumbogram or an offloaded segment
  if (total > wire_length) return FrameKind::Bad;
  datagram.source = policy::Address::from_wire(octets.subspan(8, 16));
  datagram.destination = policy::Address::from_wire(octets.subspan(24, 16));
  octets = octets.first(std::min(octets.size(), total));

  std::uint8_t next = octets[6];
  std::size_t at = kIpv6Header;
  for (int i = 0; next != kUdp; ++i) {
    if (i == kMaxExtensionHeaders) return FrameKind::Bad;
    const bool fragment = next == 44;
    const bool authentication = next == 51; // RFC 4302: its length counts words of four octets, less two
    const bool options = next == 0 || next == 43 || next == 60 || next == 135;
    if (next == kTcp) note_ports(octets.subspan(at), datagram);
    if (!fragment && !authentication && !options) return FrameKind::NotUdp;
    if (octets.size() < at + 8) return FrameKind::Bad;
    // An "atomic fragment" (RFC 6946) has neither offset nor successors: it is whole.
    if (fragment && (u16(octets, at + 2) & 0xfff9) != 0) return fragment_of(octets, total, datagram);
    const std::size_t length = octets[at + 1];
    next = octets[at];
    at += fragment ? 8 : authentication ? (length + 2) * 4 : (length + 1) * 8;
    if (at > octets.size()) return FrameKind::Bad;
  }
  return parse_udp(octets.subspan(at), total - at, datagram);
}

FrameKind parse_either(Octets octets, std::size_t wire_length, policy::Datagram& datagram) noexcept {
  if (octets.empty()) return FrameKind::Bad;
  switch (octets[0] >> 4) {
  case 4: return parse_ipv4(octets, wire_length, datagram);
  case 6: return parse_ipv6(octets, wire_length, datagram);
  default: return FrameKind::Bad;
  }
}

} // namespace

policy::Why why_not_judged(FrameKind kind) noexcept {
  switch (kind) {
  case FrameKind::NotIp: return policy::Why::NotIp;
  case FrameKind::NotUdp: return policy::Why::NotUdp;
  case FrameKind::Fragment: return policy::Why::Fragment;
  case FrameKind::Bad: return policy::Why::BadFrame;
  case FrameKind::BadChecksum: return policy::Why::BadChecksum;
  case FrameKind::Udp: break;
  }
  return policy::Why::Unrelated;
}

FrameKind parse_frame(Octets octets, std::size_t wire_length, policy::Datagram& datagram) noexcept {
  std::construct_at(&datagram); // in its place: of a copy that was just made piece by piece the CPU would have to wait
  if (octets.size() < kEthernetHeader) return FrameKind::Bad;
  std::size_t at = kEthernetHeader;
  std::uint16_t ethertype = u16(octets, 12);
  for (int tag = 0; tag < kMaxVlanTags && is_vlan(ethertype); ++tag) {
    if (octets.size() < at + kVlanTag) return FrameKind::Bad;
    ethertype = u16(octets, at + 2);
    at += kVlanTag;
  }
  if (ethertype != 0x0800 && ethertype != 0x86dd) return FrameKind::NotIp;
  return parse_either(octets.subspan(at), wire_length - at, datagram);
}

FrameKind parse_ip(Octets octets, std::size_t wire_length, policy::Datagram& datagram) noexcept {
  std::construct_at(&datagram);
  return parse_either(octets, wire_length, datagram);
}

} // namespace sipward::dataplane
