// SPDX-License-Identifier: GPL-2.0-or-later
#include <spdlog/spdlog.h>

#include <algorithm>

#include "daemon/control.h"

// The off switch: every rule goes at once, and the daemon judges on as in a dry run. Who stands blocked stays in the
// list, unenforced, and is blocked again by `on` for the time that is left. Whoever is convicted meanwhile would be
// blocked, and is not by `on` alone: only if he goes on.
namespace sipward::daemon {

using namespace std::chrono_literals;

// What an earlier run, or a command without a daemon, has written down. A clock that cannot be believed does not end
// it: then it lasts as long as it was meant to, from now on.
void Control::restore_off(const OffSwitch& off) {
  if (!off.off) return;
  const auto now = monotonic_now();
  off_ = off;
  if (off.until) {
    const auto whole = *off.until - off.since, left = *off.until - clock_.at(now);
    off_until_ = now + (believes_clock_ ? std::min(left, whole) : whole);
  }
  if (off_until_ && *off_until_ <= now) { // it ended while nobody was there
    off_ = {};
    off_until_.reset();
    state_->write({off_}, clock_.at(now));
    return tell_off("on why=\"its time is over\"");
  }
  blocks_.suspend(true);
  spdlog::warn("sipward is switched off: nobody is blocked; `sipward on` ends it");
  tell_off("off " + off_text());
}

std::string Control::off_text() const {
  return "since=" + rfc3339(off_.since) + " until=" + (off_.until ? rfc3339(*off_.until) : "on") +
         (off_.reason.empty() ? "" : " reason=" + in_quotes(off_.reason)) + " blocks=" + std::to_string(blocks_.size());
}

// `length`: nothing, until switch_on(). False: nftables refuses, and is asked again and again.
bool Control::switch_off(std::optional<std::chrono::seconds> length, std::string reason) {
  const auto now = monotonic_now();
  const auto wall = clock_.at(now);
  const auto standing = read_standing({});
  off_ = {.off = true, .since = wall, .until = std::nullopt, .reason = std::move(reason)};
  off_until_.reset();
  if (length) {
    off_.until = wall + *length;
    off_until_ = now + *length;
  }
  blocks_.suspend(true);
  if (lift_rules())
    for (const auto& [key, packets] : standing) blocks_.carry_over(key.subject, key.limit, packets);
  for (const auto& [subject, block] : blocks_) mark_source(block, false);
  for (const auto& [subject, block] : blocks_.limits()) mark_source(block, false);
  dataplane_->publish(make_rules());
  state_->write({off_}, wall);
  spdlog::warn("switched off: every rule is removed, nobody is blocked");
  tell_off("off " + off_text());
  return in_sync_;
}

// Likewise.
bool Control::switch_on(std::string_view why) {
  off_ = {};
  off_until_.reset();
  blocks_.suspend(false);
  const bool stands = resynchronise();
  dataplane_->publish(make_rules());
  state_->write({off_}, clock_.at(monotonic_now()));
  spdlog::info("switched on: {} blocks stand", blocks_.size());
  tell_off("on why=" + in_quotes(why) + " blocks=" + std::to_string(blocks_.size()));
  return stands;
}

void Control::follow_off() {
  if (off_until_ && monotonic_now() >= *off_until_) switch_on("its time is over");
}

// Inline, what the dataplane forwards stays kept from the kernel: that blocks nobody.
bool Control::lift_rules() {
  auto lifted = inline_mode() ? nft_->install(layout(), let_through(), {}) : std::expected<void, nft::Error>();
  if (lifted) lifted = nft_->remove();
  if (!lifted) lifted.error().message += "; the rules stay until it works";
  return note_sync(lifted);
}

void Control::tell_off(const std::string& text) { log_->alert(text, monotonic_now(), clock_); }

} // namespace sipward::daemon
