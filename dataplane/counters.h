// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <span>

#include "policy/judge.h"

namespace sipward::dataplane {

// What became of every packet. The algebra, true of every snapshot and asserted by tests:
//   received == passed + dropped
//   received == sum of verdicts
// In monitor mode `dropped` means that the sender stands in the kernel's set: the kernel drops the packet, this is the
// copy. Inline it means: it went no further than here; a packet is counted once it has left or was freed. So a held
// fragment is not received yet: it is counted when it is released, under the verdict of its datagram.
struct Counters {
  std::uint64_t received = 0;
  std::uint64_t passed = 0;
  std::uint64_t dropped = 0;
  std::array<std::uint64_t, policy::kWhys> verdicts{};
  // Beside the algebra:
  std::uint64_t octets = 0;        // of the frames received
  std::uint64_t truncated = 0;     // frames of which the ring held only the beginning
  std::uint64_t offences = 0;      // sent to the control thread
  std::uint64_t lost_offences = 0; // not sent: its ring was full

  void count(const policy::Verdict& verdict) noexcept {
    ++received;
    ++(verdict.drop ? dropped : passed);
    ++verdicts[static_cast<std::size_t>(verdict.why)];
  }
  // The same of a burst: sums that are not written to memory and read again for each packet.
  void count(std::span<const policy::Verdict> burst) noexcept {
    std::uint64_t out = 0;
    for (const policy::Verdict& verdict : burst) {
      out += verdict.drop;
      ++verdicts[static_cast<std::size_t>(verdict.why)];
    }
    received += burst.size();
    dropped += out;
    passed += burst.size() - out;
  }
};
using CounterWords =
    std::array<std::uint64_t, sizeof(Counters) / sizeof(std::uint64_t)>; // the same, as one run of numbers

inline Counters operator+(const Counters& a, const Counters& b) noexcept {
  auto sum = std::bit_cast<CounterWords>(a);
  const auto more = std::bit_cast<CounterWords>(b);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
  return std::bit_cast<Counters>(sum);
}

// One worker's counters, published once per burst for others to read as a consistent whole: a sequence lock whose
// payload is made of relaxed atomics (Boehm, "Can seqlocks get along with programming language memory models?", 2012).
class PublishedCounters {
public:
  // The owning worker only.
  void publish(const Counters& counters) noexcept {
    const auto from = std::bit_cast<CounterWords>(counters);
    const auto sequence = sequence_.load(std::memory_order_relaxed);
    sequence_.store(sequence + 1, std::memory_order_relaxed);
    // Odd before any word: a reader that sees a new word (acquire) sees the odd number too.
    for (std::size_t i = 0; i < from.size(); ++i) words_[i].store(from[i], std::memory_order_release);
    sequence_.store(sequence + 2,
                    std::memory_order_release); // even after all words: pairs with the first load of read()
  }

  // Any thread.
  Counters read() const noexcept {
    CounterWords to;
    for (;;) {
      const auto before = sequence_.load(std::memory_order_acquire);
      for (std::size_t i = 0; i < to.size(); ++i) to[i] = words_[i].load(std::memory_order_acquire);
      if (before % 2 == 0 && sequence_.load(std::memory_order_relaxed) == before) return std::bit_cast<Counters>(to);
    }
  }

private:
  alignas(64) std::atomic<std::uint64_t> sequence_ = 0;
  std::array<std::atomic<std::uint64_t>, std::tuple_size_v<CounterWords>> words_{};
};

} // namespace sipward::dataplane
