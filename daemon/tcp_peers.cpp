// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/tcp_peers.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

namespace sipward::daemon {
namespace {

struct CloseSocket {
  void operator()(mnl_socket* socket) const noexcept { mnl_socket_close(socket); }
};
using Socket = std::unique_ptr<mnl_socket, CloseSocket>;

struct Search {
  std::span<const std::uint16_t> ports;
  std::vector<TcpPeer> found;
};

int take(const nlmsghdr* message, void* data) {
  auto& search = *static_cast<Search*>(data);
  const auto* diag = static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(message));
  if (std::ranges::find(search.ports, ntohs(diag->id.idiag_sport)) == search.ports.end()) return MNL_CB_OK;
  std::array<std::uint8_t, 16> octets{};
  std::memcpy(octets.data(), diag->id.idiag_dst, octets.size());
  // An IPv4 peer of an IPv6 socket is ::ffff:a.b.c.d, which from_wire() takes for what it is.
  const std::size_t size = diag->idiag_family == AF_INET ? 4 : 16;
  search.found.push_back({policy::Address::from_wire(std::span(octets).first(size)), ntohs(diag->id.idiag_dport)});
  return MNL_CB_OK;
}

bool dump(mnl_socket* socket, std::uint8_t family, Search& search) {
  std::array<char, 1 << 15> buffer{};
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request->nlmsg_seq = family;
  auto* wanted = static_cast<inet_diag_req_v2*>(mnl_nlmsg_put_extra_header(request, sizeof(inet_diag_req_v2)));
  wanted->sdiag_family = family;
  wanted->sdiag_protocol = IPPROTO_TCP;
  wanted->idiag_states = 1u << TCP_ESTABLISHED;
  if (mnl_socket_sendto(socket, request, request->nlmsg_len) < 0) return false;
  for (;;) {
    const auto size = mnl_socket_recvfrom(socket, buffer.data(), buffer.size());
    if (size < 0) return false;
    const int result =
        mnl_cb_run(buffer.data(), static_cast<std::size_t>(size), family, mnl_socket_get_portid(socket), take, &search);
    if (result <= MNL_CB_STOP) return result == MNL_CB_STOP;
  }
}

} // namespace

std::expected<std::vector<TcpPeer>, std::string> connected_to(std::span<const std::uint16_t> ports) {
  Search search{ports, {}};
  const Socket socket(mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC));
  if (socket && mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) == 0 && dump(socket.get(), AF_INET, search) &&
      dump(socket.get(), AF_INET6, search))
    return std::move(search.found);
  return std::unexpected(std::string("cannot read the kernel's TCP connections: ") + std::strerror(errno));
}

void TcpPeers::note(std::vector<TcpPeer> connected, policy::Time now) {
  const auto begun = looked_ ? now : now - kLasting;
  looked_ = true;
  std::map<TcpPeer, policy::Time> since;
  lasting_.clear();
  for (const auto& peer : connected) {
    const auto known = since_.find(peer);
    const auto at = since.emplace(peer, known != since_.end() ? known->second : begun);
    if (at.second && now - at.first->second >= kLasting) ++lasting_[peer.address];
  }
  since_ = std::move(since);
}

std::uint32_t TcpPeers::lasting(const policy::Address& address) const {
  const auto found = lasting_.find(address);
  return found != lasting_.end() ? found->second : 0;
}

} // namespace sipward::daemon
