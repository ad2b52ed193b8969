// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/peers/testpmd.h"

#include <pty.h>
#include <rte_config.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <thread>
#include <vector>

namespace sipward::bench::peers {
namespace {

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "dpdk-testpmd: %s\n", what.c_str());
  std::exit(1);
}

// Only the drivers that are used: it would otherwise load some two hundred.
std::string driver(const char* name) {
  const std::string_view folder = RTE_EAL_PMD_PATH;
  const std::string_view version = folder.substr(folder.rfind('-') + 1);
  return std::string(folder) + "/librte_" + name + ".so." + std::string(version.substr(0, version.find('.')));
}

} // namespace

Testpmd::Testpmd(const std::filesystem::path& capture, unsigned cpu, bool hugepages, unsigned memory_mib) {
  const std::string core = std::to_string(cpu), mib = std::to_string(memory_mib);
  std::vector<std::string> words = {"dpdk-testpmd", "--no-telemetry", "--no-pci", "--log-level=*:error",
                                    "--lcores=0@" + core + ",1@" + core};
  for (const char* name : {"mempool_ring", "bus_vdev", "net_pcap"}) words.insert(words.end(), {"-d", driver(name)});
  if (hugepages)
    words.insert(words.end(), {"--in-memory", "--socket-mem=" + mib});
  else
    words.insert(words.end(), {"--no-huge", "--no-shconf", "-m", mib});
  words.insert(words.end(), {"--vdev=net_pcap0,rx_pcap=" + capture.string() + ",infinite_rx=1", "--", "-i",
                             "--forward-mode=rxonly", "--total-num-mbufs=4096", "--mbcache=256"});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  process_ = forkpty(&terminal_, nullptr, nullptr, nullptr); // what it says into a pipe, it says late
  if (process_ < 0) fail("no terminal");
  if (process_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp(argv[0], argv.data());
    fail("cannot start (Debian: dpdk-dev)");
  }
  until_prompt();
  const auto tasks = "/proc/" + std::to_string(process_) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks)) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name.find("worker-1") != name.npos) worker_ = task.path();
  }
  if (worker_.empty()) fail("has no worker");
}

Testpmd::~Testpmd() {
  kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
  close(terminal_);
}

void Testpmd::say(const std::string& command) {
  const std::string line = command + "\n";
  if (write(terminal_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) fail("hears nothing");
}

std::string Testpmd::until_prompt() {
  std::string said;
  while (!said.ends_with("testpmd> ")) {
    char octets[4096];
    const auto size = read(terminal_, octets, sizeof octets);
    if (size <= 0) fail("ended: " + said);
    said.append(octets, static_cast<std::size_t>(size));
  }
  return said;
}

// Exact while the thread sleeps, as it does between two commands: proc(5), schedstat.
double Testpmd::worker_ns() const {
  double ns = 0;
  std::ifstream(worker_ / "schedstat") >> ns;
  return ns;
}

Testpmd::Reading Testpmd::receive(unsigned ms) {
  const double before = worker_ns();
  say("start");
  until_prompt();
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  say("stop");
  const std::string said = until_prompt();
  constexpr std::string_view kPackets = "RX-packets: ";
  const auto at = said.find(kPackets);
  if (at == said.npos) fail("does not say how many packets: " + said);
  return {worker_ns() - before, std::strtoull(said.c_str() + at + kPackets.size(), nullptr, 10)};
}

} // namespace sipward::bench::peers
