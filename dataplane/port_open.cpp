// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/port.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "dataplane/fragments.h"
#include "dataplane/packet_socket.h"
#include "dataplane/sip_filter.h"

// How a port is opened: the device is taken, then given its queues, then what it hears is narrowed down.
namespace sipward::dataplane {
namespace {

constexpr std::uint16_t kRingFrames = 4096;
constexpr std::uint32_t kRingBlock = 1 << 16;
constexpr unsigned kMbufs = 4096;            // for each receive queue
constexpr unsigned kCache = 256;             // of them, kept at hand by each thread; it may grow to half as many again
constexpr std::uint16_t kDescriptors = 1024; // of a NIC's rings; packet sockets have the rings above
// Full rings both ways and as many fragments as are ever held leave enough to go on receiving.
static_assert(kMbufs > kMostHeld + kMostFragments + 2 * kDescriptors + kCache * 3 / 2 + 2 * kBurst);
constexpr std::uint16_t kTapDescriptors = 16; // a TAP has no ring: these are the pieces that one frame may come in
// In front of each frame's first octet in the kernel's ring (TPACKET_V2: its header, the sender's address, and the
// network header aligned; packet_mmap in the kernel's documentation).
constexpr std::size_t kSlotHeader = sizeof(tpacket2_hdr) + sizeof(sockaddr_ll) + 16 + 12 - ETH_HLEN;
static_assert((kSlotHeader + ETH_HLEN) % TPACKET_ALIGNMENT == 0);
constexpr unsigned kFrameOverhead = 128;   // what the kernel puts before each frame in its ring, Ethernet and tags
constexpr std::uint16_t kMostSockets = 16; // of an interface: the driver's own limit (RTE_PMD_AF_PACKET_MAX_RINGS)
constexpr unsigned kTagged = ETH_HLEN + 4 * kMaxVlanTags;

// The descriptors of this process that a port's driver may have opened: packet sockets; of a TAP, its queues.
std::set<int> descriptors_here(PortKind kind) {
  std::set<int> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const int fd = std::atoi(entry.path().filename().c_str());
    int domain = 0;
    socklen_t size = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0) {
      if (domain == AF_PACKET && kind != PortKind::Tap) found.insert(fd);
    } else if (kind == PortKind::Tap && std::filesystem::read_symlink(entry.path(), error) == "/dev/net/tun") {
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
  port->key_ = key;
  port->name_ = name;
  port->kind_ = kind_of(name);
  port->forwards_ = !options.inside.empty();
  if (port->forwards_) port->spread_ = index < options.outside.size() ? Spread::BySource : Spread::ByDestination;
  port->mtu_ = path_mtu(options);
  const auto failed = [&](const std::string& why) { return std::unexpected(key + ": " + why + environment.words()); };

  switch (port->kind_) {
  case PortKind::Vdev: {
    const auto comma = name.find(',');
    port->device_ = name.substr(5, comma == name.npos ? comma : comma - 5);
    port->parameters_ = comma == name.npos ? "" : name.substr(comma + 1);
    break;
  }
  case PortKind::Tap: {
    port->device_ = "net_tap" + std::to_string(index);
    port->parameters_ = "iface=" + name.substr(4);
    if (const rte_ether_addr mac = model == nullptr ? rte_ether_addr{} : model->mac();
        rte_is_valid_assigned_ether_addr(&mac))
      port->parameters_ += ",mac=" + in_hexadecimal(mac);
    port->room_ = room_for(port->mtu_);
    break;
  }
  case PortKind::Pci:
    port->device_ = pci_address(name);
    port->room_ = room_for(port->mtu_);
    break;
  case PortKind::Interface: {
    port->device_ = "net_af_packet" + std::to_string(index);
    if (const auto ready = port->describe_interface(options); !ready) return failed(ready.error());
    return port; // its sockets begin to hear when they are opened, so there must be as many as are read: start()
  }
  }
  if (const auto ready = port->attach(); !ready) return failed(ready.error());
  return port;
}

std::expected<void, std::string> Port::start(std::uint16_t receive, std::uint16_t transmit, const Options& options,
                                             Environment& environment) {
  environment.forget_words();
  wants_interrupts_ = options.idle == config::Idle::Adaptive && (kind_ == PortKind::Pci || kind_ == PortKind::Vdev);
  const auto ready = [&]() -> std::expected<void, std::string> {
    if (kind_ == PortKind::Interface) {
      parameters_ += ",qpairs=" + std::to_string(std::max(receive, transmit));
      if (auto attached = attach(); !attached) return attached;
    }
    if (auto configured = configure(receive, transmit); !configured) return configured;
    return filter(options);
  }();
  if (!ready) return std::unexpected(key_ + ": " + ready.error() + environment.words());
  return {};
}

QueueLimits Port::limits() const {
  if (kind_ == PortKind::Interface) return {kMostSockets, kMostSockets};
  rte_eth_dev_info info{};
  if (rte_eth_dev_info_get(id_, &info) != 0) return {};
  return {std::max<unsigned>(info.max_rx_queues, 1), std::max<unsigned>(info.max_tx_queues, 1)};
}

rte_ether_addr Port::mac() const noexcept {
  rte_ether_addr mac = mac_;
  if (id_ != RTE_MAX_ETHPORTS) rte_eth_macaddr_get(id_, &mac);
  return mac;
}

// The parameters of the driver for a kernel's interface, and what else follows from what it is.
std::expected<void, std::string> Port::describe_interface(const Options& options) {
  const auto found = look_at(name_);
  if (!found) return std::unexpected(found.error());
  promiscuous_ = found->promiscuous;
  mtu_ = found->mtu;
  node_ = node_of(name_);
  std::ranges::copy(found->mac, mac_.addr_bytes);
  room_ = static_cast<std::uint16_t>(std::min(32768u, std::bit_ceil(std::max(1500u, unsigned{mtu_}) + kFrameOverhead)));
  slot_octets_ = room_ - kSlotHeader;
  if (forwards_) {
    auto offloads = Offloads::switch_off(name_, options.run_folder);
    if (!offloads) return std::unexpected(offloads.error());
    offloads_ = std::move(*offloads);
  } else {
    Offloads::restore(name_, options.run_folder);
  }
  parameters_ = "iface=" + name_ + ",blocksz=" + std::to_string(kRingBlock) + ",framesz=" + std::to_string(room_) +
                ",framecnt=" + std::to_string(kRingFrames);
  return {};
}

std::expected<void, std::string> Port::attach() {
  const auto before = descriptors_here(kind_);
  if (kind_ != PortKind::Pci && rte_eal_hotplug_add("vdev", device_.c_str(), parameters_.c_str()) != 0)
    return std::unexpected("cannot open " + name_);
  if (rte_eth_dev_get_port_by_name(device_.c_str(), &id_) != 0) {
    id_ = RTE_MAX_ETHPORTS;
    return std::unexpected(
        "cannot open " + name_ +
        (kind_ == PortKind::Pci ? ": no driver of DPDK has this device; bind it to vfio-pci first" : ""));
  }
  if (kind_ == PortKind::Pci) node_ = rte_eth_dev_socket_id(id_);
  // The driver keeps its sockets to itself, but they are this process's: they tell when packets wait and how many were
  // lost, and they take a filter. It opened them one after the other, so they are in the order of its queues. Without
  // them (another driver) the worker polls.
  if (kind_ != PortKind::Tap)
    std::ranges::set_difference(descriptors_here(kind_), before, std::back_inserter(descriptors_));
  return {};
}

std::expected<void, std::string> Port::configure(std::uint16_t receive, std::uint16_t transmit) {
  const auto failed = [this](const char* what) { return std::unexpected("cannot " + std::string(what) + " " + name_); };
  queues_ = receive;
  const unsigned mbufs = kMbufs * receive;
  for (const int node : {node_, SOCKET_ID_ANY}) // where the device is, if there is memory
    if (!pool_)
      pool_.reset(rte_pktmbuf_pool_create(("mbufs" + std::to_string(id_)).c_str(), mbufs - 1, kCache, 0,
                                          static_cast<std::uint16_t>(room_ + RTE_PKTMBUF_HEADROOM), node));
  if (!pool_)
    return failed(("get " + std::to_string((std::size_t{mbufs} * (room_ + 512u)) >> 20) +
                   " MiB for packets (memory.size is too small) of")
                      .c_str());
  rte_eth_dev_info info{};
  if (rte_eth_dev_info_get(id_, &info) != 0) return failed("ask about");
  rte_eth_conf conf{};
  if (kind_ == PortKind::Pci) conf.rxmode.mtu = mtu_;
  if (kind_ != PortKind::Tap) // what this host's own stack sends needs no looking at, and net_tap looks by itself
    conf.rxmode.offloads = info.rx_offload_capa & (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM);
  if (const auto fields = rss_fields(spread_, info.flow_type_rss_offloads); receive > 1 && fields != 0) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf = fields;
  }
  conf.intr_conf.rxq = wants_interrupts_;
  auto running = run(conf, receive, transmit);
  if (!running && wants_interrupts_) { // perhaps the device has none to give
    wants_interrupts_ = false;
    conf.intr_conf.rxq = 0;
    running = run(conf, receive, transmit);
  }
  if (running) find_interrupts();
  return running;
}

std::expected<void, std::string> Port::run(const rte_eth_conf& conf, std::uint16_t receive, std::uint16_t transmit) {
  const auto failed = [this](const char* what) { return std::unexpected("cannot " + std::string(what) + " " + name_); };
  if (rte_eth_dev_configure(id_, receive, transmit, &conf) != 0) return failed("configure");
  if (auto ready = set_up_queues(receive, transmit); !ready) return ready;
  if (kind_ == PortKind::Tap) {
    if (const auto refused = set_mtu(name_.substr(4), mtu_); !refused.empty()) return std::unexpected(refused);
    losses_before_ = undelivered(name_.substr(4));
  }
  // DPDK makes the interface what its own notes say: without this one, starting ends the promiscuous mode.
  const bool promiscuous = promiscuous_ || (forwards_ && kind_ == PortKind::Pci);
  if (promiscuous && rte_eth_promiscuous_enable(id_) != 0) return failed("make or keep promiscuous");
  if (rte_eth_dev_start(id_) != 0) return failed("start");
  if (kind_ == PortKind::Interface || kind_ == PortKind::Pci) longest_ = unsigned{mtu_} + ETH_HLEN;
  return {};
}

std::expected<void, std::string> Port::set_up_queues(std::uint16_t receive, std::uint16_t transmit) {
  const auto failed = [this](const char* what) { return std::unexpected("cannot " + std::string(what) + " " + name_); };
  std::uint16_t to_receive = kind_ == PortKind::Tap ? kTapDescriptors : kDescriptors;
  std::uint16_t to_transmit = kDescriptors;
  if (rte_eth_dev_adjust_nb_rx_tx_desc(id_, &to_receive, &to_transmit) != 0) return failed("configure");
  const auto node = static_cast<unsigned>(node_);
  for (std::uint16_t queue = 0; queue < receive; ++queue) {
    const auto before = descriptors_here(kind_);
    if (rte_eth_rx_queue_setup(id_, queue, to_receive, node, nullptr, pool_.get()) != 0)
      return failed("set up the receive queues of");
    // A TAP's only now: the driver's first descriptor has no queue any more, and would wake us for ever.
    if (kind_ == PortKind::Tap)
      std::ranges::set_difference(descriptors_here(kind_), before, std::back_inserter(descriptors_));
  }
  for (std::uint16_t queue = 0; queue < transmit; ++queue)
    if (rte_eth_tx_queue_setup(id_, queue, to_transmit, node, nullptr) != 0)
      return failed("set up the transmit queues of");
  return {};
}

void Port::find_interrupts() {
  if (!wants_interrupts_) return;
  for (std::uint16_t queue = 0; queue < queues_; ++queue) {
    const int fd = rte_eth_dev_rx_intr_enable(id_, queue) == 0 ? rte_eth_dev_rx_intr_ctl_q_get_fd(id_, queue) : -1;
    if (fd < 0) return interrupts_.clear();
    rte_eth_dev_rx_intr_disable(id_, queue);
    interrupts_.push_back(fd);
  }
}

// What the packet sockets are to hand over: monitor, SIP; inline, whatever arrives, as it arrives.
std::expected<void, std::string> Port::filter(const Options& options) {
  if (kind_ == PortKind::Tap) return {};
  auto program = sip_filter(options.sip_ports);
  if (kind_ == PortKind::Interface && (forwards_ || queues_ > 1)) {
    std::uint64_t secret = 0;
    if (getrandom(&secret, sizeof secret, 0) != sizeof secret)
      return std::unexpected("the kernel has no random numbers");
    return replace_sockets(descriptors_, {.interface = name_,
                                          .rings = {kRingBlock, room_, kRingFrames},
                                          .forwards = forwards_,
                                          .filter = std::move(program),
                                          .fanout = fanout_program(spread_, secret)});
  }
  return hear(options.sip_ports);
}

std::expected<void, std::string> Port::hear(std::span<const std::uint16_t> sip_ports) {
  if (kind_ == PortKind::Tap || forwards_) return {};
  auto program = sip_filter(sip_ports);
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  for (const int fd : descriptors_)
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0)
      return std::unexpected("cannot filter " + name_ + ": " + std::strerror(errno));
  return {};
}

} // namespace sipward::dataplane
