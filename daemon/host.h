// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <expected>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "policy/address.h"

// What the kernel knows of this host: whom a block must never touch. Followed through rtnetlink(7). Control thread
// only.
namespace sipward::daemon {

struct HostFacts {
  std::map<std::string, std::vector<policy::Address>> addresses; // by interface
  std::vector<policy::Prefix> networks;                          // that these are in, on a link of ours
  std::vector<policy::Address> gateways;                         // of every default route
  std::vector<policy::Address> resolvers;                        // nameservers of resolv.conf(5)

  // Addresses and gateways, with loopback and multicast; not the resolvers, whom `block --force` may block.
  std::vector<policy::Prefix> never_blocked() const;
  friend bool operator==(const HostFacts&, const HostFacts&) = default;
};

class Host {
public:
  static std::expected<Host, std::string> open();
  Host(Host&&) noexcept;
  Host& operator=(Host&&) noexcept;
  ~Host();

  // Readable when an address, a route or an interface has changed.
  int event() const noexcept;
  // Empties the event queue; true if anything was in it.
  bool changed();
  // Asks the kernel anew.
  std::expected<HostFacts, std::string> facts();

private:
  struct State;
  explicit Host(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace sipward::daemon
