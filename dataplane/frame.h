// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <span>

#include "policy/judge.h"

// From a frame's octets to the UDP datagram inside. Pure: no DPDK here, replay reads its captures with the same
// function.
namespace sipward::dataplane {

enum class FrameKind : std::uint8_t {
  Udp,         // `datagram` is filled in
  NotIp,       // another ethertype
  NotUdp,      // IP, another protocol; the addresses are filled in, and TCP's ports
  Fragment,    // of an IPv4 UDP or an IPv6 datagram, the first one too; the addresses are filled in, the payload is the
               // IP packet (fragments.h)
  Bad,         // lengths or versions contradict each other
  BadChecksum, // UDP, and its NIC says so: never told by the functions here
};

// The verdict's reason for a frame that never gets as far as the judge.
policy::Why why_not_judged(FrameKind kind) noexcept;

// `octets`: what was captured; `wire_length`: what was on the wire (more, if the capture cut it). Never reads past
// `octets`. `datagram.payload` points into `octets`. Any thread.
//
// Ethernet II with up to two VLAN tags (802.1Q, 802.1ad), then parse_ip.
FrameKind parse_frame(std::span<const std::uint8_t> octets, std::size_t wire_length,
                      policy::Datagram& datagram) noexcept;

// IPv4 with options (RFC 791) or IPv6 with extension headers (RFC 8200), then UDP (RFC 768). Octets after the IP
// datagram's end (Ethernet padding) are left out.
FrameKind parse_ip(std::span<const std::uint8_t> octets, std::size_t wire_length, policy::Datagram& datagram) noexcept;

inline constexpr int kMaxVlanTags = 2;
inline bool is_vlan(std::uint16_t ethertype) noexcept {
  return ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100;
}
inline constexpr int kMaxExtensionHeaders = 8; // of an IPv6 datagram; more than that is no phone's doing: Bad

} // namespace sipward::dataplane
