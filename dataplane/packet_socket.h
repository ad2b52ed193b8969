// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

namespace sipward::dataplane {

// The rings of a packet socket (packet(7), packet_mmap in the kernel's documentation): one to receive, one to send.
struct RingShape {
  std::uint32_t block_octets;
  std::uint32_t frame_octets;
  std::uint32_t frames;
};

// What all sockets of a port are to be like.
struct SocketPlan {
  std::string interface;
  RingShape rings;
  bool forwards; // inline: each hears whatever arrives as it arrives, and nothing that this host sends
  std::vector<sock_filter> filter; // monitor: what is to be heard, of both directions; IPv4 fragments come as one
  std::vector<sock_filter> fanout; // of several: the number of the one that is to hear a frame (spread.h)
};

// net_af_packet puts its sockets into a fanout group that asks the kernel to put IPv4 fragments together
// (PACKET_FANOUT_FLAG_DEFRAG), and to choose one by all that a flow is told by, or another where that one is full: good
// for a copy read by one, but what is forwarded must leave as it came and in its order; and no socket ever leaves its
// group. So the driver is given other sockets under the same descriptors and with their rings at the same places in
// memory: all that it knows of a socket is these two.
//
// `sockets`: the driver's, in the order of its queues, before anything has been received or sent by them. Promiscuity
// ends with the new ones. They begin to hear when all stand: no frame is heard twice, or by the wrong one. The error
// says what the kernel refused.
std::expected<void, std::string> replace_sockets(std::span<const int> sockets, const SocketPlan& plan);

} // namespace sipward::dataplane
