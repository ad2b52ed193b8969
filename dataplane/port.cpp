// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/port.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "dataplane/fragments.h"
#include "dataplane/packet_socket.h"
#include "dataplane/sip_filter.h"

namespace sipward::dataplane {
namespace {

constexpr std::uint16_t kRingFrames = 4096;
constexpr std::uint32_t kRingBlock = 1 << 16;
constexpr unsigned kMbufs = 4096;
constexpr unsigned kCache = 256;             // of them, kept at hand by each thread; it may grow to half as many again
constexpr std::uint16_t kDescriptors = 1024; // of a NIC's rings; packet sockets have the rings above
// Full rings both ways and as many fragments as are ever held leave enough to go on receiving.
static_assert(kMbufs > kMostHeld + kMostFragments + 2 * kDescriptors + kCache * 3 / 2 + 2 * kBurst);
constexpr std::uint16_t kTapDescriptors = 16; // a TAP has no ring: these are the pieces that one frame may come in
constexpr auto kAnySocket = static_cast<unsigned>(SOCKET_ID_ANY); // NUMA node: wherever memory is
// In front of each frame's first octet in the kernel's ring (TPACKET_V2: its header, the sender's address, and the
// network header aligned; packet_mmap in the kernel's documentation).
constexpr std::size_t kSlotHeader = sizeof(tpacket2_hdr) + sizeof(sockaddr_ll) + 16 + 12 - ETH_HLEN;
static_assert((kSlotHeader + ETH_HLEN) % TPACKET_ALIGNMENT == 0);
constexpr unsigned kFrameOverhead = 128; // what the kernel puts before each frame in its ring, Ethernet and tags
constexpr int kMostSegments = 64;        // of a frame: RTE_MBUF_DEFAULT_DATAROOM each, they hold the longest
constexpr unsigned kTagged = ETH_HLEN + 4 * kMaxVlanTags;

// The descriptors of this process that a port's driver may have opened: packet sockets, queues of TAPs.
std::set<int> wakeups_here() {
  std::set<int> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const int fd = std::atoi(entry.path().filename().c_str());
    int domain = 0;
    socklen_t size = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0) {
      if (domain == AF_PACKET) found.insert(fd);
    } else if (std::filesystem::read_symlink(entry.path(), error) == "/dev/net/tun") {
      found.insert(fd);
    }
  }
  return found;
}

std::string in_hexadecimal(const rte_ether_addr& mac) {
  std::array<char, RTE_ETHER_ADDR_FMT_SIZE> text{};
  rte_ether_format_addr(text.data(), text.size(), &mac);
  return text.data();
}

// The MTU of what is forwarded: the greatest of the kernel's interfaces among the ports; what has none of its own takes
// it.
std::uint16_t path_mtu(const Options& options) {
  std::uint16_t mtu = 0;
  auto names = options.outside;
  names.push_back(options.inside);
  for (const auto& name : names)
    if (const auto found = look_at(name); found && kind_of(name) == PortKind::Interface)
      mtu = std::max(mtu, found->mtu);
  return mtu == 0 ? RTE_ETHER_MTU : mtu;
}

// Octets of a packet buffer that holds whatever comes in by a port without slots of its own.
std::uint16_t room_for(unsigned mtu) {
  constexpr unsigned kMost = UINT16_MAX - RTE_PKTMBUF_HEADROOM;
  return static_cast<std::uint16_t>(std::clamp<unsigned>(mtu + kTagged, RTE_MBUF_DEFAULT_DATAROOM, kMost));
}

// What the kernel could not hand to a TAP's reader, by its table of devices (proc(5)).
std::uint64_t device_drops(const std::string& interface) {
  std::ifstream table("/proc/thread-self/net/dev");
  for (std::string line; std::getline(table, line);) {
    const auto colon = line.find(':');
    const auto begin = line.find_first_not_of(' ');
    if (colon == line.npos || line.substr(begin, colon - begin) != interface) continue;
    std::istringstream numbers(line.substr(colon + 1));
    std::uint64_t value = 0;
    for (int column = 0; column < 12; ++column)
      numbers >> value; // receive: 8 columns; transmit: bytes packets errs drop
    return value;
  }
  return 0;
}

} // namespace

PortKind kind_of(const std::string& name) {
  if (name.starts_with("vdev:")) return PortKind::Vdev;
  if (name.starts_with("tap:")) return PortKind::Tap;
  return name.find(':') != name.npos ? PortKind::Pci : PortKind::Interface; // the kernel allows no colon in names
}

std::string pci_address(std::string name) {
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::ranges::count(name, ':') == 1 ? "0000:" + name : name;
}

std::expected<std::unique_ptr<Port>, std::string> Port::open(const std::string& key, const std::string& name,
                                                             unsigned index, const Options& options, const Port* model,
                                                             Environment& environment) {
  environment.forget_words();
  std::unique_ptr<Port> port(new Port);
  port->name_ = name;
  port->kind_ = kind_of(name);
  port->forwards_ = !options.inside.empty();
  port->mtu_ = path_mtu(options);
  const auto failed = [&](const std::string& why) { return std::unexpected(key + ": " + why + environment.words()); };

  std::string parameters;
  switch (port->kind_) {
  case PortKind::Vdev: {
    const auto comma = name.find(',');
    port->device_ = name.substr(5, comma == name.npos ? comma : comma - 5);
    parameters = comma == name.npos ? "" : name.substr(comma + 1);
    break;
  }
  case PortKind::Tap: {
    port->device_ = "net_tap" + std::to_string(index);
    parameters = "iface=" + name.substr(4);
    rte_ether_addr mac{};
    if (model != nullptr && rte_eth_macaddr_get(model->id_, &mac) == 0 && rte_is_valid_assigned_ether_addr(&mac))
      parameters += ",mac=" + in_hexadecimal(mac);
    port->room_ = room_for(port->mtu_);
    break;
  }
  case PortKind::Pci:
    port->device_ = pci_address(name);
    port->room_ = room_for(port->mtu_);
    break;
  case PortKind::Interface: {
    const auto described = port->describe_interface(options);
    if (!described) return failed(described.error());
    port->device_ = "net_af_packet" + std::to_string(index);
    parameters = *described;
    break;
  }
  }
  if (const auto ready = port->attach(parameters); !ready) return failed(ready.error());
  if (const auto ready = port->configure(); !ready) return failed(ready.error());
  if (const auto ready = port->filter(options); !ready) return failed(ready.error());
  return port;
}

// The parameters of the driver for a kernel's interface, and what else follows from what it is.
std::expected<std::string, std::string> Port::describe_interface(const Options& options) {
  const auto found = look_at(name_);
  if (!found) return std::unexpected(found.error());
  promiscuous_ = found->promiscuous;
  mtu_ = found->mtu;
  room_ = static_cast<std::uint16_t>(std::min(32768u, std::bit_ceil(std::max(1500u, unsigned{mtu_}) + kFrameOverhead)));
  slot_octets_ = room_ - kSlotHeader;
  if (forwards_) {
    auto offloads = Offloads::switch_off(name_, options.run_folder);
    if (!offloads) return std::unexpected(offloads.error());
    offloads_ = std::move(*offloads);
  } else {
    Offloads::restore(name_, options.run_folder);
  }
  return "iface=" + name_ + ",qpairs=1,blocksz=" + std::to_string(kRingBlock) + ",framesz=" + std::to_string(room_) +
         ",framecnt=" + std::to_string(kRingFrames);
}

std::expected<void, std::string> Port::attach(const std::string& parameters) {
  const auto before = wakeups_here();
  if (kind_ != PortKind::Pci && rte_eal_hotplug_add("vdev", device_.c_str(), parameters.c_str()) != 0)
    return std::unexpected("cannot open " + name_);
  if (rte_eth_dev_get_port_by_name(device_.c_str(), &id_) != 0) {
    id_ = RTE_MAX_ETHPORTS;
    return std::unexpected(
        "cannot open " + name_ +
        (kind_ == PortKind::Pci ? ": no driver of DPDK has this device; bind it to vfio-pci first" : ""));
  }
  // The driver keeps its sockets to itself, but they are this process's: they tell when packets wait and how many were
  // lost, and they take a filter. Without them (another driver) the worker polls.
  if (kind_ != PortKind::Tap) std::ranges::set_difference(wakeups_here(), before, std::back_inserter(descriptors_));
  return {};
}

std::expected<void, std::string> Port::configure() {
  const auto failed = [this](const char* what) { return std::unexpected("cannot " + std::string(what) + " " + name_); };
  pool_.reset(rte_pktmbuf_pool_create(("mbufs" + std::to_string(id_)).c_str(), kMbufs - 1, kCache, 0,
                                      static_cast<std::uint16_t>(room_ + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY));
  if (!pool_)
    return failed(("get " + std::to_string((std::size_t{kMbufs} * (room_ + 512u)) >> 20) +
                   " MiB for packets (memory.size is too small) of")
                      .c_str());
  rte_eth_conf conf{};
  if (kind_ == PortKind::Pci) conf.rxmode.mtu = mtu_;
  std::uint16_t receive = kind_ == PortKind::Tap ? kTapDescriptors : kDescriptors;
  std::uint16_t transmit = kDescriptors;
  if (rte_eth_dev_configure(id_, 1, 1, &conf) != 0 || rte_eth_dev_adjust_nb_rx_tx_desc(id_, &receive, &transmit) != 0)
    return failed("configure");
  const auto before = wakeups_here();
  if (rte_eth_rx_queue_setup(id_, 0, receive, kAnySocket, nullptr, pool_.get()) != 0)
    return failed("set up the receive queue of");
  if (rte_eth_tx_queue_setup(id_, 0, transmit, kAnySocket, nullptr) != 0) return failed("set up the transmit queue of");
  if (kind_ == PortKind::Tap) {
    // Only the queue's: the driver's first descriptor has no queue any more, and would wake us for ever.
    std::ranges::set_difference(wakeups_here(), before, std::back_inserter(descriptors_));
    if (const auto refused = set_mtu(name_.substr(4), mtu_); !refused.empty()) return std::unexpected(refused);
    losses_before_ = device_drops(name_.substr(4));
  }
  // DPDK makes the interface what its own notes say: without this one, starting ends the promiscuous mode.
  const bool promiscuous = promiscuous_ || (forwards_ && kind_ == PortKind::Pci);
  if (promiscuous && rte_eth_promiscuous_enable(id_) != 0) return failed("make or keep promiscuous");
  if (rte_eth_dev_start(id_) != 0) return failed("start");
  if (kind_ == PortKind::Interface || kind_ == PortKind::Pci) longest_ = unsigned{mtu_} + ETH_HLEN;
  return {};
}

// What the packet sockets are to hand over: monitor, SIP; inline, whatever arrives, as it arrives.
std::expected<void, std::string> Port::filter(const Options& options) {
  if (kind_ == PortKind::Tap) return {};
  auto program = sip_filter(options.sip_ports);
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  for (const int fd : descriptors_) {
    if (forwards_ && kind_ == PortKind::Interface) {
      if (auto replaced = replace_socket(fd, name_, {kRingBlock, room_, kRingFrames}); !replaced) return replaced;
    } else if (!forwards_ && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0) {
      return std::unexpected("cannot filter " + name_ + ": " + std::strerror(errno));
    }
  }
  return {};
}

// net_tap itself takes no frame of more than 1,522 octets. A frame is written behind a header, which stays empty (the
// kernel's documentation, networking/tuntap). A full queue does not exist here: the stack takes or drops.
std::uint16_t Port::send_to_tap(std::span<rte_mbuf*> mbufs) noexcept {
  std::uint16_t sent = 0;
  for (rte_mbuf* frame : mbufs) {
    tun_pi header{};
    std::array<iovec, 1 + kMostSegments> parts{{{&header, sizeof header}}};
    int count = 1;
    for (const rte_mbuf* segment = frame; segment != nullptr && count <= kMostSegments; segment = segment->next)
      parts[static_cast<std::size_t>(count++)] = {rte_pktmbuf_mtod(segment, void*), segment->data_len};
    if (writev(descriptors_.front(), parts.data(), count) < 0) break; // the interface is down
    rte_pktmbuf_free(frame);
    ++sent;
  }
  return sent;
}

void Port::clear_errors() const noexcept {
  for (const int fd : descriptors_) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size); // reading it takes it off
  }
}

bool Port::gone() const noexcept {
  return std::ranges::any_of(descriptors_, [this](int fd) {
    if (kind_ == PortKind::Tap) {
      ifreq request{};
      return ioctl(fd, TUNGETIFF, &request) != 0;
    }
    sockaddr_ll bound{};
    socklen_t size = sizeof bound;
    return getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) == 0 && bound.sll_ifindex == -1;
  });
}

bool Port::link() const {
  if (kind_ == PortKind::Interface) {
    const auto found = look_at(name_);
    return found && found->running;
  }
  rte_eth_link link{};
  return kind_ != PortKind::Pci || rte_eth_link_get_nowait(id_, &link) != 0 || link.link_status == RTE_ETH_LINK_UP;
}

void Port::show_link(bool up) const noexcept {
  if (kind_ != PortKind::Tap || descriptors_.empty()) return;
  const int carrier = up;
  ioctl(descriptors_.front(), TUNSETCARRIER, &carrier); // before Linux 5.0 there is no such thing: then it is always up
}

void Port::follow_mtu() {
  if (kind_ != PortKind::Interface) return;
  if (const auto found = look_at(name_))
    longest_.store(std::min(unsigned{found->mtu} + ETH_HLEN, static_cast<unsigned>(slot_octets_)),
                   std::memory_order_relaxed); // nothing else hangs on it
}

Port::~Port() {
  if (id_ == RTE_MAX_ETHPORTS) return;
  rte_eth_dev_stop(id_);
  rte_eth_dev_close(id_);
}

std::uint64_t Port::lost() const {
  if (kind_ == PortKind::Tap || descriptors_.empty()) {
    rte_eth_stats stats{};
    if (rte_eth_stats_get(id_, &stats) != 0) return 0;
    if (kind_ != PortKind::Tap) return stats.imissed;
    return device_drops(name_.substr(4)) - losses_before_ + stats.ierrors; // errors: longer than a packet buffer
  }
  for (const int fd : descriptors_) {
    tpacket_stats statistics{};
    socklen_t size = sizeof statistics;
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &size) == 0) ring_losses_ += statistics.tp_drops;
  }
  return ring_losses_;
}

} // namespace sipward::dataplane
