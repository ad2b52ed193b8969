// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft.h"

#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <system_error>
#include <utility>

#include "daemon/nft_batch.h"
#include "daemon/nft_chains.h"

// The sending half: one netlink socket, non-blocking. The kernel works on a request inside our sendmsg() and queues
// every answer before it returns (a dump's next part: before recvmsg() returns), so an empty queue means that there is
// no more.
namespace sipward::daemon::nft {
namespace {

using policy::Family;

// A batch of 2^20 IPv6 renewals is 108 MiB. Past the limit is a mistake, not a flood.
constexpr std::size_t kBatchOctetsMax = std::size_t{256} << 20;
// What the kernel charges for one acknowledgement that waits in our queue, generously.
constexpr std::size_t kAckOctets = 2048;
constexpr std::size_t kQueueOctets = std::size_t{1} << 20;
constexpr std::size_t kReplyOctets = std::size_t{256} << 10; // a dump's part is at most 32 KiB in the kernels we know
constexpr int kDumpAttempts = 16;

struct CloseSocket {
  void operator()(mnl_socket* socket) const noexcept { mnl_socket_close(socket); }
};
using Set = std::unique_ptr<nftnl_set, Freed<nftnl_set_free>>;
using Iterator = std::unique_ptr<nftnl_set_elems_iter, Freed<nftnl_set_elems_iter_destroy>>;

const char* advice(int code) {
  switch (code) {
  case EPERM: return " (needs CAP_NET_ADMIN in this network namespace)";
  case ENOENT: return " (is the table inet sipward gone, by somebody else's flush?)";
  case EBUSY: return " (in use by something outside our table)";
  case EOPNOTSUPP:
  case EPROTONOSUPPORT: return " (this kernel lacks it: nf_tables with inet ingress, Linux 5.10 or later)";
  case EMSGSIZE:
  case ENOBUFS: return " (the netlink socket's buffers are too small: see net.core.wmem_max and rmem_max)";
  case EINTR: return " (others keep changing nftables)";
  default: return "";
  }
}

Error failure(int code, const std::string& what) {
  return {code, "nftables: " + what + ": " + std::generic_category().message(code) + advice(code)};
}

// The kernel's word on one message: 0, or an errno.
int code_of(const nlmsghdr& message) {
  if (mnl_nlmsg_get_payload_len(&message) < sizeof(int)) return 0;
  return -*static_cast<const int*>(mnl_nlmsg_get_payload(&message));
}

policy::Subject subject_of(const BlockedSet& set, std::span<const std::uint8_t> key, const Layout& layout) {
  policy::Address base{set.family, {}};
  std::ranges::copy(key.first(std::min(key.size(), base.wire().size())), base.octets.begin());
  return {.kind = set.kind, .prefix = {base, length_of(set, layout)}};
}

// The elements of one NFT_MSG_NEWSETELEM message.
std::vector<Element> elements_of(const nlmsghdr& message, const BlockedSet& set, const Layout& layout) {
  std::vector<Element> result;
  const Set parsed(made(nftnl_set_alloc()));
  if (nftnl_set_elems_nlmsg_parse(&message, parsed.get()) < 0) return result;
  const Iterator iterator(made(nftnl_set_elems_iter_create(parsed.get())));
  while (nftnl_set_elem* elem = nftnl_set_elems_iter_next(iterator.get())) {
    std::uint32_t size = 0;
    const auto* key = static_cast<const std::uint8_t*>(nftnl_set_elem_get(elem, NFTNL_SET_ELEM_KEY, &size));
    if (key == nullptr) continue;
    Element element{.subject = subject_of(set, {key, size}, layout)};
    if (nftnl_set_elem_is_set(elem, NFTNL_SET_ELEM_EXPIRATION))
      element.remaining = std::chrono::milliseconds(nftnl_set_elem_get_u64(elem, NFTNL_SET_ELEM_EXPIRATION));
    if (nftnl_set_elem_is_set(elem, NFTNL_SET_ELEM_EXPR)) {
      const auto* counter = static_cast<const nftnl_expr*>(nftnl_set_elem_get(elem, NFTNL_SET_ELEM_EXPR, &size));
      element.packets = nftnl_expr_get_u64(counter, NFTNL_EXPR_CTR_PACKETS);
      element.octets = nftnl_expr_get_u64(counter, NFTNL_EXPR_CTR_BYTES);
    }
    result.push_back(element);
  }
  return result;
}

} // namespace

struct Nft::State {
  std::unique_ptr<mnl_socket, CloseSocket> socket;
  Layout layout; // last installed
  std::uint32_t sequence = 0;
  std::vector<std::uint8_t> reply = std::vector<std::uint8_t>(kReplyOctets);
  std::vector<std::uint8_t> request = std::vector<std::uint8_t>(Batch::kRoom);

  using Result = std::expected<void, Error>;
  using Each = std::function<void(const nlmsghdr&)>;

  void room(int privileged, int ordinary, std::size_t octets);
  std::expected<bool, int> receive(const Each& each);
  Result transact(const Batch& batch);
  Result transact_once(const Batch& batch);
  nlmsghdr* ask(std::uint16_t type, std::uint16_t flags);
  Result answer(const nlmsghdr* request, const std::string& what, const Each& each);
  std::expected<std::vector<Element>, Error> dump(const BlockedSet& set);
};

// Lets the socket queue so many octets. The privileged way passes over net.core.{w,r}mem_max; the other goes as far as
// it can.
void Nft::State::room(int privileged, int ordinary, std::size_t octets) {
  const int fd = mnl_socket_get_fd(socket.get());
  const int value = static_cast<int>(octets);
  if (setsockopt(fd, SOL_SOCKET, privileged, &value, sizeof value) != 0)
    setsockopt(fd, SOL_SOCKET, ordinary, &value, sizeof value);
}

// Hands over the messages of one datagram; false when the queue is empty. The error is an errno.
std::expected<bool, int> Nft::State::receive(const Each& each) {
  const ssize_t octets = mnl_socket_recvfrom(socket.get(), reply.data(), reply.size());
  if (octets < 0 && errno == EINTR) return true;
  if (octets < 0 && errno == EAGAIN) return false;
  if (octets < 0) return std::unexpected(errno);
  int left = static_cast<int>(octets);
  const auto* message = reinterpret_cast<const nlmsghdr*>(reply.data());
  for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) each(*message);
  return true;
}

// Every batch here may be sent twice (nft_batch.h). It is, once, when an element ran out between its being found and
// its being deleted (possible before Linux 6.6), and when acknowledgements were lost and nobody can say what happened.
Nft::State::Result Nft::State::transact(const Batch& batch) {
  auto done = transact_once(batch);
  if (!done && (done.error().code == ENOENT || done.error().code == ENOBUFS)) done = transact_once(batch);
  return done;
}

Nft::State::Result Nft::State::transact_once(const Batch& batch) {
  const auto octets = batch.octets();
  const auto& steps = batch.steps();
  if (octets.size() > kBatchOctetsMax) return std::unexpected(failure(EMSGSIZE, steps.front()));
  room(SO_SNDBUFFORCE, SO_SNDBUF, std::max(kQueueOctets, octets.size() + 4096));
  room(SO_RCVBUFFORCE, SO_RCVBUF, std::max(kQueueOctets, steps.size() * kAckOctets));
  if (mnl_socket_sendto(socket.get(), octets.data(), octets.size()) < 0)
    return std::unexpected(failure(errno, "send " + steps.front()));

  // The first message at fault is the one to name: those after it may only suffer from it. Step 0 is the whole.
  std::size_t acknowledged = 0;
  bool lost = false;
  std::size_t faulty = steps.size();
  int code = 0;
  const Each note = [&](const nlmsghdr& message) {
    if (message.nlmsg_type != NLMSG_ERROR || message.nlmsg_seq >= steps.size()) return;
    ++acknowledged;
    const int said = code_of(message);
    if (said == 0 || (code != 0 && message.nlmsg_seq >= faulty)) return;
    faulty = message.nlmsg_seq;
    code = said;
  };
  for (;;) {
    const auto more = receive(note);
    if (!more && more.error() == ENOBUFS) {
      lost = true;
      continue;
    }
    if (!more) return std::unexpected(failure(more.error(), "read the acknowledgements"));
    if (!*more) break;
  }
  if (code != 0) return std::unexpected(failure(code, steps[faulty]));
  if (lost) return std::unexpected(failure(ENOBUFS, "read the acknowledgements"));
  if (acknowledged + 1 != steps.size()) return std::unexpected(failure(EPROTO, "count the acknowledgements"));
  return {};
}

nlmsghdr* Nft::State::ask(std::uint16_t type, std::uint16_t flags) {
  return nftnl_nlmsg_build_hdr(reinterpret_cast<char*>(request.data()), type, NFPROTO_INET, flags, ++sequence);
}

// Sends one question and hands over what comes back. EINTR: a dump that others' changes made inconsistent; all of it
// was read.
Nft::State::Result Nft::State::answer(const nlmsghdr* question, const std::string& what, const Each& each) {
  if (mnl_socket_sendto(socket.get(), question, question->nlmsg_len) < 0) return std::unexpected(failure(errno, what));
  int code = EPROTO; // until the kernel has said how it ended
  bool interrupted = false;
  const Each note = [&](const nlmsghdr& message) {
    if (message.nlmsg_seq != sequence) return;
    if ((message.nlmsg_flags & NLM_F_DUMP_INTR) != 0) interrupted = true;
    if (message.nlmsg_type == NLMSG_ERROR || message.nlmsg_type == NLMSG_DONE)
      code = code_of(message);
    else
      each(message);
  };
  int fault = 0;
  for (;;) {
    const auto more = receive(note);
    if (!more && more.error() != ENOBUFS && more.error() != ENOSPC) return std::unexpected(failure(more.error(), what));
    if (!more) fault = more.error(); // something was lost; what follows it in the queue is still to be taken out
    if (more && !*more) break;
  }
  if (fault != 0) return std::unexpected(failure(fault, what));
  if (code != 0) return std::unexpected(failure(code, what));
  if (interrupted) return std::unexpected(failure(EINTR, what));
  return {};
}

std::expected<std::vector<Element>, Error> Nft::State::dump(const BlockedSet& set) {
  std::vector<Element> elements;
  for (int attempt = 1;; ++attempt) {
    elements.clear();
    nlmsghdr* question = ask(NFT_MSG_GETSETELEM, NLM_F_DUMP);
    put_set_name(question, set.name);
    const auto done = answer(question, std::string("list the set ") + set.name, [&](const nlmsghdr& message) {
      for (const auto& element : elements_of(message, set, layout)) elements.push_back(element);
    });
    if (done) return elements;
    if (done.error().code != EINTR || attempt == kDumpAttempts) return std::unexpected(done.error());
  }
}

Nft::Nft(std::unique_ptr<State> state) : state_(std::move(state)) {}
Nft::Nft(Nft&&) noexcept = default;
Nft& Nft::operator=(Nft&&) noexcept = default;
Nft::~Nft() = default;

std::expected<Nft, Error> Nft::open() {
  auto state = std::make_unique<State>();
  state->socket.reset(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!state->socket) return std::unexpected(failure(errno, "open the netlink socket"));
  if (mnl_socket_bind(state->socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return std::unexpected(failure(errno, "bind the netlink socket"));
  // A refusal then carries the refused message's header only, not all of its elements.
  int on = 1;
  mnl_socket_setsockopt(state->socket.get(), NETLINK_CAP_ACK, &on, sizeof on);
  Nft nft(std::move(state));
  if (const auto first = nft.installed(); !first) return std::unexpected(first.error());
  return nft;
}

std::expected<void, Error> Nft::install(const Layout& layout, const policy::PrefixSet& allowed,
                                        std::span<const Change> elements) {
  // New kernels take a chain on an interface that is not there; it would guard nothing, in silence.
  auto hooked = layout.taken;
  if (layout.hook == config::Hook::Ingress)
    hooked.insert(hooked.end(), layout.interfaces.begin(), layout.interfaces.end());
  for (const auto& interface : hooked)
    if (if_nametoindex(interface.c_str()) == 0)
      return std::unexpected(failure(ENODEV, "hook the ingress of interface '" + interface + "'"));
  const auto batch = build_install(layout, allowed, elements);
  if (!batch) return std::unexpected(batch.error());
  auto done = state_->transact(*batch);
  if (done) state_->layout = layout;
  return done;
}

std::expected<void, Error> Nft::commit(std::span<const Change> changes) {
  if (changes.empty()) return {};
  const auto batch = build_changes(state_->layout, changes);
  if (!batch) return std::unexpected(batch.error());
  return state_->transact(*batch);
}

std::expected<void, Error> Nft::replace_allowed(const policy::PrefixSet& allowed) {
  return state_->transact(build_allowed(allowed));
}

std::expected<void, Error> Nft::flush_elements() {
  auto done = state_->transact(build_flush());
  if (!done && done.error().code == ENOENT) return {};
  return done;
}

std::expected<std::optional<Element>, Error> Nft::read(const policy::Subject& subject) {
  const auto set = set_of(subject, state_->layout);
  if (!set) return std::unexpected(set.error());
  nlmsghdr* question = state_->ask(NFT_MSG_GETSETELEM, NLM_F_ACK);
  put_set_name(question, (*set)->name);
  put_key(question, subject.prefix.base.wire());
  std::optional<Element> found;
  const auto done = state_->answer(question, "read " + policy::to_string(subject), [&](const nlmsghdr& message) {
    for (const auto& element : elements_of(message, **set, state_->layout)) found = element;
  });
  if (!done && done.error().code == ENOENT) return std::nullopt;
  if (!done) return std::unexpected(done.error());
  return found;
}

// A dump goes by position: when a set's hash grows between two of its parts (the kernel does that behind a big commit's
// back), elements are told twice or not at all, and nothing says so. So a set has been read when one more dump brings
// no element that was not known.
std::expected<std::vector<Element>, Error> Nft::read_all() {
  std::map<policy::Subject, Element> known;
  for (const auto& set : kBlockedSets) {
    for (bool grown = true; grown;) {
      const auto before = known.size();
      const auto dumped = state_->dump(set);
      if (!dumped) return std::unexpected(dumped.error());
      for (const auto& element : *dumped) known.insert_or_assign(element.subject, element);
      grown = known.size() != before;
    }
  }
  std::vector<Element> elements;
  elements.reserve(known.size());
  for (const auto& [subject, element] : known) elements.push_back(element);
  return elements;
}

std::expected<bool, Error> Nft::installed() {
  nlmsghdr* question = state_->ask(NFT_MSG_GETTABLE, NLM_F_ACK);
  mnl_attr_put_strz(question, NFTA_TABLE_NAME, kTable);
  const auto done = state_->answer(question, "look for the table inet sipward", [](const nlmsghdr&) {});
  if (!done && done.error().code == ENOENT) return false;
  if (!done) return std::unexpected(done.error());
  return true;
}

std::expected<void, Error> Nft::give_back() {
  auto done = state_->transact(build_give_back());
  // EOPNOTSUPP: a kernel without the family netdev, which can have taken nothing.
  if (!done && (done.error().code == ENOENT || done.error().code == EOPNOTSUPP)) return {};
  return done;
}

std::expected<void, Error> Nft::remove() { return state_->transact(build_remove()); }

} // namespace sipward::daemon::nft
