// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <expected>
#include <string>

namespace sipward::dataplane {

// The rings of a packet socket (packet(7), packet_mmap in the kernel's documentation): one to receive, one to send.
struct RingShape {
  std::uint32_t block_octets;
  std::uint32_t frame_octets;
  std::uint32_t frames;
};

// net_af_packet asks the kernel to put IPv4 fragments together before it sees them (PACKET_FANOUT_FLAG_DEFRAG): good
// for a copy, but what is forwarded must leave as it came, and no socket leaves the fanout group that this belongs to.
// So the driver is given another socket, of no group, under the same descriptor and with its rings at the same place in
// memory: all that it knows of a socket is these two.
//
// `fd`: the driver's socket, before anything has been received or sent by it. The new one hears nothing that this host
// sends, listens to every address, and promiscuity ends with it. The error says what the kernel refused.
std::expected<void, std::string> replace_socket(int fd, const std::string& interface, const RingShape& shape);

} // namespace sipward::dataplane
