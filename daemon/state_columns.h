// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <concepts>
#include <cstring>

#include "daemon/database.h"
#include "daemon/state_records.h"

// Which column of the database holds which member of a record: said once, for the writing, the reading and the text of
// the statements. A new member is a line here and a step in state_schema.cpp.
namespace sipward::daemon {

template<class Record>
struct Columns; // kTable, kAge (the column that tells which is later), key() and, after the key, rest()

template<class Subject, class Visit>
void subject_columns(Subject& subject, Visit& visit) {
  visit("kind", subject.kind);
  visit("address", subject.prefix.base);
  visit("length", subject.prefix.length);
  visit("port", subject.port);
}
template<class Prefix, class Visit>
void prefix_columns(Prefix& prefix, Visit& visit) {
  visit("address", prefix.base);
  visit("length", prefix.length);
}

template<>
struct Columns<BlockRecord> {
  static constexpr const char* kTable = "block";
  static constexpr const char* kAge = "until";
  template<class Record, class Visit>
  static void key(Record& record, Visit& visit) {
    auto& block = record.block;
    subject_columns(block.subject, visit);
    bool limited = block.limit.has_value();
    visit("limited", limited);
    if constexpr (!std::is_const_v<Record>) // its rate is further on
      block.limit = limited ? std::optional(block.limit.value_or(policy::Rate())) : std::nullopt;
  }
  template<class Record, class Visit>
  static void rest(Record& record, Visit& visit) {
    // Every member by name: a new one does not compile until it has a column.
    auto& [subject, reason, since, until, step, proven, dry_run, one_user, wholly, limit, packets_before,
           packets_dropped, evidence, note] = record.block;
    static_cast<void>(subject), static_cast<void>(since), static_cast<void>(until); // the key; and another clock's
    auto& [user_agent, mark, method, rate_per_s, limit_per_s, users, failures, successes, offenders, registered,
           tcp_peers, share, soft_marks, trusted] = evidence;
    visit("reason", reason);
    visit("since", record.since);
    visit("until", record.until);
    visit("step", step);
    visit("proven", proven);
    visit("dry_run", dry_run);
    visit("one_user", one_user);
    visit("wholly", wholly);
    policy::Rate rate = limit.value_or(policy::Rate{.per_second = 0, .burst = 0});
    visit("limited_to_per_s", rate.per_second);
    visit("limited_burst", rate.burst);
    if constexpr (!std::is_const_v<Record>)
      if (limit) *limit = rate;
    visit("packets_before", packets_before);
    visit("packets_dropped", packets_dropped);
    visit("user_agent", user_agent);
    visit("mark", mark);
    visit("method", method);
    visit("rate_per_s", rate_per_s);
    visit("limit_per_s", limit_per_s);
    visit("users", users);
    visit("failures", failures);
    visit("successes", successes);
    visit("offenders", offenders);
    visit("registered", registered);
    visit("tcp_peers", tcp_peers);
    visit("share", share);
    visit("soft_marks", soft_marks);
    visit("trusted", trusted);
    visit("note", note);
  }
};

template<>
struct Columns<LadderRecord> {
  static constexpr const char* kTable = "ladder";
  static constexpr const char* kAge = "last";
  template<class Record, class Visit>
  static void key(Record& record, Visit& visit) {
    subject_columns(record.subject, visit);
  }
  template<class Record, class Visit>
  static void rest(Record& record, Visit& visit) {
    visit("step", record.step);
    visit("last", record.last);
  }
};

template<>
struct Columns<TrustRecord> {
  static constexpr const char* kTable = "trust";
  static constexpr const char* kAge = "last_success";
  template<class Record, class Visit>
  static void key(Record& record, Visit& visit) {
    prefix_columns(record.source, visit);
  }
  template<class Record, class Visit>
  static void rest(Record& record, Visit& visit) {
    visit("last_success", record.last_success);
    visit("users", record.users);
    visit("answered_per_s", record.answered_per_s);
    visit("sketch", record.sketch);
  }
};

template<>
struct Columns<UserRecord> {
  static constexpr const char* kTable = "user";
  static constexpr const char* kAge = "last_success";
  template<class Record, class Visit>
  static void key(Record& record, Visit& visit) {
    visit("hash", record.hash);
  }
  template<class Record, class Visit>
  static void rest(Record& record, Visit& visit) {
    visit("last_success", record.last_success);
  }
};

template<>
struct Columns<Exemption> {
  static constexpr const char* kTable = "exemption";
  template<class Record, class Visit>
  static void key(Record& record, Visit& visit) {
    visit("kind", record.kind);
    prefix_columns(record.prefix, visit);
  }
  template<class Record, class Visit>
  static void rest(Record& record, Visit& visit) {
    visit("until", record.until);
  }
};

// A line of history is these columns and those of the block; of an alert those are null, but for whom it concerns.
template<class Record, class Visit>
void history_columns(Record& record, Visit& visit) {
  visit("at", record.at);
  visit("event", record.event);
  visit("ending", record.ending);
  visit("text", record.text);
  visit("user", record.user);
}

// Keys as records, so that one description serves both.
inline BlockRecord keyed(const Gone<BlockRecord>& gone) {
  BlockRecord record;
  record.block.subject = gone.key.subject;
  if (gone.key.limit) record.block.limit.emplace();
  return record;
}
inline LadderRecord keyed(const Gone<LadderRecord>& gone) { return {.subject = gone.key, .step = 0, .last = {}}; }
inline TrustRecord keyed(const Gone<TrustRecord>& gone) {
  TrustRecord record;
  record.source = gone.key;
  return record;
}
inline UserRecord keyed(const Gone<UserRecord>& gone) { return {.hash = gone.key, .last_success = {}}; }
inline Exemption keyed(const Gone<Exemption>& gone) {
  return {.kind = gone.key.first, .prefix = gone.key.second, .until = {}};
}

// --- one value of a row ---

template<class T>
concept Named = std::is_enum_v<T> && requires(T value) {
  { to_string(value) } -> std::same_as<std::string_view>;
};
// Names last longer than numbers; all our enumerations count up from 0.
template<Named T>
std::optional<T> named(std::string_view name) {
  for (unsigned number = 0; number < 256; ++number)
    if (const auto candidate = static_cast<T>(number); to_string(candidate) == name && name != "unknown")
      return candidate;
  return std::nullopt;
}

// Visits the columns of a record for a statement's parameters, which count from `at`.
struct BindColumns {
  Statement& statement;
  int at = 1;

  void operator()(const char*, const policy::Address& value) { statement.bind(at++, value.wire()); }
  void operator()(const char*, const policy::Excerpt& value) {
    statement.bind(at++, std::span(reinterpret_cast<const std::uint8_t*>(value.octets.data()), value.size));
  }
  void operator()(const char*, const Sketch& value) { statement.bind(at++, value.view()); }
  void operator()(const char*, const std::string& value) { statement.bind(at++, std::string_view(value)); }
  void operator()(const char*, WallTime value) { statement.bind(at++, value.time_since_epoch().count()); }
  void operator()(const char* name, const std::optional<WallTime>& value) {
    if (value)
      (*this)(name, *value);
    else
      statement.bind_null(at++);
  }
  void operator()(const char*, double value) { statement.bind(at++, value); }
  template<std::integral T>
  void operator()(const char*, T value) {
    statement.bind(at++, static_cast<std::int64_t>(value)); // 64 bits without sign keep their bits
  }
  template<Named T>
  void operator()(const char*, T value) {
    statement.bind(at++, to_string(value));
  }
};

// Visits the columns of a record to fill it from a row. What makes no sense there (a database may be old, or not only
// ours) leaves `sound` false.
struct ReadColumns {
  Statement& statement;
  int at = 0;
  bool sound = true;

  void operator()(const char*, policy::Address& value) {
    const auto wire = statement.octets(at++);
    sound &= wire.size() == 4 || wire.size() == 16;
    if (sound) value = policy::Address::from_wire(wire);
  }
  void operator()(const char*, policy::Excerpt& value) {
    const auto octets = statement.octets(at++);
    value = policy::Excerpt({reinterpret_cast<const char*>(octets.data()), octets.size()});
  }
  void operator()(const char*, Sketch& value) { value = Sketch(statement.octets(at++)); }
  void operator()(const char*, std::string& value) { value = statement.text(at++); }
  void operator()(const char*, WallTime& value) { value = WallTime(std::chrono::nanoseconds(statement.integer(at++))); }
  void operator()(const char* name, std::optional<WallTime>& value) {
    if (statement.null(at))
      ++at;
    else
      (*this)(name, value.emplace());
  }
  void operator()(const char*, double& value) { value = statement.real(at++); }
  template<std::integral T>
  void operator()(const char*, T& value) {
    const auto integer = statement.integer(at++);
    if constexpr (std::same_as<T, bool>) {
      value = integer != 0;
    } else {
      if constexpr (sizeof(T) < sizeof integer) sound &= std::in_range<T>(integer);
      value = static_cast<T>(integer);
    }
  }
  template<Named T>
  void operator()(const char*, T& value) {
    const auto found = named<T>(statement.text(at++));
    sound &= found.has_value();
    value = found.value_or(T());
  }
};

} // namespace sipward::daemon
