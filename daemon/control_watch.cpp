// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <span>
#include <utility>

#include "daemon/alerts.h"
#include "daemon/control.h"
#include "daemon/live_shadow.h"

// What the control thread looks after beside offences: ports, lengths, and how the protected servers fare.
namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
using policy::Why;

constexpr auto kFollowEvery = 100ms; // under a storm the loop goes round far more often
constexpr auto kPulseEvery = 1s;
constexpr std::size_t kTalkersNamed = 5;
constexpr std::uint32_t kTelling = 10; // packets in a row
constexpr auto kTcpLookEvery = 30s;
constexpr std::uint16_t kSipsPort = 5061; // RFC 3261, section 19.1.2
constexpr std::uint64_t kMuch = 120;      // an hour: with fewer successes nobody is a large part of anything

std::uint64_t requests_in(const dataplane::Counters& counters) {
  std::uint64_t sum = 0;
  for (const Why why : {Why::Clean, Why::Unmetered, Why::NeverBlocked, Why::Suspended, Why::Scanner, Why::RegisterFlood,
                        Why::InviteFlood, Why::OptionsFlood, Why::RequestFlood})
    sum += counters.verdicts[static_cast<std::size_t>(why)];
  return sum;
}

} // namespace

// A deleted interface is heard of no more, even if one of the same name takes its place: say so, once.
void Control::watch_ports() {
  if (const auto now = monotonic_now(); now >= next_follow_) {
    next_follow_ = now + kFollowEvery;
    dataplane_->follow_interfaces();
  }
  const std::string gone = dataplane_->gone();
  if (gone == gone_port_) return;
  gone_port_ = gone;
  if (gone.empty()) return;
  spdlog::error("the interface {} was deleted: its packets are seen no more until sipward is restarted", gone);
  log_->alert("interface_gone name=" + in_quotes(gone), monotonic_now(), clock_);
}

// Inline: frames longer than the wire carries. Either the two MTUs differ, or the other end is virtual and leaves the
// splitting of its segments to hardware that is not there.
void Control::watch_lengths() {
  const auto now = monotonic_now();
  const auto too_long = dataplane_->counters().verdicts[static_cast<std::size_t>(Why::TooLong)];
  if (too_long == too_long_seen_ || now < next_too_long_alert_) return;
  too_long_seen_ = too_long;
  next_too_long_alert_ = now + kAlertEvery;
  spdlog::warn("{} frames were too long to forward: compare the MTUs, and if the other end of an interface is virtual "
               "(veth), switch off its tso and gso (ethtool -K)",
               too_long);
  log_->alert("too_long frames=" + std::to_string(too_long), now, clock_);
}

// Once a second: are our servers well, do we see what they answer, and does more come in than usual?
void Control::watch_servers() {
  const auto now = monotonic_now();
  if (now < next_pulse_) return;
  next_pulse_ = now + kPulseEvery;
  const auto counters = dataplane_->counters();
  const auto requests = requests_in(counters), answers = counters.verdicts[static_cast<std::size_t>(Why::Answer)];
  note_second(counters, requests - requests_seen_, answers - answers_seen_, now);
  const auto second = dataplane_->ledger().take_second(requests - std::exchange(requests_seen_, requests),
                                                       answers - std::exchange(answers_seen_, answers));
  const auto before = wellbeing_.state(), after = wellbeing_.note(second, now);
  for (const auto& alert : {health_alert(before, wellbeing_), sight_alert(before, wellbeing_)})
    if (!alert.empty()) log_->alert(alert, now, clock_);
  if (after.unwell && !before.unwell) {
    collect(blocks_.lift_since(now - policy::Wellbeing::kDoubtful));
    if (shadow_) shadow_->lift_since(now - policy::Wellbeing::kDoubtful, now);
  }
  if (after != before) {
    dataplane_->publish(make_rules());
    refresh_shadow();
  }
  watch_loads(now);
}

// For who looks at what passes just now. A pulse may be late, so it is measured.
void Control::note_second(const dataplane::Counters& counters, std::uint64_t requests, std::uint64_t answers,
                          policy::Time now) {
  const double seconds = std::chrono::duration<double>(now - std::exchange(pulse_at_, now)).count();
  const auto per_s = [&](std::uint64_t count) { return static_cast<double>(count) / seconds; };
  const auto before = std::exchange(second_before_, counters);
  if (before.received == 0 && seconds > 10) return; // the first pulse: since when?
  last_second_ = {per_s(counters.received - before.received), per_s(requests), per_s(answers),
                  per_s(counters.dropped - before.dropped)};
}

policy::Census& Control::census() {
  if (!census_) census_.emplace(dataplane_->ledger().sources);
  return *census_;
}

void Control::watch_loads(policy::Time now) {
  const auto& loads = dataplane_->ledger().loads;
  auto watched = servers();
  const bool named = !watched.empty();
  if (!named) watched.emplace_back(); // all inside together
  watched.resize(std::min(watched.size(), loads.size()));
  std::vector<policy::Traffic> totals;
  for (const auto& load : std::span(loads).first(watched.size()))
    totals.push_back({load.packets.load(std::memory_order_relaxed), load.octets.load(std::memory_order_relaxed)});
  const bool same = watched == watched_;
  const auto before = std::exchange(counted_, totals);
  watched_ = std::move(watched);
  surges_.set_servers(watched_);
  if (!same) return; // the loads are by place, and places have changed
  for (std::size_t i = 0; i < watched_.size(); ++i) {
    policy::Surge* surge = surges_.find(watched_[i]);
    if (surge == nullptr) continue;
    const auto event = surge->note({totals[i].packets - before[i].packets, totals[i].octets - before[i].octets}, now);
    if (event == policy::Surge::Event::None) continue;
    const auto server = named ? to_string(watched_[i]) : "all";
    log_->alert(surge_alert(server, event, *surge, top_talkers(now)), now, clock_);
  }
}

// Phones that we cannot read, because they come over TCP or TLS, are behind an address all the same.
void Control::watch_tcp_peers() {
  const auto now = monotonic_now();
  if (now < next_tcp_look_) return;
  next_tcp_look_ = now + kTcpLookEvery;
  auto ports = settings_.sip.ports;
  ports.push_back(kSipsPort);
  auto connected = connected_to(ports);
  if (connected) return tcp_peers_.note(std::move(*connected), now);
  if (std::exchange(sees_tcp_, false))
    spdlog::warn("{}: phones on TCP and TLS do not count among those whom a block would cut off", connected.error());
}

policy::Collateral Control::behind(const policy::Address& address) const {
  policy::Collateral found{.tcp_peers = tcp_peers_.lasting(address)};
  const auto now_s = policy::Now(monotonic_now()).s;
  const auto key = policy::source_key(address, settings_.sources.ipv6_prefix);
  const auto* trustee = dataplane_->ledger().trust.find(key, now_s);
  if (trustee == nullptr || answered_per_hour_ == 0) return found;
  const std::uint64_t answered = trustee->answered_per_hour();
  if (answered >= kMuch)
    found.share = static_cast<std::uint8_t>(std::min<std::uint64_t>(100 * answered / answered_per_hour_, 100));
  return found;
}

// Who sends most just now, the busiest first: "198.51.100.66 (812/s), ...".
std::string Control::top_talkers(policy::Time at) const {
  const policy::Now now(at);
  std::vector<std::pair<double, policy::SourceKey>> talkers;
  dataplane_->ledger().sources.each([&](policy::SourceKey key, const policy::Source& source) {
    if (source.busy_packets.load(std::memory_order_relaxed) < kTelling) return; // two packets of a phone are no rate
    const double rate = source.drained(now) ? 0 : source.rate_per_s(now);
    if (rate > 0) talkers.emplace_back(rate, key);
  });
  const auto named = std::min(talkers.size(), kTalkersNamed);
  std::ranges::partial_sort(talkers, talkers.begin() + static_cast<std::ptrdiff_t>(named), std::greater{});
  std::string text;
  for (const auto& [rate, key] : std::span(talkers).first(named))
    text += fmt::format("{}{} ({:.0f}/s)", text.empty() ? "" : ", ",
                        to_string(policy::source_prefix(key, settings_.sources.ipv6_prefix)), rate);
  return text;
}

// The service manager waits for a sign of life, and is told in a line how things are (`systemctl status`).
void Control::feed_watchdog() {
  const auto advice = watchdog_.look(monotonic_now(), dataplane_->rounds());
  if (advice == Watchdog::Advice::Feed) {
    sd_notify(0, "WATCHDOG=1");
  } else if (advice == Watchdog::Advice::Starve) {
    spdlog::critical("worker {} stands still: unless it goes on, the service manager starts sipward anew",
                     watchdog_.still());
  }
  const auto status = fmt::format("{} blocked{}{}", blocks_.size(), learning() ? ", learning" : "",
                                  in_sync_ ? "" : ", nftables out of sync");
  if (advice == Watchdog::Advice::Wait || status == told_status_) return;
  told_status_ = status;
  sd_notifyf(0, "STATUS=%s", status.c_str());
}

} // namespace sipward::daemon
