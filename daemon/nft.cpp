// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft.h"

#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <system_error>
#include <tuple>
#include <utility>

#include "daemon/nft_batch.h"
#include "daemon/nft_dump.h"
#include "daemon/nft_elements.h"
#include "daemon/nft_socket.h"
#include "daemon/nft_watch.h"

// The sending half. What may go wrong, by where it does:
//
//   sending     nothing was taken. What may_pass() is sent again at once, three times in all
//   the kernel's word   all of the batch was refused. EEXIST, ENOENT: our picture of the table was wrong, a careful
//               batch takes nothing for granted. EBUSY, EAGAIN, ENOMEM and the like: the same batch again
//   receiving   nobody can say what was done. A careful batch ends the same whether or not the first was taken
//   the socket  is_broken(), or has something left in it: another one takes its place, with the same port
//
// What still fails is the caller's to try again later.
namespace sipward::daemon::nft {
namespace {

// A batch of 2^20 IPv6 renewals is 108 MiB. Past the limit is a mistake, not a flood.
constexpr std::size_t kBatchOctetsMax = std::size_t{256} << 20;
// What the kernel charges for one acknowledgement that waits in our queue, generously.
constexpr std::size_t kAckOctets = 2048;
constexpr int kDumpAttempts = 16; // while others keep changing what is listed

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

} // namespace

struct Nft::State {
  RequestSocket socket;
  Layout layout;            // last installed
  bool installed = false;   // by us
  Standing standing;        // since then
  Frame taken;              // the table netdev sipward, as it was after that
  std::uint64_t frames = 0; // changes of more than subjects
  std::uint32_t sequence = 0;
  std::vector<std::uint8_t> request = std::vector<std::uint8_t>(Batch::kRoom);

  using Result = std::expected<void, Error>;
  using Each = RequestSocket::Each;
  struct Failure {
    Error error;
    bool unsure = false; // whether it was done
  };

  Result transact(const Batch& batch);
  std::expected<void, Failure> transact_once(const Batch& batch);
  std::expected<void, Failure> exchange(const Batch& batch);
  nlmsghdr* ask(std::uint16_t type, std::uint16_t flags);
  Result answer(const nlmsghdr* request, const std::string& what, const Each& each);
  Result persistently(const std::function<Result()>& ask_once);
  std::expected<std::vector<SubjectSet>, Error> list_sets();
  std::expected<std::vector<Element>, Error> list_elements(const SubjectSet& set);
  using Elements = std::map<SubjectSet, std::map<policy::Subject, Element>>;
  std::expected<Elements, Error> list_elements();
};

// Every batch here but a quick one may be sent twice (nft_batch.h). It is, once, when an element ran out between its
// being found and its being deleted (possible before Linux 6.6), and when nobody can say what happened.
Nft::State::Result Nft::State::transact(const Batch& batch) {
  auto done = transact_once(batch);
  if (!done && (done.error().unsure || done.error().error.code == ENOENT)) done = transact_once(batch);
  if (!done) return std::unexpected(std::move(done.error().error));
  return {};
}

// Again, while the kernel refuses all of it for a reason that may pass.
std::expected<void, Nft::State::Failure> Nft::State::transact_once(const Batch& batch) {
  auto done = exchange(batch);
  for (int attempt = 1; attempt < kTries; ++attempt) {
    if (done || done.error().unsure || !may_pass(done.error().error.code)) break;
    done = exchange(batch);
  }
  return done;
}

std::expected<void, Nft::State::Failure> Nft::State::exchange(const Batch& batch) {
  const auto octets = batch.octets();
  const auto& steps = batch.steps();
  if (octets.size() > kBatchOctetsMax) return std::unexpected(Failure{failure(EMSGSIZE, steps.front())});
  if (const int code = socket.send(octets.data(), octets.size(), steps.size() * kAckOctets); code != 0)
    return std::unexpected(Failure{failure(code, "send " + steps.front())});

  // The first message at fault is the one to name: those after it may only suffer from it. Step 0 is the whole.
  std::size_t acknowledged = 0;
  std::size_t faulty = steps.size();
  int code = 0;
  const int lost = socket.receive([&](const nlmsghdr& message) {
    if (message.nlmsg_type != NLMSG_ERROR || message.nlmsg_seq >= steps.size()) return;
    ++acknowledged;
    const int said = code_of(message);
    if (said == 0 || (code != 0 && message.nlmsg_seq >= faulty)) return;
    faulty = message.nlmsg_seq;
    code = said;
  });
  if (code != 0) return std::unexpected(Failure{failure(code, steps[faulty])});
  if (lost != 0) return std::unexpected(Failure{failure(lost, "read the acknowledgements"), true});
  if (acknowledged + 1 == steps.size()) return {};
  socket.leave_behind(); // the rest, should it still come
  return std::unexpected(Failure{failure(EPROTO, "count the acknowledgements"), true});
}

nlmsghdr* Nft::State::ask(std::uint16_t type, std::uint16_t flags) {
  return nftnl_nlmsg_build_hdr(reinterpret_cast<char*>(request.data()), type, NFPROTO_INET, flags, ++sequence);
}

// Sends one question and hands over what comes back. EINTR: a dump that others' changes made inconsistent; all of it
// was read.
Nft::State::Result Nft::State::answer(const nlmsghdr* question, const std::string& what, const Each& each) {
  if (const int code = socket.send(question, question->nlmsg_len); code != 0)
    return std::unexpected(failure(code, what));
  int code = EPROTO; // until the kernel has said how it ended
  bool interrupted = false;
  const int lost = socket.receive([&](const nlmsghdr& message) {
    if (message.nlmsg_seq != sequence) return;
    if ((message.nlmsg_flags & NLM_F_DUMP_INTR) != 0) interrupted = true;
    if (message.nlmsg_type == NLMSG_ERROR || message.nlmsg_type == NLMSG_DONE)
      code = code_of(message);
    else
      each(message);
  });
  if (code == EPROTO) socket.leave_behind();
  if (lost != 0) return std::unexpected(failure(lost, what));
  if (code != 0) return std::unexpected(failure(code, what));
  if (interrupted) return std::unexpected(failure(EINTR, what));
  return {};
}

// Asks anew, from building the question on, while what keeps the answer away may pass.
Nft::State::Result Nft::State::persistently(const std::function<Result()>& ask_once) {
  for (int attempt = 1;; ++attempt) {
    auto done = ask_once();
    const int code = done ? 0 : done.error().code;
    if (done || attempt == (code == EINTR ? kDumpAttempts : kTries) || (!may_pass(code) && !is_broken(code)))
      return done;
  }
}

// The sets of our table that hold subjects, as they stand.
std::expected<std::vector<SubjectSet>, Error> Nft::State::list_sets() {
  std::vector<SubjectSet> sets;
  auto done = persistently([&] {
    sets.clear();
    nlmsghdr* question = ask(NFT_MSG_GETSET, NLM_F_DUMP);
    mnl_attr_put_strz(question, NFTA_SET_TABLE, kTable);
    return answer(question, "list the sets", [&](const nlmsghdr& message) {
      if (const auto set = set_of(message)) sets.push_back(*set);
    });
  });
  if (!done) return std::unexpected(std::move(done.error()));
  return sets;
}

std::expected<std::vector<Element>, Error> Nft::State::list_elements(const SubjectSet& set) {
  const auto name = name_of(set);
  std::vector<Element> elements;
  auto done = persistently([&] {
    elements.clear();
    nlmsghdr* question = ask(NFT_MSG_GETSETELEM, NLM_F_DUMP);
    put_set_name(question, name);
    return answer(question, "list the set " + name, [&](const nlmsghdr& message) {
      for (const auto& element : elements_of(message, set)) elements.push_back(element);
    });
  });
  if (!done) return std::unexpected(std::move(done.error()));
  return elements;
}

// A dump goes by position: when a set's hash grows between two of its parts (the kernel does that behind a big commit's
// back), elements are told twice or not at all, and nothing says so. So a set has been read when one more dump brings
// no element that was not known.
std::expected<Nft::State::Elements, Error> Nft::State::list_elements() {
  const auto sets = list_sets();
  if (!sets) return std::unexpected(sets.error());
  Elements all;
  for (const auto& set : *sets) {
    auto& known = all[set];
    for (bool grown = true; grown;) {
      const auto before = known.size();
      const auto listed = list_elements(set);
      if (!listed) return std::unexpected(listed.error());
      for (const auto& element : *listed) known.insert_or_assign(element.subject, element);
      grown = known.size() != before;
    }
  }
  return all;
}

Nft::Nft(std::unique_ptr<State> state) : state_(std::move(state)) {}
Nft::Nft(Nft&&) noexcept = default;
Nft& Nft::operator=(Nft&&) noexcept = default;
Nft::~Nft() = default;

std::expected<Nft, Error> Nft::open() {
  auto state = std::make_unique<State>();
  if (const int code = state->socket.connect(); code != 0)
    return std::unexpected(failure(code, "open the netlink socket"));
  Nft nft(std::move(state));
  if (const auto first = nft.installed(); !first) return std::unexpected(first.error());
  return nft;
}

std::expected<void, Error> Nft::install(const Layout& layout, const policy::PrefixSet& never_blocked,
                                        std::span<const Change> changes) {
  // New kernels take a chain on an interface that is not there; it would guard nothing, in silence.
  auto hooked = layout.taken;
  if (layout.hook == config::Hook::Ingress)
    hooked.insert(hooked.end(), layout.interfaces.begin(), layout.interfaces.end());
  for (const auto& interface : hooked)
    if (if_nametoindex(interface.c_str()) == 0)
      return std::unexpected(failure(ENODEV, "hook the ingress of interface '" + interface + "'"));
  // While one chain takes another's place a packet may pass both (seen once in some two hundred times): so what takes
  // the interfaces from the kernel is left alone, if it stands as it was made.
  const auto taken = layout.taken.empty() ? Frame{} : Frame::of_taken().value_or(Frame{});
  const bool stands =
      state_->installed && state_->layout.taken == layout.taken && !taken.empty() && taken == state_->taken;
  auto plan = build_install(layout, never_blocked, changes, stands ? Taking::AsItStands : Taking::Anew);
  if (!plan) return std::unexpected(plan.error());
  auto done = state_->transact(plan->batch);
  if (!done) return done;
  state_->layout = layout;
  state_->installed = true;
  state_->standing = std::move(*plan->standing);
  if (!stands && !layout.taken.empty()) state_->taken = Frame::of_taken().value_or(Frame{});
  ++state_->frames;
  return {};
}

std::expected<void, Error> Nft::commit(std::span<const Change> changes) {
  if (changes.empty()) return {};
  auto plan = build_changes(state_->layout, state_->standing, changes, Manner::Quick);
  if (!plan) return std::unexpected(plan.error());
  // Rules and ranges are made anew from what we know; of another process's table we know too little.
  if (plan->standing && !state_->installed) return std::unexpected(failure(EINVAL, "change a table not our own"));
  if (auto done = state_->transact_once(plan->batch); !done) {
    auto& [error, unsure] = done.error();
    if (!unsure && error.code != EEXIST && error.code != ENOENT) return std::unexpected(std::move(error));
    plan = build_changes(state_->layout, state_->standing, changes, Manner::Careful);
    if (auto again = state_->transact(plan->batch); !again) return again;
  }
  if (plan->standing) {
    state_->standing = std::move(*plan->standing);
    ++state_->frames;
  }
  return {};
}

std::expected<void, Error> Nft::replace_never_blocked(const policy::PrefixSet& never_blocked) {
  ++state_->frames;
  return state_->transact(build_never_blocked(never_blocked));
}

std::expected<std::optional<Element>, Error> Nft::read(const policy::Subject& subject, Effect effect) {
  const auto set = set_of(subject, effect, state_->layout);
  if (!set) return std::unexpected(set.error());
  std::optional<Element> found;
  const auto done = state_->persistently([&] {
    nlmsghdr* question = state_->ask(NFT_MSG_GETSETELEM, NLM_F_ACK);
    put_set_name(question, name_of(*set));
    put_key(question, key_of(subject));
    return state_->answer(question, "read " + policy::to_string(subject), [&](const nlmsghdr& message) {
      for (const auto& element : elements_of(message, *set)) found = element;
    });
  });
  if (!done && done.error().code == ENOENT) return std::nullopt;
  if (!done) return std::unexpected(done.error());
  return found;
}

std::expected<std::vector<Element>, Error> Nft::read_all() {
  const auto all = state_->list_elements();
  if (!all) return std::unexpected(all.error());
  std::vector<Element> elements;
  for (const auto& [set, members] : *all)
    for (const auto& [subject, element] : members) elements.push_back(element);
  std::ranges::sort(elements, {}, [](const Element& element) { return std::tie(element.subject, element.effect); });
  return elements;
}

std::expected<std::size_t, Error> Nft::lift(const std::function<bool(const Element&)>& asked_for) {
  const auto all = state_->list_elements();
  if (!all && all.error().code == ENOENT) return 0;
  if (!all) return std::unexpected(all.error());
  std::map<SubjectSet, std::vector<policy::Subject>> lifted;
  std::size_t count = 0;
  for (const auto& [set, members] : *all)
    for (const auto& [subject, element] : members)
      if (asked_for(element)) {
        lifted[set].push_back(subject);
        ++count;
      }
  if (count == 0) return 0;
  if (const auto done = state_->transact(build_lift(lifted)); !done) return std::unexpected(done.error());
  return count;
}

std::expected<void, Error> Nft::flush_elements() {
  const auto sets = state_->list_sets();
  if (!sets && sets.error().code == ENOENT) return {};
  if (!sets) return std::unexpected(sets.error());
  auto done = state_->transact(build_flush(*sets));
  if (!done && done.error().code == ENOENT) return {};
  return done;
}

std::uint32_t Nft::port() const noexcept { return state_->socket.port(); }
std::uint64_t Nft::frames() const noexcept { return state_->frames; }
const Layout& Nft::layout() const noexcept { return state_->layout; }
void Nft::assume(const Layout& layout) { state_->layout = layout; }

std::vector<SubjectSet> Nft::sets() const {
  const auto standing = standing_sets(state_->layout);
  std::vector<SubjectSet> sets(standing.begin(), standing.end());
  for (const auto& [set, subjects] : state_->standing.on_demand) sets.push_back(set);
  return sets;
}

std::expected<bool, Error> Nft::installed() {
  const auto done = state_->persistently([&] {
    nlmsghdr* question = state_->ask(NFT_MSG_GETTABLE, NLM_F_ACK);
    mnl_attr_put_strz(question, NFTA_TABLE_NAME, kTable);
    return state_->answer(question, "look for the table inet sipward", [](const nlmsghdr&) {});
  });
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

std::expected<void, Error> Nft::remove() {
  ++state_->frames;
  return state_->transact(build_remove());
}

} // namespace sipward::daemon::nft
