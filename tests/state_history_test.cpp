// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "tests/state_lab.h"

// History, and forgetting: by age, by number, and on request.
using namespace sipward;
using namespace sipward::state_lab;

namespace {

StateOptions with_limits(const StateLimits& limits) {
  auto options = quick();
  options.limits = limits;
  return options;
}

} // namespace

TEST_CASE("history is read by time, from a time on, a page after the other") {
  const Folder folder;
  StateChanges changes;
  for (int i = 0; i < 10; ++i) changes.emplace_back(alert("number " + std::to_string(i), kNow + i * 1s));
  put(folder.file(), std::move(changes));
  HistoryPlace place{kNow + 3s, 0};
  std::string read;
  for (;;) {
    const auto page = read_history(folder.file(), place, 3);
    REQUIRE(page);
    if (page->empty()) break;
    CHECK(page->size() <= 3);
    for (const auto& record : *page) read += record.text.back();
    place.id = page->back().id;
  }
  CHECK(read == "3456789");
}

TEST_CASE("history is read in the order in which things happened, though the clock was set back in between") {
  const Folder folder;
  StateChanges changes;
  for (const auto at : {-7200s, 0s, 10s, -3590s, -3580s}) changes.emplace_back(alert("at", kNow + at));
  put(folder.file(), std::move(changes));
  const auto read = [&](WallTime since) {
    std::vector<std::chrono::nanoseconds> times;
    for (const auto& record : history(folder.file(), since)) times.push_back(record.at - kNow);
    return times;
  };
  using Times = std::vector<std::chrono::nanoseconds>;
  CHECK(read({}) == Times{-7200s, 0s, 10s, -3590s, -3580s});
  CHECK(read(kNow - 3600s) == Times{0s, 10s, -3590s, -3580s});
  CHECK(read(kNow) == Times{0s, 10s});
}

TEST_CASE("what is too old is forgotten when the clock can be believed, and nothing else") {
  const Folder folder;
  const auto old = kNow - 24h * 40;
  put(folder.file(),
      {alert("old", old), alert("new"), trusted("198.51.100.1/32", old), trusted("198.51.100.2/32"),
       LadderRecord{host("198.51.100.1"), 1, old}, LadderRecord{host("198.51.100.2"), 1, kNow}, UserRecord{1, old},
       UserRecord{2, kNow}, blocked(host("198.51.100.1"), kNow - 1s), blocked(host("198.51.100.2"), kNow + 1s),
       Exemption{ExemptionKind::Allowed, prefix("203.0.113.1"), kNow - 1s},
       Exemption{ExemptionKind::Allowed, prefix("203.0.113.2"), std::nullopt}});
  CHECK(contents(folder.file()).blocks.size() == 2); // not by reading: it may be the clock that is wrong
  put(folder.file(), {Retention{.now = kNow}});
  const auto read = contents(folder.file());
  REQUIRE(read.blocks.size() == 1);
  CHECK(read.blocks[0].block.subject == host("198.51.100.2"));
  REQUIRE(read.trust.size() == 1);
  CHECK(read.trust[0].source == prefix("198.51.100.2"));
  REQUIRE(read.ladder.size() == 1);
  REQUIRE(read.users.size() == 1);
  CHECK(read.users[0].hash == 2);
  REQUIRE(read.exemptions.size() == 1);
  const auto lines = history(folder.file());
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].text == "new");
}

TEST_CASE("every table is bounded, and the oldest go first") {
  const Folder folder;
  const auto options = with_limits({.ladder = 128, .trust = 256, .users = 512, .history = 100});
  const auto state = must_open(folder.file(), options);
  for (unsigned round = 0; round < 20; ++round) {
    StateChanges changes;
    for (unsigned i = 0; i < 50; ++i) {
      const auto number = round * 50 + i;
      const auto at = kNow + number * 1s;
      changes.emplace_back(LadderRecord{numbered(number), 1, at});
      changes.emplace_back(trusted(to_string(numbered(number).prefix), at));
      changes.emplace_back(UserRecord{number, at});
      changes.emplace_back(alert(std::to_string(number), at));
    }
    state->write(std::move(changes), kNow);
    REQUIRE(state->flush(10s));
    const auto read = contents(folder.file());
    CHECK(read.ladder.size() <= 128);
    CHECK(read.trust.size() <= 256);
    CHECK(read.users.size() <= 512);
    CHECK(history(folder.file()).size() <= 100);
  }
  const auto read = contents(folder.file());
  CHECK(read.trust.size() > 200); // bounded, not emptied
  CHECK(std::ranges::none_of(read.trust, [](const auto& record) { return record.last_success < kNow + 744s; }));
  CHECK(std::ranges::none_of(read.users, [](const auto& record) { return record.hash < 488; }));
  CHECK(history(folder.file()).front().text == "900");
}

TEST_CASE("who is to be forgotten is in no octet of the files any more, nor are those inside a prefix") {
  const Folder folder;
  const auto octets = [](const std::string& address) {
    const auto parsed = policy::Address::parse(address).value();
    return std::string(parsed.wire().begin(), parsed.wire().end());
  };
  const auto on_disk = [&](const std::string& sought) {
    return (octets_of(folder.file()) + octets_of(folder.file().string() + "-wal")).find(sought) != std::string::npos;
  };
  const auto state = must_open(folder.file());
  auto known = blocked(host("203.0.113.77"));
  known.block.note = "the man next door";
  StateChanges changes = {trusted("203.0.113.77/32"),
                          LadderRecord{known.block.subject, 2, kNow},
                          decision(known),
                          trusted("2001:db8:1:2::/64"),
                          trusted("203.0.113.200/32"),
                          decision(blocked({policy::SubjectKind::Endpoint, prefix("203.0.113.77"), 5062}))};
  state->write(std::move(changes), kNow);
  constexpr std::uint64_t kUser = 0x1122334455667788;
  auto burnt = alert("user_burnt user=carol");
  burnt.user = kUser;
  auto surge = alert("surge of 203.0.113.77");
  surge.about = known.block.subject;
  state->write({UserRecord{kUser, kNow}, burnt, surge}, kNow);
  REQUIRE(state->flush(10s));
  const std::string traces[] = {octets("203.0.113.77"),
                                octets("2001:db8:1:2::"),
                                "\x11\x22\x33\x44\x55\x66\x77\x88",
                                "the man next door",
                                "carol",
                                "surge of"};
  for (const auto& trace : traces) REQUIRE(on_disk(trace));

  state->write({decision(known), burnt, surge, Forget{prefix("203.0.113.77")}, Forget{prefix("2001:db8:1::/48")},
                ForgetUser{kUser}},
               kNow);
  REQUIRE(state->flush(10s));
  REQUIRE(soon([&] { return !on_disk("the man next door"); }));
  for (const auto& trace : traces) CHECK_FALSE(on_disk(trace));
  CHECK(history(folder.file()).empty());
  const auto read = contents(folder.file());
  CHECK(read.users.empty());
  REQUIRE(read.trust.size() == 1);
  CHECK(read.trust[0].source == prefix("203.0.113.200"));
}

TEST_CASE("an alert tells whom it concerns, if it is somebody") {
  const Folder folder;
  auto surge = alert("surge");
  surge.about = host("203.0.113.77");
  auto burnt = alert("user_burnt");
  burnt.user = ~std::uint64_t{0};
  put(folder.file(), {surge, burnt});
  const auto lines = history(folder.file());
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].about == host("203.0.113.77"));
  CHECK(lines[0].event == "alert");
  CHECK(lines[0].text == "surge");
  CHECK_FALSE(lines[0].block);
  CHECK(lines[0].user == 0);
  CHECK_FALSE(lines[1].about);
  CHECK(lines[1].user == ~std::uint64_t{0});
}

TEST_CASE("who comes back after he was forgotten is known from then on") {
  const Folder folder;
  put(folder.file(), {trusted("203.0.113.77/32", kNow, 7), UserRecord{5, kNow}});
  put(folder.file(), {Forget{prefix("203.0.113.77")}, ForgetUser{5}, trusted("203.0.113.77/32", kNow, 1),
                      UserRecord{5, kNow + 1s}, alert("later")});
  const auto read = contents(folder.file());
  REQUIRE(read.trust.size() == 1);
  CHECK(read.trust[0].users == 1);
  REQUIRE(read.users.size() == 1);
  CHECK(read.users[0].last_success == kNow + 1s);
  CHECK(history(folder.file()).size() == 1);
}

TEST_CASE("a reader in the way of forgetting only delays it") {
  const Folder folder;
  const auto state = must_open(folder.file());
  const auto log = [&] { return octets_of(folder.file().string() + "-wal"); };
  state->write({alert("the man next door"), decision(blocked(host("203.0.113.77")))}, kNow);
  REQUIRE(state->flush(10s));
  {
    Outsider reader(folder.file());
    reader.run("BEGIN; SELECT * FROM history");
    state->write({Forget{prefix("203.0.113.77")}}, kNow);
    REQUIRE(state->flush(10s));
    CHECK(log().find("friendly-scanner") != std::string::npos);
  }
  state->write({alert("something else")}, kNow);
  REQUIRE(state->flush(10s));
  CHECK(log().find("friendly-scanner") == std::string::npos);
}

TEST_CASE("a block that stands outlasts the forgetting of its address") {
  const Folder folder;
  put(folder.file(), {blocked(host("198.51.100.1")), Forget{prefix("198.51.100.1")}});
  CHECK(contents(folder.file()).blocks.size() == 1);
}
