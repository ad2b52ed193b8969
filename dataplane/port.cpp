// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/port.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "dataplane/sip_filter.h"

namespace sipward::dataplane {
namespace {

constexpr std::uint16_t kRingFrames = 4096;
constexpr std::uint32_t kRingBlock = 1 << 16;
constexpr unsigned kMbufs = 4096;
constexpr auto kAnySocket = static_cast<unsigned>(SOCKET_ID_ANY); // NUMA node: wherever memory is
// In front of each frame's first octet in the kernel's ring (TPACKET_V2: its header, the sender's address, and the
// network header aligned; packet_mmap in the kernel's documentation).
constexpr std::size_t kSlotHeader = sizeof(tpacket2_hdr) + sizeof(sockaddr_ll) + 16 + 12 - ETH_HLEN;
static_assert((kSlotHeader + ETH_HLEN) % TPACKET_ALIGNMENT == 0);
constexpr std::uint16_t kFrameOverhead = 128; // what the kernel puts before each frame in its ring, Ethernet and tags

struct Descriptor {
  explicit Descriptor(int opened) : fd(opened) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
  int fd;
};

std::string interfaces_here() {
  std::string list;
  if (auto* all = if_nameindex()) {
    for (auto* i = all; i->if_name != nullptr; ++i) list += (list.empty() ? "" : ", ") + std::string(i->if_name);
    if_freenameindex(all);
  }
  return list;
}

// Is there such an interface, and may we listen on it? DPDK's own words on this are hard to read.
struct Link {
  std::uint16_t mtu;
  bool promiscuous;
};
std::expected<Link, std::string> look_at(const std::string& interface) {
  if (interface.find(':') != interface.npos && if_nametoindex(interface.c_str()) == 0)
    return std::unexpected("ports.outside: " + interface +
                           ": PCI addresses and tap: are not in force in this version; name an interface");
  if (interface.size() >= IFNAMSIZ || if_nametoindex(interface.c_str()) == 0)
    return std::unexpected("ports.outside: there is no interface " + interface +
                           " here (there are: " + interfaces_here() + ")");
  const Descriptor socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (socket.fd < 0)
    return std::unexpected(
        "cannot listen on " + interface + ": " + std::strerror(errno) +
        (errno == EPERM ? "; sipward needs the capability CAP_NET_RAW (run it as root, or as its systemd unit does)"
                        : ""));
  ifreq request{};
  std::copy(interface.begin(), interface.end(), request.ifr_name);
  const auto ask = [&](unsigned long what) { return ioctl(socket.fd, what, &request) == 0; };
  if (!ask(SIOCGIFHWADDR)) return std::unexpected(interface + ": " + std::strerror(errno));
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER && request.ifr_hwaddr.sa_family != ARPHRD_LOOPBACK)
    return std::unexpected("ports.outside: " + interface +
                           " carries no Ethernet frames (a tunnel or PPP?): name the interface below it");
  if (!ask(SIOCGIFFLAGS)) return std::unexpected(interface + ": " + std::strerror(errno));
  const bool promiscuous = (request.ifr_flags & IFF_PROMISC) != 0;
  if (!ask(SIOCGIFMTU)) return std::unexpected(interface + ": " + std::strerror(errno));
  return Link{static_cast<std::uint16_t>(std::clamp(request.ifr_mtu, 1500, 65000)), promiscuous};
}

// The packet sockets that this process holds.
std::set<int> packet_sockets() {
  std::set<int> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const int fd = std::atoi(entry.path().filename().c_str());
    int domain = 0;
    socklen_t size = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_PACKET) found.insert(fd);
  }
  return found;
}

} // namespace

std::expected<std::unique_ptr<Port>, std::string> Port::open(const std::string& name, unsigned index,
                                                             const Options& options, Environment& environment) {
  std::unique_ptr<Port> port(new Port);
  port->name_ = name;
  std::string parameters;
  std::uint16_t frame_octets = RTE_MBUF_DEFAULT_DATAROOM;
  if (name.starts_with("vdev:")) {
    const auto comma = name.find(',');
    port->device_ = name.substr(5, comma == name.npos ? comma : comma - 5);
    parameters = comma == name.npos ? "" : name.substr(comma + 1);
  } else {
    const auto link = look_at(name);
    if (!link) return std::unexpected(link.error());
    frame_octets = static_cast<std::uint16_t>(std::min(32768u, std::bit_ceil(unsigned{link->mtu} + kFrameOverhead)));
    port->slot_octets_ = frame_octets - kSlotHeader;
    port->promiscuous_ = link->promiscuous;
    port->device_ = "net_af_packet" + std::to_string(index);
    parameters = "iface=" + name + ",qpairs=1,blocksz=" + std::to_string(kRingBlock) +
                 ",framesz=" + std::to_string(frame_octets) + ",framecnt=" + std::to_string(kRingFrames);
  }

  environment.forget_words();
  const auto before = packet_sockets();
  if (rte_eal_hotplug_add("vdev", port->device_.c_str(), parameters.c_str()) != 0 ||
      rte_eth_dev_get_port_by_name(port->device_.c_str(), &port->id_) != 0)
    return std::unexpected("cannot open " + name + environment.words());
  // The driver keeps its sockets to itself, but they are this process's: they tell when packets wait and how many were
  // lost, and they take a filter. Without them (another driver) the worker polls.
  std::ranges::set_difference(packet_sockets(), before, std::back_inserter(port->sockets_));
  if (const auto ready = port->configure(frame_octets); !ready)
    return std::unexpected(ready.error() + environment.words());

  auto program = sip_filter(options.sip_ports);
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  for (const int fd : port->sockets_)
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0)
      return std::unexpected("cannot filter " + name + ": " + std::strerror(errno));
  return port;
}

std::expected<void, std::string> Port::configure(std::uint16_t frame_octets) {
  const auto failed = [this](const char* what) { return std::unexpected("cannot " + std::string(what) + " " + name_); };
  pool_.reset(rte_pktmbuf_pool_create(("mbufs" + std::to_string(id_)).c_str(), kMbufs - 1, 256, 0,
                                      static_cast<std::uint16_t>(frame_octets + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY));
  if (!pool_)
    return failed(("get " + std::to_string((std::size_t{kMbufs} * (frame_octets + 512u)) >> 20) +
                   " MiB for packets (memory.size is too small) of")
                      .c_str());
  const rte_eth_conf conf{};
  if (rte_eth_dev_configure(id_, 1, 1, &conf) != 0) return failed("configure");
  if (rte_eth_rx_queue_setup(id_, 0, 1024, kAnySocket, nullptr, pool_.get()) != 0)
    return failed("set up the receive queue of");
  if (rte_eth_tx_queue_setup(id_, 0, 1024, kAnySocket, nullptr) != 0) return failed("set up the transmit queue of");
  // DPDK makes the interface what its own notes say: without this one, starting ends the promiscuous mode.
  if (promiscuous_ && rte_eth_promiscuous_enable(id_) != 0) return failed("keep promiscuous");
  if (rte_eth_dev_start(id_) != 0) return failed("start");
  return {};
}

void Port::clear_errors() const noexcept {
  for (const int fd : sockets_) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size); // reading it takes it off
  }
}

bool Port::gone() const noexcept {
  return std::ranges::any_of(sockets_, [](int fd) {
    sockaddr_ll bound{};
    socklen_t size = sizeof bound;
    return getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) == 0 && bound.sll_ifindex == -1;
  });
}

Port::~Port() {
  if (id_ == RTE_MAX_ETHPORTS) return;
  rte_eth_dev_stop(id_);
  rte_eth_dev_close(id_);
}

std::uint64_t Port::lost() const {
  if (sockets_.empty()) {
    rte_eth_stats stats{};
    return rte_eth_stats_get(id_, &stats) == 0 ? stats.imissed : 0;
  }
  for (const int fd : sockets_) {
    tpacket_stats statistics{};
    socklen_t size = sizeof statistics;
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &size) == 0) ring_losses_ += statistics.tp_drops;
  }
  return ring_losses_;
}

} // namespace sipward::dataplane
