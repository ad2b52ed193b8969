// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/worker.h"

#include <poll.h>
#include <pthread.h>
#include <rte_lcore.h>
#include <rte_pause.h>
#include <rte_prefetch.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <new>

#include "dataplane/frame.h"
#include "sip/parser.h"

namespace sipward::dataplane {
namespace {

// An adaptive worker polls this often in vain, some 20 us, before it lets the kernel wake it: the price of a sleep and
// a wake-up.
constexpr unsigned kEmptyPolls = 256;
// Told to stop, a worker still judges what waits in its ring, but not what a flood goes on pouring in.
constexpr unsigned kLastBursts = 4096 / kBurst;
constexpr int kSleepMs = 100; // with descriptors to wake it: a bound, in case one fails to
constexpr auto kBlindSleep = std::chrono::microseconds(500); // without: the latency that a sleeping packet pays

policy::Time monotonic() noexcept {
  return policy::Time(
      std::chrono::duration_cast<policy::Duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

void ring_bell(int event) noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(event, &one, sizeof one); // full means: it is ringing already
}

} // namespace

RulesCell::RulesCell(unsigned workers, std::unique_ptr<const policy::Rules> rules) : rules_(rules.release()) {
  const std::size_t octets = (rte_rcu_qsbr_get_memsize(workers) + 63) / 64 * 64;
  qsbr_.reset(static_cast<rte_rcu_qsbr*>(std::aligned_alloc(64, octets)));
  if (!qsbr_ || rte_rcu_qsbr_init(qsbr_.get(), workers) != 0) throw std::bad_alloc();
  for (unsigned id = 0; id < workers; ++id) rte_rcu_qsbr_thread_register(qsbr_.get(), id);
}

RulesCell::~RulesCell() {
  free_old(true);
  delete rules_.load();
}

void RulesCell::publish(std::unique_ptr<const policy::Rules> rules) {
  const auto* old = rules_.exchange(rules.release(), std::memory_order_acq_rel); // release: pairs with current()
  retired_.emplace_back(rte_rcu_qsbr_start(qsbr_.get()), old);
  free_old(false);
}

void RulesCell::free_old(bool wait) {
  std::erase_if(retired_, [&](const auto& old) { return rte_rcu_qsbr_check(qsbr_.get(), old.first, wait) == 1; });
}

Worker::Worker(unsigned id, std::unique_ptr<Port> port, RulesCell& rules, policy::SourceTable& table, int offence_event,
               config::Idle idle)
    : id_(id), port_(std::move(port)), rules_(rules), table_(table), offence_event_(offence_event), idle_(idle),
      stop_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Worker::~Worker() {
  stop();
  close(stop_event_);
}

void Worker::start(int cpu) {
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), ("worker-" + std::to_string(id_)).c_str());
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  pthread_setaffinity_np(thread_.native_handle(), sizeof set, &set);
}

void Worker::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true, std::memory_order_relaxed); // the bell's system call orders it
  ring_bell(stop_event_);
  thread_.join();
}

void Worker::run() {
  rte_thread_register(); // for the packet pool's per-thread cache; without it things are slower, not wrong
  rules_.wake(id_);
  Mbufs mbufs;
  for (unsigned last_bursts = 0; last_bursts < kLastBursts;) {
    const bool last = stopping_.load(std::memory_order_relaxed);
    last_bursts += last;
    const policy::Rules& rules = rules_.current(id_);
    const std::uint16_t received = port_->receive(mbufs);
    if (received == 0) {
      if (last) break;
      idle();
      continue;
    }
    empty_polls_ = 0;
    const policy::Now now(monotonic());
    for (std::uint16_t i = 0; i < received; ++i) rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], const void*));
    for (std::uint16_t i = 0; i < received; ++i) judge(*mbufs[i], rules, now);
    rte_pktmbuf_free_bulk(mbufs.data(), received);
    published_.publish(counters_);
    if (std::exchange(rang_, false)) ring_bell(offence_event_);
  }
  rules_.sleep(id_);
  rte_thread_unregister();
}

void Worker::judge(const rte_mbuf& frame, const policy::Rules& rules, const policy::Now& now) {
  counters_.octets += frame.pkt_len;
  const std::span octets(rte_pktmbuf_mtod(&frame, const std::uint8_t*), frame.data_len);
  policy::Datagram datagram;
  const FrameKind kind = parse_frame(octets, port_->wire_length(frame), datagram);
  if (kind != FrameKind::Udp) return counters_.count({why_not_judged(kind)});
  counters_.truncated += datagram.truncated;
  if (!policy::concerns(rules, datagram)) return counters_.count({policy::Why::Unrelated});

  const sip::Message message = sip::parse(datagram.payload);
  policy::Offence offence;
  const policy::Verdict verdict = policy::decide(rules, table_, datagram, message, now, offence);
  counters_.count(verdict);
  if (verdict.offence) report(offence);
}

void Worker::report(const policy::Offence& offence) {
  const bool sent = offences_.push(offence);
  ++(sent ? counters_.offences : counters_.lost_offences);
  rang_ |= sent;
}

void Worker::idle() {
  if (idle_ == config::Idle::Busy || ++empty_polls_ < kEmptyPolls) return rte_pause();
  empty_polls_ = 0;
  rules_.sleep(id_); // asleep it reads no rules, and nobody need wait for it
  block_until_packets();
  rules_.wake(id_);
}

void Worker::block_until_packets() {
  const auto sockets = port_->wakeups();
  if (sockets.empty()) return std::this_thread::sleep_for(kBlindSleep);
  std::array<pollfd, 8> waiting{};
  std::size_t count = 0;
  waiting[count++] = {stop_event_, POLLIN, 0};
  for (const int fd : sockets.first(std::min(sockets.size(), waiting.size() - 1))) waiting[count++] = {fd, POLLIN, 0};
  poll(waiting.data(), count, kSleepMs);
  if (std::ranges::any_of(waiting, [](const pollfd& w) { return (w.revents & POLLERR) != 0; })) port_->clear_errors();
}

} // namespace sipward::dataplane
