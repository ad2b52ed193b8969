// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/shares.h"

#include <algorithm>

namespace sipward::dataplane {

Shares share_out(std::span<const QueueLimits> ports, std::size_t cores, bool forwards) {
  std::size_t workers = cores != 0 ? cores : forwards ? 1 : ports.size();
  if (forwards)
    for (const auto& port : ports) workers = std::min<std::size_t>(workers, port.transmit);

  Shares shares;
  std::size_t queues = 0;
  for (const auto& port : ports) {
    const auto count = std::min<std::size_t>(cores == 0 ? 1 : workers, port.receive);
    shares.receive.push_back(static_cast<std::uint16_t>(count));
    queues += count;
  }
  shares.served.resize(std::min(workers, queues));
  // In turn: where every port has a queue for every worker, worker i reads queue i of each.
  std::size_t next = 0;
  for (std::size_t port = 0; port < ports.size(); ++port)
    for (std::uint16_t number = 0; number < shares.receive[port]; ++number)
      shares.served[next++ % shares.workers()].push_back({port, number});
  return shares;
}

} // namespace sipward::dataplane
