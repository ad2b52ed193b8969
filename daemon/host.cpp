// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/host.h"

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>

namespace sipward::daemon {
namespace {

using policy::Address;
using policy::Prefix;

constexpr char kResolvConf[] = "/etc/resolv.conf";
constexpr int kDumpTries = 5; // a dump that the kernel interrupts, because something changed meanwhile, starts again

struct CloseSocket {
  void operator()(mnl_socket* socket) const noexcept { mnl_socket_close(socket); }
};
using Socket = std::unique_ptr<mnl_socket, CloseSocket>;

Socket bound_socket(unsigned groups, int flags) {
  Socket socket(mnl_socket_open2(NETLINK_ROUTE, flags));
  if (socket && mnl_socket_bind(socket.get(), groups, MNL_SOCKET_AUTOPID) != 0) socket.reset();
  return socket;
}

Address address_of(const nlattr* attribute) {
  return Address::from_wire(
      {static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute)), mnl_attr_get_payload_len(attribute)});
}

// Sends one dump request and hands each answer to `take`.
using Take = std::function<void(const nlmsghdr*)>;
bool dump(mnl_socket* socket, std::uint16_t type, const Take& take) {
  std::array<char, 1 << 15> buffer{};
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = type;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request->nlmsg_seq = 1;
  // ifaddrmsg and rtmsg both begin with the family; AF_UNSPEC asks for both.
  mnl_nlmsg_put_extra_header(request, type == RTM_GETADDR ? sizeof(ifaddrmsg) : sizeof(rtmsg));
  if (mnl_socket_sendto(socket, request, request->nlmsg_len) < 0) return false;
  const auto callback = [](const nlmsghdr* message, void* data) {
    (*static_cast<const Take*>(data))(message);
    return MNL_CB_OK;
  };
  for (;;) {
    const auto size = mnl_socket_recvfrom(socket, buffer.data(), buffer.size());
    if (size < 0) return false;
    const int result = mnl_cb_run(buffer.data(), static_cast<std::size_t>(size), 1, mnl_socket_get_portid(socket),
                                  callback, const_cast<Take*>(&take));
    if (result <= MNL_CB_STOP) return result == MNL_CB_STOP;
  }
}

// libmnl's loops are macros of C; its callbacks are not.
template<typename F>
int call(const nlattr* attribute, void* data) {
  (*static_cast<F*>(data))(attribute);
  return MNL_CB_OK;
}
template<typename F>
void for_each_attribute(const nlmsghdr* message, unsigned offset, F take) {
  mnl_attr_parse(message, offset, call<F>, &take);
}

void take_address(const nlmsghdr* message, HostFacts& facts) {
  const auto* header = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
  const nlattr* local = nullptr;
  const nlattr* address = nullptr;
  for_each_attribute(message, sizeof(ifaddrmsg), [&](const nlattr* attribute) {
    if (mnl_attr_get_type(attribute) == IFA_LOCAL)
      local = attribute; // of a point-to-point link IFA_ADDRESS is the other end
    if (mnl_attr_get_type(attribute) == IFA_ADDRESS) address = attribute;
  });
  if (local == nullptr) local = address;
  std::array<char, IF_NAMESIZE> name{};
  if (local != nullptr && if_indextoname(header->ifa_index, name.data()) != nullptr)
    facts.addresses[name.data()].push_back(address_of(local));
  if (address != nullptr) facts.networks.push_back(policy::Prefix::of(address_of(address), header->ifa_prefixlen));
}

// Each hop of a multipath route: a rtnexthop with attributes of its own behind it.
template<typename F>
void for_each_hop_attribute(const nlattr* multipath, F take) {
  const auto* at = static_cast<const char*>(mnl_attr_get_payload(multipath));
  std::size_t left = mnl_attr_get_payload_len(multipath);
  while (left >= sizeof(rtnexthop)) {
    rtnexthop hop{};
    std::memcpy(&hop, at, sizeof hop);
    if (hop.rtnh_len < sizeof hop || hop.rtnh_len > left) return;
    mnl_attr_parse_payload(at + sizeof hop, hop.rtnh_len - sizeof hop, call<F>, &take);
    const std::size_t step = std::min<std::size_t>(left, RTNH_ALIGN(hop.rtnh_len));
    at += step;
    left -= step;
  }
}

void take_route(const nlmsghdr* message, HostFacts& facts) {
  const auto* header = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  if (header->rtm_dst_len != 0 || header->rtm_type != RTN_UNICAST) return; // default routes only
  const auto take_gateway = [&](const nlattr* attribute) {
    if (mnl_attr_get_type(attribute) == RTA_GATEWAY) facts.gateways.push_back(address_of(attribute));
  };
  for_each_attribute(message, sizeof(rtmsg), [&](const nlattr* attribute) {
    take_gateway(attribute);
    if (mnl_attr_get_type(attribute) == RTA_MULTIPATH) for_each_hop_attribute(attribute, take_gateway);
  });
}

std::vector<Address> resolvers() {
  std::vector<Address> found;
  std::ifstream file(kResolvConf);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key;
    std::string value;
    if (!(words >> key >> value) || key != "nameserver") continue;
    if (const auto address = Address::parse(value.substr(0, value.find('%')))) found.push_back(*address);
  }
  return found;
}

} // namespace

std::vector<Prefix> HostFacts::never_blocked() const {
  std::vector<Prefix> result;
  for (const char* range : {"0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "::/127", "ff00::/8"})
    result.push_back(*Prefix::parse(range));
  for (const auto& [interface, list] : addresses)
    for (const auto& address : list) result.push_back(Prefix::host(address));
  for (const auto& address : gateways) result.push_back(Prefix::host(address));
  return result;
}

struct Host::State {
  Socket events;
};

std::expected<Host, std::string> Host::open() {
  auto state = std::make_unique<State>();
  constexpr unsigned kGroups =
      RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
  state->events = bound_socket(kGroups, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (!state->events)
    return std::unexpected(std::string("cannot follow the kernel's addresses and routes: ") + std::strerror(errno));
  return Host(std::move(state));
}

Host::Host(std::unique_ptr<State> state) : state_(std::move(state)) {}
Host::Host(Host&&) noexcept = default;
Host& Host::operator=(Host&&) noexcept = default;
Host::~Host() = default;

int Host::event() const noexcept { return mnl_socket_get_fd(state_->events.get()); }

bool Host::changed() {
  std::array<char, 1 << 15> buffer{};
  bool any = false;
  for (;;) {
    const auto size = mnl_socket_recvfrom(state_->events.get(), buffer.data(), buffer.size());
    if (size < 0 && errno != ENOBUFS) return any; // ENOBUFS: events were lost, so something did change
    any = true;
  }
}

std::expected<HostFacts, std::string> Host::facts() {
  for (int i = 0; i < kDumpTries; ++i) {
    const Socket socket = bound_socket(0, SOCK_CLOEXEC);
    HostFacts facts;
    if (socket && dump(socket.get(), RTM_GETADDR, [&](const nlmsghdr* m) { take_address(m, facts); }) &&
        dump(socket.get(), RTM_GETROUTE, [&](const nlmsghdr* m) { take_route(m, facts); })) {
      facts.resolvers = resolvers();
      return facts;
    }
    if (errno != EINTR) break;
  }
  return std::unexpected(std::string("cannot read the kernel's addresses and routes: ") + std::strerror(errno));
}

} // namespace sipward::daemon
