// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state_backlog.h"

#include <algorithm>

namespace sipward::daemon {

template<class Record>
void Backlog::put(const Key<Record>& key, std::optional<Record> record) {
  auto& rows = std::get<Held<Record>>(held_).rows;
  const std::size_t most = std::is_same_v<Record, UserRecord> ? bounds_.users : bounds_.rows;
  const auto at = rows.lower_bound(key);
  if (at != rows.end() && at->first == key) {
    // As in the file: another host may have seen the user later (state import).
    if constexpr (std::is_same_v<Record, UserRecord>)
      if (at->second && record && at->second->last_success > record->last_success) return;
    at->second = std::move(record);
  } else if (rows.size() < most) {
    rows.emplace_hint(at, key, std::move(record));
  } else {
    ++lost_records_;
  }
}

template<class Record>
void Backlog::drop(const Gone<Record>& gone) {
  put<Record>(gone.key, std::nullopt);
}

template<class Record>
void Backlog::drop(const AllGone<Record>&) {
  std::get<Held<Record>>(held_) = {.all_gone = true, .rows = {}};
}

void Backlog::take(HistoryRecord record) {
  if (history_.size() >= bounds_.history) {
    history_.pop_front();
    ++lost_history_;
  }
  history_.push_back(std::move(record));
}

template<class Key>
void Backlog::note_forgotten(std::vector<Key>& forgotten, const Key& key) {
  if (std::ranges::find(forgotten, key) != forgotten.end()) return;
  if (forgotten.size() < bounds_.forgets)
    forgotten.push_back(key);
  else
    ++lost_records_;
}

// What was said of them before must not come after the forgetting, so it is dropped here.
void Backlog::take(const Forget& forget) {
  const auto inside = [&forget](const policy::Prefix& prefix) { return forget.addresses.holds(prefix); };
  std::erase_if(std::get<Held<TrustRecord>>(held_).rows, [&](const auto& row) { return inside(row.first); });
  std::erase_if(std::get<Held<LadderRecord>>(held_).rows, [&](const auto& row) { return inside(row.first.prefix); });
  std::erase_if(history_, [&](const HistoryRecord& record) {
    return (record.block && inside(record.block->block.subject.prefix)) ||
           (record.about && inside(record.about->prefix));
  });
  note_forgotten(forgets_, forget.addresses);
}
void Backlog::take(const ForgetUser& forget) {
  std::get<Held<UserRecord>>(held_).rows.erase(forget.hash);
  std::erase_if(history_, [&](const HistoryRecord& record) { return record.user == forget.hash; });
  note_forgotten(forgotten_users_, forget.hash);
}

void Backlog::add(StateChange change) {
  empty_ = false;
  std::visit(
      [this]<class Change>(Change&& said) {
        using What = std::remove_cvref_t<Change>;
        if constexpr (std::is_same_v<What, OffSwitch>)
          off_ = std::forward<Change>(said);
        else if constexpr (std::is_same_v<What, Learning>)
          learning_ = said;
        else if constexpr (std::is_same_v<What, Retention>)
          retention_ = said;
        else if constexpr (requires { take(std::forward<Change>(said)); })
          take(std::forward<Change>(said));
        else if constexpr (requires { key_of(said); })
          put<What>(Key<What>(key_of(said)), std::forward<Change>(said));
        else
          drop(said);
      },
      std::move(change));
}

void Backlog::clear() { *this = Backlog(bounds_); }

} // namespace sipward::daemon
