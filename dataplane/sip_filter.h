// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

// Monitor mode reads a copy of an interface that also carries media, web and everything else. A classic BPF program on
// the packet socket keeps all that out of the receive ring: only UDP from or to a SIP port, and fragments, which hide
// their ports, get in.
namespace sipward::dataplane {

// The program for Ethernet frames with up to two VLAN tags in the frame (bpf(4); the kernel's networking/filter
// documentation). At most 64 ports.
std::vector<sock_filter> sip_filter(std::span<const std::uint16_t> ports);

inline constexpr std::size_t kMaxSipPorts = 64;

} // namespace sipward::dataplane
