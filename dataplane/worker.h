// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <poll.h>
#include <rte_rcu_qsbr.h>

#include <atomic>
#include <memory>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "dataplane/counters.h"
#include "dataplane/fragments.h"
#include "dataplane/port.h"
#include "dataplane/second_judge.h"
#include "dataplane/spsc_ring.h"
#include "dataplane/stations.h"

namespace sipward::dataplane {

inline constexpr std::size_t kOffenceRing = 4096;

// The rules that the workers judge by: replaced by the control thread, freed when no worker can still be reading them
// (quiescent-state-based reclamation, DPDK Programmer's Guide, chapter "RCU Library").
class RulesCell {
public:
  RulesCell(unsigned workers, std::unique_ptr<const policy::Rules> rules);
  ~RulesCell();

  // Control thread only.
  void publish(std::unique_ptr<const policy::Rules> rules);
  void publish_second(std::shared_ptr<SecondJudge> second); // nullptr: there is none any more
  void retire(std::shared_ptr<const void> old);             // to be freed once every worker has moved on from here
  void free_old() { free_old(false); }

  // Worker `id` only. The reference holds until the worker's next call of current() or sleep().
  const policy::Rules& current(unsigned id) noexcept {
    rte_rcu_qsbr_quiescent(qsbr_.get(), id);
    return *rules_.load(std::memory_order_acquire); // pairs with publish()
  }
  // After current(), for as long as that holds. nullptr: there is none.
  SecondJudge* second() const noexcept {
    return second_.load(std::memory_order_acquire);
  } // pairs with publish_second()
  void wake(unsigned id) noexcept { rte_rcu_qsbr_thread_online(qsbr_.get(), id); }
  void sleep(unsigned id) noexcept { rte_rcu_qsbr_thread_offline(qsbr_.get(), id); }

private:
  void free_old(bool wait);

  struct QsbrFree {
    void operator()(rte_rcu_qsbr* qsbr) const noexcept { std::free(qsbr); }
  };
  std::unique_ptr<rte_rcu_qsbr, QsbrFree> qsbr_;
  std::atomic<const policy::Rules*> rules_;
  std::atomic<SecondJudge*> second_ = nullptr;
  std::shared_ptr<SecondJudge> second_now_;                                    // control thread: the same
  std::vector<std::pair<std::uint64_t, std::shared_ptr<const void>>> retired_; // control thread; with their tokens
};

// A way through a worker: the queue where frames come in, and, inline, where those that pass go out.
struct Path {
  Port* from = nullptr;
  std::uint16_t queue = 0;                   // of its receive queues
  std::vector<Port*> to;                     // empty: monitor, the frames are copies
  policy::Side side = policy::Side::Unknown; // inline: of which `from` is
};

// One thread: receives, judges, forwards, counts. The receive queues of its paths are its alone, and of each port at
// the end of them the transmit queue of its number.
class Worker {
public:
  Worker(unsigned id, std::vector<Path> paths, RulesCell& rules, policy::Ledger& ledger, Stations& stations,
         int offence_event, config::Idle idle);
  ~Worker();

  void start(int cpu); // cpu < 0: anywhere
  void stop();         // waits for the thread's end

  // Control thread only.
  SpscRing<policy::Offence, kOffenceRing>& offences() noexcept { return offences_; }
  const PublishedCounters& counters() const noexcept { return published_; }
  // How often it has gone round its loop: at least once in 100 ms, whether or not there are packets. Any thread.
  std::uint64_t rounds() const noexcept { return rounds_.load(std::memory_order_relaxed); }

private:
  void run();
  void take(const Path& path, std::span<rte_mbuf*> frames, const policy::Rules& rules, const policy::Now& now);
  policy::Verdict judge(FrameKind kind, const policy::Case& c, const policy::Rules& rules, const policy::Now& now);
  void release(const Fragments::Release& released, const policy::Rules& rules, const policy::Now& now);
  bool release_overdue(const policy::Rules& rules, policy::Time by);
  void settle(const Path& path, rte_mbuf& frame, const policy::Verdict& verdict);
  void flush();
  void forward(const Path& path, std::span<rte_mbuf*> frames, std::span<policy::Verdict> verdicts);
  std::uint32_t ways_out(const Path& path, const rte_mbuf& frame);
  void report(const policy::Offence& offence);
  void idle();
  void busy();
  void arm(bool on);
  void block_until_packets();

  const unsigned id_;
  const std::vector<Path> paths_;
  RulesCell& rules_;
  policy::Ledger& ledger_;
  sip::AgentCache names_;   // worker thread only
  const int offence_event_; // the control thread's eventfd
  const config::Idle idle_;
  Stations& stations_; // all workers'
  Fragments fragments_;
  // Of the burst and of the packet at hand, made where they are read: of what was made piece by piece a moment ago, a
  // copy waits until every piece is written.
  std::array<policy::Case, kBurst> cases_;
  policy::Offence offence_;
  SecondJudge* second_ = nullptr; // of this round, if there is one
  // Frames whose verdict is known, all of one path, on their way out: a burst at most.
  struct Settled {
    const Path* path = nullptr;
    std::size_t count = 0;
    Mbufs frames;
    std::array<policy::Verdict, kBurst> verdicts;
  } settled_;
  bool blind_ = false;          // a port cannot wake us
  std::vector<pollfd> waiting_; // for the stop event first, then for packets
  int stop_event_;
  std::thread thread_;
  std::atomic<bool> stopping_ = false;

  Counters counters_; // the worker's own
  unsigned empty_polls_ = 0;
  bool rang_ = false; // an offence of this burst waits for its bell
  PublishedCounters published_;
  std::atomic<std::uint64_t> rounds_ = 0; // written by the worker only; nothing else is read by it, so relaxed
  SpscRing<policy::Offence, kOffenceRing> offences_;
};

} // namespace sipward::dataplane
