// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft_dump.h"

#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace sipward::daemon::nft {
namespace {

constexpr std::size_t kPartOctets = std::size_t{64} << 10; // a part is at most 32 KiB in the kernels we know
constexpr int kAttempts = 16;

int note(const nlattr* attribute, void* data) {
  auto& into = *static_cast<std::span<const nlattr*>*>(data);
  const std::size_t type = mnl_attr_get_type(attribute);
  if (type < into.size()) into[type] = attribute;
  return MNL_CB_OK;
}

} // namespace

void CloseNetlink::operator()(mnl_socket* socket) const noexcept { mnl_socket_close(socket); }

Error netlink_error(int code, const std::string& what) {
  return {code, "nftables: " + what + ": " + std::generic_category().message(code)};
}

bool may_pass(int code) noexcept {
  switch (code) {
  case EINTR:    // a signal; or others changed what was being listed
  case EAGAIN:   // the kernel loads a module, or the answer is not there yet
  case EBUSY:    // something of ours is in use just now, or a question before is not read to its end
  case ERESTART: // the generation has moved on
  case ENOMEM:
  case ENOBUFS: // no room: of a request nothing was taken, of an answer a part is lost
  case ENOSPC:  // a datagram was cut off
  case EPROTO:  // an answer without its end, or with fewer acknowledgements than there were messages
    return true;
  default: return false;
  }
}

bool is_broken(int code) noexcept {
  switch (code) {
  case EBADF:
  case ENOTSOCK:
  case EPIPE:
  case ENOTCONN:
  case ECONNREFUSED:
  case ECONNRESET: return true;
  default: return false;
  }
}

void note_attributes(const nlmsghdr& message, std::span<const nlattr*> into) {
  mnl_attr_parse(&message, sizeof(nfgenmsg), note, &into);
}

// A socket of its own for every question: the kernel refuses a second one on a socket whose first is not read to its
// end.
std::expected<Dump, Error> Dump::start(const Question& question) {
  NetlinkSocket socket(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return std::unexpected(netlink_error(errno, "open a netlink socket to look"));
  std::array<std::uint8_t, 512> request{};
  nlmsghdr* message = mnl_nlmsg_put_header(request.data());
  message->nlmsg_type = static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | question.type);
  message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  auto* family = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
  family->nfgen_family = static_cast<std::uint8_t>(question.family);
  if (!question.table.empty()) mnl_attr_put_strz(message, question.table_attribute, question.table.c_str());
  if (!question.set.empty()) mnl_attr_put_strz(message, question.set_attribute, question.set.c_str());
  if (mnl_socket_sendto(socket.get(), message, message->nlmsg_len) < 0)
    return std::unexpected(netlink_error(errno, "look"));
  return Dump(std::move(socket));
}

// The kernel queued the first part when it was asked, and queues the next one whenever we take one.
std::expected<bool, Error> Dump::next(const Each& each) {
  part_.resize(kPartOctets);
  const auto octets = mnl_socket_recvfrom(socket_.get(), part_.data(), part_.size());
  if (octets < 0 && errno == EINTR && ++signals_ < kErrorsInARow) return true;
  signals_ = 0;
  if (octets <= 0)
    return std::unexpected(netlink_error(octets == 0 ? ECONNRESET : errno == EAGAIN ? EPROTO : errno, "look"));
  int left = static_cast<int>(octets);
  const auto* message = reinterpret_cast<const nlmsghdr*>(part_.data());
  for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
    interrupted_ |= (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
    if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR) {
      const bool has_code = mnl_nlmsg_get_payload_len(message) >= sizeof(int);
      const int code = has_code ? -*static_cast<const int*>(mnl_nlmsg_get_payload(message)) : 0;
      if (code != 0) return std::unexpected(netlink_error(code, "look"));
      return false;
    }
    each(*message);
  }
  if (left > 0) return std::unexpected(netlink_error(ENOSPC, "look")); // its end is missing
  return true;
}

std::expected<void, Error> read_whole(const Dump::Question& question, const std::function<void()>& begin,
                                      const Dump::Each& each) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    begin();
    auto dump = Dump::start(question);
    auto read = dump ? dump->next(each) : std::unexpected(dump.error());
    while (read && *read) read = dump->next(each);
    if (read && !dump->interrupted()) return {};
    // Every attempt has a socket of its own.
    if (!read && !may_pass(read.error().code) && !is_broken(read.error().code)) return std::unexpected(read.error());
  }
  return std::unexpected(netlink_error(EINTR, "look at what others keep changing"));
}

} // namespace sipward::daemon::nft
