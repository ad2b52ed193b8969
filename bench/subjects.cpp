// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/subjects.h"

#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_hash.h>
#include <rte_ip.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <sched.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

#include "bench/peers/parsers.h"
#include "dataplane/dataplane.h"
#include "dataplane/port.h"

namespace sipward::bench {

void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::_Exit(1);
}

namespace {

using namespace std::chrono_literals;

constexpr std::uint16_t kPort = 0; // the only one
constexpr std::size_t kIp = 14, kIpSource = kIp + 12, kIpDestination = kIpSource + 4;
constexpr std::uint64_t kMiB = 1 << 20;

void require(bool holds, const char* what) {
  if (!holds) fail(what);
}

// All senders: 10.0.0.0 and on, or, where that is not room enough, 1.0.0.0 and on.
constexpr std::uint32_t first_source(std::uint32_t count) { return count > 1 << 24 ? 0x0100'0000 : 0x0a00'0000; }

policy::Address source(std::uint32_t count, std::uint32_t i) {
  const std::uint32_t address = first_source(count) + i;
  const auto octet = [address](unsigned shift) { return static_cast<std::uint8_t>(address >> shift); };
  return policy::Address::v4(octet(24), octet(16), octet(8), octet(0));
}

// Gives the frames of a burst their senders (those of the server: their addressees), in an order that looks random and
// in which all come equally often. It runs inside rte_eth_rx_burst; what it costs is measured with Work::Receive.
struct alignas(64) Sources {
  std::uint32_t first, count, server;
  std::uint32_t turn = 0;

  static std::uint16_t rewrite(std::uint16_t, std::uint16_t, rte_mbuf* frames[], std::uint16_t size, std::uint16_t,
                               void* self) {
    auto& [first, count, server, turn] = *static_cast<Sources*>(self);
    for (std::uint16_t i = 0; i < size; ++i) {
      turn += 0x9e37'79b1; // odd: in 2^32 turns every number once
      const std::uint32_t address =
          rte_cpu_to_be_32(first + static_cast<std::uint32_t>(std::uint64_t{turn} * count >> 32));
      auto* octets = rte_pktmbuf_mtod(frames[i], std::uint8_t*);
      std::uint32_t from = 0;
      std::memcpy(&from, octets + kIpSource, sizeof from);
      std::memcpy(octets + (from == server ? kIpDestination : kIpSource), &address, sizeof address);
      auto* ip = reinterpret_cast<rte_ipv4_hdr*>(octets + kIp);
      if (ip->fragment_offset == 0) continue;
      ip->hdr_checksum = 0; // of fragments it is looked at
      ip->hdr_checksum = rte_ipv4_cksum(ip);
    }
    return size;
  }
};

void rewrite_sources(std::uint32_t count, unsigned queues) {
  if (count == 0) return;
  static std::array<Sources, 2> sources{};
  const auto server = policy::Address::parse(kServer).value();
  for (std::uint16_t queue = 0; queue < queues; ++queue) {
    auto& of = sources.at(queue);
    of = {first_source(count), count, 0, queue * 0x8000'0001};
    std::memcpy(&of.server, server.octets.data(), sizeof of.server);
    require(rte_eth_add_rx_callback(kPort, queue, Sources::rewrite, &of) != nullptr, "rte_eth_add_rx_callback");
  }
}

double now_ns(clockid_t clock) noexcept {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// The clock of the CPU time of a thread of this process, by its name.
clockid_t clock_of(const std::string& name) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string found;
    std::getline(std::ifstream(task.path() / "comm"), found);
    // The kernel's encoding, as in pthread_getcpuclockid(3): a thread's number, of one thread, by the scheduler's
    // count.
    if (found == name) return static_cast<clockid_t>(~std::stoul(task.path().filename()) << 3 | 6);
  }
  fail("there is no thread " + name);
}

std::string port_name(const std::filesystem::path& capture, unsigned queues = 1) {
  std::string name = "net_pcap0,infinite_rx=1";
  for (unsigned queue = 0; queue < queues; ++queue) name += ",rx_pcap=" + capture.string();
  return name;
}

std::uint32_t capacity(const Subject& subject) {
  if (subject.capacity != 0) return subject.capacity;
  return std::max(4096u, 3 * subject.sources); // or some buckets would be full
}

dataplane::Options options(const Subject& subject, const std::filesystem::path& capture, unsigned cpu, bool hugepages) {
  dataplane::Options made;
  made.outside = {"vdev:" + port_name(capture, subject.workers)};
  for (unsigned i = 0; i < subject.workers; ++i) made.cores.push_back((cpu + i) % std::thread::hardware_concurrency());
  made.hugepages = hugepages ? config::Hugepages::On : config::Hugepages::Off;
  made.memory_bytes = memory_octets(subject);
  made.idle = config::Idle::Busy;
  made.sip_ports = {5060};
  made.source_capacity = capacity(subject);
  return made;
}

void say(std::string_view line) { std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data()); }

// The real worker.
class Plane : public Running {
public:
  Plane(const Subject& subject, const std::filesystem::path& capture, unsigned cpu, bool hugepages)
      : plane_(start_dataplane(subject, capture, cpu, hugepages)) {
    for (unsigned i = 0; i < subject.workers; ++i) workers_.push_back(clock_of("worker-" + std::to_string(i)));
    // Once every sender has come, all are as they will be.
    const std::uint64_t wanted = plane_->counters().received + 4ull * std::min(subject.sources, capacity(subject));
    while (plane_->counters().received < wanted) std::this_thread::sleep_for(1ms);
  }
  Reading read() const override {
    const dataplane::Counters counters = plane_->counters();
    double cpu_ns = 0;
    for (const clockid_t worker : workers_) cpu_ns += now_ns(worker);
    return {cpu_ns, counters.received, counters};
  }

private:
  std::unique_ptr<dataplane::Dataplane> plane_;
  std::vector<clockid_t> workers_;
};

using Frames = std::span<rte_mbuf*>;

// Each message through libosip2, each sender looked up in rte_hash, which learns whom it does not know.
class Osip {
public:
  explicit Osip(const Subject& subject) {
    rte_hash_parameters wanted{};
    wanted.name = "peer";
    wanted.entries = capacity(subject);
    wanted.key_len = sizeof(std::uint32_t);
    wanted.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF;
    table_ = rte_hash_create(&wanted);
    require(table_ != nullptr, "rte_hash_create");
  }
  void operator()(Frames frames) {
    std::array<const void*, dataplane::kBurst> keys;
    std::array<std::int32_t, dataplane::kBurst> places;
    for (std::size_t i = 0; i < frames.size(); ++i) keys[i] = rte_pktmbuf_mtod_offset(frames[i], void*, kIpSource);
    rte_hash_lookup_bulk(table_, keys.data(), static_cast<std::uint32_t>(frames.size()), places.data());
    for (std::size_t i = 0; i < frames.size(); ++i) {
      if (places[i] < 0) rte_hash_add_key(table_, keys[i]);
      constexpr std::size_t kHeaders = 14 + 20 + 8;
      const std::string_view message(rte_pktmbuf_mtod_offset(frames[i], const char*, kHeaders),
                                     frames[i]->data_len - kHeaders);
      require(peers::parsers().front().time(message) != 0, "libosip2 does not read a message");
    }
  }

private:
  rte_hash* table_;
};

// A loop of our own, as simple as can be, around some work.
class Loop : public Running {
public:
  Loop(const Subject& subject, const std::filesystem::path& capture, unsigned cpu, bool hugepages) {
    auto environment = dataplane::Environment::start(options(subject, capture, cpu, hugepages), say);
    if (!environment) fail(environment.error());
    environment_ = std::move(*environment);
    open(capture);
    rewrite_sources(subject.sources, 1);
    std::function<void(Frames)> work;
    if (subject.work == Work::Osip) work = Osip(subject);
    thread_ = std::thread([this, work] { run(work); });
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(thread_.native_handle(), sizeof one, &one);
    pthread_getcpuclockid(thread_.native_handle(), &clock_);
    thread_.detach();
  }

  Reading read() const override { return {now_ns(clock_), packets_.load(std::memory_order_relaxed), {}}; }

private:
  static void open(const std::filesystem::path& capture) {
    const std::string parameters = port_name(capture);
    const auto comma = parameters.find(',');
    rte_mempool* pool = rte_pktmbuf_pool_create("mbufs", 4095, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    constexpr auto kAny = static_cast<unsigned>(SOCKET_ID_ANY);
    rte_eth_conf conf{};
    require(pool != nullptr &&
                rte_eal_hotplug_add("vdev", parameters.substr(0, comma).c_str(), parameters.c_str() + comma + 1) == 0 &&
                rte_eth_dev_configure(kPort, 1, 1, &conf) == 0 &&
                rte_eth_rx_queue_setup(kPort, 0, 1024, kAny, nullptr, pool) == 0 &&
                rte_eth_tx_queue_setup(kPort, 0, 1024, kAny, nullptr) == 0 && rte_eth_dev_start(kPort) == 0,
            "cannot open the capture");
  }

  void run(const std::function<void(Frames)>& work) {
    rte_thread_register();
    dataplane::Mbufs mbufs;
    for (std::uint64_t packets = 0;;) {
      const std::uint16_t received = rte_eth_rx_burst(kPort, 0, mbufs.data(), dataplane::kBurst);
      if (work) work(Frames(mbufs).first(received));
      rte_pktmbuf_free_bulk(mbufs.data(), received);
      packets += received;
      packets_.store(packets, std::memory_order_relaxed);
    }
  }

  std::unique_ptr<dataplane::Environment> environment_;
  std::thread thread_;
  std::atomic<std::uint64_t> packets_ = 0;
  clockid_t clock_ = 0;
};

} // namespace

std::unique_ptr<policy::Rules> rules_for(const Subject& subject) {
  auto made = std::make_unique<policy::Rules>();
  made->ports = {5060};
  made->servers = {policy::Address::parse(kServer).value()};
  const policy::Rate rate = subject.limited ? policy::Rate{0.001, 1} : policy::Rate{2e5, 2'000'000};
  for (std::size_t c = 0; c < policy::kClasses; ++c)
    made->set(static_cast<policy::Class>(c), {rate, policy::Action::Block});
  made->marks = std::make_shared<const sip::Marks>();
  if (subject.allowed) made->never_blocked = policy::PrefixSet(std::array{policy::Prefix::parse("10.0.0.0/8").value()});
  return made;
}

std::unique_ptr<dataplane::Dataplane> start_dataplane(const Subject& subject, const std::filesystem::path& capture,
                                                      unsigned cpu, bool hugepages) {
  auto started = dataplane::Dataplane::start(options(subject, capture, cpu, hugepages), rules_for(subject), say);
  if (!started) fail(started.error());
  const policy::Now now(policy::Time(std::chrono::steady_clock::now().time_since_epoch()));
  for (std::uint32_t i = 0; i < subject.blocked; ++i)
    (*started)->ledger().sources.block(policy::source_key(source(subject.sources, i), 64), now.s + 86'400, now);
  rewrite_sources(subject.sources, subject.workers);
  return std::move(*started);
}

std::uint64_t memory_octets(const Subject& subject) {
  const std::uint64_t table = subject.work == Work::Receive ? 0
                              : subject.work == Work::Osip  ? capacity(subject) * 64ull
                                                            : policy::Ledger::octets(capacity(subject));
  return (table / kMiB + 96) * kMiB;
}

std::unique_ptr<Running> start(const Subject& subject, const std::filesystem::path& capture, unsigned cpu,
                               bool hugepages) {
  if (subject.work == Work::Worker) return std::make_unique<Plane>(subject, capture, cpu, hugepages);
  return std::make_unique<Loop>(subject, capture, cpu, hugepages);
}

} // namespace sipward::bench
