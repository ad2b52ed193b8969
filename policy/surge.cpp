// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/surge.h"

#include <algorithm>
#include <cmath>

namespace sipward::policy {
namespace {

using namespace std::chrono_literals;

constexpr double kMemoryS = 600; // long beside a round of registrations or keepalives, short beside the day's course
constexpr double kWarmUpS = 60;  // one such round

// A busy second is two or three times the average of its ten minutes (calls on the hour, phones that refresh together);
// the floods that woke operators were ten times it and more. Four lies between, and leaves a factor of two for the end.
constexpr double kAlarmFactor = 4;
// A server whose traffic comes in bursts swings further than that: what is within six deviations is usual, too.
constexpr double kAlarmDeviations = 6;
// Below these nobody needs to be woken: a hundred small requests a second is what a desk phone could answer.
constexpr double kFloorPackets = 100;
constexpr double kFloorOctets = 50'000;

constexpr auto kHighFor = 3s; // what everybody sends at once is over sooner
constexpr auto kLowFor = 30s; // attackers pause
constexpr auto kNewUsualAfter = 1h;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

} // namespace

void UsualRate::learn(double per_s, double over_s) noexcept {
  learnt_s_ += over_s;
  const double weight = over_s / std::min(learnt_s_, std::max(kMemoryS, over_s)); // at first a plain average
  const double difference = per_s - mean_per_s_;
  mean_per_s_ += weight * difference;
  variance_ = (1 - weight) * (variance_ + weight * difference * difference);
}

double UsualRate::alarm_per_s() const noexcept {
  return std::max({floor_per_s_, kAlarmFactor * mean_per_s_, mean_per_s_ + kAlarmDeviations * std::sqrt(variance_)});
}

Surge::Usual::Usual() noexcept : packets(kFloorPackets), octets(kFloorOctets) {}

void Surge::Usual::learn(const TrafficRate& rate, double over_s) noexcept {
  packets.learn(rate.packets_per_s, over_s);
  octets.learn(rate.octets_per_s, over_s);
}

Surge::Event Surge::note(const Traffic& traffic, Time now) noexcept {
  const auto from = last_;
  if (from && now <= *from) return Event::None; // no time, no rate
  last_ = now;
  if (!from) return Event::None;
  const double over_s = seconds(now - *from);
  present_ = {static_cast<double>(traffic.packets) / over_s, static_cast<double>(traffic.octets) / over_s};
  if (during_) {
    during_->learn(present_, over_s);
    return watch_for_end(*from, now);
  }
  const bool warming_up = usual_.packets.learnt_s() < kWarmUpS;
  const bool high =
      present_.packets_per_s > usual_.packets.alarm_per_s() && present_.octets_per_s > usual_.octets.alarm_per_s();
  if (warming_up || !high) {
    since_.reset();
    usual_.learn(present_, over_s);
    return Event::None;
  }
  return watch_for_rise(*from, now);
}

Surge::Event Surge::watch_for_rise(Time from, Time now) noexcept {
  if (!since_) since_ = from;
  if (now - *since_ < kHighFor) return Event::None;
  began_ = *since_;
  since_.reset();
  during_.emplace();
  during_->learn(present_, seconds(now - from));
  return Event::Rising;
}

Surge::Event Surge::watch_for_end(Time from, Time now) noexcept {
  const bool low = present_.packets_per_s < usual_.packets.alarm_per_s() / 2 &&
                   present_.octets_per_s < usual_.octets.alarm_per_s() / 2;
  if (!low)
    since_.reset();
  else if (!since_)
    since_ = from;
  const bool over = since_ && now - *since_ >= kLowFor;
  if (!over && now - began_ < kNewUsualAfter) return Event::None;
  if (!over) usual_ = *during_;
  since_.reset();
  during_.reset();
  return over ? Event::Over : Event::Settled;
}

void Surges::set_servers(std::span<const Address> servers) {
  std::vector<Server> next;
  for (const auto& address : servers.first(std::min(servers.size(), kMaxServers))) {
    const Surge* known = find(address);
    next.push_back({address, known != nullptr ? *known : Surge()});
  }
  std::ranges::sort(next, {}, &Server::address);
  servers_ = std::move(next);
}

Surge* Surges::find(const Address& server) noexcept {
  const auto at = std::ranges::lower_bound(servers_, server, {}, &Server::address);
  return at != servers_.end() && at->address == server ? &at->surge : nullptr;
}

} // namespace sipward::policy
