// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/dataplane.h"
#include "dataplane/spsc_ring.h"
#include "dataplane/table_memory.h"
#include "policy/judge.h"

// A second judge beside the workers' own (`shadow:` in the settings): other rules and a ledger of its own over the same
// datagrams. Nobody obeys it: its verdicts are counted, its offences go to the control thread through rings of their
// own. It costs a worker at most one more judgement for each datagram of SIP, and nothing while there is none.
namespace sipward::dataplane {

class SecondJudge {
public:
  // Control thread. `first`: the ledger of the workers' own judge, of so many sources; what that remembers of honest
  // parties is where this one begins. `secret`, `users`: as that has them. Both have one shape as well, so a case that
  // is opened for one is open for both. The rules: of the same ports, servers and IPv6 prefix as the first judge's.
  // nullptr: there is no memory.
  static std::shared_ptr<SecondJudge> begin(std::size_t workers, const policy::Ledger& first, std::uint32_t capacity,
                                            policy::Secret secret, policy::Secret users,
                                            std::unique_ptr<const policy::Rules> rules, std::uint32_t now_s);

  // Worker `id`. Before the burst's first case is judged: the lines of all are on their way meanwhile.
  void fetch(std::span<const policy::Case> cases) const noexcept;
  // Worker `id`. `first`: what the first judge said of this case. True: an offence waits for its bell.
  bool judge(unsigned id, const policy::Case& c, const policy::Verdict& first, const policy::Now& now) noexcept;

  // Control thread, all of it.
  // The rules by which it judges from each worker's next burst on; the old ones are the caller's to free, once every
  // worker has moved on.
  std::unique_ptr<const policy::Rules> publish(std::unique_ptr<const policy::Rules> rules) noexcept;
  void drain(const std::function<void(const policy::Offence&)>& take);
  SecondCounters counters() const noexcept;
  policy::Ledger& ledger() noexcept { return ledger_; }

private:
  static constexpr std::size_t kRing = 1024;
  // What one worker has of it.
  struct Seat {
    sip::AgentCache names;   // the worker's
    policy::Offence offence; // the worker's
    // Written by the worker, each by itself; read by the control thread. Relaxed: they are figures.
    std::atomic<std::uint64_t> judged = 0, dropped = 0, more = 0, less = 0, offences = 0, lost = 0;
    SpscRing<policy::Offence, kRing> offence_ring; // to the control thread
  };

  SecondJudge(std::size_t workers, TableMemory memory, std::uint32_t capacity, policy::Secret secret,
              policy::Secret users, std::unique_ptr<const policy::Rules> rules);
  TableMemory memory_;
  policy::Ledger ledger_;
  std::atomic<const policy::Rules*> rules_;
  std::unique_ptr<const policy::Rules> current_; // the same, for the control thread
  std::vector<std::unique_ptr<Seat>> seats_;
};

} // namespace sipward::dataplane
