// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataplane/dataplane.h"

// DPDK's environment, memory and ports, each released by its destructor (DPDK Programmer's Guide 22.11, chapters 3 and
// 9-12).
namespace sipward::dataplane {

inline constexpr std::uint16_t kBurst = 32;
using Mbufs = std::array<rte_mbuf*, kBurst>;

// rte_eal_init and its opposite. One per process.
class Environment {
public:
  static std::expected<std::unique_ptr<Environment>, std::string> start(const Options& options, Dataplane::Log log);
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment();

  bool on_hugepages() const noexcept { return on_hugepages_; }
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
};

struct PoolFree {
  void operator()(rte_mempool* pool) const noexcept { rte_mempool_free(pool); }
};
using Pool = std::unique_ptr<rte_mempool, PoolFree>;

// One port with one receive queue.
class Port {
public:
  // `name`: as in the settings. `index` makes the device's name unique.
  static std::expected<std::unique_ptr<Port>, std::string> open(const std::string& name, unsigned index,
                                                                const Options& options, Environment& environment);
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  ~Port();

  // Worker thread only.
  std::uint16_t receive(Mbufs& mbufs) noexcept { return rte_eth_rx_burst(id_, 0, mbufs.data(), kBurst); }

  // How long a received frame was on the wire; at least this long, if the ring's slot held only its beginning.
  std::size_t wire_length(const rte_mbuf& frame) const noexcept {
    return frame.data_len == slot_octets_ ? kLongestFrame : frame.pkt_len;
  }

  // Descriptors that are readable when packets wait; empty if the driver has none, and only polling helps.
  std::span<const int> wakeups() const noexcept { return sockets_; }
  // An interface that goes down leaves an error on its socket, and poll() reports it until somebody takes it off.
  void clear_errors() const noexcept;

  // Control thread only. Packets that did not fit into the receive ring, since the start.
  std::uint64_t lost() const;
  // Control thread only. The interface was deleted. Its socket hears nothing any more, not even of a successor by the
  // same name: it belongs to a fanout group, and the kernel binds no member of one anew (packet(7)).
  bool gone() const noexcept;
  const std::string& name() const noexcept { return name_; }

private:
  Port() = default;
  static constexpr std::size_t kLongestFrame = 65535 + 14 + 8; // an IP datagram behind Ethernet and two VLAN tags
  std::expected<void, std::string> configure(std::uint16_t frame_octets);

  std::string name_;
  std::string device_; // DPDK's name of it
  std::uint16_t id_ = RTE_MAX_ETHPORTS;
  std::vector<int> sockets_;           // the driver's own packet sockets; it closes them
  std::size_t slot_octets_ = SIZE_MAX; // a frame of this size was cut: the kernel's ring has no more room for one
  bool promiscuous_ = false;           // somebody set the interface so (it listens to a mirror): it stays so
  Pool pool_;
  mutable std::uint64_t ring_losses_ = 0; // the kernel's counter starts again at each look
};

} // namespace sipward::dataplane
