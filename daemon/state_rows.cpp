// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state_rows.h"

#include <algorithm>

#include "daemon/state_columns.h"

namespace sipward::daemon {
namespace {

using std::chrono::nanoseconds;

// --- the text of statements ---

// Column names as they come, each before `after` and after `before`.
struct NameColumns {
  std::string before, after;
  std::string text;
  void operator()(const char* name, const auto&) { text += (text.empty() ? "" : before) + name + after; }
};

template<class Record>
std::string key_names(const std::string& before, const std::string& after) {
  Record record;
  NameColumns names{before, after, {}};
  Columns<Record>::key(record, names);
  return names.text;
}
template<class Record>
std::string names() {
  Record record;
  NameColumns names{", ", "", {}};
  Columns<Record>::key(record, names);
  Columns<Record>::rest(record, names);
  return names.text;
}

// "table (a, b) VALUES (?, ?)"
std::string into(const std::string& table, const std::string& names) {
  std::string places = "?";
  for (const char character : names)
    if (character == ',') places += ", ?";
  return table + " (" + names + ") VALUES (" + places + ")";
}
std::string insertion(const std::string& table, const std::string& names) {
  return "INSERT OR REPLACE INTO " + into(table, names);
}

// Of two records under one key the later one stays.
template<class Record>
std::string merging() {
  const std::string table = Columns<Record>::kTable, age = Columns<Record>::kAge;
  Record record;
  std::string updates;
  const auto update = [&updates](const char* name, const auto&) {
    updates += (updates.empty() ? "" : ", ") + std::string(name) + " = excluded." + name;
  };
  Columns<Record>::rest(record, update);
  return "INSERT INTO " + into(table, names<Record>()) + " ON CONFLICT DO UPDATE SET " + updates + " WHERE excluded." +
         age + " > " + table + "." + age;
}

std::string history_names() {
  HistoryRecord record;
  NameColumns names{", ", "", {}};
  history_columns(record, names);
  return names.text;
}

// --- reading ---

bool sound(const policy::Prefix& prefix) {
  return prefix.length <= policy::bits(prefix.base.family) && policy::Prefix::of(prefix.base, prefix.length) == prefix;
}
bool sound(const policy::Subject& subject) { return sound(subject.prefix); }
bool sound(const BlockKey& key) { return sound(key.subject); }
bool sound(std::uint64_t) { return true; }
bool sound(const std::pair<ExemptionKind, policy::Prefix>& key) { return sound(key.second); }

template<class Record>
void read_rows(Database& database, std::vector<Record>& to, std::uint64_t& unreadable) {
  to.reserve(static_cast<std::size_t>(
      database.number(std::string("SELECT count(*) FROM ") + Columns<Record>::kTable).value_or(0)));
  auto statement = database.prepare("SELECT " + names<Record>() + " FROM " + Columns<Record>::kTable);
  while (statement.row()) {
    Record record;
    ReadColumns read{statement};
    Columns<Record>::key(record, read);
    Columns<Record>::rest(record, read);
    if (read.sound && sound(key_of(record)))
      to.push_back(std::move(record));
    else
      ++unreadable;
  }
}

std::optional<WallTime> read_time(Database& database, const std::string& name) {
  const auto ns = database.number("SELECT value FROM setting WHERE value IS NOT NULL AND name = '" + name + "'");
  return ns ? std::optional(WallTime(nanoseconds(*ns))) : std::nullopt;
}
bool read_flag(Database& database, const std::string& name) {
  return database.number("SELECT value FROM setting WHERE name = '" + name + "'").value_or(0) != 0;
}

// --- writing ---

void write_setting(Database& database, std::string_view name, const auto& value) {
  auto statement = database.prepare("INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)");
  statement.bind(1, name);
  BindColumns bind{statement, 2};
  bind("value", value);
  statement.run();
}

// All within a prefix, by the order of addresses' octets.
void forget(Database& database, const policy::Prefix& prefix) {
  const auto last = prefix.last();
  for (const std::string table : {"trust", "ladder", "history"}) {
    auto statement = database.prepare("DELETE FROM " + table +
                                      " WHERE address BETWEEN ? AND ? AND length(address) = ? AND length >= ?");
    statement.bind(1, prefix.base.wire());
    statement.bind(2, last.wire());
    statement.bind(3, static_cast<std::int64_t>(prefix.base.wire().size()));
    statement.bind(4, std::int64_t{prefix.length});
    statement.run();
  }
}

void forget_user(Database& database, std::uint64_t hash) {
  for (const char* sql : {"DELETE FROM user WHERE hash = ?", "DELETE FROM history WHERE user = ?"}) {
    auto statement = database.prepare(sql);
    statement.bind(1, static_cast<std::int64_t>(hash));
    statement.run();
  }
}

// Returns how many rows were put.
template<class Record>
std::size_t write_rows(Database& database, const Held<Record>& held) {
  const std::string table = Columns<Record>::kTable;
  if (held.all_gone) database.run(("DELETE FROM " + table).c_str());
  if (held.rows.empty()) return 0;
  std::size_t put = 0;
  // A user's success may come out of another host's memory, later than what is known here, or earlier.
  constexpr bool merges = std::same_as<Record, UserRecord>;
  auto insert = database.prepare(merges ? merging<UserRecord>() : insertion(table, names<Record>()));
  auto remove = database.prepare("DELETE FROM " + table + " WHERE " + key_names<Record>(" AND ", " = ?"));
  for (const auto& [key, record] : held.rows) {
    auto& statement = record ? insert : remove;
    BindColumns bind{statement};
    if (record) {
      Columns<Record>::key(*record, bind);
      Columns<Record>::rest(*record, bind);
      ++put;
      statement.run();
    } else {
      const auto row = keyed(Gone<Record>{key}); // outlives the statement that it is bound to
      Columns<Record>::key(row, bind);
      statement.run();
    }
  }
  return put;
}

// Makes room for new rows, some at a time: counting and sorting a full table at every commit would cost more than the
// commit.
template<class Record>
void bound_rows(Database& database, std::uint64_t& at_most, std::size_t put, std::size_t limit) {
  at_most += put;
  if (at_most <= limit) return;
  const std::string table = Columns<Record>::kTable;
  at_most = static_cast<std::uint64_t>(database.number("SELECT count(*) FROM " + table).value_or(0));
  if (at_most <= limit) return;
  const auto excess = at_most - limit + limit / 64;
  const auto keys = key_names<Record>(", ", "");
  database.run(("DELETE FROM " + table + " WHERE (" + keys + ") IN (SELECT " + keys + " FROM " + table + " ORDER BY " +
                Columns<Record>::kAge + " LIMIT " + std::to_string(excess) + ")")
                   .c_str());
  at_most -= std::min(at_most, database.changed());
}

void write_history(Database& database, const std::deque<HistoryRecord>& history, std::size_t limit) {
  if (history.empty()) return;
  auto of_nobody = database.prepare(insertion("history", history_names()));
  auto of_subject = database.prepare(insertion("history", history_names() + ", kind, address, length, port"));
  auto of_block = database.prepare(insertion("history", history_names() + ", " + names<BlockRecord>()));
  for (const auto& record : history) {
    auto& insert = record.block ? of_block : record.about ? of_subject : of_nobody;
    BindColumns bind{insert};
    history_columns(record, bind);
    if (record.block) {
      Columns<BlockRecord>::key(*record.block, bind);
      Columns<BlockRecord>::rest(*record.block, bind);
    } else if (record.about) {
      subject_columns(*record.about, bind);
    }
    insert.run();
  }
  // Ids have no gaps but what was forgotten.
  database.run(("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - " + std::to_string(limit)).c_str());
}

void retain(Database& database, const Retention& retention) {
  const auto before = [&](const std::string& table, const char* column, std::chrono::seconds age) {
    auto statement = database.prepare("DELETE FROM " + table + " WHERE " + column + " < ?");
    statement.bind(1, (retention.now - age).time_since_epoch().count());
    statement.run();
  };
  before("block", "until", std::chrono::seconds(0));
  before("exemption", "until", std::chrono::seconds(0));
  before("history", "at", retention.history);
  before("trust", "last_success", retention.trust);
  before("user", "last_success", retention.trust);
  before("ladder", "last", retention.ladder);
}

} // namespace

StateContents read_contents(Database& database) {
  StateContents contents;
  database.run("BEGIN"); // one moment of it
  read_rows(database, contents.blocks, contents.unreadable);
  read_rows(database, contents.ladder, contents.unreadable);
  read_rows(database, contents.trust, contents.unreadable);
  read_rows(database, contents.users, contents.unreadable);
  read_rows(database, contents.exemptions, contents.unreadable);
  contents.off.off = read_flag(database, "off");
  contents.off.since = read_time(database, "off_since").value_or(WallTime());
  contents.off.until = read_time(database, "off_until");
  if (auto reason = database.prepare("SELECT value FROM setting WHERE name = 'off_reason'"); reason.row())
    contents.off.reason = reason.text(0);
  contents.learning.started = read_time(database, "learning_started");
  contents.learning.armed = read_flag(database, "armed");
  contents.secret = read_secret(database);
  contents.saved_at = read_time(database, "saved_at");
  database.run("COMMIT");
  return contents;
}

void write_backlog(Database& database, const Backlog& backlog, const StateLimits& limits, RowsAtMost& at_most,
                   WallTime now) {
  for (const auto& prefix : backlog.forgets()) forget(database, prefix);
  for (const auto hash : backlog.forgotten_users()) forget_user(database, hash);
  write_rows(database, backlog.held<BlockRecord>());
  write_rows(database, backlog.held<Exemption>());
  const auto bounded = [&]<class Record>(const Held<Record>& held, std::uint64_t& rows, std::size_t limit) {
    bound_rows<Record>(database, rows, write_rows(database, held), limit);
  };
  bounded(backlog.held<LadderRecord>(), at_most.ladder, limits.ladder);
  bounded(backlog.held<TrustRecord>(), at_most.trust, limits.trust);
  bounded(backlog.held<UserRecord>(), at_most.users, limits.users);
  if (const auto& off = backlog.off()) {
    write_setting(database, "off", off->off);
    write_setting(database, "off_since", off->since);
    write_setting(database, "off_until", off->until);
    write_setting(database, "off_reason", off->reason);
  }
  if (const auto& learning = backlog.learning()) {
    write_setting(database, "learning_started", learning->started);
    write_setting(database, "armed", learning->armed);
  }
  write_history(database, backlog.history(), limits.history);
  if (backlog.retention()) retain(database, *backlog.retention());
  write_setting(database, "saved_at", now);
}

template<class Record>
std::uint64_t merge_rows(Database& database, const std::vector<Record>& records) {
  auto statement = database.prepare(merging<Record>());
  std::uint64_t merged = 0;
  for (const auto& each : records) {
    BindColumns bind{statement};
    Columns<Record>::key(each, bind);
    Columns<Record>::rest(each, bind);
    statement.run();
    merged += database.changed();
  }
  return merged;
}
template std::uint64_t merge_rows(Database&, const std::vector<TrustRecord>&);
template std::uint64_t merge_rows(Database&, const std::vector<UserRecord>&);
template std::uint64_t merge_rows(Database&, const std::vector<BlockRecord>&);

void bound_tables(Database& database, const StateLimits& limits) {
  RowsAtMost unknown;
  bound_rows<LadderRecord>(database, unknown.ladder, limits.ladder + 1, limits.ladder);
  bound_rows<TrustRecord>(database, unknown.trust, limits.trust + 1, limits.trust);
  bound_rows<UserRecord>(database, unknown.users, limits.users + 1, limits.users);
}

namespace {

std::string select_history(const std::string& which) {
  return "SELECT id, " + history_names() + ", " + names<BlockRecord>() + " FROM history WHERE " + which;
}

std::vector<HistoryRecord> rows_of_history(Statement& statement) {
  std::vector<HistoryRecord> history;
  while (statement.row()) {
    HistoryRecord record;
    ReadColumns read{statement};
    read("id", record.id);
    history_columns(record, read);
    if (BlockRecord block; !statement.null(read.at)) {
      Columns<BlockRecord>::key(block, read);
      if (statement.null(read.at)) { // no reason, no block
        record.about = block.block.subject;
      } else {
        Columns<BlockRecord>::rest(block, read);
        record.block = std::move(block);
      }
    }
    if (read.sound) history.push_back(std::move(record));
  }
  return history;
}

} // namespace

// In the order in which things happened: that of their dates it is not, if the clock was set back in between.
std::vector<HistoryRecord> read_history(Database& database, const HistoryPlace& after, std::size_t most) {
  const auto since = after.at.time_since_epoch().count();
  auto last = after.id;
  if (last == 0) {
    auto first = database.prepare("SELECT min(id) - 1 FROM history WHERE at >= ?");
    first.bind(1, since);
    if (first.row()) last = first.integer(0);
  }
  auto statement = database.prepare(select_history("id > ? AND +at >= ? ORDER BY id LIMIT ?"));
  statement.bind(1, last);
  statement.bind(2, since);
  statement.bind(3, static_cast<std::int64_t>(most));
  return rows_of_history(statement);
}

// What holds them begins with the first bits of their address, zeroes behind: one question for every length.
std::vector<HistoryRecord> read_history_of(Database& database, const policy::Prefix& addresses, std::size_t most) {
  std::vector<policy::Address> bases;
  for (std::uint8_t length = 0; length <= addresses.length; ++length)
    if (const auto base = addresses.base.masked(length); bases.empty() || bases.back() != base) bases.push_back(base);
  std::string which = "address IN (?";
  for (std::size_t i = 1; i < bases.size(); ++i) which += ", ?";
  auto statement = database.prepare(select_history(which + ") ORDER BY id DESC LIMIT ?"));
  int at = 0;
  for (const auto& base : bases) statement.bind(++at, base.wire());
  statement.bind(++at, static_cast<std::int64_t>(most));
  auto history = rows_of_history(statement);
  std::erase_if(history, [&](const HistoryRecord& record) { // a shorter prefix may begin alike and end before
    const auto& prefix = record.block ? record.block->block.subject.prefix : record.about->prefix;
    return !prefix.holds(addresses) && !addresses.holds(prefix);
  });
  return history;
}

StateSecret read_secret(Database& database) {
  StateSecret secret{};
  auto statement = database.prepare("SELECT value FROM setting WHERE name = 'secret'");
  if (!statement.row()) return secret;
  const auto octets = statement.octets(0);
  if (octets.size() == secret.size()) std::ranges::copy(octets, secret.begin());
  return secret;
}

void write_secret(Database& database, const StateSecret& secret) {
  auto statement = database.prepare("INSERT OR REPLACE INTO setting (name, value) VALUES ('secret', ?)");
  statement.bind(1, std::span<const std::uint8_t>(secret));
  statement.run();
}

} // namespace sipward::daemon
