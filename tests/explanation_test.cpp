// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/explanation.h"

#include <catch2/catch.hpp>

#include "daemon/event_ring.h"

using namespace sipward::daemon;
using Json = nlohmann::ordered_json;

namespace {

Json stranger() {
  return Json::parse(
      R"({"address": "198.51.100.66", "source": "198.51.100.66/32", "time": "2026-11-22T01:02:03.123456Z",
    "never_blocked": null, "immune_until": null, "against": [], "passes_its_prefix": false, "offenders_near": 0,
    "offenders_enough": 4, "trust": null, "activity": null,
    "ladder": {"step": 0, "next_step": 1, "next_for_s": 300, "first_for_s": 300},
    "soft": "judged", "learning": false, "dry_run": false, "history": []})");
}

Json block(const std::string& subject, const std::string& kind, const std::string& action, const std::string& reason) {
  return {{"subject", subject},
          {"kind", kind},
          {"reason", reason},
          {"since", "2026-11-22T01:00:00.000000Z"},
          {"until", "2026-11-22T01:05:00.000000Z"},
          {"step", 1},
          {"proven", false},
          {"action", action},
          {"packets_dropped", 41},
          {"left_s", 177},
          {"evidence",
           {{"user_agent", "friendly-scanner"},
            {"method", "REGISTER"},
            {"rate_per_s", 104.2},
            {"limit_per_s", 10.0},
            {"users", 37},
            {"failures", 1}}}};
}

std::string told(const Json& facts) {
  std::string text;
  for (const auto& [title, lines] : explanation(facts)) {
    text += "# " + title + "\n";
    for (const auto& line : lines) text += line + "\n";
  }
  return text;
}
bool says(const std::string& text, const std::string& sentence) { return text.find(sentence) != std::string::npos; }

} // namespace

TEST_CASE("of a stranger nobody has heard of, all that is to say is said") {
  CHECK(told(stranger()) == "# Where it stands\n"
                            "It is neither blocked nor limited.\n"
                            "# Trust\n"
                            "A stranger: our server never answered it with success, as far as is remembered.\n"
                            "# What it sends\n"
                            "Nothing is remembered of it: it sent nothing lately, or nothing that left a mark.\n"
                            "# What would come next\n"
                            "If it breaks a rule (again), it is blocked for 5m.\n"
                            "# History, the newest first\n"
                            "Nothing is on file.\n");
}

TEST_CASE("a block is told with its end, its cause, its evidence and what it dropped") {
  auto facts = stranger();
  facts["against"].push_back(block("198.51.100.66/32", "host", "block", "register_flood"));
  const auto text = told(facts);
  CHECK(says(text, "198.51.100.66/32 is blocked since 2026-11-22 01:00:00 UTC until 2026-11-22 01:05:00 UTC (2m57s "
                   "more), because it sent more REGISTERs than are allowed. 41 packets dropped so far."));
  CHECK(says(text, "The evidence: unproven (it may be forged), User-Agent \"friendly-scanner\", REGISTER, 104.2/s "
                   "(allowed 10.0/s), 37 users tried, 1 failure."));
  CHECK(says(text, "The block ends by itself."));
}

TEST_CASE("whatever stands against it is named for what it is") {
  struct Row {
    const char *name, *kind, *action, *sentence;
  };
  const Row row =
      GENERATE(Row{"its network", "prefix", "block", "Its network 198.51.100.0/24 is blocked"},
               Row{"its port", "endpoint", "block", "Its port 198.51.100.0/24 is blocked"},
               Row{"a limit", "host", "limit", "198.51.100.0/24 is limited"},
               Row{"a dry run", "host", "would_block", "198.51.100.0/24 would be blocked, but nobody is now"});
  INFO(row.name);
  auto facts = stranger();
  facts["against"].push_back(block("198.51.100.0/24", row.kind, row.action, "prefix"));
  CHECK(says(told(facts), row.sentence));
}

TEST_CASE("what would come next depends on who it is and on what goes on") {
  auto facts = stranger();
  SECTION("never blocked") {
    facts["never_blocked"] = "this host's gateway";
    CHECK(says(told(facts), "It is never blocked: this host's gateway."));
    CHECK(says(told(facts), "Whatever it does, it is not blocked."));
  }
  SECTION("a second offence") {
    facts["ladder"] = {{"step", 1}, {"next_step", 2}, {"next_for_s", 1800}, {"first_for_s", 300}};
    CHECK(says(told(facts), "it is blocked for 30m if that is proven, else for 5m."));
  }
  SECTION("an office") {
    facts["trust"] = {{"peer", false},
                      {"level", "office"},
                      {"until", "2026-12-06T01:02:03.000000Z"},
                      {"registered", 40},
                      {"answered_per_hour", 2400}};
    CHECK(says(told(facts), "Trusted as a office until") == false);
    CHECK(says(told(facts), "Trusted as an office until 2026-12-06 01:02:03 UTC"));
    CHECK(says(told(facts), "it is never blocked as a whole by itself"));
  }
  SECTION("switched off") {
    CHECK_FALSE(says(told(facts), "switched off"));
    facts["off"] = {{"since", "2026-11-22T01:02:03.000000Z"}, {"until", nullptr}};
    CHECK(says(told(facts), "sipward is switched off: whatever it does is only noted"));
  }
  SECTION("learning") {
    facts["learning"] = true;
    facts["soft"] = "logged";
    CHECK(says(told(facts), "sipward still learns"));
  }
  SECTION("our server is not well") {
    facts["soft"] = "suspended";
    CHECK(says(told(facts), "only scanners are blocked until it is"));
  }
  SECTION("neighbours") {
    facts["offenders_near"] = 3;
    CHECK(says(told(facts), "3 hosts of its network were blocked lately; 4 together block the whole network."));
    facts["offenders_near"] = 1;
    CHECK(says(told(facts), "1 host of its network was blocked lately;"));
  }
}

TEST_CASE("no text from the network gets to the terminal as it is") {
  auto facts = stranger();
  auto evil = block("198.51.100.66/32", "host", "block", "scanner");
  evil["evidence"]["user_agent"] = "x\x1b[2J\n";
  evil["evidence"]["note"] = "\x1b]0;owned\x07";
  facts["against"].push_back(evil);
  facts["history"].push_back({{"time", "2026-11-22T01:00:00.000000Z"}, {"event", "alert"}, {"text", "a\x1b[31m"}});
  CHECK_FALSE(says(told(facts), "\x1b"));
}

TEST_CASE("the ring keeps the latest events under their numbers") {
  EventRing ring(3);
  CHECK(ring.oldest() == ring.next());
  for (int i = 0; i < 5; ++i) ring.add({"event " + std::to_string(i), "{}"});
  CHECK(ring.next() == 5);
  CHECK(ring.oldest() == 2);
  CHECK(ring.at(2).text == "event 2");
  CHECK(ring.at(4).text == "event 4");
}
