// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

// How frames are spread over a port's receive queues, each of which one worker reads. The source table is the same for
// all, so any way is right; the ways here are good:
// - What one source sends meets on one queue: its line in the table is one core's, and its frames keep their order.
//   Inline, that is the source address outside and the destination inside, so that answers are read by the worker that
//   read the request. A copy shows both directions at once: then by both addresses, whichever comes first.
// - The fragments of a datagram meet too, for they share their addresses: each worker puts together what it receives.
//   Ports are left out, which only a first fragment has. Should a device part fragments all the same, they are never
//   whole: they are dropped overdue and counted so (fragments.h).
// - Frames that are not IP have the first queue.
namespace sipward::dataplane {

enum class Spread : std::uint8_t { BySource, ByDestination, ByBoth };

// For the fanout group of a port's packet sockets (packet(7), PACKET_FANOUT_CBPF): gives a number, of which the kernel
// takes the remainder by the number of sockets. `secret`: nobody who knows it not can aim at one queue.
std::vector<sock_filter> fanout_program(Spread spread, std::uint64_t secret);

// For a NIC: which fields it is to hash, in DPDK's bits (rte_ethdev.h, RTE_ETH_RSS_*), out of those that it offers.
std::uint64_t rss_fields(Spread spread, std::uint64_t offered) noexcept;

} // namespace sipward::dataplane
