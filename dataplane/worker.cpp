// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/worker.h"

#include <pthread.h>
#include <rte_lcore.h>
#include <rte_pause.h>
#include <rte_prefetch.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <new>

#include "dataplane/checksum.h"
#include "dataplane/frame.h"

namespace sipward::dataplane {
namespace {

// An adaptive worker polls this often in vain, some 20 us, before it lets the kernel wake it: the price of a sleep and
// a wake-up.
constexpr unsigned kEmptyPolls = 256;
// Told to stop, a worker still judges what waits in its ring, but not what a flood goes on pouring in.
constexpr unsigned kLastBursts = 4096 / kBurst;
constexpr auto kSleep = std::chrono::milliseconds(100); // with descriptors to wake it: a bound, in case one fails to
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
  retire(std::unique_ptr<const policy::Rules>(old));
}

void RulesCell::publish_second(std::shared_ptr<SecondJudge> second) {
  second_.store(second.get(), std::memory_order_release); // pairs with second()
  if (auto old = std::exchange(second_now_, std::move(second))) retire(std::move(old));
}

void RulesCell::retire(std::shared_ptr<const void> old) {
  retired_.emplace_back(rte_rcu_qsbr_start(qsbr_.get()), std::move(old));
  free_old(false);
}

void RulesCell::free_old(bool wait) {
  std::erase_if(retired_, [&](const auto& old) { return rte_rcu_qsbr_check(qsbr_.get(), old.first, wait) == 1; });
}

Worker::Worker(unsigned id, std::vector<Path> paths, RulesCell& rules, policy::Ledger& ledger, Stations& stations,
               int offence_event, config::Idle idle)
    : id_(id), paths_(std::move(paths)), rules_(rules), ledger_(ledger), offence_event_(offence_event), idle_(idle),
      stations_(stations), fragments_(ledger.sources.hash(id)), stop_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  waiting_.push_back({stop_event_, POLLIN, 0});
  for (const Path& path : paths_) {
    const auto fd = path.from->wakeup(path.queue);
    if (fd) waiting_.push_back({*fd, POLLIN, 0});
    blind_ |= !fd;
  }
}

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
    rounds_.store(rounds_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    const policy::Rules& rules = rules_.current(id_);
    second_ = rules_.second();
    bool quiet = true;
    for (const Path& path : paths_) {
      const std::uint16_t received = path.from->receive(path.queue, mbufs);
      if (received == 0) continue;
      quiet = false;
      take(path, std::span(mbufs).first(received), rules, policy::Now(monotonic()));
      flush();
    }
    if (fragments_.any() && release_overdue(rules, monotonic())) quiet = false;
    if (quiet && last) break;
    if (quiet) {
      idle();
      continue;
    }
    busy();
    published_.publish(counters_);
    if (std::exchange(rang_, false)) ring_bell(offence_event_);
  }
  second_ = nullptr;
  release_overdue(rules_.current(id_), policy::Time::max()); // nobody completes them any more
  published_.publish(counters_);
  rules_.sleep(id_);
  rte_thread_unregister();
}

// A burst: each frame is judged, or held if it is a fragment whose datagram is not whole yet. What the judge remembers
// of the senders is fetched for all before the first is judged.
void Worker::take(const Path& path, std::span<rte_mbuf*> frames, const policy::Rules& rules, const policy::Now& now) {
  for (rte_mbuf* frame : frames) rte_prefetch0(rte_pktmbuf_mtod(frame, const void*));
  std::array<FrameKind, kBurst> kinds;
  const std::span cases = std::span(cases_).first(frames.size());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const std::span octets(rte_pktmbuf_mtod(frames[i], const std::uint8_t*), frames[i]->data_len);
    kinds[i] = parse_frame(octets, path.from->wire_length(*frames[i]), cases[i].datagram);
    if (kinds[i] == FrameKind::Udp && Port::has_bad_checksum(*frames[i])) kinds[i] = FrameKind::BadChecksum;
    cases[i].datagram.side = path.side;
  }
  for (policy::Case& c : cases) policy::open(rules, ledger_, c);
  for (policy::Case& c : cases) policy::fetch(ledger_, c);
  if (second_ != nullptr) second_->fetch(cases);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (kinds[i] != FrameKind::Fragment) {
      settle(path, *frames[i], judge(kinds[i], cases[i], rules, now));
      continue;
    }
    release(fragments_.join({frames[i], &path}, cases[i].datagram, rules, now.time), rules, now);
    release_overdue(rules, now.time);
  }
}

policy::Verdict Worker::judge(FrameKind kind, const policy::Case& c, const policy::Rules& rules,
                              const policy::Now& now) {
  if (kind == FrameKind::NotIp || kind == FrameKind::Bad) return {why_not_judged(kind)};
  if (kind != FrameKind::Udp || c.way == policy::Way::Aside)
    return policy::let_by(rules, ledger_, c, why_not_judged(kind), now);
  const policy::Verdict verdict = policy::decide(rules, ledger_, names_, c, now, offence_);
  if (verdict.offence) report(offence_);
  if (second_ != nullptr && second_->judge(id_, c, verdict, now)) rang_ = true;
  return verdict;
}

// Fragments that wait no longer: every one of them has the verdict of their datagram.
void Worker::release(const Fragments::Release& released, const policy::Rules& rules, const policy::Now& now) {
  if (released.frames.empty()) return;
  const policy::Verdict verdict =
      released.verdict ? *released.verdict
                       : judge(released.kind, policy::open(rules, ledger_, released.datagram), rules, now);
  for (const auto& [frame, path] : released.frames)
    settle(*static_cast<const Path*>(path), *static_cast<rte_mbuf*>(frame), verdict);
}

// Was there any?
bool Worker::release_overdue(const policy::Rules& rules, policy::Time by) {
  bool any = false;
  for (;;) {
    const auto released = fragments_.leave(rules, by);
    if (released.frames.empty()) return any;
    release(released, rules, policy::Now(by));
    flush();
    any = true;
  }
}

void Worker::settle(const Path& path, rte_mbuf& frame, const policy::Verdict& verdict) {
  auto& [of, count, frames, verdicts] = settled_;
  if (of != &path || count == kBurst) flush();
  of = &path;
  frames[count] = &frame;
  verdicts[count++] = verdict;
}

// Settled frames leave, or are freed, and are counted.
void Worker::flush() {
  const std::span frames = std::span(settled_.frames).first(std::exchange(settled_.count, 0));
  const std::span verdicts = std::span(settled_.verdicts).first(frames.size());
  std::uint64_t octets = 0, truncated = 0;
  for (const rte_mbuf* frame : frames) {
    octets += frame->pkt_len;
    truncated += settled_.path->from->is_cut(*frame);
  }
  counters_.octets += octets;
  counters_.truncated += truncated;
  if (frames.empty()) return;
  if (settled_.path->to.empty())
    rte_pktmbuf_free_bulk(frames.data(), static_cast<unsigned>(frames.size()));
  else
    forward(*settled_.path, frames, verdicts);
  counters_.count(std::span<const policy::Verdict>(verdicts));
}

// The one place where frames leave, in the order in which they came. Frames that may not, and those that the port does
// not take, are freed here; the verdicts then say so.
void Worker::forward(const Path& path, std::span<rte_mbuf*> frames, std::span<policy::Verdict> verdicts) {
  std::array<std::uint32_t, kBurst> ways{}; // of each frame, a bit for each port of path.to
  for (std::size_t i = 0; i < frames.size(); ++i) {
    rte_mbuf& frame = *frames[i];
    if (path.side == policy::Side::Outside)
      stations_.learn(rte_pktmbuf_mtod(&frame, const std::uint8_t*), path.from->id());
    if (!verdicts[i].drop) {
      ways[i] = ways_out(path, frame);
      if (ways[i] == 0) verdicts[i] = {policy::Why::TooLong, true};
    }
    if (verdicts[i].drop) {
      rte_pktmbuf_free(&frame);
      continue;
    }
    if (path.from->half_made_checksums()) complete_checksum({rte_pktmbuf_mtod(&frame, std::uint8_t*), frame.data_len});
    rte_mbuf_refcnt_update(&frame, static_cast<std::int16_t>(std::popcount(ways[i]) - 1));
  }
  std::uint32_t taken = 0; // frames, a bit for each
  for (std::size_t way = 0; way < path.to.size(); ++way) {
    Mbufs leaving;
    std::array<std::uint8_t, kBurst> places; // of the leaving ones in the burst
    std::size_t count = 0;
    for (std::size_t i = 0; i < frames.size(); ++i) {
      if ((ways[i] >> way & 1) == 0) continue;
      places[count] = static_cast<std::uint8_t>(i);
      leaving[count++] = frames[i];
    }
    const std::uint16_t sent = path.to[way]->send(static_cast<std::uint16_t>(id_), std::span(leaving).first(count));
    for (std::size_t i = 0; i < sent; ++i) taken |= 1u << places[i];
    for (std::size_t i = sent; i < count; ++i) rte_pktmbuf_free(leaving[i]);
  }
  for (std::size_t i = 0; i < frames.size(); ++i)
    if (ways[i] != 0 && (taken >> i & 1) == 0) verdicts[i] = {policy::Why::TransmitFull, true};
}

// The ports that a frame is to leave by: of several, the one behind which its addressee was heard; all, if nobody
// knows.
std::uint32_t Worker::ways_out(const Path& path, const rte_mbuf& frame) {
  if (path.from->is_cut(frame)) return 0;
  std::optional<std::uint16_t> known;
  if (path.to.size() > 1) known = stations_.find(rte_pktmbuf_mtod(&frame, const std::uint8_t*));
  std::uint32_t ways = 0;
  for (std::size_t i = 0; i < path.to.size(); ++i)
    if ((!known || known == path.to[i]->id()) && path.to[i]->fits(frame)) ways |= 1u << i;
  return ways;
}

void Worker::report(const policy::Offence& offence) {
  const bool sent = offences_.push(offence);
  ++(sent ? counters_.offences : counters_.lost_offences);
  rang_ |= sent;
}

void Worker::idle() {
  if (idle_ == config::Idle::Busy || ++empty_polls_ < kEmptyPolls) return rte_pause();
  if (empty_polls_ == kEmptyPolls) return arm(true); // and one poll more
  rules_.sleep(id_);                                 // asleep it reads no rules, and nobody need wait for it
  block_until_packets();
  rules_.wake(id_);
  busy();
}

// There is something to do, or may be.
void Worker::busy() {
  if (std::exchange(empty_polls_, 0) >= kEmptyPolls) arm(false);
}

void Worker::arm(bool on) {
  for (const Path& path : paths_) on ? path.from->arm(path.queue) : path.from->disarm(path.queue);
}

void Worker::block_until_packets() {
  constexpr timespec kBlind{0, std::chrono::nanoseconds(kBlindSleep).count()};
  constexpr timespec kBound{0, std::chrono::nanoseconds(kSleep).count()};
  if (ppoll(waiting_.data(), waiting_.size(), blind_ ? &kBlind : &kBound, nullptr) <= 0) return;
  if (std::ranges::none_of(waiting_, [](const pollfd& w) { return (w.revents & POLLERR) != 0; })) return;
  for (const Path& path : paths_) path.from->clear_errors();
  std::this_thread::sleep_for(kBlindSleep); // of a device that is gone nothing takes it off
}

} // namespace sipward::dataplane
