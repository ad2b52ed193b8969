// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/text.h"

#include <catch2/catch.hpp>

#include <array>
#include <limits>
#include <utility>

#include "daemon/block_json.h"
#include "daemon/block_log.h"

using namespace sipward;
using namespace sipward::daemon;
using namespace std::chrono_literals;

TEST_CASE("a time is UTC with microseconds, whatever the time zone") {
  struct Row {
    const char* name;
    std::int64_t ns;
    const char* text;
  };
  const Row row = GENERATE(Row{"the epoch", 0, "1970-01-01T00:00:00.000000Z"},
                           Row{"the one in the design", 1795309323123456789, "2026-11-22T01:02:03.123456Z"},
                           Row{"the last nanosecond of a day", 86'399'999'999'999, "1970-01-01T23:59:59.999999Z"},
                           Row{"a leap day", 1709164800'000000000, "2024-02-29T00:00:00.000000Z"},
                           Row{"before the epoch", -1, "1969-12-31T23:59:59.999999Z"},
                           Row{"the latest", std::numeric_limits<std::int64_t>::max(), "2262-04-11T23:47:16.854775Z"});
  INFO(row.name);
  CHECK(rfc3339(WallTime(std::chrono::nanoseconds(row.ns))) == row.text);
}

TEST_CASE("the wall clock's times are those of the monotonic clock, moved") {
  const auto clock = WallClock::now();
  const auto difference = clock.at(monotonic_now()) - std::chrono::system_clock::now();
  CHECK(std::chrono::abs(difference) < 1s);
  CHECK(clock.at(policy::Time(5s)) - clock.at(policy::Time(2s)) == 3s);
  CHECK(clock.when(clock.at(policy::Time(5s))) == policy::Time(5s));
}

TEST_CASE("a time that was written is read back, and no other text is") {
  const WallTime time(1795309323123456us);
  CHECK(parse_rfc3339(rfc3339(time)) == time);
  CHECK(parse_rfc3339("2024-02-29T23:59:59.999999Z"));
  const char* wrong =
      GENERATE("", "2026-11-22T01:02:03Z", "2026-11-22T01:02:03.123456+00:00", "2026-11-22 01:02:03.123456Z",
               "2026-02-29T01:02:03.123456Z", "2026-13-01T01:02:03.123456Z", "2026-11-22T24:00:00.000000Z",
               "2026-11-22T23:59:60.000000Z", "2026-11-22T01:02:03.12345xZ", "9999-12-31T23:59:59.999999Z",
               "1969-12-31T23:59:59.999999Z");
  INFO(wrong);
  CHECK_FALSE(parse_rfc3339(wrong));
}

TEST_CASE("a duration is written as people write it") {
  const std::pair<std::chrono::nanoseconds, const char*> rows[] = {
      {0ns, "0s"},
      {20us, "20us"},
      {350ms, "350ms"},
      {1s, "1s"},
      {2500ms, "2.5s"},
      {12900ms, "12s"},
      {60s, "1m"},
      {90s, "90s"},
      {5min, "5m"},
      {150s, "2m30s"},
      {90min, "1h30m"},
      {24h, "24h"},
      {24h + 1s, "24h1s"},
      {48h, "2d"},
      {74h + 5min, "3d2h5m"},
      {-5min, "-5m"},
      {std::chrono::nanoseconds::min(), "-106751d23h47m16s"},
  };
  for (const auto& [duration, text] : rows) CHECK(human_duration(duration) == text);
}

TEST_CASE("octets are written with their unit") {
  CHECK(human_octets(0) == "0 B");
  CHECK(human_octets(1023) == "1023 B");
  CHECK(human_octets(1024) == "1.0 KiB");
  CHECK(human_octets((1 << 20) - 1) == "1.0 MiB");
  CHECK(human_octets(std::numeric_limits<std::uint64_t>::max()) == "16.0 EiB");
}

namespace {

struct Text {
  const char* name;
  std::string raw;
  const char* quoted;
};
const std::vector<Text> kTexts = {
    {"nothing", "", R"("")"},
    {"a plain name", "friendly-scanner", R"("friendly-scanner")"},
    {"a quote and a backslash", R"(a"b\c)", R"("a\"b\\c")"},
    {"a forged line", "x\r\n2026-11-22T01:02:03Z unblock", R"("x\x0d\x0a2026-11-22T01:02:03Z unblock")"},
    {"a terminal escape", "\x1b[2J", R"("\x1b[2J")"},
    {"DEL", "a\x7f", R"("a\x7f")"},
    {"a NUL in the middle", std::string("a\0b", 3), R"("a\x00b")"},
    {"UTF-8 stays", "Zo\xc3\xaf\x70\x65r \xe6\x97\xa5", "\"Zo\xc3\xaf\x70\x65r \xe6\x97\xa5\""},
    {"a C1 control, CSI",
     "\xc2\x9b"
     "2J",
     R"("\xc2\x9b2J")"},
    {"a text turned around",
     "\xe2\x80\xae"
     "abc",
     R"("\xe2\x80\xaeabc")"},
    {"a line separator", "\xe2\x80\xa8", R"("\xe2\x80\xa8")"},
    {"zero width",
     "a\xe2\x80\x8b"
     "b",
     R"("a\xe2\x80\x8bb")"},
    {"a tag character", "\xf3\xa0\x80\xa1", R"("\xf3\xa0\x80\xa1")"},
    {"Latin-1",
     "Zo\xef"
     "per",
     R"("Zo\xefper")"},
    {"an overlong slash", "\xc0\xaf", R"("\xc0\xaf")"},
    {"an overlong in three octets", "\xe0\x80\xaf", R"("\xe0\x80\xaf")"},
    {"a surrogate", "\xed\xa0\x80", R"("\xed\xa0\x80")"},
    {"beyond Unicode", "\xf4\x90\x80\x80", R"("\xf4\x90\x80\x80")"},
    {"a character cut off", "a\xe6\x97", R"("a\xe6\x97")"},
};

} // namespace

TEST_CASE("quoted text from the network neither forges a line nor moves a cursor") {
  for (const auto& text : kTexts) {
    INFO(text.name);
    CHECK(in_quotes(text.raw) == text.quoted);
  }
  for (int first = 0; first < 256; ++first)
    for (int second = 0; second < 256; ++second) {
      const auto result = in_quotes(std::string{static_cast<char>(first), static_cast<char>(second)});
      const bool safe =
          std::ranges::none_of(result, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
      if (!safe) FAIL("octets " << first << ", " << second << " come through");
    }
}

TEST_CASE("a word goes without quotes only if nothing in it needs them") {
  CHECK(word("REGISTER") == "REGISTER");
  CHECK(word("/tmp/a-b_c.pcap") == "/tmp/a-b_c.pcap");
  for (const char* text : {"", "a b", "a=b", "a\"b", "a\\b", "a\nb", "\xc3\xaf"}) {
    INFO(text);
    CHECK(word(text) == in_quotes(text));
  }
}

TEST_CASE("JSON gets valid UTF-8, without the characters that JSON would let through to a terminal") {
  for (const auto& text : kTexts) {
    INFO(text.name);
    const auto result = utf8(text.raw);
    std::string dumped;
    CHECK_NOTHROW(dumped = nlohmann::json(result).dump()); // throws on invalid UTF-8
    CHECK(in_quotes(result).find("\\xe2") == std::string::npos);
    CHECK(std::ranges::none_of(dumped, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }));
  }
  CHECK(utf8("Zo\xc3\xafper") == "Zo\xc3\xafper");
  CHECK(utf8("Zo\xef"
             "per") == "Zo\xef\xbf\xbd"
                       "per");
  CHECK(utf8("\x1b") == "\x1b"); // JSON writes \u001b
}

TEST_CASE("a block's JSON has the agreed keys in the agreed order, and bears any header text") {
  policy::Block block;
  block.subject = {policy::SubjectKind::Host, *policy::Prefix::parse("198.51.100.66"), 0};
  block.reason = policy::Reason::Scanner;
  block.since = policy::Time(std::chrono::nanoseconds(1795309323123456789));
  block.until = block.since + 5min;
  block.packets_before = 1;
  block.evidence.user_agent = policy::Excerpt("friendly\xff");
  block.evidence.method = policy::Excerpt("REGISTER");
  block.evidence.rate_per_s = 104.23;
  block.evidence.limit_per_s = 5;
  CHECK(
      block_json(block, {}).dump() ==
      R"({"subject":"198.51.100.66/32","kind":"host","reason":"scanner","since":"2026-11-22T01:02:03.123456Z",)"
      R"("until":"2026-11-22T01:07:03.123456Z","step":1,"proven":false,"action":"block","packets_before":1,"packets_dropped":0,)"
      R"("evidence":{"user_agent":"friendly)"
      "\xef\xbf\xbd"
      R"(","method":"REGISTER","rate_per_s":104.2,"limit_per_s":5.0,"users":0,"failures":0,"successes":0}})");

  block.dry_run = true;
  block.note = "by hand";
  block.evidence.mark = policy::Excerpt("friendly*");
  const auto json = block_json(block, {});
  CHECK(json["action"] == "would_block");
  CHECK(json["evidence"]["mark"] == "friendly*");
  CHECK(json["evidence"]["note"] == "by hand");

  const auto line = change_json({policy::BlockChange::Kind::Removed, block, policy::Ending::Expired}, block.until, {});
  CHECK(line["time"] == "2026-11-22T01:07:03.123456Z");
  CHECK(line["event"] == "unblock");
  CHECK(line["subject"] == "198.51.100.66/32");
  CHECK(line["ending"] == "expired");
}

TEST_CASE("a block's life has its words in the log: how long it lasts, on which step, and what a limit leaves") {
  using Kind = policy::BlockChange::Kind;
  policy::Block block;
  block.subject = {policy::SubjectKind::Endpoint, *policy::Prefix::parse("198.51.100.66"), 5070};
  block.reason = policy::Reason::AuthFailure;
  block.since = policy::Time(std::chrono::nanoseconds(1795309323123456000));
  block.until = block.since + 5min;
  block.proven = true;
  CHECK(block_line({Kind::Added, block}, block.since, {}) ==
        "2026-11-22T01:02:03.123456Z block 198.51.100.66:5070 reason=auth_failure for=5m step=1 proven=yes");
  const auto renewed_at = std::exchange(block.until, block.until + 30min);
  block.step = 2;
  CHECK(block_line({Kind::Renewed, block}, renewed_at, {}) ==
        "2026-11-22T01:07:03.123456Z renew 198.51.100.66:5070 reason=auth_failure for=30m step=2 proven=yes");
  block.packets_dropped = 31872;
  CHECK(block_line({Kind::Removed, block, policy::Ending::Superseded}, block.until, {}) ==
        "2026-11-22T01:37:03.123456Z unblock 198.51.100.66:5070 reason=superseded dropped=31872");

  block.limit = policy::Rate{20, 200};
  CHECK(event_name({Kind::Added, block}) == "limit");
  CHECK(event_name({Kind::Removed, block}) == "unlimit");
  CHECK(block_line({Kind::Added, block}, block.since, {}).find(" to=20.0/s ") != std::string::npos);
  CHECK(block_json(block, {})["action"] == "limit");
  CHECK(block_json(block, {})["limit"].dump() == R"({"rate_per_s":20.0,"burst":200})");
  block.dry_run = true;
  CHECK(event_name({Kind::Added, block}) == "would_limit");
  block.limit.reset();
  CHECK(event_name({Kind::Renewed, block}) == "would_renew");
}

TEST_CASE("a table's columns line up, numbers to the right, and no line ends in a space") {
  Table table({{"WHO"}, {"PACKETS", Align::Right}, {"WHAT"}});
  table.add({"192.0.2.1", "7", ""});
  table.add({"\xe6\x97\xa5\xe6\x9c\xac", "12345678", "e\xcc\x81t\xc3\xa9"}); // two wide characters; a combining accent
  table.add({"", "", "x"});
  CHECK(table.text(false, 10) == "WHO       \n"
                                 "192.0.2.1 \n"
                                 "\xe6\x97\xa5\xe6\x9c\xac      \n"
                                 "          \n");
  CHECK(table.text() == "WHO         PACKETS  WHAT\n"
                        "192.0.2.1         7\n"
                        "\xe6\x97\xa5\xe6\x9c\xac       12345678  e\xcc\x81t\xc3\xa9\n"
                        "                     x\n");
}

TEST_CASE("a row is coloured as a whole, and only where colours are wanted") {
  Table table({{"WHO"}});
  table.add({"a"}, Tone::Bad);
  table.add({"b"});
  CHECK(table.text(true) == "\x1b[2mWHO\x1b[0m\n\x1b[31ma\x1b[0m\nb\n");
  CHECK(table.text() == "WHO\na\nb\n");
}

TEST_CASE("a line is cut by the columns it takes, never within a character") {
  CHECK(clipped("abc", 2) == "ab");
  CHECK(clipped("abc", 9) == "abc");
  CHECK(clipped("\xe6\x97\xa5\xe6\x9c\xac", 3) == "\xe6\x97\xa5"); // two columns each
  CHECK(clipped("e\xcc\x81x", 1) == "e\xcc\x81");                  // an accent stays with its letter
  CHECK(clipped("abc", 0).empty());
}
