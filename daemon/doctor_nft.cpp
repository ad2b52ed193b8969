// SPDX-License-Identifier: GPL-2.0-or-later
#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <array>
#include <cstring>
#include <memory>
#include <set>
#include <string_view>

#include "daemon/doctor.h"

// Reads the rules of every table that send what comes for one port on to another. Those that choose the port by a set
// or a range are not understood, and iptables-legacy's are not there.
namespace sipward::daemon {
namespace {

constexpr std::uint32_t kDestinationPort = 2; // its place in UDP's and TCP's header

std::uint16_t port_at(const void* octets) {
  std::uint16_t port = 0;
  std::memcpy(&port, octets, sizeof port);
  return ntohs(port);
}

// What the targets of iptables-nft carry: REDIRECT's nf_nat_ipv4_multi_range_compat and DNAT's nf_nat_range(2), as
// <linux/netfilter/nf_nat.h> has them. 0: no port.
std::uint16_t port_of_target(const nftnl_expr* expression) {
  constexpr std::size_t kCompatPort = 16, kRangePort = 36;
  const std::string_view name = nftnl_expr_get_str(expression, NFTNL_EXPR_TG_NAME);
  const bool is_compat = nftnl_expr_get_u32(expression, NFTNL_EXPR_TG_REV) == 0;
  if (name != "REDIRECT" && name != "DNAT") return 0;
  std::uint32_t size = 0;
  const auto* octets = static_cast<const char*>(nftnl_expr_get(expression, NFTNL_EXPR_TG_INFO, &size));
  const auto place = is_compat ? kCompatPort : kRangePort;
  return octets != nullptr && size >= place + 2 ? port_at(octets + place) : std::uint16_t{0};
}

// A rule is a row of expressions: load a field, compare it, load a constant, redirect to it.
struct Reader {
  std::uint16_t from = 0, to = 0;
  bool at_port = false;                   // the field just loaded
  std::array<std::uint16_t, 32> loaded{}; // ports, by register
  std::uint16_t immediate(std::uint32_t at) const { return at < loaded.size() ? loaded[at] : std::uint16_t{0}; }

  void read(const nftnl_expr* expression) {
    const std::string_view name = nftnl_expr_get_str(expression, NFTNL_EXPR_NAME);
    std::uint32_t size = 0;
    if (name == "payload") {
      at_port = nftnl_expr_get_u32(expression, NFTNL_EXPR_PAYLOAD_BASE) == NFT_PAYLOAD_TRANSPORT_HEADER &&
                nftnl_expr_get_u32(expression, NFTNL_EXPR_PAYLOAD_OFFSET) == kDestinationPort &&
                nftnl_expr_get_u32(expression, NFTNL_EXPR_PAYLOAD_LEN) == sizeof from;
    } else if (name == "cmp" && at_port && nftnl_expr_get_u32(expression, NFTNL_EXPR_CMP_OP) == NFT_CMP_EQ) {
      const void* value = nftnl_expr_get(expression, NFTNL_EXPR_CMP_DATA, &size);
      if (value != nullptr && size >= sizeof from) from = port_at(value);
    } else if (name == "immediate" && nftnl_expr_is_set(expression, NFTNL_EXPR_IMM_DATA)) {
      const void* value = nftnl_expr_get(expression, NFTNL_EXPR_IMM_DATA, &size);
      const auto at = nftnl_expr_get_u32(expression, NFTNL_EXPR_IMM_DREG);
      if (value != nullptr && size >= sizeof to && at < loaded.size()) loaded[at] = port_at(value);
    } else if (name == "redir") {
      if (nftnl_expr_is_set(expression, NFTNL_EXPR_REDIR_REG_PROTO_MIN))
        to = immediate(nftnl_expr_get_u32(expression, NFTNL_EXPR_REDIR_REG_PROTO_MIN));
    } else if (name == "nat" && nftnl_expr_get_u32(expression, NFTNL_EXPR_NAT_TYPE) == NFT_NAT_DNAT) {
      if (nftnl_expr_is_set(expression, NFTNL_EXPR_NAT_REG_PROTO_MIN))
        to = immediate(nftnl_expr_get_u32(expression, NFTNL_EXPR_NAT_REG_PROTO_MIN));
    } else if (name == "target") {
      to = port_of_target(expression);
    }
  }
};

std::string_view family_name(std::uint32_t family) {
  return family == NFPROTO_IPV4 ? "ip" : family == NFPROTO_IPV6 ? "ip6" : family == NFPROTO_INET ? "inet" : "";
}

int read_rule(const nlmsghdr* message, void* data) {
  const std::unique_ptr<nftnl_rule, void (*)(const nftnl_rule*)> rule(nftnl_rule_alloc(), nftnl_rule_free);
  if (!rule || nftnl_rule_nlmsg_parse(message, rule.get()) < 0) return MNL_CB_OK;
  Reader reader;
  const auto read = [](nftnl_expr* expression, void* reads) {
    static_cast<Reader*>(reads)->read(expression);
    return 0;
  };
  nftnl_expr_foreach(rule.get(), read, &reader);
  if (reader.from == 0 || reader.to == 0) return MNL_CB_OK;
  const std::string family(family_name(nftnl_rule_get_u32(rule.get(), NFTNL_RULE_FAMILY)));
  static_cast<std::set<Redirect>*>(data)->insert(
      {reader.from, reader.to, family + " " + nftnl_rule_get_str(rule.get(), NFTNL_RULE_TABLE)});
  return MNL_CB_OK;
}

} // namespace

std::vector<Redirect> redirects_here() {
  std::set<Redirect> found;
  const std::unique_ptr<mnl_socket, int (*)(mnl_socket*)> socket(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC),
                                                                 mnl_socket_close);
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0) return {};
  std::array<char, 1 << 16> buffer{};
  const nlmsghdr* request = nftnl_nlmsg_build_hdr(buffer.data(), NFT_MSG_GETRULE, NFPROTO_UNSPEC, NLM_F_DUMP, 1);
  if (mnl_socket_sendto(socket.get(), request, request->nlmsg_len) < 0) return {};
  for (;;) {
    const auto size = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
    if (size <= 0 || mnl_cb_run(buffer.data(), static_cast<std::size_t>(size), 1, mnl_socket_get_portid(socket.get()),
                                read_rule, &found) <= MNL_CB_STOP)
      break;
  }
  return {found.begin(), found.end()};
}

} // namespace sipward::daemon
