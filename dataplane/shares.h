// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

// Who does what: how many workers there are, how many queues each port gets, and which worker reads which. Pure.
namespace sipward::dataplane {

// What a port's driver has.
struct QueueLimits {
  unsigned receive = 1, transmit = 1;
};

struct Shares {
  struct Queue {
    std::size_t port;
    std::uint16_t number;
    friend bool operator==(const Queue&, const Queue&) = default;
  };
  std::vector<std::uint16_t> receive;     // queues of each port
  std::vector<std::vector<Queue>> served; // by each worker: at least one
  std::size_t workers() const noexcept { return served.size(); }
};

// A worker for each of `cores`, and of each port a queue for each worker, as far as the drivers go. Without cores (0)
// every port has one queue: monitor, with a worker of its own; inline, one worker serves all. Inline (`forwards`) each
// worker sends by a transmit queue of its own on every port, so there are no more workers than those.
Shares share_out(std::span<const QueueLimits> ports, std::size_t cores, bool forwards);

} // namespace sipward::dataplane
