// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <new>

#include "daemon/nft_batch.h"

// Private to this layer. The chains of our table and their rules, as messages of a batch (nft_batch.h).
namespace sipward::daemon::nft {

inline constexpr const char* kPorts = "sip_ports";           // the sets that `scope: sip` asks
inline constexpr const char* kTransports = "sip_transports"; // TCP and UDP

// All chains of the layout. Their sets stand earlier in the batch.
void put_chains(Batch& batch, const Layout& layout);
// The chain that keeps everything on layout.taken from the kernel, in the table netdev sipward.
void put_taking_chain(Batch& batch, const Layout& layout);

// Ownership of libnftnl's objects; its allocators answer with a null pointer when memory is out.
template<auto Free>
struct Freed {
  void operator()(auto* object) const noexcept { Free(object); }
};
template<class Object>
Object* made(Object* object) {
  if (object == nullptr) throw std::bad_alloc();
  return object;
}

} // namespace sipward::daemon::nft
