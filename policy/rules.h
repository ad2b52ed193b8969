// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "policy/address.h"
#include "policy/block.h"
#include "policy/meter.h"
#include "policy/source_table.h"
#include "policy/time.h"
#include "policy/trust.h"
#include "policy/wellbeing.h"
#include "sip/marks.h"

namespace sipward::policy {

// The policies, as the operator tunes them. Shapes and defaults only; the reasons for each number stand in
// config/sipward.yaml.
struct MarkPolicy {
  Action action = Action::Block;
  friend bool operator==(const MarkPolicy&, const MarkPolicy&) = default;
};
struct RatePolicy {
  Rate limit;
  Action action = Action::Block;
  friend bool operator==(const RatePolicy&, const RatePolicy&) = default;
};
struct CountPolicy { // so many within so long
  std::uint32_t count = 1;
  Duration within = std::chrono::minutes(1);
  Action action = Action::Block;
  friend bool operator==(const CountPolicy&, const CountPolicy&) = default;
};
struct Detect {
  MarkPolicy scanner;
  RatePolicy register_flood{{10, 75}, Action::Block};
  RatePolicy invite_flood{{10, 100}, Action::Block};
  RatePolicy options_flood{{10, 100}, Action::Block};
  RatePolicy request_flood{{20, 200}, Action::Block};
  RatePolicy malformed{{1, 20}, Action::Limit};
  CountPolicy enumeration{20, std::chrono::minutes(10), Action::Block};
  CountPolicy auth_failure{20, std::chrono::minutes(10), Action::Block};
  friend bool operator==(const Detect&, const Detect&) = default;
};

// Somebody who is never blocked, and yet may send only so much: anybody may forge his address.
struct Ceiling {
  Prefix of; // each source in it for itself
  Rate limit;
  Meter meter;
};

// Everything a worker needs to judge a packet, in one immutable value. The control thread makes a new one for every
// change and publishes it; a worker reads one snapshot per burst.
struct Rules {
  std::vector<std::uint16_t> ports;          // SIP ports of the protected servers
  std::vector<Address> servers;              // who is protected; sorted. None, and the side known: all inside
  std::vector<Ceiling> ceilings;             // of some of the never-blocked; few
  PrefixSet never_blocked;                   // allow list, own addresses, gateways, resolvers, loopback, multicast
  std::vector<Prefix> blocked;               // prefixes that stand in the kernel's sets; sorted by (length, base)
  std::vector<Prefix> blocked_wholly;        // hosts and prefixes that lose every packet, not only SIP; sorted likewise
  bool block_everything = false;             // the blocked lose every packet, not only SIP (nftables.scope: all)
  bool drop_convicting = false;              // inline: the packet that convicts is dropped itself
  std::uint8_t ipv6_prefix = 64;             // an IPv6 source is its prefix of this length
  std::uint8_t network_v4 = 24;              // a stranger's network is its prefix of this length
  std::uint8_t network_v6 = 48;              // the same of an IPv6 address
  PrefixSet peers;                           // trusted from the start
  std::uint32_t remember_s = 14 * 24 * 3600; // how long trust lasts after a success
  // What is judged but for hard marks: everything; everything, but only the log hears of it (learning, or no answers
  // are seen); nothing (our own server is unwell).
  enum class Soft : std::uint8_t { Judged, Logged, Suspended } soft = Soft::Judged;

  void follow(const Wellbeing::State& state) noexcept; // sets `soft`

  MarkPolicy scanner;
  CountPolicy enumeration{.action = Action::Off}, auth_failure{.action = Action::Off};
  std::shared_ptr<const sip::Marks> marks;

  // By class: the policy, and its meters by level of trust.
  void set(Class c, const RatePolicy& policy) noexcept;
  void set_auth_failure(const CountPolicy& policy) noexcept;
  const RatePolicy& rate(Class c) const noexcept { return rates_[static_cast<std::size_t>(c)]; }
  const Meter& meter(Class c, std::uint8_t level) const noexcept { return meters_[static_cast<std::size_t>(c)][level]; }
  // Of all strangers of one network together.
  const Meter& network_meter(Class c) const noexcept { return networks_[static_cast<std::size_t>(c)]; }
  Prefix network_of(const Address& address) const noexcept {
    return Prefix::of(address, address.family == Family::V4 ? network_v4 : network_v6);
  }
  const Meter& failure_meter() const noexcept { return failures_; }
  std::uint32_t users_s() const noexcept { // an eighth of enumeration's time
    return static_cast<std::uint32_t>(std::chrono::ceil<std::chrono::seconds>(enumeration.within).count() + 7) / 8;
  }

  const Ceiling* ceiling_of(const Address& address) const noexcept { // nullptr: there is none
    for (const Ceiling& ceiling : ceilings)
      if (ceiling.of.holds(address)) return &ceiling;
    return nullptr;
  }
  bool is_port(std::uint16_t port) const noexcept;
  bool is_server(const Address& address) const noexcept;
  std::size_t server_place(const Address& address) const noexcept; // among the servers; 0 if none are named
  bool is_blocked(const Address& address) const noexcept;          // by a prefix
  bool is_blocked_wholly(const Address& address) const noexcept;

private:
  static constexpr RatePolicy kOff{{1, 1}, Action::Off};
  std::array<RatePolicy, kClasses> rates_{kOff, kOff, kOff, kOff, kOff};
  std::array<std::array<Meter, kTrustLevels>, kClasses> meters_;
  std::array<Meter, kClasses> networks_;
  Meter failures_;
};

} // namespace sipward::policy
