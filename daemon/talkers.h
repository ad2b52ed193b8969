// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "policy/judge.h"
#include "sip/message.h"

// The talkers of a capture: who sent how much to the servers' SIP ports. Requests are counted, not only flows: a flood
// may come from one port.
namespace sipward::daemon {

struct Talker {
  static constexpr std::size_t kMaxUserAgents = 8;
  static constexpr std::size_t kMaxUserAgentOctets = 256;

  policy::Address address;
  std::uint64_t requests = 0;
  std::uint64_t octets = 0;  // of whole frames, on the wire
  std::uint64_t packets = 0; // UDP datagrams to a server's SIP port, SIP or not
  std::uint64_t dropped = 0; // of these: would have been dropped or limited
  policy::Time first, last;
  std::unordered_set<std::uint64_t> flows;                    // (source port, destination port, server)
  std::vector<std::pair<sip::Method, std::uint64_t>> methods; // of requests, in the order of their appearance
  std::vector<std::string> user_agents;                       // raw, distinct, in the order of their appearance

  policy::Duration duration() const noexcept { return last - first; }
};

enum class SortKey : std::uint8_t { Requests, Flows, Octets, Packets, Duration };
std::optional<SortKey> sort_key(std::string_view name) noexcept; // "requests", "flows" ...

// One thread.
class Talkers {
public:
  static constexpr std::size_t kMaxTalkers = std::size_t{1} << 20; // further ones are only counted, by packets

  // One datagram to a server's SIP port. `server`: the server's number, whichever way they are numbered. nullptr: there
  // are kMaxTalkers already. The pointer stays valid.
  Talker* add(const policy::Datagram& datagram, const sip::Message& message, std::uint32_t server, std::size_t octets,
              policy::Time at);

  std::uint64_t packets_from(const policy::Prefix& prefix) const; // of all talkers inside
  std::vector<const Talker*> sorted(SortKey key) const;           // descending, ties by address
  std::size_t size() const noexcept { return talkers_.size(); }
  std::uint64_t packets_left_out() const noexcept { return left_out_; }

private:
  std::map<policy::Address, Talker> talkers_;
  std::uint64_t left_out_ = 0;
};

} // namespace sipward::daemon
