// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "daemon/control.h"

// Users who registered with success are known over a restart, so that one whose line comes back with another address is
// no stranger there. On file is what the ledger keeps of their names' hashes; with another sources.capacity they are
// found no more, and are learnt anew.
namespace sipward::daemon {
namespace {

constexpr std::uint32_t kStepMinutes = 60; // a success is written if the one on file is older by so much

std::uint32_t minutes(std::chrono::nanoseconds length) {
  return static_cast<std::uint32_t>(std::chrono::floor<std::chrono::minutes>(length).count());
}

} // namespace

void Control::restore_users(std::span<const UserRecord> users) {
  const auto now = monotonic_now();
  const auto minute = policy::Now(now).s / 60;
  const auto remember = std::chrono::nanoseconds(settings_.trust.remember);
  auto& known = dataplane_->ledger().known_users;
  for (const auto& user : users) {
    const auto age =
        std::max<std::chrono::nanoseconds>(clock_.at(now) - user.last_success, std::chrono::nanoseconds(0));
    if (age >= remember) continue;
    // Of two words the later counts. The minute may lie before the boot: it is told modulo 2^20.
    const auto before = known.find(user.hash, minute, minutes(age));
    if (!before) known.put(user.hash, minute - minutes(age), policy::Ledger::kUser);
    users_written_[user.hash] = minute - minutes(age);
  }
}

void Control::write_users() {
  const auto now = monotonic_now();
  const auto wall = clock_.at(now);
  const auto minute = policy::Now(now).s / 60;
  const auto lifetime = static_cast<std::uint32_t>(settings_.trust.remember / std::chrono::minutes(1));
  std::erase_if(users_written_, [&](const auto& entry) { return minute - entry.second > lifetime; });
  StateChanges changes;
  dataplane_->ledger().known_users.each(minute, lifetime,
                                        [&](std::uint64_t hash, std::uint32_t age, std::uint8_t note) {
                                          if (note != policy::Ledger::kUser) return;
                                          const auto [written, is_new] = users_written_.try_emplace(hash, minute - age);
                                          if (!is_new && minute - age - written->second < kStepMinutes) return;
                                          written->second = minute - age;
                                          changes.emplace_back(UserRecord{hash, wall - std::chrono::minutes(age)});
                                        });
  if (!changes.empty()) state_->write(std::move(changes), wall, State::Urgency::Later);
}

} // namespace sipward::daemon
