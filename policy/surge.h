// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "policy/address.h"
#include "policy/time.h"

// The surge warning: a protected server's traffic rises abruptly above what is usual for it. It says so once, and once
// more when it is over; it blocks nobody.
//
//   rate
//    |              3 s  ______________________                 alarm level: 4 x usual
//    |                  |Rising                |
//    |                  |                      |   30 s         half of it
//    |__________________|                      |________|Over
//    |  usual, learnt       not learnt
//
// Packets and octets must rise together: many small packets alone are keepalives after an outage, few large ones a
// provisioning server's doing.
namespace sipward::policy {

struct Traffic {
  std::uint64_t packets = 0;
  std::uint64_t octets = 0;
};
struct TrafficRate {
  double packets_per_s = 0;
  double octets_per_s = 0;
};

// What one rate usually is: an average of the last ten minutes, in which the past fades, and how far it swings.
class UsualRate {
public:
  explicit UsualRate(double floor_per_s) : floor_per_s_(floor_per_s) {}

  void learn(double per_s, double over_s) noexcept; // it was this high for so long
  double mean_per_s() const noexcept { return mean_per_s_; }
  double alarm_per_s() const noexcept;
  double learnt_s() const noexcept { return learnt_s_; }

private:
  double floor_per_s_;
  double mean_per_s_ = 0;
  double variance_ = 0;
  double learnt_s_ = 0;
};

// Of one server. Time is an argument.
class Surge {
public:
  enum class Event : std::uint8_t {
    None,
    Rising,
    Over,
    Settled, // it has lasted for an hour: that is the usual level from now on
  };

  // The server's traffic since the last call. To be called once a second; the first call only starts the clock.
  Event note(const Traffic& traffic, Time now) noexcept;

  bool lasts() const noexcept { return during_.has_value(); }
  TrafficRate present() const noexcept { return present_; }
  TrafficRate usual() const noexcept { return {usual_.packets.mean_per_s(), usual_.octets.mean_per_s()}; }

private:
  struct Usual {
    UsualRate packets, octets;
    Usual() noexcept;
    void learn(const TrafficRate& rate, double over_s) noexcept;
  };
  Event watch_for_rise(Time from, Time now) noexcept;
  Event watch_for_end(Time from, Time now) noexcept;

  Usual usual_;
  std::optional<Usual> during_; // learnt since the surge began; nothing: there is none
  TrafficRate present_;
  std::optional<Time> last_;  // call
  std::optional<Time> since_; // high without a break; while a surge lasts, low without a break
  Time began_;                // the surge
};

// All servers, a bounded number.
class Surges {
public:
  static constexpr std::size_t kMaxServers = 256;

  // Who is protected now. Those who were stay known; beyond kMaxServers none is watched.
  void set_servers(std::span<const Address> servers);
  Surge* find(const Address& server) noexcept; // nullptr: not watched
  std::size_t size() const noexcept { return servers_.size(); }

private:
  struct Server {
    Address address;
    Surge surge;
  };
  std::vector<Server> servers_; // sorted by address
};

} // namespace sipward::policy
