// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <atomic>

// The atomics of what workers share. The lock-free code of this layer names these and nothing else, so that a test can
// compile the very same source against atomics of its own, which hand the turn from thread to thread at each access
// (tests/model/policy/atomic.h).
namespace sipward::policy {

template<typename T>
using Atomic = std::atomic<T>;

// Before looking again at what another thread is about to change.
inline void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

} // namespace sipward::policy
