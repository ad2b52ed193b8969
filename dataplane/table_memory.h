// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <cstddef>
#include <memory>

// Memory for what workers look up at random. It lies in hugepages if DPDK has some; if not, in memory of the process's
// own, where the kernel is asked for huge pages (transparent_hugepage: madvise, Debian's default, or always). In small
// pages nearly every look-up in a great table waits for a page walk as well.
namespace sipward::dataplane {

struct TableMemoryFree {
  std::size_t mapped = 0; // octets of the process's own; 0: DPDK's
  void operator()(std::byte* octets) const noexcept;
};
using TableMemory = std::unique_ptr<std::byte, TableMemoryFree>;

// Aligned to 64, zeroed; near a NUMA node if that has enough. nullptr: there is not enough.
TableMemory table_memory(std::size_t octets, int node, bool hugepages) noexcept;

} // namespace sipward::dataplane
