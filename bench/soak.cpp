// SPDX-License-Identifier: GPL-2.0-or-later
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "bench/subjects.h"

// The real worker at full load for as long as you like, with a control thread that does what the daemon's does: hears
// offences, blocks and unblocks, publishes rules. Four million senders pass through a table of a million; scanners,
// floods, fragments and what is no SIP are among the honest. Memory must stay as it was after the first tenth, and the
// counters must add up in every snapshot.
//   bench/soak [SECONDS]
namespace sipward::bench {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kBlockS = 60;
constexpr std::size_t kGrowth = 1 << 20; // octets that may be the allocator's and the logs'

std::size_t resident_octets() {
  std::size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

void check(const dataplane::Counters& counters) {
  const auto all = std::accumulate(counters.verdicts.begin(), counters.verdicts.end(), std::uint64_t{0});
  if (counters.received != counters.passed + counters.dropped || counters.received != all)
    fail("the counters contradict each other");
}

// What the control thread does between two looks at the clock.
void control(dataplane::Dataplane& plane, const Subject& subject) {
  const policy::Now now(policy::Time(Clock::now().time_since_epoch()));
  auto& sources = plane.ledger().sources;
  std::size_t turn = 0;
  plane.drain([&](const policy::Offence& offence) {
    const auto key = policy::source_key(offence.source, 64);
    if (++turn % 8 == 0)
      sources.unblock(key);
    else
      sources.block(key, now.s + kBlockS, now);
  });
  plane.publish(rules_for(subject));
}

int main_of(int argc, char** argv) {
  const auto length = std::chrono::seconds(argc > 1 ? std::atoi(argv[1]) : 1800);
  const Subject subject{
      .name = "soak", .work = Work::Worker, .traffic = Traffic::Everything, .sources = 4'000'000, .capacity = 1 << 20};
  const captures::Folder folder;
  const auto capture = write_capture(folder.path(), subject.traffic);
  const auto plane = start_dataplane(subject, capture, static_cast<unsigned>(sched_getcpu()), false);
  const auto begin = Clock::now();
  std::size_t settled = 0;
  auto next_line = begin;
  for (auto now = begin; now < begin + length; now = Clock::now()) {
    control(*plane, subject);
    const auto counters = plane->counters();
    check(counters);
    if (settled == 0 && now >= begin + length / 10) settled = resident_octets();
    if (now >= next_line) {
      const auto occupancy = plane->ledger().sources.occupancy();
      std::printf(
          "%5lld s   %6zu MiB resident   %llu received, %llu dropped, %llu offences, %llu lost; %llu sources, %llu "
          "evicted\n",
          static_cast<long long>((now - begin) / 1s), resident_octets() >> 20,
          static_cast<unsigned long long>(counters.received), static_cast<unsigned long long>(counters.dropped),
          static_cast<unsigned long long>(counters.offences), static_cast<unsigned long long>(counters.lost_offences),
          static_cast<unsigned long long>(occupancy.used), static_cast<unsigned long long>(occupancy.evicted));
      std::fflush(stdout);
      next_line += std::clamp<Clock::duration>(length / 30, 1s, 60s);
    }
    std::this_thread::sleep_for(10ms);
  }
  plane->stop();
  control(*plane, subject);
  const auto counters = plane->counters();
  check(counters);
  const std::size_t resident = resident_octets();
  std::printf("%llu packets; the counters add up; %zu KiB resident after a tenth, %zu KiB at the end\n",
              static_cast<unsigned long long>(counters.received), settled >> 10, resident >> 10);
  for (std::size_t i = 0; i < policy::kWhys; ++i)
    if (counters.verdicts[i] != 0)
      std::printf("  %-20s %llu\n", std::string(to_string(static_cast<policy::Why>(i))).c_str(),
                  static_cast<unsigned long long>(counters.verdicts[i]));
  if (resident > settled + kGrowth) fail("memory grows");
  return 0;
}

} // namespace
} // namespace sipward::bench

int main(int argc, char** argv) { return sipward::bench::main_of(argc, argv); }
