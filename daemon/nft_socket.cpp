// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft_socket.h"

#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace sipward::daemon::nft {
namespace {

constexpr std::size_t kQueueOctets = std::size_t{1} << 20;
constexpr std::size_t kReplyOctets = std::size_t{256} << 10; // a dump's part is at most 32 KiB in the kernels we know

} // namespace

int RequestSocket::connect() {
  NetlinkSocket opened(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!opened) return errno;
  socket_ = std::move(opened); // closes the one before: its port is free
  if (mnl_socket_bind(socket_.get(), 0, static_cast<pid_t>(port_)) < 0 &&
      mnl_socket_bind(socket_.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return errno;
  port_ = mnl_socket_get_portid(socket_.get());
  astray_ = false;
  reply_.resize(kReplyOctets);
  // A refusal then carries the refused message's header only, not all of its elements.
  int on = 1;
  mnl_socket_setsockopt(socket_.get(), NETLINK_CAP_ACK, &on, sizeof on);
  return 0;
}

// Lets the socket queue so many octets. The privileged way passes over net.core.{w,r}mem_max; the other goes as far as
// it can.
void RequestSocket::room(int privileged, int ordinary, std::size_t octets) {
  const int fd = mnl_socket_get_fd(socket_.get());
  const int value = static_cast<int>(octets);
  if (setsockopt(fd, SOL_SOCKET, privileged, &value, sizeof value) != 0)
    setsockopt(fd, SOL_SOCKET, ordinary, &value, sizeof value);
}

int RequestSocket::send(const void* message, std::size_t octets, std::size_t answer_octets) {
  for (int attempt = 1;; ++attempt) {
    if (astray_)
      if (const int code = connect(); code != 0) return code;
    if (answer_octets > 0) {
      room(SO_SNDBUFFORCE, SO_SNDBUF, std::max(kQueueOctets, octets + 4096));
      room(SO_RCVBUFFORCE, SO_RCVBUF, std::max(kQueueOctets, answer_octets));
    }
    if (mnl_socket_sendto(socket_.get(), message, octets) >= 0) return 0;
    const int code = errno;
    astray_ |= is_broken(code);
    if (attempt == kTries || (!astray_ && !may_pass(code))) return code;
  }
}

int RequestSocket::receive(const Each& each) {
  int lost = 0;
  for (int errors = 0; errors < kErrorsInARow;) {
    const auto octets = mnl_socket_recvfrom(socket_.get(), reply_.data(), reply_.size());
    if (octets < 0 && errno == EAGAIN) return lost;
    if (octets <= 0) {
      const int code = octets == 0 ? ECONNRESET : errno;
      if (code != EINTR) lost = code;
      if (!may_pass(code)) break;
      ++errors;
      continue;
    }
    errors = 0;
    int left = static_cast<int>(octets);
    const auto* message = reinterpret_cast<const nlmsghdr*>(reply_.data());
    for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) each(*message);
    if (left > 0) lost = ENOSPC; // its end is missing
  }
  astray_ = true;
  return lost != 0 ? lost : EPROTO; // nothing but signals
}

} // namespace sipward::daemon::nft
