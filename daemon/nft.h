// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config/config.h"
#include "policy/address.h"
#include "policy/block.h"

// The kernel's copy of the block list: table `inet sipward`, its sets and chains, kept through netlink.
//
//   sets    never_blocked_v4 never_blocked_v6        the never-blocked ranges
//           allowed_v4 allowed_v6                    let through in spite of a block: trusted hosts in a blocked prefix
//           blocked_v4 blocked_v6                    hosts (IPv6 by masked prefix), each with a timeout and a counter
//           blocked_endpoint_v4 blocked_endpoint_v6  one port of one address, the same
//           blocked_net_v4 blocked_net_v6            prefixes by their masked base, the same
//           limited_v4 limited_v6                    hosts, each with a rate of its own as well
//           known_endpoint_v4 known_endpoint_v6      ports of limited hosts that pass the limit, each up to a rate of
//           its
//                                                    own (IPv6 by masked prefix): somebody registered from there
//           blocked_net_v4_20 ...                    prefixes of another length; made with the first, removed with the
//           blocked_all_v4 blocked_all_v4_24 ...     last one in it. `all`: blocked by hand with --scope all
//           sip_ports                                what `scope: sip` covers; absent with `scope: all`
//           sip_transports                           TCP and UDP, which have ports
//   chains  ingress                                  of each interface, the cheapest place to drop; absent with hook
//                                                    prerouting
//           prerouting                               before conntrack: what ingress cannot match (QinQ, PPPoE), other
//                                                    interfaces
//           output                                   hook postrouting: answers, a local server's and a forwarded one's
//
// Beside it, inline, the table `netdev sipward` with one chain, `ingress`: on the interfaces that the dataplane
// forwards between, the kernel drops everything, for it would receive every packet a second time and answer it. The
// packet socket hears a packet before that.
//
// Every chain asks, in this order:
//
//   blocked with --scope all, and neither never blocked nor allowed? drop     (only while there is such a block)
//   not SIP? accept  never blocked? accept  blocked endpoint? drop  allowed? accept  blocked host? drop
//   known endpoint within its rate? accept  limited host above its rate? drop  blocked prefix? drop
//
// An allowed host thus passes its own block, its limit and its prefix's block; only its blocked endpoints stay dropped.
// That trust protects nobody from a block on proven evidence is the block list's part: such a host is in no allowed
// range, and loses the one it had in the very batch that blocks it.
//
// Limits stand in prerouting only: a packet passes ingress and prerouting, and must not be counted twice against its
// rate; answers are not counted at all. A later fragment has no ports to ask for, and kernels differ in what they make
// of that: it may pass, but its datagram never becomes whole, since the first fragment, which has the ports, is
// dropped.
//
// Building a batch (pure: octets, nft_batch.h) is separate from sending it (one transaction, acknowledged, all or
// nothing). Control thread only, all of it; nothing waits for anything but the kernel's own work.
namespace sipward::daemon::nft {

// What the table looks like. A change of any of these makes the chains anew.
struct Layout {
  std::vector<std::string> interfaces; // of `ports.outside`, for the ingress hook; each must exist
  std::vector<std::string> taken; // inline: forwarded by the dataplane, and nothing for the kernel; each must exist
  config::Hook hook = config::Hook::Ingress;
  config::Scope scope = config::Scope::Sip;
  std::vector<std::uint16_t> ports; // SIP ports; 5061 is always added
  std::uint8_t prefix_v4 = 24;      // lengths of the elements of blocked_net_v4, blocked_net_v6, at least 1
  std::uint8_t prefix_v6 = 48;
  std::uint8_t source_v6 = 64; // of an IPv6 host, in every set that holds hosts
  bool ceilings = false;       // IPv4 hosts that are never blocked may be limited
};

// What the kernel does with a subject's packets.
enum class Effect : std::uint8_t {
  Drop,    // those of the layout's scope: a host, an endpoint, or a prefix of any length
  DropAll, // every one, whatever the scope: a host or a prefix
  Limit,   // those above a rate: a host
  Spare,   // of a limited host's, none from this port up to a rate: an endpoint
  Allow,   // none, whatever stands against the host or a prefix around it: a host or a prefix; ranges may overlap
};

// A host may send `burst` packets at once, and `rate_per_s` after that.
struct Limit {
  std::uint32_t rate_per_s = 0; // both at least 1, the rate at most kRateMax
  std::uint32_t burst = 0;
  friend bool operator==(const Limit&, const Limit&) = default;
};
inline constexpr std::uint32_t kRateMax = 1'000'000; // the kernel reckons in whole nanoseconds per packet

// One change to what the kernel does. Effects are kept apart: a host can be limited and blocked at once.
struct Change {
  enum class Kind : std::uint8_t { Add, Delete } kind = Kind::Add;
  policy::Subject subject;
  std::chrono::seconds timeout{0}; // of what is added; the kernel drops it by itself after that. 0, and Allow: never
  Effect effect = Effect::Drop;
  Limit limit{}; // of Effect::Limit and Effect::Spare, added
};

// Why the kernel, or this process's standing with it, refused.
struct Error {
  int code = 0;        // an errno
  std::string message; // what was being done, what the kernel said, and where it helps what to do; for people
};

// An element as the kernel has it: of every effect but Allow.
struct Element {
  policy::Subject subject;
  Effect effect = Effect::Drop;
  Limit limit{};
  std::uint64_t packets = 0; // its counter: packets dropped, in and out; of Effect::Spare, passed
  std::uint64_t octets = 0;
  std::chrono::milliseconds remaining{0}; // 0: it does not run out
};

struct SubjectSet; // nft_sets.h

class Nft {
public:
  // Opens the netlink socket and asks the kernel a first question, so that a missing CAP_NET_ADMIN (in the network
  // namespace that is to be protected) or a kernel without nf_tables is an error here and not at the first attack.
  static std::expected<Nft, Error> open();
  Nft(Nft&&) noexcept;
  Nft& operator=(Nft&&) noexcept;
  ~Nft();

  // Makes the whole table in one transaction, replacing any earlier table of ours: sets, the never-blocked ranges,
  // chains, rules, and what is added. Nobody sees a moment without it. Counters begin at zero.
  std::expected<void, Error> install(const Layout& layout, const policy::PrefixSet& never_blocked,
                                     std::span<const Change> changes);

  // Applies all changes in one transaction. An Add of what stands already renews its timeout and its limit (and its
  // counter begins anew: read it before); a Delete of what is not there (any more) is no error. Of several changes with
  // one subject and effect the last counts. ENOENT: the table is gone. EINVAL: no set can hold a subject (hosts must
  // have the layout's length), and nothing is changed. Before an install it is the default layout that counts, and what
  // is allowed, and sets made on demand, cannot be changed: EINVAL.
  std::expected<void, Error> commit(std::span<const Change> changes);

  // Replaces the never-blocked ranges in one transaction.
  std::expected<void, Error> replace_never_blocked(const policy::PrefixSet& never_blocked);

  // What the kernel counted for one element; nothing if it is not there.
  std::expected<std::optional<Element>, Error> read(const policy::Subject& subject, Effect effect = Effect::Drop);
  // All elements, ordered by subject and effect. The kernel begins every part of its answer at the set's first element,
  // so the cost grows with the square: some 30 ms for 10,000 elements, seconds for 131,072; one read() is 10 us.
  // ENOENT: the table is gone. EINTR: others kept changing tables while we read. Needs no earlier install.
  std::expected<std::vector<Element>, Error> read_all();

  // For the table that an earlier process left, so they need no install: takes out the elements that are asked for, and
  // says how many they were; or all of them. No table is no error. In one transaction; sets and rules stay.
  std::expected<std::size_t, Error> lift(const std::function<bool(const Element&)>& asked_for);
  std::expected<void, Error> flush_elements();

  // Gives the kernel back the interfaces that a layout took from it; none taken is no error. Needs no earlier install.
  std::expected<void, Error> give_back();

  // For whoever watches the table (nft_watch.h): the netlink port that changes come from; how often something other
  // than subjects in a set was changed; and the sets that hold subjects.
  std::uint32_t port() const noexcept;
  std::uint64_t frames() const noexcept;
  const Layout& layout() const noexcept;
  std::vector<SubjectSet> sets() const;
  // The table that stands was made by an earlier process with this layout: elements can be read before an install.
  void assume(const Layout& layout);

  // Is our table there? Removes it, if it is.
  std::expected<bool, Error> installed();
  std::expected<void, Error> remove();

private:
  struct State;
  explicit Nft(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace sipward::daemon::nft
