// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <type_traits>

namespace sipward::dataplane {

// A bounded queue between exactly one producer and one consumer thread; neither ever waits. Each side keeps its own
// index in its own cache line, with a stale copy of the other's beside it, so that the lines travel only when the copy
// no longer suffices.
template<typename T, std::size_t kCapacity>
class SpscRing {
  static_assert((kCapacity & (kCapacity - 1)) == 0, "the capacity is a power of two");
  static_assert(std::is_trivially_copyable_v<T>);

public:
  // Producer thread only. False: the ring is full and the value is lost, which the caller counts.
  bool push(const T& value) noexcept {
    const std::size_t tail = tail_.load(std::memory_order_relaxed); // ours alone to write
    if (tail - head_seen_ == kCapacity) {
      head_seen_ =
          head_.load(std::memory_order_acquire); // pairs with pop(): the slot has been read before it is written again
      if (tail - head_seen_ == kCapacity) return false;
    }
    slots_[tail & (kCapacity - 1)] = value;
    tail_.store(tail + 1, std::memory_order_release); // pairs with pop(): whoever sees the index sees the value
    return true;
  }

  // Consumer thread only. False: nothing there.
  bool pop(T& value) noexcept {
    const std::size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return false;
    }
    value = slots_[head & (kCapacity - 1)];
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

private:
  alignas(64) std::atomic<std::size_t> tail_ = 0; // producer
  std::size_t head_seen_ = 0;                     // producer
  alignas(64) std::atomic<std::size_t> head_ = 0; // consumer
  std::size_t tail_seen_ = 0;                     // consumer
  alignas(64) std::array<T, kCapacity> slots_{};
};

} // namespace sipward::dataplane
