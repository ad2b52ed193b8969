// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/port.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

// A port that runs. How it came to that is in port_open.cpp.
namespace sipward::dataplane {
namespace {

constexpr int kMostSegments = 64; // of a frame: RTE_MBUF_DEFAULT_DATAROOM each, they hold the longest

} // namespace

// net_tap itself takes no frame of more than 1,522 octets. A frame is written behind a header, which stays empty (the
// kernel's documentation, networking/tuntap). A full queue does not exist here: the stack takes or drops.
std::uint16_t Port::send_to_tap(std::uint16_t queue, std::span<rte_mbuf*> mbufs) noexcept {
  std::uint16_t sent = 0;
  for (rte_mbuf* frame : mbufs) {
    tun_pi header{};
    std::array<iovec, 1 + kMostSegments> parts{{{&header, sizeof header}}};
    int count = 1;
    for (const rte_mbuf* segment = frame; segment != nullptr && count <= kMostSegments; segment = segment->next)
      parts[static_cast<std::size_t>(count++)] = {rte_pktmbuf_mtod(segment, void*), segment->data_len};
    if (writev(descriptors_[queue], parts.data(), count) < 0) break; // the interface is down
    rte_pktmbuf_free(frame);
    ++sent;
  }
  return sent;
}

void Port::disarm(std::uint16_t queue) const noexcept {
  if (interrupts_.empty()) return;
  rte_eth_dev_rx_intr_disable(id_, queue);
  pollfd ready{interrupts_[queue], POLLIN, 0};
  std::uint64_t count = 0; // an eventfd: reading it takes the interrupt off
  if (poll(&ready, 1, 0) == 1) [[maybe_unused]]
    const auto got = read(ready.fd, &count, sizeof count);
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
    return undelivered(name_.substr(4)) - losses_before_ + stats.ierrors; // errors: longer than a packet buffer
  }
  for (const int fd : descriptors_) {
    tpacket_stats statistics{};
    socklen_t size = sizeof statistics;
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &size) == 0) ring_losses_ += statistics.tp_drops;
  }
  return ring_losses_;
}

} // namespace sipward::dataplane
