// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/explanation.h"

#include <algorithm>
#include <chrono>

#include "daemon/text.h"

namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;
using std::chrono::seconds;

std::string minute(const std::string& time) { // "2026-11-22 01:02:03 UTC"
  return time.size() < 19 ? time : time.substr(0, 10) + " " + time.substr(11, 8) + " UTC";
}
std::string length(std::int64_t s) { return human_duration(seconds(s)); }

std::string counted(std::uint64_t number, const std::string& one, const std::string& many) {
  return std::to_string(number) + " " + (number == 1 ? one : many);
}

std::string with_article(const std::string& noun) { return (noun.find_first_of("aeiou") == 0 ? "an " : "a ") + noun; }

// "register_flood" as a clause.
std::string what_it_did(const std::string& reason) {
  static const std::vector<std::pair<std::string, std::string>> kClauses = {
      {"scanner", "it showed itself as a scanner"},
      {"register_flood", "it sent more REGISTERs than are allowed"},
      {"invite_flood", "it sent more INVITEs than are allowed"},
      {"options_flood", "it sent more OPTIONS than are allowed"},
      {"request_flood", "it sent more requests than are allowed"},
      {"malformed", "it sent what is no SIP"},
      {"enumeration", "it tried many users in vain"},
      {"auth_failure", "its credentials were rejected too often"},
      {"prefix", "too many hosts of this network were blocked"},
      {"manual", "an operator said so"}};
  for (const auto& [name, clause] : kClauses)
    if (name == reason) return clause;
  return reason;
}

std::string against(const Json& block) {
  const std::string action = block.value("action", ""), kind = block.value("kind", "");
  std::string text = block.value("subject", "");
  if (kind == "prefix") text = "Its network " + text;
  if (kind == "endpoint") text = "Its port " + text;
  text += action == "block"   ? " is blocked"
          : action == "limit" ? " is limited"
          : action == "would_limit"
              ? " would be limited"
              : " would be blocked, but nobody is now (dry run, learning, or the policy only logs)";
  text += " since " + minute(block.value("since", "")) + " until " + minute(block.value("until", "")) + " (" +
          length(std::max<std::int64_t>(block.value("left_s", std::int64_t{0}), 0)) + " more), because " +
          what_it_did(block.value("reason", "")) + ".";
  if (block.contains("limit"))
    text += " What exceeds " + fixed(block["limit"].value("rate_per_s", 0.0), 1) + "/s is dropped.";
  return text + " " + counted(block.value("packets_dropped", std::uint64_t{0}), "packet", "packets") +
         " dropped so far.";
}

std::string evidence(const Json& block) {
  const auto& evidence = block["evidence"];
  std::string text = "The evidence: ";
  text += block.value("proven", false) ? "proven real (it receives our answers)" : "unproven (it may be forged)";
  const auto add = [&](const char* key, const std::string& one, const std::string& many) {
    if (const auto number = evidence.value(key, std::uint64_t{0}); number > 0)
      text += ", " + counted(number, one, many);
  };
  if (const auto agent = evidence.value("user_agent", ""); !agent.empty()) text += ", User-Agent " + in_quotes(agent);
  if (const auto mark = evidence.value("mark", ""); !mark.empty()) text += ", mark " + in_quotes(mark);
  if (const auto method = evidence.value("method", ""); !method.empty()) text += ", " + word(method);
  if (const auto rate = evidence.value("rate_per_s", 0.0); rate > 0) text += ", " + fixed(rate, 1) + "/s";
  if (const auto limit = evidence.value("limit_per_s", 0.0); limit > 0) text += " (allowed " + fixed(limit, 1) + "/s)";
  add("users", "user tried", "users tried");
  add("failures", "failure", "failures");
  add("successes", "success", "successes");
  add("offenders", "blocked host", "blocked hosts");
  if (const auto note = evidence.value("note", ""); !note.empty()) text += ", note " + in_quotes(note);
  return text + ".";
}

Paragraph where_it_stands(const Json& facts) {
  Paragraph part{"Where it stands", {}};
  if (facts["never_blocked"].is_string())
    part.lines.push_back("It is never blocked: " + facts.value("never_blocked", "") + ".");
  if (facts["immune_until"].is_string())
    part.lines.push_back("It was unblocked by hand, and will not be blocked before " +
                         minute(facts.value("immune_until", "")) + ".");
  for (const auto& block : facts["against"]) {
    part.lines.push_back(against(block));
    part.lines.push_back(evidence(block));
    if (block.value("kind", "") == "prefix" && facts.value("passes_its_prefix", false))
      part.lines.push_back("It passes in spite of that, being trusted.");
  }
  if (facts["against"].empty()) part.lines.push_back("It is neither blocked nor limited.");
  return part;
}

Paragraph trust(const Json& facts) {
  const auto& trust = facts["trust"];
  Paragraph part{"Trust", {}};
  if (trust.is_null()) {
    part.lines.push_back("A stranger: our server never answered it with success, as far as is remembered.");
    return part;
  }
  if (trust.value("peer", false)) part.lines.push_back("It is trusted from the start: trust.peers names it.");
  if (!trust.contains("until")) return part;
  part.lines.push_back("Trusted as " + with_article(trust.value("level", "")) + " until " +
                       minute(trust.value("until", "")) + ", and longer with every success.");
  part.lines.push_back("About " + counted(trust.value("registered", std::uint64_t{0}), "user", "users") +
                       " registered from it; " +
                       counted(trust.value("answered_per_hour", std::uint64_t{0}), "success", "successes") +
                       " in its busiest hour of the last two.");
  return part;
}

Paragraph activity(const Json& facts) {
  const auto& seen = facts["activity"];
  Paragraph part{"What it sends", {}};
  if (seen.is_null()) {
    part.lines.push_back("Nothing is remembered of it: it sent nothing lately, or nothing that left a mark.");
    return part;
  }
  std::string text = counted(seen.value("packets", std::uint64_t{0}), "packet", "packets") +
                     " since it was first remembered, the last one judged " + minute(seen.value("last_judged", ""));
  if (const auto rate = seen.value("rate_per_s", 0.0); rate > 0) text += ", " + fixed(rate, 1) + "/s while busy";
  part.lines.push_back(text + ".");
  part.lines.push_back(counted(seen.value("successes", std::uint64_t{0}), "success", "successes") + ", " +
                       counted(seen.value("failures", std::uint64_t{0}), "failure", "failures") + ", " +
                       counted(seen.value("unanswered", std::uint64_t{0}), "challenge", "challenges") +
                       " left without credentials. " +
                       (seen.value("proven", false) ? "It has proven that it receives our answers."
                                                    : "It has not proven that it receives our answers."));
  Table table({{"POLICY"}, {"NOW", Align::Right}, {"ALLOWED", Align::Right}, {"RATE"}, {"IF EXCEEDED"}});
  for (const auto& meter : seen["meters"])
    table.add({meter.value("policy", ""), fixed(meter.value("held", 0.0), 1), fixed(meter.value("burst", 0.0), 0),
               fixed(meter.value("rate_per_s", 0.0), 1) + "/s", meter.value("action", "")});
  for (const auto& count : seen["counts"])
    table.add({count.value("policy", ""), fixed(count.value("held", 0.0), 1), fixed(count.value("most", 0.0), 0),
               "in " + length(count.value("within_s", std::int64_t{0})), count.value("action", "")});
  const std::string rows = table.text();
  for (std::size_t at = 0; at < rows.size();) {
    const auto end = rows.find('\n', at);
    part.lines.push_back("  " + rows.substr(at, end - at));
    at = end + 1;
  }
  return part;
}

bool is_blocked(const Json& facts) {
  return std::ranges::any_of(facts["against"], [](const Json& block) { return block.value("action", "") == "block"; });
}

Paragraph what_comes_next(const Json& facts) {
  Paragraph part{"What would come next", {}};
  const auto& ladder = facts["ladder"];
  const std::string first = length(ladder.value("first_for_s", std::int64_t{0}));
  const std::string next = length(ladder.value("next_for_s", std::int64_t{0}));
  if (facts["never_blocked"].is_string() || facts["immune_until"].is_string()) {
    part.lines.push_back("Whatever it does, it is not blocked.");
    return part;
  }
  if (facts.contains("off") && !facts["off"].is_null())
    part.lines.push_back("sipward is switched off: whatever it does is only noted, until `sipward on`.");
  if (facts.value("dry_run", false)) part.lines.push_back("This is a dry run: whatever it does is only noted.");
  const std::string soft = facts.value("soft", "");
  if (soft == "suspended")
    part.lines.push_back("Our own server is not well: only scanners are blocked until it is.");
  else if (facts.value("learning", false))
    part.lines.push_back(
        "sipward still learns: only scanners are blocked, all else is noted. `sipward arm` ends that.");
  else if (soft == "logged")
    part.lines.push_back("No answers of our server are seen: only scanners are blocked, all else is noted.");
  if (is_blocked(facts))
    part.lines.push_back("The block ends by itself. If it is proven, and still sends in its last minute, it goes on "
                         "for the next step of the ladder.");
  const auto& trust = facts["trust"];
  if (!trust.is_null() && trust.value("registered", std::uint64_t{0}) >= 3)
    part.lines.push_back("Three or more users live behind it: it is never blocked as a whole by itself; one port of "
                         "it may be for " +
                         first + ", and floods are limited.");
  else if (!trust.is_null())
    part.lines.push_back("Being trusted, it loses only the port that breaks a rule, and only if that is proven; floods "
                         "are limited to the rates above.");
  else
    part.lines.push_back("If it breaks a rule (again), it is blocked for " + next +
                         (next == first ? "." : " if that is proven, else for " + first + "."));
  if (const auto near = facts.value("offenders_near", std::uint64_t{0}); near > 0)
    part.lines.push_back(counted(near, "host", "hosts") + " of its network " + (near == 1 ? "was" : "were") +
                         " blocked lately; " + std::to_string(facts.value("offenders_enough", std::uint64_t{0})) +
                         " together block the whole network.");
  return part;
}

Paragraph history(const Json& facts) {
  Paragraph part{"History, the newest first", {}};
  for (const auto& row : facts["history"]) {
    std::string text = minute(row.value("time", "")) + "  " + row.value("event", "");
    if (row.contains("text")) {
      part.lines.push_back(text + " " + in_quotes(row.value("text", "")));
      continue;
    }
    text += " " + row.value("subject", "") + ", " +
            (row.contains("ending") ? row.value("ending", "") : row.value("reason", ""));
    if (row.contains("ending"))
      text += ", " + counted(row.value("packets_dropped", std::uint64_t{0}), "packet", "packets") + " dropped";
    else
      text += ", step " + std::to_string(row.value("step", 1)) + ", until " + minute(row.value("until", ""));
    part.lines.push_back(text);
  }
  if (part.lines.empty()) part.lines.push_back("Nothing is on file.");
  return part;
}

} // namespace

std::vector<Paragraph> explanation(const Json& facts) {
  return {where_it_stands(facts), trust(facts), activity(facts), what_comes_next(facts), history(facts)};
}

} // namespace sipward::daemon
