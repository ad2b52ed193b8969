// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/table_memory.h"

#include <rte_malloc.h>
#include <sys/mman.h>

namespace sipward::dataplane {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20; // a mapping of whole ones may lie in them from end to end

} // namespace

void TableMemoryFree::operator()(std::byte* octets) const noexcept {
  if (mapped == 0)
    rte_free(octets);
  else
    munmap(octets, mapped);
}

TableMemory table_memory(std::size_t octets, int node, bool hugepages) noexcept {
  if (hugepages) {
    for (const int where : {node, SOCKET_ID_ANY})
      if (void* found = rte_zmalloc_socket("sources", octets, 64, where))
        return TableMemory(static_cast<std::byte*>(found));
    return nullptr;
  }
  const std::size_t mapped = (octets + kHugePage - 1) / kHugePage * kHugePage;
  void* found = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) return nullptr;
  madvise(found, mapped, MADV_HUGEPAGE); // refused, it is slower, and works
  return TableMemory(static_cast<std::byte*>(found), {mapped});
}

} // namespace sipward::dataplane
