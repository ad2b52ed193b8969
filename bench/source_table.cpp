// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/source_table.h"

#include <rte_eal.h>
#include <rte_hash.h>
#include <rte_malloc.h>
#include <sched.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

// The source table beside the least that any table could do, and beside rte_hash, in one run and in memory of the same
// kind. Every subject goes through keys in random order, in bursts of 32, prefetched; round after round all of them, so
// that a noisy neighbour hurts all alike; what is compared are the medians of each round's ratios. Answers are checked
// before the clock starts.
//   bench/source_table [ROUNDS [KEYS...]]
// Everything lies in hugepages where there are enough: 2.5 GiB for 10^7 keys (sysctl vm.nr_hugepages=1280).
namespace sipward::bench {
namespace {

using policy::Source;
using policy::SourceKey;
using policy::SourceTable;

constexpr std::size_t kBurst = 32;
constexpr std::size_t kOpsPerRound = std::size_t{1} << 20;
constexpr std::size_t kHugepagesMib = 2560;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}
void require(bool holds, const char* what) {
  if (!holds) fail(what);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// What this thread has used of its core: other processes' time is not counted.
double thread_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

struct Free {
  void operator()(std::byte* octets) const { rte_free(octets); }
};
using Memory = std::unique_ptr<std::byte, Free>;

Memory memory(std::size_t octets) {
  Memory made(static_cast<std::byte*>(rte_zmalloc(nullptr, octets, 64)));
  require(made != nullptr, "not enough memory");
  return made;
}

const policy::Now kNow(policy::Time(std::chrono::seconds(1000)));
const policy::Meter kSlow({0.1, 100}); // once metered, nobody is forgettable while this runs
const policy::Meter kFast({1e5, 1000});

// One number of keys: the tables that hold them, and the order in which they are asked for.
class Bench {
public:
  explicit Bench(std::size_t count)
      : capacity_(static_cast<std::uint32_t>(std::bit_ceil(count + count / 2))),
        memory_(memory(SourceTable::octets(capacity_))),
        table_({memory_.get(), SourceTable::octets(capacity_)}, capacity_, {11, 22, 33, 44}) {
    std::mt19937_64 random(count);
    fill(count, random);
    for (std::size_t i = 0; i < 4 * kOpsPerRound; ++i) {
      asked_.push_back(keys_[random() % keys_.size()]);
      lines_.push_back(static_cast<std::uint32_t>(random() % capacity_));
      strangers_.push_back(random());
    }
    check();
  }
  ~Bench() { rte_hash_free(peer_); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void run(unsigned rounds);

private:
  using Burst = std::uint64_t (Bench::*)(std::size_t first);
  struct Subject {
    const char* name;
    Burst burst;
    std::vector<double> ns{};
  };
  Source& line(std::size_t i) { return reinterpret_cast<Source*>(memory_.get())[i]; }

  void fill(std::size_t count, std::mt19937_64& random) {
    rte_hash_parameters wanted{};
    wanted.name = "peer";
    wanted.entries = static_cast<std::uint32_t>(count + count / 2); // its buckets: the next power of two, as ours
    wanted.key_len = sizeof(SourceKey);
    wanted.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF;
    peer_ = rte_hash_create(&wanted);
    require(peer_ != nullptr, "rte_hash_create");
    for (std::size_t i = 0; i < count; ++i) {
      const SourceKey key = random() >> 2;
      Source* source = table_.find_or_insert(key, kNow);
      if (source != nullptr) source->meter(policy::Class::Invite, kSlow, kNow);
      keys_.push_back(key);
    }
    // Who found his window full has displaced another: what is asked for is what is there.
    std::erase_if(keys_, [&](SourceKey key) { return table_.find(key) == nullptr; });
    for (const SourceKey& key : keys_) require(rte_hash_add_key(peer_, &key) >= 0, "rte_hash_add_key");
  }

  void check() {
    for (const SourceKey& key : keys_) {
      const Source* source = table_.find(table_.prefetch(key));
      require(source != nullptr && source->key == key, "the source table finds another's line");
      const auto at = rte_hash_lookup(peer_, &key);
      void* stored = nullptr;
      require(at >= 0 && rte_hash_get_key_with_position(peer_, at, &stored) == 0 &&
                  *static_cast<const SourceKey*>(stored) == key,
              "rte_hash finds another key");
    }
    std::printf("\n%zu keys in %u lines (load %.2f), %llu displaced\n", keys_.size(), capacity_,
                static_cast<double>(keys_.size()) / capacity_,
                static_cast<unsigned long long>(table_.occupancy().evicted));
  }

  // The subjects, one burst each.
  std::uint64_t bare(std::size_t first) {
    for (std::size_t i = first; i < first + kBurst; ++i) __builtin_prefetch(&line(lines_[i]), 1);
    for (std::size_t i = first; i < first + kBurst; ++i) {
      auto& packets = line(lines_[i]).packets;
      packets.store(packets.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    return 0;
  }
  template<typename Use>
  std::uint64_t each(const std::vector<SourceKey>& keys, std::size_t first, Use use) {
    SourceTable::Place places[kBurst];
    for (std::size_t i = 0; i < kBurst; ++i) places[i] = table_.prefetch(keys[first + i]);
    for (auto& place : places) table_.prefetch_line(place);
    std::uint64_t sum = 0;
    for (const auto& place : places) sum += static_cast<std::uint64_t>(use(place));
    return sum;
  }
  std::uint64_t find(std::size_t first) {
    return each(asked_, first, [this](const auto& place) {
      Source* source = table_.find(place);
      source->packets.store(source->packets.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      return 0;
    });
  }
  std::uint64_t meter(std::size_t first) {
    return each(asked_, first, [this](const auto& place) {
      return table_.find_or_insert(place, kNow)->meter(policy::Class::Register, kFast, kNow);
    });
  }
  std::uint64_t all(std::size_t first) {
    return each(asked_, first, [this](const auto& place) {
      Source* source = table_.find_or_insert(place, kNow);
      source->touch(kNow);
      return source->meter(policy::Class::Register, kFast, kNow);
    });
  }
  std::uint64_t peer(std::size_t first) {
    const void* keys[kBurst];
    std::int32_t positions[kBurst];
    for (std::size_t i = 0; i < kBurst; ++i) keys[i] = &asked_[first + i];
    rte_hash_lookup_bulk(peer_, keys, kBurst, positions);
    std::uint64_t sum = 0;
    for (const auto position : positions) sum += static_cast<std::uint64_t>(position);
    return sum;
  }
  std::uint64_t peer_and_line(std::size_t first) {
    const void* keys[kBurst];
    std::int32_t positions[kBurst];
    for (std::size_t i = 0; i < kBurst; ++i) keys[i] = &asked_[first + i];
    rte_hash_lookup_bulk(peer_, keys, kBurst, positions);
    for (const auto at : positions) __builtin_prefetch(&line(static_cast<std::size_t>(at) & (capacity_ - 1)), 1);
    for (const auto at : positions) {
      auto& packets = line(static_cast<std::size_t>(at) & (capacity_ - 1)).packets;
      packets.store(packets.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    return 0;
  }
  std::uint64_t newcomers(std::size_t first) {
    return each(strangers_, first, [this](const auto& place) { return table_.find_or_insert(place, kNow) != nullptr; });
  }

  std::uint32_t capacity_;
  Memory memory_;
  SourceTable table_;
  rte_hash* peer_ = nullptr;
  std::vector<SourceKey> keys_, asked_, strangers_;
  std::vector<std::uint32_t> lines_;
};

std::uint64_t sink = 0;

void Bench::run(unsigned rounds) {
  Subject subjects[] = {{"a line, bare", &Bench::bare},    {"find", &Bench::find},
                        {"find, meter", &Bench::meter},    {"find, touch, meter", &Bench::all},
                        {"rte_hash lookup", &Bench::peer}, {"rte_hash and a line", &Bench::peer_and_line}};
  Subject last[] = {{"newcomers", &Bench::newcomers}};
  const auto time = [&](Subject& subject, unsigned round) {
    const std::size_t begin = round % 4 * kOpsPerRound;
    const double start = thread_ns();
    for (std::size_t i = begin; i < begin + kOpsPerRound; i += kBurst) sink += (this->*subject.burst)(i);
    if (round > 0) subject.ns.push_back((thread_ns() - start) / kOpsPerRound); // the first round warms up
  };
  for (unsigned round = 0; round <= rounds; ++round)
    for (Subject& subject : subjects) time(subject, round);
  time(last[0], 1); // they displace others: once, and at the end
  const auto show = [&](const Subject& subject) {
    const auto [low, high] = std::minmax_element(subject.ns.begin(), subject.ns.end());
    std::printf("%-24s %7.1f ns   %6.1f .. %-6.1f  %6.1f million a second\n", subject.name, median(subject.ns), *low,
                *high, 1e3 / median(subject.ns));
  };
  for (const Subject& subject : subjects) show(subject);
  show(last[0]);
  const auto compare = [&](const Subject& a, const Subject& b, const char* bound) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < a.ns.size(); ++i) ratios.push_back(a.ns[i] / b.ns[i]);
    const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
    std::printf("  %-22s / %-18s %6.2f   (%.2f .. %.2f)   %s\n", a.name, b.name, median(ratios), *low, *high, bound);
  };
  compare(subjects[1], subjects[0], "at 10^7: must <= 2.6, aim 2.0");
  compare(subjects[1], subjects[4], "at 10^7: must <= 0.45");
  compare(subjects[1], subjects[5], "");
  compare(subjects[3], subjects[0], "");
  compare(subjects[3], subjects[5], "");
}

std::size_t free_hugepages_mib() {
  std::ifstream file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
  std::size_t pages = 0;
  file >> pages;
  return pages * 2;
}

int main_of(int argc, char** argv) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
  sched_setaffinity(0, sizeof one, &one);
  const bool huge = free_hugepages_mib() >= kHugepagesMib;
  std::vector<std::string> words = {argv[0],
                                    "--no-shconf",
                                    "--no-pci",
                                    "--no-telemetry",
                                    "--log-level=error",
                                    "-l",
                                    std::to_string(sched_getcpu()),
                                    "-m",
                                    std::to_string(kHugepagesMib)};
  words.emplace_back(huge ? "--in-memory" : "--no-huge");
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  require(rte_eal_init(static_cast<int>(pointers.size()), pointers.data()) >= 0, "rte_eal_init");

  const auto rounds = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 9;
  std::printf("%s; bursts of %zu, %u interleaved rounds of %zu operations\n",
              huge ? "hugepages of 2 MiB" : "no hugepages: pages of 4 KiB", kBurst, rounds, kOpsPerRound);
  std::vector<std::size_t> counts;
  for (int i = 2; i < argc; ++i) counts.push_back(static_cast<std::size_t>(std::atof(argv[i])));
  if (counts.empty()) counts = {100'000, 1'000'000, 10'000'000};
  for (const std::size_t count : counts) Bench(count).run(rounds);
  return sink == 42 ? 1 : 0;
}

} // namespace
} // namespace sipward::bench

int main(int argc, char** argv) { return sipward::bench::main_of(argc, argv); }
