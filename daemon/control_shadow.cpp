// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "config/rules.h"
#include "config/shadow.h"
#include "daemon/control.h"
#include "daemon/live_shadow.h"

// Judging live traffic by a second settings file (`shadow:`). What it would do is written to the log; kernel, workers,
// state, trust and history hear nothing of it.
namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;

constexpr auto kTendEvery = 1s;

bool same_lists(const config::Settings& a, const config::Settings& b) {
  return a.allow_names == b.allow_names && a.allow_files == b.allow_files;
}

} // namespace

std::expected<Control::TriedSettings, std::string> Control::read_shadow(const config::Settings& present) {
  if (present.shadow.empty()) return TriedSettings{};
  auto shadow = config::load_shadow(present);
  if (!shadow) return std::unexpected(shadow.error());
  return TriedSettings{std::move(shadow->settings), std::move(shadow->in_vain)};
}

// From now on, and from nothing: differences between judges who were told other things at other times tell nobody
// anything.
std::expected<void, std::string> Control::try_settings(TriedSettings tried) {
  const auto now = monotonic_now();
  if (shadow_ && !tried.settings) {
    spdlog::info("no shadow file any more");
    log_->note("shadow_ended", now, clock_);
  }
  shadow_.reset();
  shadow_allow_book_.reset();
  shadow_allow_found_.clear();
  if (dataplane_->has_second()) dataplane_->end_second();
  if (!tried.settings) return {};

  auto& settings = *tried.settings;
  auto rules = std::make_unique<policy::Rules>(config::rules(settings));
  rules->servers = servers();
  rules->soft = policy::Rules::Soft::Suspended; // until it knows who is never blocked
  if (auto begun = dataplane_->begin_second(std::move(rules)); !begun)
    return std::unexpected("shadow: " + begun.error());
  if (!same_lists(settings, settings_)) {
    shadow_allow_book_ = std::make_unique<AllowBook>();
    shadow_allow_book_->want({settings.allow_names, settings.allow_files, settings.allow_folder});
  }
  shadow_ = std::make_unique<LiveShadow>(
      std::move(settings), dataplane_->second_ledger(), blocks_,
      LiveShadow::Desk{
          .write = [this](const ShadowLine& line, policy::Time at) { log_->write_shadow(line, at, clock_); },
          .now = [this](const policy::Subject& subject) { return standing_now(subject); }},
      now);
  shadow_->blocks().set_behind([this](const policy::Address& address) { return behind(address); });
  refresh_shadow();
  spdlog::info("judging by {} as well, blocking nothing by it", settings_.shadow.string());
  if (!tried.in_vain.empty())
    spdlog::warn("these settings of {} count for nothing in a shadow, the present ones hold: {}",
                 settings_.shadow.string(), fmt::join(tried.in_vain, ", "));
  log_->note("shadow_begun file=" + in_quotes(settings_.shadow.string()), now, clock_);
  return {};
}

// Whom it must not judge has changed, or what its second judge is told.
void Control::refresh_shadow() {
  if (!shadow_) return;
  shadow_->blocks().set_local(policy::PrefixSet(facts_.networks));
  auto rules = shadow_rules();
  shadow_->set_never_blocked(rules->never_blocked, monotonic_now());
  dataplane_->publish_second(std::move(rules));
}

// As make_rules() does for the present settings, but that it judges as if learning were over.
std::unique_ptr<const policy::Rules> Control::shadow_rules() const {
  const auto& settings = shadow_->settings();
  auto rules = std::make_unique<policy::Rules>(config::rules(settings));
  rules->drop_convicting = inline_mode();
  rules->servers = servers();
  auto never = facts_.never_blocked();
  const auto add = [&](const auto& prefixes) { never.insert(never.end(), prefixes.begin(), prefixes.end()); };
  add(settings.allow);
  add(shadow_allow_book_ ? shadow_allow_found_ : allow_found_);
  for (const auto& [prefix, until] : allowed_) never.push_back(prefix);
  for (const auto& [prefix, until] : immune_) never.push_back(prefix);
  for (const auto& address : guarded()) never.push_back(policy::Prefix::host(address));
  for (const auto& server : settings_.sip.servers) never.push_back(policy::Prefix::host(server));
  rules->never_blocked = policy::PrefixSet(never);
  rules->blocked = shadow_->blocks().prefixes();
  rules->follow(wellbeing_.state());
  return rules;
}

// After the present settings' own decisions of this round.
void Control::tend_shadow() {
  if (!shadow_) return;
  dataplane_->drain_second([this](const policy::Offence& offence) { shadow_->hear(offence); });
  if (const auto now = monotonic_now(); now >= next_shadow_) {
    next_shadow_ = now + kTendEvery;
    shadow_->tend(now);
    if (shadow_allow_book_)
      if (auto news = shadow_allow_book_->take()) {
        for (const auto& change : news->changes) spdlog::info("shadow: {}", change);
        shadow_allow_found_ = std::move(news->ranges);
        refresh_shadow();
      }
  }
  if (shadow_->take_prefixes_changed()) dataplane_->publish_second(shadow_rules());
}

// What the present settings do about somebody.
std::string_view Control::standing_now(const policy::Subject& subject) const {
  if (is_off()) return "passes";
  const auto& address = subject.prefix.base;
  const auto* block =
      subject.kind == policy::SubjectKind::Prefix ? blocks_.find(subject) : blocks_.covering(address, subject.port);
  if (block != nullptr) return block->dry_run ? "would_block" : "blocked";
  const auto* limit = subject.kind == policy::SubjectKind::Prefix ? nullptr : blocks_.limit_of(address);
  if (limit != nullptr) return limit->dry_run ? "would_limit" : "limited";
  return "passes";
}

} // namespace sipward::daemon
