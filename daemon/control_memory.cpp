// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "daemon/alerts.h"
#include "daemon/control.h"

// What is remembered beside blocks, and what the operator may do with it.
namespace sipward::daemon {

// Alerts go to history as they go to the log.
void Control::remember_alerts() {
  log_->set_heard([this](std::string_view text, policy::Time at) {
    HistoryRecord line;
    line.at = clock_.at(at);
    line.event = "alert";
    line.text = text;
    state_->write({std::move(line)}, line.at);
  });
}

// History knows whom it concerns, so that he can be forgotten. With log.users off nothing of him is written at all.
void Control::tell_of_user(const policy::Offence& notice) {
  const UserNames names(settings_.log.users, secret_);
  HistoryRecord line;
  line.at = clock_.at(notice.at);
  line.event = "alert";
  line.text = alert_of(notice, names);
  line.about = blocks_.host_subject(notice.source);
  if (settings_.log.users != config::LogUsers::Off) line.user = names.hash(notice.user.view());
  log_->note(line.text, notice.at, clock_);
  const auto at = line.at;
  state_->write({std::move(line)}, at);
}

std::uint64_t Control::save() {
  write_trust();
  write_users();
  return state_->write({}, clock_.at(monotonic_now())); // at once, with what was to be gathered
}

// What another host has told (state export): in force at once, and on file.
Imported Control::take_in(const StateExport& state) {
  Imported taken;
  const policy::Now now(monotonic_now());
  const auto wall = clock_.at(now.time);
  for (const auto& record : state.trust)
    if (take_trust(record, now)) {
      trust_written_.erase(policy::source_key(record.source.base, settings_.sources.ipv6_prefix));
      ++taken.trust;
    }
  write_trust();
  if (state.secret == secret_) {
    StateChanges users(state.users.begin(), state.users.end());
    taken.users = state.users.size();
    restore_users(state.users);
    if (!users.empty()) state_->write(std::move(users), wall, State::Urgency::Later);
  } else {
    taken.users_left_out = state.users.size();
  }
  policy::BlockList::Snapshot snapshot;
  for (const auto& record : state.blocks) {
    auto block = from_record(record, clock_);
    const auto* standing = block.limit ? blocks_.limits().find(block.subject) : blocks_.find(block.subject);
    if (block.until <= now.time || (standing != nullptr && standing->until >= block.until)) continue;
    block.since = std::min(block.since, now.time);
    snapshot.blocks.push_back(std::move(block));
  }
  auto changes = blocks_.restore(std::move(snapshot), now.time);
  taken.blocks = static_cast<std::uint64_t>(
      std::ranges::count(changes, policy::BlockChange::Kind::Added, &policy::BlockChange::kind));
  collect(std::move(changes));
  enforce();
  return taken;
}

// An address is part of its source: that is what is remembered.
Control::Forgotten Control::forget(const policy::Prefix& asked) {
  const auto addresses = asked.is_host() ? blocks_.host_subject(asked.base).prefix : asked;
  Forgotten forgotten;
  auto& trust = dataplane_->ledger().trust;
  trust.each(0, trust.lines(), policy::Now(monotonic_now()).s, [&](const policy::Trustee& trustee) {
    const auto key = trustee.key.load(std::memory_order_relaxed);
    if (!addresses.overlaps(policy::source_prefix(key, settings_.sources.ipv6_prefix))) return;
    trust.forget(key);
    trust_written_.erase(key);
    ++forgotten.trusted;
  });
  forgotten.climbs = blocks_.forget(addresses);
  state_->write({Forget{addresses}}, clock_.at(monotonic_now()));
  return forgotten;
}

bool Control::forget(std::string_view user) {
  auto& ledger = dataplane_->ledger();
  const auto hash = ledger.user_hash(user);
  const bool was_known = ledger.known_users.forget(hash);
  users_written_.erase(ledger.known_users.kept(hash));
  state_->write({ForgetUser{siphash(user, secret_)}, Gone<UserRecord>{ledger.known_users.kept(hash)}},
                clock_.at(monotonic_now()));
  return was_known;
}

} // namespace sipward::daemon
