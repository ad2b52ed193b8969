// SPDX-License-Identifier: GPL-2.0-or-later
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "bench/peers/testpmd.h"
#include "bench/subjects.h"

// The real worker beside dpdk-testpmd, which only receives, on the same capture in the same run. net_pcap plays a
// capture from memory, over and over; an rx callback gives the frames their senders. What the callback costs is
// measured by a loop that only receives, with it and without, and taken off. Each subject is a process of its own, all
// on one CPU, and stopped unless it is its turn; round after round all of them, so that a noisy neighbour hurts all
// alike. Times are CPU time of the thread that receives; what is compared are the medians of each round's ratios.
// Verdicts are checked in every round.
//   bench/dataplane [ROUNDS [MS [WORD...]]]    WORD: only the subjects whose names hold one of them
// Everything lies in hugepages where there are enough (sysctl vm.nr_hugepages=2800).
namespace sipward::bench {
namespace {

namespace fs = std::filesystem;
using policy::Why;

constexpr unsigned kTestpmdMib = 96;

std::string power(std::uint32_t sources) {
  int exponent = 0;
  for (; sources >= 10; sources /= 10) ++exponent;
  return ", 10^" + std::to_string(exponent);
}

// A REGISTER over the limit, from a sender who is never blocked: the verdict needs a first look, the meter and the
// allow list, and there is nothing to report.
Subject first_look(std::uint32_t sources) {
  return {.name = "first look" + power(sources),
          .work = Work::Worker,
          .sources = sources,
          .limited = true,
          .allowed = true,
          .verdict = Why::NeverBlocked,
          .share = 0.98};
}
Subject full(std::uint32_t sources, Traffic traffic = Traffic::Registers) {
  return {.name = std::string("full, ") + kTrafficNames[static_cast<std::size_t>(traffic)] + power(sources),
          .work = Work::Worker,
          .traffic = traffic,
          .sources = sources,
          .share = 0.98};
}
Subject blocked(std::uint32_t sources) {
  return {.name = "blocked" + power(sources),
          .work = Work::Worker,
          .sources = sources,
          .blocked = sources,
          .verdict = Why::Blocked,
          .share = 0.98}; // of ten million, some find their bucket full of others
}

std::vector<Subject> subjects() {
  std::vector<Subject> all;
  for (std::size_t i = 0; i < kTraffics; ++i)
    for (const std::uint32_t sources : {0u, 100'000u})
      all.push_back({.name = std::string(sources == 0 ? "receive, " : "receive and rewrite, ") + kTrafficNames[i],
                     .traffic = static_cast<Traffic>(i),
                     .sources = sources});
  for (const std::uint32_t sources : {1'000u, 10'000u, 100'000u, 1'000'000u, 10'000'000u})
    all.push_back(first_look(sources));
  for (const std::uint32_t sources : {1'000u, 100'000u, 1'000'000u, 10'000'000u}) all.push_back(blocked(sources));
  all.push_back({.name = "a flood, 10^5",
                 .work = Work::Worker,
                 .sources = 100'000,
                 .limited = true,
                 .verdict = Why::RegisterFlood});
  all.push_back({.name = "scanners, 10^5",
                 .work = Work::Worker,
                 .traffic = Traffic::Scanners,
                 .sources = 100'000,
                 .verdict = Why::Scanner});
  for (const Traffic traffic : {Traffic::Registers, Traffic::Credentials, Traffic::Invites})
    all.push_back(full(100'000, traffic));
  all.push_back({.name = "honest mix, 10^5",
                 .work = Work::Worker,
                 .traffic = Traffic::Mix,
                 .sources = 100'000,
                 .share = 0.4}); // half are answers and keepalives
  Subject two = first_look(100'000);
  two.name = "two workers, first look, 10^5";
  two.workers = 2;
  all.push_back(two);
  all.push_back({.name = "all new", .work = Work::Worker, .sources = 3'700'000'000, .capacity = 1 << 20});
  all.push_back({.name = "libosip2 and rte_hash, 10^5", .work = Work::Osip, .sources = 100'000});
  return all;
}

// Those whose names hold one of the words, and what their rewriting is measured with.
std::vector<Subject> chosen(const std::vector<std::string>& words) {
  auto all = subjects();
  if (words.empty()) return all;
  const auto wanted = [&](const Subject& subject) {
    return std::ranges::any_of(words, [&](const auto& word) { return subject.name.find(word) != std::string::npos; });
  };
  std::array<bool, kTraffics> traffics{};
  for (const Subject& subject : all)
    if (wanted(subject)) traffics[static_cast<std::size_t>(subject.traffic)] = true;
  std::erase_if(all, [&](const Subject& subject) {
    return subject.work == Work::Receive ? !traffics[static_cast<std::size_t>(subject.traffic)] : !wanted(subject);
  });
  return all;
}

// A subject's process, stopped unless it is measured.
class Child {
public:
  Child(const Subject& subject, const fs::path& capture, unsigned cpu, bool hugepages) : subject_(subject) {
    int ask[2], answer[2];
    if (pipe(ask) != 0 || pipe(answer) != 0) fail("no pipe");
    process_ = fork();
    if (process_ < 0) fail("no process");
    if (process_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      serve(ask[0], answer[1], capture, cpu, hugepages);
    }
    close(ask[0]);
    close(answer[1]);
    ask_ = ask[1];
    answer_ = answer[0];
    Reading ready;
    hear(ready);
    kill(process_, SIGSTOP);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { kill(process_, SIGKILL); }

  Reading measure(unsigned ms) {
    kill(process_, SIGCONT);
    Reading reading;
    if (write(ask_, &ms, sizeof ms) != sizeof ms) fail(subject_.name + " has ended");
    hear(reading);
    kill(process_, SIGSTOP);
    return reading;
  }
  const Subject& subject() const { return subject_; }

private:
  [[noreturn]] void serve(int ask, int answer, const fs::path& capture, unsigned cpu, bool hugepages) const {
    const auto running = start(subject_, capture, cpu, hugepages);
    Reading reading;
    while (write(answer, &reading, sizeof reading) == sizeof reading) {
      unsigned ms = 0;
      if (read(ask, &ms, sizeof ms) != sizeof ms) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(ms / 10)); // until the caches are its own again
      const Reading before = running->read();
      std::this_thread::sleep_for(std::chrono::milliseconds(ms));
      reading = running->read();
      reading.cpu_ns -= before.cpu_ns;
      reading.packets -= before.packets;
      auto words = std::bit_cast<dataplane::CounterWords>(reading.counters);
      const auto old = std::bit_cast<dataplane::CounterWords>(before.counters);
      for (std::size_t i = 0; i < words.size(); ++i) words[i] -= old[i];
      reading.counters = std::bit_cast<dataplane::Counters>(words);
    }
    std::_Exit(0);
  }
  void hear(Reading& reading) const {
    if (read(answer_, &reading, sizeof reading) != sizeof reading) fail(subject_.name + " has ended");
  }

  Subject subject_;
  pid_t process_ = -1;
  int ask_ = -1, answer_ = -1;
};

using Rounds = std::vector<double>; // CPU-ns per packet
using Times = std::map<std::string, Rounds>;

std::string receiving(Traffic traffic) {
  return std::string("rx, ") + kTrafficNames[static_cast<std::size_t>(traffic)];
}

double median(Rounds values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// What must be so, whatever it costs.
void check(const Subject& subject, const Reading& reading) {
  if (reading.packets == 0) fail(subject.name + " saw no packets");
  if (subject.work != Work::Worker) return;
  const auto& counters = reading.counters;
  const auto all = std::accumulate(counters.verdicts.begin(), counters.verdicts.end(), std::uint64_t{0});
  if (counters.received != counters.passed + counters.dropped || counters.received != all)
    fail(subject.name + ": the counters contradict each other");
  const auto as_wanted = counters.verdicts[static_cast<std::size_t>(subject.verdict)];
  if (static_cast<double>(as_wanted) >= subject.share * static_cast<double>(all)) return;
  std::string seen;
  for (std::size_t i = 0; i < policy::kWhys; ++i)
    if (counters.verdicts[i] != 0)
      seen += " " + std::string(to_string(static_cast<Why>(i))) + " " + std::to_string(counters.verdicts[i]);
  fail(subject.name + ": other verdicts than expected:" + seen);
}

// Takes off what giving the frames their senders cost.
void take_off_rewriting(const std::vector<Subject>& all, Times& times) {
  for (const Subject& subject : all) {
    if (subject.work == Work::Receive) continue;
    const std::string traffic = kTrafficNames[static_cast<std::size_t>(subject.traffic)];
    auto& rounds = times[subject.name];
    for (std::size_t i = 0; i < rounds.size(); ++i)
      rounds[i] -= times["receive and rewrite, " + traffic][i] - times["receive, " + traffic][i];
  }
}

void show(const std::string& name, const Rounds& ns) {
  const auto [low, high] = std::minmax_element(ns.begin(), ns.end());
  std::printf("%-34s %8.1f ns   %7.1f .. %-7.1f\n", name.c_str(), median(ns), *low, *high);
}

// The median, smallest and largest of a's rounds divided by b's.
void compare(const Times& times, const std::string& a, const std::string& b, const char* bound) {
  if (!times.contains(a) || !times.contains(b)) return;
  const Rounds &x = times.at(a), &y = times.at(b);
  Rounds ratios;
  for (std::size_t i = 0; i < x.size(); ++i) ratios.push_back(x[i] / y[i]);
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  std::printf("  %-28s / %-28s %6.2f   (%.2f .. %.2f)   %s\n", a.c_str(), b.c_str(), median(ratios), *low, *high,
              bound);
}

void compare_all(const Times& times) {
  const std::string rx = receiving(Traffic::Registers);
  compare(times, "first look, 10^5", rx, "must <= 2.0, aim 1.7");
  compare(times, "a flood, 10^5", rx, "");
  compare(times, "scanners, 10^5", receiving(Traffic::Scanners), "");
  compare(times, "full, registers, 10^5", rx, "must <= 3.5, aim 2.6");
  compare(times, "full, credentials, 10^5", receiving(Traffic::Credentials), "");
  compare(times, "full, invites, 10^5", receiving(Traffic::Invites), "");
  compare(times, "honest mix, 10^5", receiving(Traffic::Mix), "");
  compare(times, "blocked, 10^5", rx, "must <= 1.4, aim 1.25");
  compare(times, "blocked, 10^7", rx, "must <= 1.6, aim 1.25");
  compare(times, "first look, 10^6", "first look, 10^3", "must <= 1.35, aim 1.25");
  compare(times, "first look, 10^7", "first look, 10^3", "must <= 1.45, aim 1.25");
  compare(times, "blocked, 10^6", "blocked, 10^3", "must <= 1.2");
  compare(times, "all new", rx, "");
  compare(times, "two workers, first look, 10^5", "first look, 10^5",
          "must <= 1.08: two do at least 1.85 of one's work");
  compare(times, "libosip2 and rte_hash, 10^5", "first look, 10^5", "must >= 60, aim 75");
}

std::size_t free_hugepages_mib() {
  std::size_t pages = 0;
  std::ifstream("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") >> pages;
  return pages * 2;
}

// The captures, in a folder that goes with this.
class Captures {
public:
  Captures() {
    for (std::size_t i = 0; i < kTraffics; ++i)
      paths_.push_back(write_capture(folder_.path(), static_cast<Traffic>(i)));
  }
  const fs::path& of(Traffic traffic) const { return paths_[static_cast<std::size_t>(traffic)]; }

private:
  captures::Folder folder_;
  std::vector<fs::path> paths_;
};

int main_of(int argc, char** argv) {
  const auto rounds = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 7;
  const auto ms = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 150;
  const auto cpu = static_cast<unsigned>(sched_getcpu());
  const auto all = chosen(std::vector<std::string>(argv + std::min(argc, 3), argv + argc));
  std::size_t mib = kTraffics * kTestpmdMib;
  for (const Subject& subject : all) mib += memory_octets(subject) >> 20;
  const bool hugepages = free_hugepages_mib() >= mib;
  const Captures captures;
  std::vector<std::unique_ptr<Child>> children;
  for (const Subject& subject : all)
    children.push_back(std::make_unique<Child>(subject, captures.of(subject.traffic), cpu, hugepages));
  std::vector<std::unique_ptr<peers::Testpmd>> receivers;
  for (std::size_t i = 0; i < kTraffics; ++i)
    receivers.push_back(
        std::make_unique<peers::Testpmd>(captures.of(static_cast<Traffic>(i)), cpu, hugepages, kTestpmdMib));

  std::printf("%s (%zu MiB in all), %u interleaved rounds of %u ms, CPU %u\n",
              hugepages ? "hugepages of 2 MiB" : "no hugepages", mib, rounds, ms, cpu);
  Times times;
  for (unsigned round = 0; round <= rounds; ++round) { // the first warms up
    for (std::size_t i = 0; i < kTraffics; ++i) {
      const auto reading = receivers[i]->receive(ms);
      if (round > 0)
        times[receiving(static_cast<Traffic>(i))].push_back(reading.cpu_ns / static_cast<double>(reading.packets));
    }
    for (const auto& child : children) {
      const Reading reading = child->measure(ms);
      check(child->subject(), reading);
      if (round > 0) times[child->subject().name].push_back(reading.cpu_ns / static_cast<double>(reading.packets));
    }
  }
  take_off_rewriting(all, times);
  for (std::size_t i = 0; i < kTraffics; ++i) {
    const std::string rx = receiving(static_cast<Traffic>(i));
    show(rx, times[rx]);
  }
  for (const Subject& subject : all) show(subject.name, times[subject.name]);
  compare_all(times);
  return 0;
}

} // namespace
} // namespace sipward::bench

int main(int argc, char** argv) { return sipward::bench::main_of(argc, argv); }
