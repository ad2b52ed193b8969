// SPDX-License-Identifier: GPL-2.0-or-later
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "dataplane/port.h"

namespace sipward::dataplane {
namespace {

namespace fs = std::filesystem;

// Octets of hugepages that nobody uses or has been promised. `folder`: the kernel's, of all or of one NUMA node.
std::uint64_t free_hugepage_octets(const fs::path& folder = "/sys/kernel/mm/hugepages") {
  std::uint64_t total = 0;
  std::error_code error;
  for (const auto& size : fs::directory_iterator(folder, error)) {
    std::uint64_t free = 0, promised = 0;
    std::ifstream(size.path() / "free_hugepages") >> free;
    std::ifstream(size.path() / "resv_hugepages") >> promised; // to somebody who has not touched them yet
    const std::string name = size.path().filename();           // hugepages-2048kB
    total += (free - std::min(free, promised)) * 1024 * std::strtoull(name.c_str() + name.find('-') + 1, nullptr, 10);
  }
  return total;
}

std::string mib(std::uint64_t octets) { return std::to_string(octets >> 20); }

std::vector<std::string> ports_of(const Options& options) {
  auto ports = options.outside;
  if (!options.inside.empty()) ports.push_back(options.inside);
  return ports;
}

std::string driver_of(const std::string& port) {
  switch (kind_of(port)) {
  case PortKind::Interface: return "net_af_packet";
  case PortKind::Tap: return "net_tap";
  case PortKind::Vdev: {
    const auto name = port.substr(5, port.find_first_of("0123456789,", 5) - 5); // vdev:net_pcap0,rx_pcap=...
    return name == "net_virtio_user" ? "net_virtio" : name;                     // one of two that live in one file
  }
  case PortKind::Pci: break;
  }
  return {};
}

// Only the drivers that are used: DPDK would otherwise load some two hundred.
std::vector<std::string> drivers(const Options& options) {
  std::vector<std::string> names = {"mempool_ring", "bus_vdev"};
  for (const auto& port : ports_of(options))
    if (const auto name = driver_of(port); std::ranges::find(names, name) == names.end()) names.push_back(name);
  return names;
}

// The CPUs that this process may use: the calling thread stays where the scheduler (or systemd's CPUAffinity) wants it;
// workers are threads of our own.
std::string own_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::string list;
  for (unsigned cpu = 0; cpu < RTE_MAX_LCORE; ++cpu) // DPDK knows no others
    if (CPU_ISSET(cpu, &set)) list += (list.empty() ? "" : ",") + std::to_string(cpu);
  return list;
}

// A driver's shared object, of the ABI that this program was built for: .../dpdk/pmds-23.0/librte_net_af_packet.so.23
std::string driver_path(const std::string& driver) {
  const std::string_view folder = RTE_EAL_PMD_PATH;
  const std::string_view version = folder.substr(folder.rfind('-') + 1);
  return std::string(folder) + "/librte_" + driver + ".so." + std::string(version.substr(0, version.find('.')));
}

// Memory at the first port's NUMA node, where that is not the first one and has enough.
std::string hugepages_by_node(const Options& options) {
  const std::string& port = options.outside.front();
  int node = kind_of(port) == PortKind::Interface ? node_of(port) : -1;
  if (kind_of(port) == PortKind::Pci) std::ifstream("/sys/bus/pci/devices/" + pci_address(port) + "/numa_node") >> node;
  std::string list;
  if (node > 0 && free_hugepage_octets("/sys/devices/system/node/node" + std::to_string(node) + "/hugepages") >=
                      options.memory_bytes)
    for (int i = 0; i < node; ++i) list += "0,";
  return list + mib(options.memory_bytes);
}

std::vector<std::string> arguments(const Options& options, bool hugepages) {
  std::vector<std::string> args = {"sipward"};
  if (options.run_folder.empty()) {
    args.push_back("--no-telemetry");
  } else {
    // The socket's folder: one for each network namespace, as there is one sipward in each. The other kind of socket,
    // an older one, is missed by nobody.
    struct stat space {};
    stat("/proc/self/ns/net", &space);
    args.push_back("--file-prefix=sipward-" + std::to_string(space.st_ino));
    args.push_back("--log-level=lib.telemetry:error");
  }
  args.push_back("--log-level=*:warning"); // of several that fit, the first one counts
  // Of the devices on the PCI bus DPDK touches those that are named, and no others.
  for (const auto& port : ports_of(options))
    if (kind_of(port) == PortKind::Pci) args.insert(args.end(), {"-a", pci_address(port)});
  const bool pci = std::ranges::find(args, "-a") != args.end();
  if (!pci) args.push_back("--no-pci");
  args.push_back("--lcores=0@(" + own_cpus() + ")");
  if (hugepages) {
    args.insert(args.end(), {"--in-memory", "--socket-mem=" + hugepages_by_node(options)});
  } else {
    // Nothing is shared with another process, so no run-time files either; several namespaces stand side by side.
    args.insert(args.end(), {"--no-huge", "--no-shconf", "-m", mib(options.memory_bytes)});
  }
  // By their whole path: of a bare name DPDK tries the current directory first, and would load what it finds there.
  if (pci) // whose a device is only the drivers know: then all of them are loaded
    args.insert(args.end(), {"-d", RTE_EAL_PMD_PATH});
  else
    for (const auto& driver : drivers(options)) args.insert(args.end(), {"-d", driver_path(driver)});
  return args;
}

} // namespace

std::expected<std::unique_ptr<Environment>, std::string> Environment::start(const Options& options,
                                                                            Dataplane::Log log) {
  const std::uint64_t free = free_hugepage_octets();
  const bool enough = free >= options.memory_bytes;
  if (options.hugepages == config::Hugepages::On && !enough)
    return std::unexpected("memory.hugepages is on, but only " + mib(free) +
                           " MiB of hugepages are free and memory.size is " + mib(options.memory_bytes) +
                           " MiB: reserve more (sysctl vm.nr_hugepages) or set it to auto");
  const auto host =
      static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  if (options.memory_bytes > host)
    return std::unexpected("memory.size is " + mib(options.memory_bytes) + " MiB, and this host has " + mib(host) +
                           " MiB");
  std::unique_ptr<Environment> environment(new Environment);
  environment->log_ = std::move(log);
  environment->on_hugepages_ = enough && options.hugepages != config::Hugepages::Off;
  environment->stream_ = fopencookie(environment.get(), "w", {nullptr, write_log, nullptr, nullptr});
  setvbuf(environment->stream_, nullptr, _IOLBF, 0);
  rte_openlog_stream(environment->stream_);

  if (!options.run_folder.empty()) setenv("RUNTIME_DIRECTORY", options.run_folder.c_str(), 1); // DPDK looks there
  auto args = arguments(options, environment->on_hugepages_);
  std::vector<char*> argv;
  for (auto& arg : args) argv.push_back(arg.data());
  if (rte_eal_init(static_cast<int>(argv.size()), argv.data()) < 0)
    return std::unexpected(std::string("DPDK does not start: ") + rte_strerror(rte_errno) + environment->words() +
                           "; it needs memory.size of free memory that it may lock (CAP_IPC_LOCK, or LimitMEMLOCK)");
  if (!options.run_folder.empty())
    environment->telemetry_socket_ = fs::path(rte_eal_get_runtime_dir()) / "dpdk_telemetry.v2";
  return environment;
}

Environment::~Environment() {
  rte_eal_cleanup();
  std::error_code error;
  if (fs::remove(telemetry_socket_, error)) fs::remove(telemetry_socket_.parent_path(), error);
  rte_openlog_stream(nullptr);
  if (stream_ != nullptr) std::fclose(stream_);
}

std::string Environment::words() const {
  std::string all;
  for (const auto& line : said_) all += (all.empty() ? " (" : "; ") + line;
  return all.empty() ? all : all + ")";
}

ssize_t Environment::write_log(void* cookie, const char* text, std::size_t size) {
  auto& self = *static_cast<Environment*>(cookie);
  for (const char c : std::string_view(text, size)) {
    if (c != '\n') {
      self.line_ += c;
      continue;
    }
    if (self.log_) self.log_(self.line_);
    if (self.said_.size() < kWords) self.said_.push_back(std::move(self.line_));
    self.line_.clear();
  }
  return static_cast<ssize_t>(size);
}

} // namespace sipward::dataplane
