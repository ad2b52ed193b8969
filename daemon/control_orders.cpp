// SPDX-License-Identifier: GPL-2.0-or-later
#include <spdlog/spdlog.h>

#include <algorithm>

#include "daemon/control.h"

// What the operator orders, and what keeps him from locking himself out.
namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;

constexpr auto kLoginsEvery = 3s;
constexpr auto kWantEvery = 1s;
constexpr std::size_t kMostAllowed = 4096; // at run time; the settings take more
constexpr std::uint8_t kWidestAllowedV4 = 8, kWidestAllowedV6 = 16;

} // namespace

// ---- blocks

std::expected<policy::Subject, std::string> Control::carry_out(const BlockOrder& order) {
  const auto subject = blocks_.subject_of(order.prefix);
  if (!subject) return std::unexpected(subject.error());
  if (const auto who = guards(subject->prefix); !who.empty()) {
    if (!order.force) return std::unexpected(who + "; --force blocks it all the same");
    forced_.insert(*subject);
    refresh_never_blocked();
  }
  const auto now = monotonic_now();
  const policy::Block* standing = blocks_.find(*subject);
  std::optional<policy::Block> before;
  if (standing != nullptr && order.confirm_within) {
    before = *standing;
    before->packets_dropped += dropped(*standing).value_or(0);
  }
  auto changes =
      blocks_.block(order.prefix, order.confirm_within.value_or(order.length), order.note, now, order.wholly);
  if (!changes) {
    end_forced();
    return std::unexpected(changes.error());
  }
  if (const auto waiting = unconfirmed_.extract(*subject); waiting && order.confirm_within)
    before = waiting.mapped().before; // what stood before the first of them
  if (order.confirm_within)
    unconfirmed_[*subject] = {now + *order.confirm_within, now + order.length, std::move(before)};
  end_immunity(subject->prefix); // the operator thinks better of it
  collect(std::move(*changes));
  enforce();
  return *subject;
}

std::vector<policy::Subject> Control::confirm(const std::optional<policy::Prefix>& whom) {
  std::vector<policy::Subject> confirmed;
  for (auto at = unconfirmed_.begin(); at != unconfirmed_.end();) {
    const auto& [subject, waiting] = *at;
    const auto* block = blocks_.find(subject);
    if (block == nullptr || (whom && !subject.prefix.holds(*whom))) {
      ++at;
      continue;
    }
    collect(blocks_.prolong(subject, waiting.until, dropped(*block).value_or(0)));
    confirmed.push_back(subject);
    at = unconfirmed_.erase(at);
  }
  enforce();
  return confirmed;
}

// A block that nobody confirmed has run out by itself, as it would have without us; what stood before it comes back.
void Control::end_unconfirmed() {
  const auto now = monotonic_now();
  for (auto at = unconfirmed_.begin(); at != unconfirmed_.end();) {
    auto& [subject, waiting] = *at;
    if (blocks_.find(subject) != nullptr) {
      ++at;
      continue;
    }
    if (now >= waiting.ends) { // else it was lifted by hand
      log_->alert("unconfirmed subject=" + to_string(subject), now, clock_);
      if (waiting.before && waiting.before->until > now)
        collect(blocks_.restore({.blocks = {std::move(*waiting.before)}, .climbs = {}}, now));
    }
    at = unconfirmed_.erase(at);
  }
}

// ---- whom a block would cut off from mending it

std::vector<policy::Address> Control::guarded() const {
  auto all = facts_.resolvers;
  all.insert(all.end(), logged_in_.begin(), logged_in_.end());
  std::erase_if(all, [&](const policy::Address& address) {
    return std::ranges::any_of(forced_, [&](const policy::Subject& subject) { return subject.prefix.holds(address); });
  });
  return all;
}

std::string Control::guards(const policy::Prefix& prefix) const {
  const auto in_there = [&](const policy::Address& address) { return prefix.holds(address); };
  const auto guarded = this->guarded();
  const auto found = std::ranges::find_if(guarded, in_there);
  if (found == guarded.end()) return {};
  const bool is_login = std::ranges::binary_search(logged_in_, *found);
  const std::string what =
      is_login ? "an address from which somebody is logged in to this host" : "a resolver of this host";
  if (prefix == policy::Prefix::host(*found)) return to_string(*found) + " is " + what;
  return to_string(prefix) + " holds " + to_string(*found) + ", " + what;
}

void Control::follow_logins() {
  const auto now = monotonic_now();
  if (now < next_logins_) return;
  next_logins_ = now + kLoginsEvery;
  auto found = logins_.now();
  if (found == logged_in_) return;
  for (const auto& address : found)
    if (!std::ranges::binary_search(logged_in_, address))
      spdlog::info("somebody is logged in to this host from {}: it is never blocked meanwhile", to_string(address));
  logged_in_ = std::move(found);
  refresh_never_blocked();
}

// Names and lists: what has come of them is in force at once, and every change is told.
void Control::follow_allow_book() {
  if (const auto now = monotonic_now(); now >= next_want_) { // a reload may have changed them
    next_want_ = now + kWantEvery;
    allow_book_->want({settings_.allow_names, settings_.allow_files, settings_.allow_folder});
  }
  auto news = allow_book_->take();
  if (!news) return;
  for (const auto& change : news->changes) spdlog::info("{}", change);
  if (news->ranges == allow_found_) return;
  allow_found_ = std::move(news->ranges);
  log_->alert("allow_changed ranges=" + std::to_string(allow_found_.size()), monotonic_now(), clock_);
  refresh_never_blocked();
}

// A forced block that has ended guards again whom it had cut off.
void Control::end_forced() {
  if (std::erase_if(forced_, [&](const policy::Subject& subject) { return blocks_.find(subject) == nullptr; }) > 0)
    refresh_never_blocked();
}

// ---- exemptions: allowed at run time, and immune after an unblock

void Control::make_immune(const policy::Prefix& prefix, std::chrono::seconds length) {
  const auto until = monotonic_now() + length;
  immune_[prefix] = until;
  write_exemption(ExemptionKind::Immune, prefix, until);
  refresh_never_blocked();
}

void Control::end_immunity(const policy::Prefix& within) {
  const auto ended = std::erase_if(immune_, [&](const auto& entry) {
    if (!entry.first.overlaps(within)) return false;
    erase_exemption(ExemptionKind::Immune, entry.first);
    return true;
  });
  if (ended > 0) refresh_never_blocked();
}

void Control::end_immunity() {
  const auto now = monotonic_now();
  if (std::erase_if(immune_, [&](const auto& entry) { return entry.second <= now; }) > 0) refresh_never_blocked();
}

std::expected<void, std::string> Control::allow(const policy::Prefix& prefix,
                                                std::optional<std::chrono::seconds> length) {
  const auto widest = prefix.base.family == policy::Family::V4 ? kWidestAllowedV4 : kWidestAllowedV6;
  if (prefix.length < widest)
    return std::unexpected(to_string(prefix) + " is too wide: /" + std::to_string(widest) +
                           " at most. To block nobody at all there is `sipward off`");
  if (allowed_.size() >= kMostAllowed && !allowed_.contains(prefix))
    return std::unexpected(std::to_string(kMostAllowed) +
                           " ranges are allowed at run time already; put them into `allow` in the settings");
  const auto now = monotonic_now();
  const auto until = length ? std::optional<policy::Time>(now + *length) : std::nullopt;
  allowed_[prefix] = until;
  write_exemption(ExemptionKind::Allowed, prefix, until);
  log_->alert("allowed subject=" + to_string(prefix) + (until ? " until=" + rfc3339(clock_.at(*until)) : ""), now,
              clock_);
  refresh_never_blocked(); // which lifts its block
  enforce();
  return {};
}

bool Control::end_allowance(const policy::Prefix& prefix) {
  if (allowed_.erase(prefix) == 0) return false;
  erase_exemption(ExemptionKind::Allowed, prefix);
  log_->alert("allow_ended subject=" + to_string(prefix), monotonic_now(), clock_);
  refresh_never_blocked();
  return true;
}

void Control::end_allowances() {
  const auto now = monotonic_now();
  std::vector<policy::Prefix> ended;
  for (const auto& [prefix, until] : allowed_)
    if (until && *until <= now) ended.push_back(prefix);
  for (const auto& prefix : ended) end_allowance(prefix);
}

void Control::write_exemption(ExemptionKind kind, const policy::Prefix& prefix, std::optional<policy::Time> until) {
  const auto wall = clock_.at(monotonic_now());
  state_->write({Exemption{kind, prefix, until ? std::optional(clock_.at(*until)) : std::nullopt}}, wall);
}

void Control::erase_exemption(ExemptionKind kind, const policy::Prefix& prefix) {
  state_->write({Gone<Exemption>{{kind, prefix}}}, clock_.at(monotonic_now()));
}

// With the time that is left by the wall clock.
void Control::restore_exemptions(const StateContents& contents) {
  const auto now = monotonic_now();
  for (const auto& [kind, prefix, wall] : contents.exemptions) {
    const auto until = wall ? std::optional(clock_.when(*wall)) : std::nullopt;
    if (until && *until <= now) continue;
    if (kind == ExemptionKind::Allowed)
      allowed_[prefix] = until;
    else if (until)
      immune_[prefix] = *until;
  }
  blocks_.set_never_blocked(never_blocked({}));
}

} // namespace sipward::daemon
