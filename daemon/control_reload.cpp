// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include <algorithm>

#include "config/reload.h"
#include "config/rules.h"
#include "daemon/control.h"
#include "daemon/live_shadow.h"

// A new settings file while packets flow. What may be refused comes first, and is taken back if the rest is; then the
// workers get new rules between two bursts, and the kernel a table that takes the old one's place in one transaction.
// Nobody waits for either, so no packet is lost by it.
namespace sipward::daemon {
namespace {

using policy::BlockChange;

// How the kernel's table looks depends on these.
bool same_table(const config::Settings& a, const config::Settings& b) {
  return a.nftables.hook == b.nftables.hook && a.nftables.scope == b.nftables.scope && a.sip.ports == b.sip.ports &&
         a.prefix.ipv4 == b.prefix.ipv4 && a.prefix.ipv6 == b.prefix.ipv6 &&
         a.allow_limits.empty() == b.allow_limits.empty();
}

void tell_service_manager_reloading() {
  const auto now = std::chrono::floor<std::chrono::microseconds>(monotonic_now()).time_since_epoch().count();
  sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", static_cast<long long>(now));
}

} // namespace

void set_log_level(config::LogLevel level) {
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::err, spdlog::level::warn, spdlog::level::info,
                                                          spdlog::level::debug};
  spdlog::set_level(kLevels[static_cast<std::size_t>(level)]);
}

std::expected<std::unique_ptr<BlockLog>, std::string> Control::open_log(const config::Settings::Log& as) {
  auto log = BlockLog::open(as.file, as.format);
  if (log) (*log)->tell([this](LoggedEvent event) { events_.add(std::move(event)); });
  return log;
}

// Between two rounds of the loop. The error is the sentence that says why everything stays as it was.
std::expected<Control::Reloaded, std::string> Control::reload() {
  tell_service_manager_reloading();
  auto done = take_over();
  const auto now = monotonic_now();
  if (!done) {
    spdlog::error("reload refused, the old settings stay: {}", done.error());
    log_->alert("reload_refused why=" + in_quotes(done.error()), now, clock_);
  } else {
    spdlog::info("reloaded: {}",
                 done->changed.empty() ? "nothing has changed" : fmt::format("{}", fmt::join(done->changed, ", ")));
    if (!done->for_restart.empty())
      spdlog::warn("these settings wait for a restart: {}", fmt::join(done->for_restart, ", "));
    log_->alert(fmt::format("reloaded changed={} for_restart={} lifted={}",
                            word(fmt::format("{}", fmt::join(done->changed, ","))),
                            word(fmt::format("{}", fmt::join(done->for_restart, ","))), done->lifted.size()),
                now, clock_);
  }
  sd_notify(0, "READY=1");
  return done;
}

std::expected<Control::Reloaded, std::string> Control::take_over() {
  const auto wanted = reread_();
  if (!wanted) return std::unexpected(wanted.error());
  const auto next = config::succeed(settings_, *wanted);
  if (!next) return std::unexpected(next.error());
  auto tried = read_shadow(next->settings);
  if (!tried) return std::unexpected(tried.error());
  const bool tries_anew =
      !next->changed.empty() || tried->settings != (shadow_ ? std::optional(shadow_->settings()) : std::nullopt);
  std::unique_ptr<BlockLog> log;
  if (const auto& to = next->settings.log; to.file != settings_.log.file || to.format != settings_.log.format) {
    auto opened = open_log(to);
    if (!opened) return std::unexpected(opened.error());
    log = std::move(*opened);
  }
  enforce(); // what is decided already was decided by the old rules
  const auto before = std::exchange(settings_, next->settings);
  if (const auto changed = change_kernel(before); !changed) {
    settings_ = before;
    return std::unexpected(changed.error());
  }
  rules_ = config::rules(settings_);
  set_log_level(settings_.log.level);
  if (log) {
    log_->summarise(monotonic_now() + std::chrono::seconds(1), clock_); // the old file's last word
    log_ = std::move(log);
    remember_alerts();
  }
  shift_trust(before.trust.remember);
  collect(blocks_.set_options(config::block_options(settings_), monotonic_now()));
  refresh_never_blocked(); // and publishes the rules
  collect(blocks_.ask_who_passes());
  Reloaded done{next->changed, next->for_restart, {}};
  for (const auto& change : pending_)
    if (change.kind == BlockChange::Kind::Removed && change.ending == policy::Ending::NeverBlocked)
      done.lifted.push_back(change.block.subject);
  enforce();
  if (tries_anew)
    if (const auto begun = try_settings(std::move(*tried)); !begun) spdlog::error("{}", begun.error());
  if (!in_sync_)
    return std::unexpected("the settings are taken over, but nftables refuses its part; see the daemon's log");
  return done;
}

// The workers' sockets, the NICs and the kernel's table, as far as they depend on the settings. On refusal they are as
// before.
std::expected<void, std::string> Control::change_kernel(const config::Settings& before) {
  if (same_table(before, settings_)) return {};
  const auto set_scope = [&](const config::Settings& as) {
    return dataplane_->set_scope(as.sip.ports, as.nftables.scope == config::Scope::All);
  };
  const auto heard = set_scope(settings_);
  if (!heard) {
    [[maybe_unused]] const auto back = set_scope(before);
    return heard;
  }
  if (resynchronise()) return {};
  [[maybe_unused]] const auto back = set_scope(before);
  const auto refused = std::exchange(settings_, before);
  resynchronise();
  settings_ = refused;
  return std::unexpected("nftables refuses the new table; see the daemon's log");
}

// Trust counts from the last success, also if it is remembered for longer or shorter now. A success that a worker notes
// meanwhile, by the old rules, ends when they say; the next one mends that.
void Control::shift_trust(std::chrono::seconds before) {
  const auto step = (settings_.trust.remember - before).count();
  if (step == 0) return;
  const auto now = policy::Now(monotonic_now()).s;
  const auto& trust = dataplane_->ledger().trust;
  trust.each(0, trust.lines(), now, [&](policy::Trustee& trustee) {
    const auto until = std::int64_t{trustee.until_s.load(std::memory_order_relaxed)} + step;
    trustee.until_s.store(static_cast<std::uint32_t>(std::clamp<std::int64_t>(until, 1, UINT32_MAX)),
                          std::memory_order_relaxed);
  });
  trust_written_.clear(); // write_trust() tells the file
}

} // namespace sipward::daemon
