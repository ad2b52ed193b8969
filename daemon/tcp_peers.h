// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <compare>
#include <cstdint>
#include <expected>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/time.h"

// Who holds TCP and TLS connections to this host's SIP ports: phones that sipward does not read, and that a block of
// their address would cut off. Of servers in other network namespaces (containers, virtual machines) nothing is known
// here. Control thread only.
namespace sipward::daemon {

struct TcpPeer { // the far end of an established connection
  policy::Address address;
  std::uint16_t port = 0;
  friend auto operator<=>(const TcpPeer&, const TcpPeer&) = default;
};

// Those connected to one of `ports` here, as the kernel has it now (sock_diag(7), inet_diag). The error is a sentence.
std::expected<std::vector<TcpPeer>, std::string> connected_to(std::span<const std::uint16_t> ports);

class TcpPeers {
public:
  // A connection counts once it has lasted so long: an attacker opens three in a moment, to be taken for an office.
  static constexpr auto kLasting = std::chrono::minutes(5);

  // What is connected now. What was there at the first look has lasted.
  void note(std::vector<TcpPeer> connected, policy::Time now);

  std::uint32_t lasting(const policy::Address& address) const; // how many that have lasted, at the last look

private:
  std::map<TcpPeer, policy::Time> since_; // of the connections that are there
  std::map<policy::Address, std::uint32_t> lasting_;
  bool looked_ = false;
};

} // namespace sipward::daemon
