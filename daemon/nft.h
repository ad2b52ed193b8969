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
// Building a batch (pure: bytes) is separate from sending it (one transaction, acknowledged, all or nothing).
// Control thread only, all of it.
namespace sipward::daemon::nft {

// What the table looks like. A change of any of these makes the chains anew.
struct Layout {
  std::vector<std::string> interfaces; // of `ports.outside`, for the ingress hook
  config::Hook hook = config::Hook::Ingress;
  config::Scope scope = config::Scope::Sip;
  std::vector<std::uint16_t> ports; // SIP ports; 5061 is always added
  std::uint8_t prefix_v4 = 24;      // lengths of the elements of blocked_net_v4, blocked_net_v6 and blocked_v6
  std::uint8_t prefix_v6 = 48;
  std::uint8_t source_v6 = 64;
};

// One change to an element of the sets blocked_v4, blocked_v6 (hosts), blocked_net_v4, blocked_net_v6 (prefixes).
struct Change {
  enum class Kind : std::uint8_t { Add, Delete } kind = Kind::Add;
  policy::Subject subject;         // a host or a prefix of the layout's length
  std::chrono::seconds timeout{0}; // of an added element; the kernel drops it by itself after that
};

// Why the kernel, or this process's standing with it, refused. `code` is an errno.
struct Error {
  int code = 0;
  std::string message; // what was being done, and what the kernel said; for people
};

// An element as the kernel has it.
struct Element {
  policy::Subject subject;
  std::uint64_t packets = 0; // its counter: packets dropped, in and out
  std::uint64_t octets = 0;
  std::chrono::milliseconds remaining{0};
};

// One netlink transaction under construction: NFNL_MSG_BATCH_BEGIN, messages, NFNL_MSG_BATCH_END.
class Batch; // in nft_batch.h, for the builder and its tests

class Nft {
public:
  // Opens the netlink socket. Needs CAP_NET_ADMIN in the network namespace that is to be protected.
  static std::expected<Nft, Error> open();
  Nft(Nft&&) noexcept;
  Nft& operator=(Nft&&) noexcept;
  ~Nft();

  // Makes the whole table in one transaction, replacing any earlier table of ours: sets, the never-blocked ranges,
  // chains, rules, and the elements given. Nobody sees a moment without it.
  std::expected<void, Error> install(const Layout& layout, const policy::PrefixSet& allowed,
                                     std::span<const Change> elements);

  // Applies all changes in one transaction. An Add of an element that stands already renews its timeout (delete and
  // add); a Delete of one that is not there (any more) is no error.
  std::expected<void, Error> commit(std::span<const Change> changes);

  // Replaces the never-blocked ranges in one transaction.
  std::expected<void, Error> replace_allowed(const policy::PrefixSet& allowed);

  // What the kernel counted for one element; nothing if it is not there.
  std::expected<std::optional<Element>, Error> read(const policy::Subject& subject);
  // All elements of the blocked sets.
  std::expected<std::vector<Element>, Error> read_all();

  // Is our table there? Removes it, if it is.
  std::expected<bool, Error> installed();
  std::expected<void, Error> remove();

private:
  struct State;
  explicit Nft(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace sipward::daemon::nft
