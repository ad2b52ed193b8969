// SPDX-License-Identifier: GPL-2.0-or-later
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <fstream>
#include <numeric>

#include "tests/pieces.h"
#include "tests/tape.h"

// Two workers over two queues, through the dataplane's face. DPDK can be started once in a process: CTest gives each
// case its own.
namespace sipward::test {
namespace {

using namespace std::chrono_literals;
using dataplane::Dataplane;
using policy::Why;

// The first CPUs that this process may use.
std::vector<unsigned> cpus(std::size_t count) {
  cpu_set_t own;
  CPU_ZERO(&own);
  sched_getaffinity(0, sizeof own, &own);
  std::vector<unsigned> found;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE && found.size() < count; ++cpu)
    if (CPU_ISSET(cpu, &own)) found.push_back(cpu);
  if (found.size() < count) skip("this machine has too few CPUs");
  return found;
}

Octets from(std::string_view source, std::string_view payload) {
  return ethernet(kEtherIpv4, ipv4({.source = source}, udp(5062, 5060, payload)));
}
// `flow` and `number` tell a frame from all others.
Octets numbered(std::uint8_t flow, unsigned number) {
  Octets frame = ethernet(0x88b5, Octets(46 + number % 1400, flow));
  frame[15] = static_cast<std::uint8_t>(number >> 8);
  frame[16] = static_cast<std::uint8_t>(number);
  return frame;
}

// A port with as many receive queues as there are captures.
std::string port(int number, std::initializer_list<Capture*> captures, const std::string& more = "") {
  std::string name = "vdev:net_pcap" + std::to_string(number);
  for (Capture* capture : captures) {
    capture->port();
    name += ",rx_pcap=" + capture->path().string();
  }
  return name + more;
}
dataplane::Options with_two(const std::string& outside, const std::string& inside = "") {
  auto wanted = options(outside);
  wanted.inside = inside;
  wanted.cores = cpus(2);
  wanted.memory_bytes = std::uint64_t{128} << 20;
  return wanted;
}

std::unique_ptr<Dataplane> forwarding(const dataplane::Options& wanted) {
  auto by = rules();
  by->drop_convicting = true;
  auto plane = Dataplane::start(wanted, std::move(by), [](std::string_view line) { std::cerr << line << '\n'; });
  if (!plane) FAIL(plane.error());
  return std::move(*plane);
}

// The workers' counters are the whole's, and each one's are consistent.
void check_workers(const Dataplane& plane, std::size_t workers) {
  check_algebra(plane);
  const auto each = plane.counters_by_worker();
  REQUIRE(each.size() == workers);
  dataplane::Counters sum;
  for (const auto& counters : each) {
    CHECK(counters.received == counters.passed + counters.dropped);
    CHECK(counters.received == std::accumulate(counters.verdicts.begin(), counters.verdicts.end(), std::uint64_t{0}));
    sum = sum + counters;
  }
  CHECK(sum.received == plane.counters().received);
  CHECK(sum.octets == plane.counters().octets);
}

TEST_CASE("one port and two cores are two workers, and the same source on both queues is one") {
  Capture first, second;
  for (unsigned i = 0; i < 100; ++i)
    (i % 2 == 0 ? first : second).add(from("198.51.100.20", request("REGISTER", "a phone", "100", i)));
  const auto plane = started(with_two(port(0, {&first, &second})));
  REQUIRE(within(5s, [&] { return plane->counters().received == 100; }));
  plane->stop();
  check_workers(*plane, 2);
  CHECK(plane->notes().empty());
  for (const auto& counters : plane->counters_by_worker()) CHECK(counters.received == 50);
  CHECK(verdicts(*plane, Why::Clean) + verdicts(*plane, Why::RegisterFlood) == 100);
  CHECK(verdicts(*plane, Why::Clean) >= 75);
  CHECK(verdicts(*plane, Why::Clean) <= 80); // the burst, and what leaked out meanwhile
  const auto* source = plane->ledger().sources.find(policy::source_key(policy::Address::v4(198, 51, 100, 20), 64));
  CHECK(source->packets <= 100);
  CHECK(source->packets > 50); // two workers may lose some of the count, never of the meter
}

TEST_CASE("a flood over both queues is reported as one, once a second") {
  Capture first, second;
  for (unsigned i = 0; i < 20'000; ++i)
    (i % 2 == 0 ? first : second).add(from("198.51.100.66", request("REGISTER", "x", "100", i)));
  const auto begin = std::chrono::steady_clock::now();
  const auto plane = started(with_two(port(0, {&first, &second})));
  REQUIRE(within(20s, [&] { return plane->counters().received == 20'000; }));
  plane->stop();
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(std::chrono::steady_clock::now() - begin).count();
  check_workers(*plane, 2);
  CHECK(plane->counters().offences >= 1);
  CHECK(plane->counters().offences <= static_cast<std::uint64_t>(seconds) + 1);
}

TEST_CASE("a block is both workers', and new rules reach both under load") {
  Capture first, second;
  first.add(from("198.51.100.20", request("OPTIONS", "a phone")));
  second.add(from("198.51.100.21", request("OPTIONS", "a phone")));
  const auto plane = started(with_two(port(0, {&first, &second}, ",infinite_rx=1")));
  const auto each = [&](Why why) {
    std::vector<std::uint64_t> counts;
    for (const auto& counters : plane->counters_by_worker())
      counts.push_back(counters.verdicts[static_cast<std::size_t>(why)]);
    return counts;
  };
  const auto all_above = [&](Why why, std::uint64_t least) {
    return std::ranges::all_of(each(why), [&](std::uint64_t count) { return count > least; });
  };
  REQUIRE(within(10s, [&] { return all_above(Why::Clean, 100); }));
  for (int i = 0; i < 200; ++i) { // each snapshot of rules is freed once both have moved on
    auto next = rules();
    if (i % 2 == 0) next->blocked = {policy::Prefix::parse("198.51.100.0/24").value()};
    plane->publish(std::move(next));
    if (i % 10 == 0) std::this_thread::sleep_for(1ms);
  }
  REQUIRE(within(10s, [&] { return all_above(Why::BlockedPrefix, 0); }));
  const policy::Now now(policy::Time(std::chrono::steady_clock::now().time_since_epoch()));
  for (const auto host : {20, 21})
    plane->ledger().sources.block(policy::source_key(policy::Address::v4(198, 51, 100, static_cast<uint8_t>(host)), 64),
                                  now.s + 3600, now);
  CHECK(within(10s, [&] { return all_above(Why::Blocked, 100); }));
  plane->stop();
  check_workers(*plane, 2);
}

TEST_CASE("inline with two workers everything leaves, each queue's frames in their order, both ways") {
  Capture out_first, out_second, in_first, in_second;
  Frames expected[4];
  Capture* captures[] = {&out_first, &out_second, &in_first, &in_second};
  for (unsigned i = 0; i < 2000; ++i)
    for (std::uint8_t flow = 0; flow < 4; ++flow) {
      captures[flow]->add(numbered(flow, i));
      expected[flow].push_back(numbered(flow, i));
      if (flow < 2 && i % 5 == 0) captures[flow]->add(from("198.51.100.66", request("OPTIONS", "friendly-scanner")));
    }
  const Tape left[] = {Tape(0), Tape(1), Tape(2), Tape(3)};
  const auto sent_by = [&](std::size_t first) {
    return ",tx_pcap=" + left[first].record().string() + ",tx_pcap=" + left[first + 1].record().string();
  };
  auto plane = forwarding(
      with_two(port(0, {&out_first, &out_second}, sent_by(2)), port(1, {&in_first, &in_second}, sent_by(0))));
  REQUIRE(within(20s, [&] { return plane->counters().received == 8000 + 800; }));
  plane->stop();
  check_workers(*plane, 2);
  for (const auto& counters : plane->counters_by_worker()) CHECK(counters.received == 4400);
  CHECK(plane->counters().dropped == 800);
  plane.reset();
  for (std::size_t flow = 0; flow < 4; ++flow) {
    INFO(flow);
    CHECK(left[flow].recorded() == expected[flow]);
  }
}

TEST_CASE("what a ring gives back leaves again in its order, by the queue that it went in") {
  Capture first, second;
  Frames expected[2];
  for (unsigned i = 0; i < 5000; ++i)
    for (std::uint8_t flow = 0; flow < 2; ++flow) {
      (flow == 0 ? first : second).add(numbered(flow, i));
      expected[flow].push_back(numbered(flow, i));
    }
  const Tape left[] = {Tape(0), Tape(1)};
  auto plane = forwarding(with_two(
      port(0, {&first, &second}, ",tx_pcap=" + left[0].record().string() + ",tx_pcap=" + left[1].record().string()),
      "vdev:net_ring0")); // a frame sent into it is received from it
  REQUIRE(within(20s, [&] { return plane->counters().received == 20'000; }));
  plane->stop();
  check_workers(*plane, 2);
  CHECK(plane->counters().dropped == 0);
  plane.reset();
  for (std::size_t flow = 0; flow < 2; ++flow) CHECK(left[flow].recorded() == expected[flow]);
}

TEST_CASE("fragments that a device parts are dropped when their time is up, and counted so") {
  Capture first, second, nothing, more_of_nothing;
  const auto parted = pieces({}, udp(5062, 5060, long_request("a phone", 1800)), 2);
  const auto together = pieces({.number = 2}, udp(5062, 5060, long_request("a phone", 1800)), 2);
  first.add(parted[0]);
  second.add(parted[1]);
  for (const auto& piece : together) second.add(piece);
  const Tape left[] = {Tape(0), Tape(1)};
  auto plane = forwarding(with_two(port(0, {&first, &second}), port(1, {&nothing, &more_of_nothing},
                                                                    ",tx_pcap=" + left[0].record().string() +
                                                                        ",tx_pcap=" + left[1].record().string())));
  REQUIRE(within(10s, [&] { return plane->counters().received == 4; }));
  plane->stop();
  check_workers(*plane, 2);
  CHECK(verdicts(*plane, Why::FragmentOverdue) == 2);
  CHECK(verdicts(*plane, Why::Clean) == 2);
  plane.reset();
  CHECK(left[0].recorded().empty());
  CHECK(left[1].recorded() == together);
}

TEST_CASE("more cores than queues are fewer workers, and that is said") {
  Capture capture;
  capture.add(from("198.51.100.20", request("OPTIONS", "a phone")));
  const auto plane = started(with_two(port(0, {&capture})));
  REQUIRE(within(5s, [&] { return plane->counters().received == 1; }));
  check_workers(*plane, 1);
  REQUIRE(plane->notes().size() == 2);
  CHECK_THAT(plane->notes()[0], Catch::Contains("has 1 of the 2 receive queues that cores asks for"));
  CHECK_THAT(plane->notes()[1], Catch::Contains("cores names 2 CPUs, and the ports have queues for 1"));
}

TEST_CASE("DPDK's telemetry socket tells the counters of running workers") {
  Capture first, second;
  first.add(from("198.51.100.20", request("OPTIONS", "a phone")));
  second.add(from("198.51.100.21", request("OPTIONS", "a phone")));
  auto wanted = with_two(port(0, {&first, &second}, ",infinite_rx=1"));
  wanted.run_folder = fs::temp_directory_path() / ("sipward-telemetry-" + std::to_string(getpid()));
  fs::create_directory(wanted.run_folder);
  auto plane = started(wanted);
  sockaddr_un there{};
  there.sun_family = AF_UNIX;
  REQUIRE(plane->telemetry_socket().native().size() < sizeof there.sun_path);
  std::strcpy(there.sun_path, plane->telemetry_socket().c_str());
  const int client = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  REQUIRE(connect(client, reinterpret_cast<const sockaddr*>(&there), sizeof there) == 0);
  std::array<char, 16384> answer{};
  const auto heard = [&] {
    const auto size = recv(client, answer.data(), answer.size(), 0);
    return std::string(answer.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  };
  heard(); // who is there
  for (int i = 0; i < 100; ++i)
    for (const std::string_view command : {"/sipward/counters", "/sipward/workers,1"}) {
      REQUIRE(send(client, command.data(), command.size(), 0) == static_cast<ssize_t>(command.size()));
      CHECK_THAT(heard(), Catch::Contains("\"received\":") && Catch::Contains("\"verdict_clean\":"));
    }
  plane.reset();
  const std::string_view command = "/sipward/workers";
  REQUIRE(send(client, command.data(), command.size(), 0) == static_cast<ssize_t>(command.size()));
  CHECK(heard() == "{\"/sipward/workers\":[]}"); // DPDK's thread goes on, and there are none any more
  close(client);
  fs::remove_all(wanted.run_folder);
}

TEST_CASE("each worker runs on its core") {
  Capture first, second;
  auto wanted = with_two(port(0, {&first, &second}));
  std::ranges::reverse(wanted.cores);
  const auto plane = started(wanted);
  for (const auto& task : fs::directory_iterator("/proc/self/task")) {
    std::string name;
    std::ifstream(task.path() / "comm") >> name;
    if (!name.starts_with("worker-")) continue;
    cpu_set_t where;
    CPU_ZERO(&where);
    REQUIRE(sched_getaffinity(std::atoi(task.path().filename().c_str()), sizeof where, &where) == 0);
    CHECK(CPU_COUNT(&where) == 1);
    CHECK(CPU_ISSET(wanted.cores[static_cast<std::size_t>(name.back() - '0')], &where));
  }
}

} // namespace
} // namespace sipward::test
