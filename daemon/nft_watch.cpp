// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft_watch.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <iterator>
#include <string_view>

#include "daemon/nft_batch.h"
#include "daemon/nft_dump.h"
#include "daemon/nft_elements.h"

namespace sipward::daemon::nft {
namespace {

// Enough for a table with some thousand elements, flushed; beyond, everything is compared.
constexpr int kQueueOctets = 1 << 20;
constexpr std::size_t kDatagramOctets = std::size_t{64} << 10;
// The attributes that are looked at stand below this.
constexpr std::size_t kAttributes = 8;

std::string_view text_of(const nlattr* attribute) {
  return attribute == nullptr ? std::string_view() : std::string_view(mnl_attr_get_str(attribute));
}

// Our own changes are dropped before they take up room: a storm of blocks would overflow the queue, and say nothing
// new. A datagram has the changes of one transaction, so its first message tells whose they are.
void hear_others_only(int fd, std::uint32_t own_port) {
  std::array<sock_filter, 4> code = {{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(nlmsghdr, nlmsg_pid)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1,
       htonl(own_port)}, // filters load words in network order, netlink writes the host's
      {BPF_RET | BPF_K, 0, 0, 0},
      {BPF_RET | BPF_K, 0, 0, 0xffffffff},
  }};
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program); // without it, take() sorts them out
}

} // namespace

void Disturbance::merge(Disturbance later) {
  frame |= later.frame;
  lost |= later.lost;
  std::ranges::move(later.deleted, std::back_inserter(deleted));
  std::ranges::move(later.added, std::back_inserter(added));
  if (deleted.size() + added.size() > kMost) {
    lost = true;
    added.clear(); // those deleted stay: they have counted something
    deleted.resize(std::min(deleted.size(), kMost));
  }
  what.merge(later.what);
  if (!later.by.empty()) by = std::move(later.by);
}

std::string Disturbance::text() const {
  std::string list;
  for (const auto& each : what) {
    if (each.starts_with("table ")) return each; // with all that was in it
    list += (list.empty() ? "" : ", ") + each;
  }
  if (const auto count = deleted.size() + added.size(); count > 0)
    list += (list.empty() ? "" : ", ") + std::to_string(count) + (count == 1 ? " element" : " elements");
  return list.empty() ? "unknown" : list;
}

struct Watch::State {
  NetlinkSocket socket;
  std::uint32_t own_port = 0;
  bool deaf = false;
  std::vector<std::uint8_t> datagram = std::vector<std::uint8_t>(kDatagramOctets);

  void note(const nlmsghdr& message, const Layout& layout, Disturbance& found);
  static void note_elements(const nlmsghdr& message, std::uint16_t type, std::string_view set, const Layout& layout,
                            Disturbance& found);
};

std::expected<Watch, Error> Watch::open(std::uint32_t own_port) {
  auto state = std::make_unique<State>();
  state->own_port = own_port;
  state->socket.reset(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!state->socket || mnl_socket_bind(state->socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return std::unexpected(netlink_error(errno, "open the netlink socket that follows changes"));
  const int fd = mnl_socket_get_fd(state->socket.get());
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kQueueOctets, sizeof kQueueOctets);
  hear_others_only(fd, own_port);
  int group = NFNLGRP_NFTABLES;
  if (mnl_socket_setsockopt(state->socket.get(), NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
    return std::unexpected(netlink_error(errno, "follow changes"));
  return Watch(std::move(state));
}

Watch::Watch(std::unique_ptr<State> state) : state_(std::move(state)) {}
Watch::Watch(Watch&&) noexcept = default;
Watch& Watch::operator=(Watch&&) noexcept = default;
Watch::~Watch() = default;

int Watch::event() const noexcept { return mnl_socket_get_fd(state_->socket.get()); }

bool Watch::is_deaf(std::uint32_t own_port) const noexcept { return state_->deaf || state_->own_port != own_port; }

Disturbance Watch::take(const Layout& layout) {
  Disturbance found;
  for (int errors = 0; !state_->deaf;) {
    auto& datagram = state_->datagram;
    const auto octets = mnl_socket_recvfrom(state_->socket.get(), datagram.data(), datagram.size());
    if (octets < 0 && errno == EAGAIN) return found;
    if (octets <= 0) { // ENOBUFS: the queue was full; ENOSPC: a datagram was longer than we know them
      const bool passes = octets < 0 && may_pass(errno);
      found.lost |= octets == 0 || errno != EINTR;
      if (passes && ++errors < kErrorsInARow) continue;
      state_->deaf = found.lost = true;
      break;
    }
    errors = 0;
    int left = static_cast<int>(octets);
    const auto* message = reinterpret_cast<const nlmsghdr*>(datagram.data());
    for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left))
      if (message->nlmsg_pid != state_->own_port) state_->note(*message, layout, found);
    found.lost |= left > 0; // its end is missing
  }
  return found;
}

void Watch::State::note(const nlmsghdr& message, const Layout& layout, Disturbance& found) {
  if (message.nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES || message.nlmsg_len < NLMSG_HDRLEN + sizeof(nfgenmsg)) return;
  const auto type = static_cast<std::uint16_t>(message.nlmsg_type & 0xff);
  const auto attributes = attributes_of<kAttributes>(message);
  if (type == NFT_MSG_NEWGEN) { // ends what one transaction did
    if (found.any()) found.by = text_of(attributes[NFTA_GEN_PROC_NAME]);
    return;
  }
  const auto family = static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(&message))->nfgen_family;
  // In messages about whatever is in a table, its name stands in the same place.
  static_assert(NFTA_TABLE_NAME == 1 && NFTA_CHAIN_TABLE == 1 && NFTA_RULE_TABLE == 1 && NFTA_SET_TABLE == 1 &&
                NFTA_SET_ELEM_LIST_TABLE == 1 && NFTA_OBJ_TABLE == 1 && NFTA_FLOWTABLE_TABLE == 1);
  if ((family != NFPROTO_INET && family != NFPROTO_NETDEV) || text_of(attributes[1]) != kTable) return;
  const auto frame = [&](std::string what) {
    found.frame = true;
    found.what.insert(std::move(what));
  };
  switch (type) {
  case NFT_MSG_NEWTABLE:
  case NFT_MSG_DELTABLE: return frame(family == NFPROTO_INET ? "table inet sipward" : "table netdev sipward");
  case NFT_MSG_NEWCHAIN:
  case NFT_MSG_DELCHAIN: return frame("chain " + std::string(text_of(attributes[NFTA_CHAIN_NAME])));
  case NFT_MSG_NEWRULE:
  case NFT_MSG_DELRULE: return frame("rules of " + std::string(text_of(attributes[NFTA_RULE_CHAIN])));
  case NFT_MSG_NEWSET:
  case NFT_MSG_DELSET: return frame("set " + std::string(text_of(attributes[NFTA_SET_NAME])));
  case NFT_MSG_NEWSETELEM:
  case NFT_MSG_DELSETELEM:
    return note_elements(message, type, text_of(attributes[NFTA_SET_ELEM_LIST_SET]), layout, found);
  default: return frame("objects");
  }
}

void Watch::State::note_elements(const nlmsghdr& message, std::uint16_t type, std::string_view set,
                                 const Layout& layout, Disturbance& found) {
  const auto subjects = set_called(set, layout);
  if (!subjects) {
    found.frame = true;
    found.what.insert("set " + std::string(set));
    return;
  }
  Disturbance told;
  (type == NFT_MSG_NEWSETELEM ? told.added : told.deleted) = elements_of(message, *subjects);
  found.merge(std::move(told));
}

struct Survey::Reading {
  Dump dump;
};

Survey::Survey(std::vector<SubjectSet> sets) : sets_(std::move(sets)) {}
Survey::~Survey() = default;

std::expected<bool, Error> Survey::next(const std::function<void(const Element&)>& each) {
  if (at_ == sets_.size()) return false;
  const auto& set = sets_[at_];
  if (!reading_) {
    auto dump = Dump::start(
        {NFT_MSG_GETSETELEM, NFPROTO_INET, NFTA_SET_ELEM_LIST_TABLE, kTable, NFTA_SET_ELEM_LIST_SET, name_of(set)});
    if (!dump) return std::unexpected(dump.error());
    reading_ = std::make_unique<Reading>(std::move(*dump));
  }
  const auto more = reading_->dump.next([&](const nlmsghdr& message) {
    for (const auto& element : elements_of(message, set)) each(element);
  });
  if (!more && more.error().code != EINTR) return std::unexpected(more.error());
  if (more && *more) return true;
  reading_.reset();
  return ++at_ < sets_.size();
}

} // namespace sipward::daemon::nft
