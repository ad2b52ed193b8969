// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <span>

namespace sipward::dataplane {

// A virtual device (veth, virtio, a bridge's port) hands over TCP and UDP packets of its own host with the checksum
// half made: the field holds the sum of the pseudo-header alone, for hardware to complete that such a packet never
// meets. Completes it, in place; frames whose checksum is anything else stay as they are.
//
// A packet that is whole can hold the same number by chance, one in 65,536: its checksum comes out as it was. Ethernet
// with up to two VLAN tags, IPv4, IPv6 with hop-by-hop and destination options; fragments are never half made. Pure;
// never reads or writes past `frame`. Worker thread.
void complete_checksum(std::span<std::uint8_t> frame) noexcept;

} // namespace sipward::dataplane
