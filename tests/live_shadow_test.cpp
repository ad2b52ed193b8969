// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/live_shadow.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/story.h"

// Other settings beside the present ones, on live traffic: what is said of it, and what is done to the second judge's
// ledger. The clock is the story's.
namespace sipward::test {
namespace {

using daemon::LiveShadow, daemon::ShadowLine;
using policy::Ending;

struct Trial {
  explicit Trial(config::Settings settings = {}, policy::BlockOptions now = {})
      : present(std::move(now)),
        shadow(std::move(settings), story.ledger, present,
               {[this](const ShadowLine& line, Time when) { lines.push_back(shadow_event(line, when, {})); },
                [this](const Subject& subject) -> std::string_view {
                  return present.find(subject) != nullptr ? "blocked" : "passes";
                }},
               at) {}

  Offence offence(std::string_view from, Reason reason = Reason::RegisterFlood) const {
    Offence made;
    made.source = address(from);
    made.reason = reason;
    made.at = at;
    made.proven = true;
    return made;
  }
  void now(const Offence& offence) { // the present settings convict
    for (const auto& change : present.convict(offence)) shadow.note_present(change, false);
  }
  bool says(std::string_view what) const {
    return std::ranges::any_of(lines, [&](const auto& line) { return line.text.find(what) != std::string::npos; });
  }

  Story story;
  Time at = Time(1000s);
  BlockList present;
  std::vector<daemon::LoggedEvent> lines;
  LiveShadow shadow;
};

TEST_CASE("whom only the settings that are tried block is written down, counted as more, and dropped by nobody else") {
  Trial trial;
  trial.story.hears("198.51.100.66", "OPTIONS sip:x SIP/2.0\r\n\r\n");
  trial.shadow.hear(trial.offence("198.51.100.66"));
  REQUIRE(trial.lines.size() == 1);
  CHECK_THAT(trial.lines[0].text, Catch::StartsWith("1970-01-01T00:16:40.000000Z would_block 198.51.100.66/32 "
                                                    "reason=register_flood for=5m step=1"));
  CHECK_THAT(trial.lines[0].text, Catch::EndsWith(" now=passes shadow=yes"));
  const auto json = nlohmann::json::parse(trial.lines[0].json);
  CHECK(json["event"] == "would_block");
  CHECK(json["action"] == "would_block");
  CHECK(json["shadow"] == true);
  CHECK(trial.shadow.counts().would_block == 1);
  CHECK(trial.shadow.counts().more == 1);
  CHECK(trial.shadow.counts().more_known == 0);
  CHECK(trial.shadow.difference().more.size() == 1);
  CHECK(trial.present.size() == 0);
  CHECK(trial.story.source("198.51.100.66").blocked(Now(trial.at))); // in the second judge's own ledger
}

TEST_CASE("a customer among those who would be blocked more is counted as known") {
  Trial trial;
  auto offence = trial.offence("203.0.113.1", Reason::AuthFailure);
  offence.evidence.successes = 1;
  trial.shadow.hear(offence);
  CHECK(trial.shadow.counts().more_known == 1);
  CHECK(daemon::is_known(*trial.shadow.difference().more.at(0)));
}

TEST_CASE("whom both block at the same packet is no difference") {
  Trial trial;
  trial.now(trial.offence("198.51.100.66"));
  trial.shadow.hear(trial.offence("198.51.100.66"));
  CHECK(trial.says(" now=blocked shadow=yes"));
  trial.shadow.tend(trial.at + 1min);
  CHECK(trial.lines.size() == 1);
  const auto difference = trial.shadow.difference();
  CHECK(difference.more.empty());
  CHECK(difference.less.empty());
  CHECK(difference.otherwise.empty());
  CHECK(trial.shadow.counts().more == 0);
}

TEST_CASE("whom only the present settings block is written down once it is clear that the others let him go on") {
  Trial trial;
  trial.now(trial.offence("198.51.100.66"));
  trial.shadow.tend(trial.at + 9s);
  CHECK(trial.lines.empty());
  trial.shadow.tend(trial.at + 10s);
  REQUIRE(trial.lines.size() == 1);
  CHECK(trial.says(" would_pass 198.51.100.66/32 reason=register_flood "));
  CHECK(trial.says(" now=blocked shadow=yes"));
  CHECK(nlohmann::json::parse(trial.lines[0].json)["action"] == "would_pass");
  CHECK(trial.shadow.counts().less == 1);
  CHECK(trial.shadow.difference().less.size() == 1);
  trial.shadow.tend(trial.at + 1min);
  CHECK(trial.lines.size() == 1);
}

TEST_CASE("the end of what would have been a block says how much it would have dropped") {
  Trial trial;
  trial.story.clock = trial.at.time_since_epoch();
  trial.story.hears("198.51.100.66", Request{});
  trial.shadow.hear(trial.offence("198.51.100.66"));
  for (int i = 0; i < 7; ++i) CHECK(trial.story.hears("198.51.100.66", Request{}).drop);
  trial.shadow.tend(trial.at + 5min);
  CHECK(trial.says(" would_unblock 198.51.100.66/32 reason=expired dropped=7 shadow=yes"));
}

TEST_CASE("what the settings that are tried would only log is told as that, and does nothing") {
  Trial trial;
  trial.story.hears("198.51.100.66", Request{});
  auto offence = trial.offence("198.51.100.66");
  offence.action = Action::Log;
  trial.shadow.hear(offence);
  CHECK(trial.says(" action=log now=passes shadow=yes"));
  CHECK(trial.shadow.counts().would_block == 0);
  CHECK(trial.shadow.difference().more.empty());
  CHECK_FALSE(trial.story.source("198.51.100.66").blocked(Now(trial.at)));
}

TEST_CASE("limits are told, and no difference of blocks") {
  Trial trial;
  auto offence = trial.offence("198.51.100.66");
  offence.action = Action::Limit;
  offence.limit = {10, 20};
  trial.shadow.hear(offence);
  CHECK(trial.says(" would_limit 198.51.100.66/32 "));
  CHECK(trial.shadow.counts().would_limit == 1);
  CHECK(trial.shadow.difference().more.empty());
}

TEST_CASE("who was blocked before the trial began is no difference") {
  Story story;
  const Time at(1000s);
  BlockList present{BlockOptions{}};
  Offence offence;
  offence.source = address("198.51.100.66");
  offence.at = at;
  present.convict(offence);
  LiveShadow shadow({}, story.ledger, present,
                    {[](const ShadowLine&, Time) {}, [](const Subject&) -> std::string_view { return "blocked"; }}, at);
  shadow.hear(offence);
  shadow.tend(at + 1min);
  CHECK(shadow.counts().would_block == 1);
  CHECK(shadow.counts().more == 0);
  CHECK(shadow.difference().more.empty());
  CHECK(shadow.difference().less.empty());
}

TEST_CASE("its own prefixes and ladder are the tried settings'") {
  config::Settings settings;
  settings.prefix.offenders = 1;
  settings.block.ladder = {60s, 120s};
  Trial trial(settings);
  CHECK_FALSE(trial.shadow.take_prefixes_changed());
  trial.shadow.hear(trial.offence("198.51.100.66"));
  CHECK(trial.says(" would_block 198.51.100.66/32 reason=register_flood for=1m "));
  CHECK(trial.says(" would_block 198.51.100.0/24 reason=prefix "));
  CHECK(trial.shadow.take_prefixes_changed());
  CHECK_FALSE(trial.shadow.take_prefixes_changed());
  CHECK(trial.shadow.blocks().prefixes().size() == 1);
  trial.shadow.tend(trial.at + 61s);
  CHECK(trial.says(" would_unblock 198.51.100.0/24 reason=expired shadow=yes")); // nobody counts a prefix's packets
}

TEST_CASE("who is never blocked is not, by the tried settings either") {
  Trial trial;
  trial.shadow.set_never_blocked(PrefixSet(prefixes({"198.51.100.0/24"})), trial.at);
  trial.shadow.hear(trial.offence("198.51.100.66"));
  CHECK(trial.lines.empty());
}

} // namespace
} // namespace sipward::test
