// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
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
//   sets    blocked_v4 blocked_v6           hosts (IPv6 by masked prefix), each with a timeout and a counter
//           blocked_net_v4 blocked_net_v6   prefixes by their masked base, the same
//           allowed_v4 allowed_v6           the never-blocked ranges
//           sip_ports                       what `scope: sip` covers; absent with `scope: all`
//   chains  ingress                         of each interface, the cheapest place to drop; absent with hook prerouting
//           prerouting                      before conntrack: what ingress cannot match (QinQ, PPPoE), other interfaces
//           output                          hook postrouting: answers, a local server's and a forwarded one's
//
// Beside it, inline, the table `netdev sipward` with one chain, `ingress`: on the interfaces that the dataplane
// forwards between, the kernel drops everything, for it would receive every packet a second time and answer it. The
// packet socket hears a packet before that.
//
// Every chain asks, in this order: not SIP? accept; allowed? accept; blocked host? drop; blocked prefix? drop. A later
// fragment has no ports to ask for, and kernels differ in what they make of that: it may pass, but its datagram never
// becomes whole, since the first fragment, which has the ports, is dropped.
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
  std::uint8_t prefix_v4 = 24; // lengths of the elements of blocked_net_v4, blocked_net_v6 and blocked_v6, at least 1
  std::uint8_t prefix_v6 = 48;
  std::uint8_t source_v6 = 64;
};

// One change to an element of the sets blocked_v4, blocked_v6 (hosts), blocked_net_v4, blocked_net_v6 (prefixes).
struct Change {
  enum class Kind : std::uint8_t { Add, Delete } kind = Kind::Add;
  policy::Subject subject;         // a host or a prefix of the layout's length
  std::chrono::seconds timeout{0}; // of an added element; the kernel drops it by itself after that. 0: never
};

// Why the kernel, or this process's standing with it, refused.
struct Error {
  int code = 0;        // an errno
  std::string message; // what was being done, what the kernel said, and where it helps what to do; for people
};

// An element as the kernel has it.
struct Element {
  policy::Subject subject;
  std::uint64_t packets = 0; // its counter: packets dropped, in and out
  std::uint64_t octets = 0;
  std::chrono::milliseconds remaining{0}; // 0: it does not run out
};

class Nft {
public:
  // Opens the netlink socket and asks the kernel a first question, so that a missing CAP_NET_ADMIN (in the network
  // namespace that is to be protected) or a kernel without nf_tables is an error here and not at the first attack.
  static std::expected<Nft, Error> open();
  Nft(Nft&&) noexcept;
  Nft& operator=(Nft&&) noexcept;
  ~Nft();

  // Makes the whole table in one transaction, replacing any earlier table of ours: sets, the never-blocked ranges,
  // chains, rules, and the elements given. Nobody sees a moment without it. Counters begin at zero.
  std::expected<void, Error> install(const Layout& layout, const policy::PrefixSet& allowed,
                                     std::span<const Change> elements);

  // Applies all changes in one transaction. An Add of an element that stands already renews its timeout (and its
  // counter begins anew: read it before); a Delete of one that is not there (any more) is no error. Of several changes
  // to one subject the last counts. ENOENT: the table is gone. Subjects must fit the layout last installed (the default
  // layout's lengths before that), else EINVAL, and nothing is changed.
  std::expected<void, Error> commit(std::span<const Change> changes);

  // Replaces the never-blocked ranges in one transaction.
  std::expected<void, Error> replace_allowed(const policy::PrefixSet& allowed);

  // Empties the four blocked sets in one transaction; no table is no error. Needs no earlier install.
  std::expected<void, Error> flush_elements();

  // What the kernel counted for one element; nothing if it is not there.
  std::expected<std::optional<Element>, Error> read(const policy::Subject& subject);
  // All elements of the blocked sets, ordered by subject. The kernel begins every part of its answer at the set's first
  // element, so the cost grows with the square: some 30 ms for 10,000 elements, seconds for 131,072; one read() is 10
  // us. EINTR: others kept changing tables while we read.
  std::expected<std::vector<Element>, Error> read_all();

  // Gives the kernel back the interfaces that a layout took from it; none taken is no error. Needs no earlier install.
  std::expected<void, Error> give_back();

  // Is our table there? Removes it, if it is.
  std::expected<bool, Error> installed();
  std::expected<void, Error> remove();

private:
  struct State;
  explicit Nft(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace sipward::daemon::nft
