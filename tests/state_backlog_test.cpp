// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state_backlog.h"

#include <random>

#include "daemon/state_rows.h"
#include "tests/state_lab.h"

using namespace sipward;
using namespace sipward::state_lab;

namespace {

BacklogBounds bounds(std::size_t most) { return {.rows = most, .users = most, .history = most, .forgets = most}; }

// Any change to a small world, so that the same keys meet often.
StateChange any_change(std::mt19937& random) {
  const auto one_of = [&random](unsigned count) {
    return std::uniform_int_distribution<unsigned>(0, count - 1)(random);
  };
  const auto subject = numbered(one_of(8));
  const auto at = kNow + one_of(100) * 1s;
  switch (one_of(14)) {
  case 0: return Gone<BlockRecord>{{subject}};
  case 1: return one_of(10) == 0 ? StateChange(AllGone<BlockRecord>{}) : StateChange(blocked(subject, at));
  case 2: return LadderRecord{subject, one_of(4), at};
  case 3: return Gone<LadderRecord>{subject};
  case 4: return trusted(to_string(subject.prefix), at, one_of(9));
  case 5: return Gone<TrustRecord>{subject.prefix};
  case 6: return UserRecord{one_of(8), at};
  case 7: return Gone<UserRecord>{one_of(8)};
  case 8: return Exemption{ExemptionKind::Immune, subject.prefix, at};
  case 9: return Gone<Exemption>{{ExemptionKind::Immune, subject.prefix}};
  case 10: return OffSwitch{one_of(2) == 0, at, std::nullopt, "why"};
  case 11:
    switch (one_of(6)) {
    case 0: return Forget{subject.prefix};
    case 1: return ForgetUser{one_of(8)};
    default: {
      auto line = alert("alert", at);
      line.user = one_of(8);
      if (one_of(2) == 0) line.about = subject;
      return line;
    }
    }
  case 12: return decision(blocked(subject, at), at);
  default: return blocked(subject, at);
  }
}

} // namespace

TEST_CASE("of each key only the latest record is held") {
  Backlog backlog;
  CHECK(backlog.empty());
  const auto subject = host("198.51.100.1");
  backlog.add(blocked(subject));
  backlog.add(blocked(subject, kNow + 1h));
  backlog.add(Gone<BlockRecord>{{host("198.51.100.2")}});
  const auto& held = backlog.held<BlockRecord>();
  REQUIRE(held.rows.size() == 2);
  CHECK(held.rows.at({subject})->until == kNow + 1h);
  CHECK_FALSE(held.rows.at({host("198.51.100.2")}));
  backlog.clear();
  CHECK(backlog.empty());
  CHECK(backlog.held<BlockRecord>().rows.empty());
}

TEST_CASE("a year of a dead disk holds no more than the bounds, and counts the rest") {
  Backlog backlog(bounds(10));
  for (unsigned i = 0; i < 100; ++i) {
    backlog.add(blocked(numbered(i)));
    backlog.add(alert(std::to_string(i)));
    backlog.add(Forget{numbered(i).prefix});
  }
  CHECK(backlog.held<BlockRecord>().rows.size() == 10);
  CHECK(backlog.history().size() == 10);
  CHECK(backlog.history().front().text == "90"); // the latest
  CHECK(backlog.forgets().size() == 10);
  CHECK(backlog.lost_records() == 90 + 90);
  CHECK(backlog.lost_history() == 90);
  backlog.add(blocked(numbered(3), kNow + 1h)); // one that is held can still change
  CHECK(backlog.held<BlockRecord>().rows.at({numbered(3)})->until == kNow + 1h);
}

TEST_CASE("a thousand changes at once leave the same file as one after the other") {
  const auto dump = [](const Folder& folder) {
    Outsider outsider(folder.file());
    std::string all;
    for (const char* table : {"block", "ladder", "trust", "user", "exemption", "history", "setting"}) {
      std::string columns = outsider.ask("SELECT 'quote(' || name || ')' FROM pragma_table_info('" +
                                         std::string(table) + "') WHERE name != 'id'");
      columns.pop_back();
      for (std::size_t at = 0; (at = columns.find(',', at)) != std::string::npos; at += 2) columns.replace(at, 1, "||");
      const std::string where = table == std::string("setting") ? " WHERE name != 'secret'" : "";
      all += std::string(table) + ": " + outsider.ask("SELECT " + columns + " FROM " + table + where + " ORDER BY 1") +
             "\n";
    }
    return all;
  };
  for (unsigned seed = 0; seed < 20; ++seed) {
    INFO("seed " << seed);
    const Folder at_once, singly;
    std::mt19937 random(seed);
    StateChanges changes;
    for (int i = 0; i < 1000; ++i) changes.push_back(any_change(random));
    {
      const auto state = must_open(singly.file());
      auto database = Database::open(singly.file(), Database::Access::Write, 1s);
      REQUIRE(database);
      RowsAtMost at_most;
      database->run("PRAGMA synchronous = OFF");
      for (const auto& change : changes) {
        Backlog backlog;
        backlog.add(change);
        database->begin();
        write_backlog(*database, backlog, {}, at_most, kNow);
        REQUIRE(database->commit());
      }
    }
    put(at_once.file(), std::move(changes));
    REQUIRE(dump(at_once) == dump(singly));
  }
}
