// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <deque>
#include <map>
#include <tuple>

#include "daemon/state_records.h"

// What is decided and not on file yet. It grows with what there is to remember, not with the time that the disk takes:
// of each key only the latest record is held, and there is a bound to each kind.
namespace sipward::daemon {

// Of one kind, under one key each: what is to be so, or nothing where it is to be gone.
template<class Record>
struct Held {
  bool all_gone = false; // before `rows`
  std::map<Key<Record>, std::optional<Record>> rows;
};
struct BacklogBounds {
  std::size_t rows = std::size_t{1} << 18;  // of each kind but users
  std::size_t users = std::size_t{1} << 20; // they are small
  std::size_t history = std::size_t{1} << 18;
  std::size_t forgets = 1024;
};

class Backlog {
public:
  Backlog() = default;
  explicit Backlog(const BacklogBounds& bounds) : bounds_(bounds) {}

  void add(StateChange change);
  bool empty() const noexcept { return empty_; }
  void clear();

  // To be carried out in this order: forgets, rows, history, retention.
  const std::vector<policy::Prefix>& forgets() const noexcept { return forgets_; }
  const std::vector<std::uint64_t>& forgotten_users() const noexcept { return forgotten_users_; }
  template<class Record>
  const Held<Record>& held() const noexcept {
    return std::get<Held<Record>>(held_);
  }
  const std::optional<OffSwitch>& off() const noexcept { return off_; }
  const std::optional<Learning>& learning() const noexcept { return learning_; }
  const std::deque<HistoryRecord>& history() const noexcept { return history_; }
  const std::optional<Retention>& retention() const noexcept { return retention_; }
  bool forgets_anybody() const noexcept { return !forgets_.empty() || !forgotten_users_.empty(); }

  // Beyond the bounds: records that the file will lack, and decisions that history will.
  std::uint64_t lost_records() const noexcept { return lost_records_; }
  std::uint64_t lost_history() const noexcept { return lost_history_; }

private:
  template<class Record>
  void put(const Key<Record>& key, std::optional<Record> record);
  template<class Record>
  void drop(const Gone<Record>& gone);
  template<class Record>
  void drop(const AllGone<Record>& gone);
  void take(HistoryRecord record);
  void take(const Forget& forget);
  void take(const ForgetUser& forget);
  template<class Key>
  void note_forgotten(std::vector<Key>& forgotten, const Key& key);

  BacklogBounds bounds_;
  bool empty_ = true;
  std::vector<policy::Prefix> forgets_;
  std::vector<std::uint64_t> forgotten_users_;
  std::tuple<Held<BlockRecord>, Held<LadderRecord>, Held<TrustRecord>, Held<UserRecord>, Held<Exemption>> held_;
  std::optional<OffSwitch> off_;
  std::optional<Learning> learning_;
  std::deque<HistoryRecord> history_; // the latest
  std::optional<Retention> retention_;
  std::uint64_t lost_records_ = 0;
  std::uint64_t lost_history_ = 0;
};

} // namespace sipward::daemon
