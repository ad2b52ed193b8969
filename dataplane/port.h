// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/dataplane.h"
#include "dataplane/frame.h"
#include "dataplane/interface.h"
#include "dataplane/shares.h"
#include "dataplane/spread.h"

// DPDK's environment, memory and ports, each released by its destructor (DPDK Programmer's Guide 22.11, chapters 3 and
// 9-12).
namespace sipward::dataplane {

inline constexpr std::uint16_t kBurst = 32;
using Mbufs = std::array<rte_mbuf*, kBurst>;

// The ways to name a port in the settings.
enum class PortKind : std::uint8_t { Interface, Tap, Pci, Vdev };
PortKind kind_of(const std::string& name);
// A PCI address as DPDK writes it: with its domain, in small letters.
std::string pci_address(std::string name);

// rte_eal_init and its opposite. One per process.
class Environment {
public:
  static std::expected<std::unique_ptr<Environment>, std::string> start(const Options& options, Dataplane::Log log);
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment();

  bool on_hugepages() const noexcept { return on_hugepages_; }
  // Where DPDK's telemetry is asked; empty: nowhere.
  const std::filesystem::path& telemetry_socket() const noexcept { return telemetry_socket_; }
  // What DPDK said since forget_words(), in brackets: the reason behind a failure stands first, what follows from it
  // after. Main thread, while nothing runs yet.
  std::string words() const;
  void forget_words() { said_.clear(); }

private:
  Environment() = default;
  static ssize_t write_log(void* cookie, const char* text, std::size_t size);

  Dataplane::Log log_;
  std::FILE* stream_ = nullptr;
  static constexpr std::size_t kWords = 4; // lines; what comes later only repeats the failure
  std::string line_;
  std::vector<std::string> said_;
  bool on_hugepages_ = false;
  std::filesystem::path telemetry_socket_;
};

struct PoolFree {
  void operator()(rte_mempool* pool) const noexcept { rte_mempool_free(pool); }
};
using Pool = std::unique_ptr<rte_mempool, PoolFree>;

// One port. Each of its queues, to receive or to transmit by, is one worker's.
class Port {
public:
  // Takes the device. `key`: of the settings, such as ports.outside; `name`: as it stands there. `index`: its place
  // among the ports, the inside one last. `model`: the port whose MAC a TAP takes, or none.
  static std::expected<std::unique_ptr<Port>, std::string> open(const std::string& key, const std::string& name,
                                                                unsigned index, const Options& options,
                                                                const Port* model, Environment& environment);
  QueueLimits limits() const;
  // Makes it run, with so many queues.
  std::expected<void, std::string> start(std::uint16_t receive, std::uint16_t transmit, const Options& options,
                                         Environment& environment);
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  ~Port();

  // A queue's worker only.
  std::uint16_t receive(std::uint16_t queue, Mbufs& mbufs) noexcept {
    return rte_eth_rx_burst(id_, queue, mbufs.data(), kBurst);
  }
  // How many it took, from the first on; the others stay the caller's.
  std::uint16_t send(std::uint16_t queue, std::span<rte_mbuf*> mbufs) noexcept {
    if (kind_ == PortKind::Tap) return send_to_tap(queue, mbufs);
    return rte_eth_tx_burst(id_, queue, mbufs.data(), static_cast<std::uint16_t>(mbufs.size()));
  }

  // Everything down to clear_errors(): any worker.

  // Did the ring's slot hold only the beginning of this received frame?
  bool is_cut(const rte_mbuf& frame) const noexcept { return frame.data_len == slot_octets_; }
  // How long a received frame was on the wire; at least this long, if it was cut.
  std::size_t wire_length(const rte_mbuf& frame) const noexcept {
    return is_cut(frame) ? kLongestFrame : frame.pkt_len;
  }
  // Is a frame short enough to leave by this port? (One VLAN tag does not count, as in the kernel.)
  bool fits(const rte_mbuf& frame) const noexcept {
    const auto* octets = rte_pktmbuf_mtod(&frame, const std::uint8_t*);
    const bool tagged = is_vlan(static_cast<std::uint16_t>(octets[12] << 8 | octets[13]));
    return frame.pkt_len <= longest_.load(std::memory_order_relaxed) + (tagged ? 4u : 0u);
  }
  // Does the NIC say that a checksum of IP or UDP is wrong? Not every NIC looks. Such a frame is counted, not judged:
  // its sender would be told by octets that nobody sent. Inline it leaves as it came, unless its sender stands blocked;
  // whoever it is for drops it, as without us.
  static bool has_bad_checksum(const rte_mbuf& frame) noexcept {
    return (frame.ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_BAD ||
           (frame.ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_BAD;
  }
  // Can received frames carry half-made checksums (checksum.h)?
  bool half_made_checksums() const noexcept { return kind_ == PortKind::Interface; }

  // A descriptor that is readable when packets wait in a queue; none if the driver has none, and only polling helps.
  std::optional<int> wakeup(std::uint16_t queue) const noexcept {
    if (!interrupts_.empty()) return interrupts_[queue];
    return descriptors_.size() == queues_ ? std::optional(descriptors_[queue]) : std::nullopt;
  }
  // A queue's worker only, around its sleep: an interrupt for each packet would cost more than polling. What came
  // before arm() may cause none: it is to be polled once more.
  void arm(std::uint16_t queue) const noexcept {
    if (!interrupts_.empty()) rte_eth_dev_rx_intr_enable(id_, queue);
  }
  void disarm(std::uint16_t queue) const noexcept;
  // An interface that goes down leaves an error on its socket, and poll() reports it until somebody takes it off.
  void clear_errors() const noexcept;

  // Control thread only, all of these.

  // Packets that did not fit into the receive rings, since the start.
  std::uint64_t lost() const;
  // The interface was deleted. Its socket hears nothing any more, not even of a successor by the same name: it belongs
  // to a fanout group, and the kernel binds no member of one anew (packet(7)).
  bool gone() const noexcept;
  // Is there a link, as far as the port knows?
  bool link() const;
  // Inline: shows a TAP's owner, the host's stack, whether there is a wire behind it; other ports have their own.
  void show_link(bool up) const noexcept;
  // The operator may change an interface's MTU: frames up to the new one may leave.
  void follow_mtu();
  // Monitor: hears these SIP ports from the next packet on. The kernel swaps the filter of a socket between two.
  std::expected<void, std::string> hear(std::span<const std::uint16_t> sip_ports);
  const std::string& name() const noexcept { return name_; }
  // DPDK's number of it.
  std::uint16_t id() const noexcept { return id_; }
  // The NUMA node that it is at.
  int node() const noexcept { return node_; }

private:
  Port() = default;
  static constexpr std::size_t kLongestFrame = 65535 + 14 + 8; // an IP datagram behind Ethernet and two VLAN tags
  std::expected<void, std::string> describe_interface(const Options& options);
  std::expected<void, std::string> attach();
  std::expected<void, std::string> configure(std::uint16_t receive, std::uint16_t transmit);
  std::expected<void, std::string> run(const rte_eth_conf& conf, std::uint16_t receive, std::uint16_t transmit);
  void find_interrupts();
  std::expected<void, std::string> set_up_queues(std::uint16_t receive, std::uint16_t transmit);
  std::expected<void, std::string> filter(const Options& options);
  rte_ether_addr mac() const noexcept;
  std::uint16_t send_to_tap(std::uint16_t queue, std::span<rte_mbuf*> mbufs) noexcept;

  PortKind kind_ = PortKind::Vdev;
  std::string key_;        // of the settings
  std::string name_;       // as there
  std::string device_;     // DPDK's name of it
  std::string parameters_; // for the driver
  Spread spread_ = Spread::ByBoth;
  int node_ = SOCKET_ID_ANY;
  std::uint16_t queues_ = 0; // to receive by
  std::uint16_t id_ = RTE_MAX_ETHPORTS;
  std::uint16_t mtu_ = RTE_ETHER_MTU;
  std::uint16_t room_ = RTE_MBUF_DEFAULT_DATAROOM; // octets of a frame that a packet buffer holds
  std::vector<int> descriptors_; // the driver's own, packet sockets or a TAP's queues, in their order; it closes them
  std::vector<int> interrupts_;  // of a NIC's receive queues, if its driver has them; it closes them
  std::size_t slot_octets_ = SIZE_MAX; // a frame of this size was cut: the kernel's ring has no more room for one
  std::atomic<std::uint32_t> longest_ = kLongestFrame; // that may leave, without a VLAN tag; control thread writes
  bool promiscuous_ = false; // somebody set the interface so (it listens to a mirror): it stays so
  bool forwards_ = false;    // inline
  bool wants_interrupts_ = false;
  Pool pool_;
  rte_ether_addr mac_{};                  // of a kernel's interface
  std::unique_ptr<Offloads> offloads_;    // inline, of a kernel's interface
  mutable std::uint64_t ring_losses_ = 0; // the kernel's counter starts again at each look
  std::uint64_t losses_before_ = 0;       // a TAP's, before we came
};

} // namespace sipward::dataplane
