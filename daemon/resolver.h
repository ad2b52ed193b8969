// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"

// The addresses of a SIP domain, as DNS knows them: what RFC 3263 may lead a call to or from, which is more than one
// address record. A name's NAPTR records lead to SRV names, SRV records to hosts, and hosts have A and AAAA records; a
// domain without NAPTR has its SRV records under _sip._udp, _sip._tcp and _sips._tcp. All of these are taken.
namespace sipward::daemon {

struct Resolved {
  std::vector<policy::Address> addresses; // sorted, each once
  std::chrono::seconds ttl{0};            // the shortest of what was read; of nothing, how long that is to be believed
  bool whole = true;                      // false: a server did not answer, and something may be missing
};

class Resolver {
public:
  // The servers of resolv.conf(5), read anew each time; or this one, at 127.0.0.1 and a port, for tests.
  explicit Resolver(std::optional<std::uint16_t> local_port = std::nullopt) : local_port_(local_port) {}

  // Waits for the servers, some seconds at most: not for the control thread. Asks 64 questions at most.
  Resolved resolve(const std::string& name) const;

private:
  std::optional<std::uint16_t> local_port_;
};

} // namespace sipward::daemon
