// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/history.h"

#include "tests/state_lab.h"

using namespace sipward;
using namespace sipward::state_lab;
using Json = nlohmann::ordered_json;

namespace {

HistoryRecord told(const std::string& event, const BlockRecord& block, WallTime at,
                   policy::Ending ending = policy::Ending::Expired) {
  auto record = decision(block, at);
  record.event = event;
  record.ending = ending;
  return record;
}

Json chronicle(const std::vector<HistoryRecord>& records, bool with_alerts = false) {
  Chronicle chronicle;
  for (const auto& record : records) chronicle.add(history_row(record));
  return chronicle.entries(with_alerts);
}

BlockRecord dropping(BlockRecord block, std::uint64_t packets) {
  block.block.packets_dropped = packets;
  return block;
}

const auto kHost = blocked(host("198.51.100.66"));

} // namespace

TEST_CASE("a block that ended is one entry, with its end and all that it dropped") {
  const auto entries = chronicle({told("block", kHost, kNow), told("unblock", dropping(kHost, 318), kNow + 5min)});
  REQUIRE(entries.size() == 1);
  CHECK(entries[0]["subject"] == "198.51.100.66/32");
  CHECK(entries[0]["reason"] == "scanner");
  CHECK(entries[0]["since"] == "2026-11-22T01:02:03.123456Z");
  CHECK(entries[0]["ended"] == "2026-11-22T01:07:03.123456Z");
  CHECK(entries[0]["ending"] == "expired");
  CHECK(entries[0]["packets_dropped"] == 318);
  CHECK(entries[0]["evidence"]["user_agent"] == "friendly-scanner");
  CHECK_FALSE(entries[0].contains("event"));
}

TEST_CASE("a block that stands has no end yet, and a renewed one is still one") {
  auto renewed = kHost;
  renewed.block.step = 2;
  renewed.until = kNow + 35min;
  const auto entries = chronicle({told("block", kHost, kNow), told("renew", renewed, kNow + 5min)});
  REQUIRE(entries.size() == 1);
  CHECK(entries[0]["ended"].is_null());
  CHECK(entries[0]["ending"].is_null());
  CHECK(entries[0]["step"] == 2);
  CHECK(entries[0]["until"] == "2026-11-22T01:37:03.123456Z");
}

TEST_CASE("what began before the first decision that is told is known by its end") {
  const auto entries = chronicle({told("unblock", kHost, kNow + 5min, policy::Ending::Flushed)});
  REQUIRE(entries.size() == 1);
  CHECK(entries[0]["since"] == "2026-11-22T01:02:03.123456Z");
  CHECK(entries[0]["ending"] == "flushed");
}

TEST_CASE("who comes back has a second entry, in the order of their beginnings") {
  auto again = kHost;
  again.since = kNow + 1h;
  const auto other = blocked(host("203.0.113.9"));
  const auto entries = chronicle({told("block", kHost, kNow), told("unblock", kHost, kNow + 5min),
                                  told("unblock", other, kNow + 6min), told("block", again, kNow + 1h)});
  REQUIRE(entries.size() == 3);
  CHECK(entries[0]["subject"] == "198.51.100.66/32");
  CHECK(entries[1]["subject"] == "203.0.113.9/32");
  CHECK(entries[2]["since"] == "2026-11-22T02:02:03.123456Z");
  CHECK(entries[2]["ended"].is_null());
}

TEST_CASE("a newer word takes an older one's place, and the older one has ended") {
  auto by_hand = kHost;
  by_hand.block.reason = policy::Reason::Manual;
  by_hand.since = kNow + 1min;
  const auto entries = chronicle({told("block", kHost, kNow), told("block", by_hand, kNow + 1min)});
  REQUIRE(entries.size() == 2);
  CHECK(entries[0]["ended"] == "2026-11-22T01:03:03.123456Z");
  CHECK(entries[0]["ending"] == "superseded");
  CHECK(entries[1]["reason"] == "manual");
  CHECK(entries[1]["ended"].is_null());
}

TEST_CASE("a host's limit and its block are two things") {
  auto limited = kHost;
  limited.block.limit = policy::Rate{5, 10};
  const auto entries =
      chronicle({told("limit", limited, kNow), told("block", kHost, kNow), told("unlimit", limited, kNow + 1min)});
  REQUIRE(entries.size() == 2);
  CHECK(entries[0]["action"] == "limit");
  CHECK(entries[0]["ended"].is_string());
  CHECK(entries[1]["action"] == "block");
  CHECK(entries[1]["ended"].is_null());
}

TEST_CASE("alerts are there for those who ask for them, and carry no escape") {
  const std::vector<HistoryRecord> records = {alert("surge server=\x1b[2J", kNow), told("block", kHost, kNow)};
  CHECK(chronicle(records).size() == 1);
  const auto entries = chronicle(records, true);
  REQUIRE(entries.size() == 2);
  CHECK(entries[0]["event"] == "alert");
  CHECK(entries[0]["time"] == "2026-11-22T01:02:03.123456Z");
  CHECK(entries[0].dump().find('\x1b') == std::string::npos);
}
