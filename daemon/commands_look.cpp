// SPDX-License-Identifier: GPL-2.0-or-later
#include <iostream>
#include <memory>

#include "daemon/command.h"
#include "daemon/terminal.h"
#include "daemon/text.h"

// The commands that only look.
namespace sipward::daemon {
namespace {

void tell_status(const Json& status) {
  const auto number = [&](const char* key) { return std::to_string(status.value(key, std::uint64_t{0})); };
  const auto row = [](const std::string& name, const std::string& value) {
    std::cout << name << std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') << value << "\n";
  };
  std::string ports;
  for (const auto& port : status["outside"]) ports += (ports.empty() ? "" : ", ") + port.get<std::string>();
  row("mode", status.value("mode", "") + " on " + ports + (status.value("dry_run", false) ? ", dry run" : ""));
  if (const auto& off = status["off"]; off.is_object())
    row("OFF", "since " + off.value("since", "") + ", until " +
                   (off["until"].is_string() ? off.value("until", "") + " or " : "") +
                   "`sipward on`: nobody is blocked" +
                   (off.value("reason", "").empty() ? "" : "; " + in_quotes(off.value("reason", ""))));
  row("up for", human_duration(std::chrono::seconds(status.value("uptime_s", std::int64_t{0}))));
  row("received", number("received") + " packets, " + number("passed") + " passed, " + number("dropped") + " dropped");
  row("lost", std::to_string(status["lost"].value("rx", 0)) + " packets, " +
                  std::to_string(status["lost"].value("offences", 0)) + " offences");
  row("sources", number("sources") + " of " + std::to_string(status["source_table"].value("capacity", 0)));
  row("blocks", number("blocks"));
  if (status["learning"].is_string())
    row("learning", "until " + status.value("learning", "") + "; `sipward arm` ends it");
  if (const auto& shadow = status["shadow"]; shadow.is_object()) {
    const auto count = [&](const char* key) { return std::to_string(shadow.value(key, std::uint64_t{0})); };
    row("shadow", "by " + word(shadow.value("file", "")) + ": " + count("would_block") + " would be blocked, " +
                      count("more") + " of them more than now (" + count("more_known") +
                      " known to the servers), and " + count("less") + " less; `sipward shadow` tells who");
  }
  const bool in_sync = status["nft"].value("in_sync", false);
  const std::string said = in_sync ? "in sync" : "OUT OF SYNC";
  row("nftables", colours_wanted() ? toned(said, in_sync ? Tone::Good : Tone::Bad) : said);
  if (const auto repairs = status["nft"].value("repairs", std::uint64_t{0}); repairs > 0)
    row("", std::to_string(repairs) + " times repaired after somebody else's changes");
  std::cout << "\nverdicts\n";
  for (const auto& [name, count] : status["verdicts"].items())
    if (count != 0) row("  " + name, count.dump());
}

void tell_blocks(const Json& blocks) {
  if (blocks.empty()) {
    std::cout << "nobody is blocked\n";
    return;
  }
  Table table({{"SUBJECT"}, {"REASON"}, {"SINCE"}, {"UNTIL"}, {"DROPPED", Align::Right}, {"WHAT"}});
  for (const auto& block : blocks) {
    const auto& evidence = block["evidence"];
    std::string what = evidence.contains("note") ? in_quotes(evidence.value("note", "")) : "";
    if (const auto agent = evidence.value("user_agent", ""); what.empty() && !agent.empty()) what = in_quotes(agent);
    if (block.value("action", "") == "would_block") what += " (would block)";
    table.add({block.value("subject", ""), block.value("reason", ""), block.value("since", ""),
               block.value("until", ""), std::to_string(block.value("packets_dropped", std::uint64_t{0})), what},
              block.value("action", "") == "would_block" ? Tone::Doubtful : Tone::Bad);
  }
  std::cout << table.text(colours_wanted());
}
} // namespace

void add_look_commands(CLI::App& app, Outcome& outcome) {
  const auto asker = std::make_shared<Asker>();
  asker->option(app.add_subcommand("status", "What the daemon sees and does."))->callback([asker, &outcome] {
    outcome.code = (*asker)({{"command", "status"}}, tell_status);
  });
  asker->option(app.add_subcommand("blocks", "Who is blocked."))->callback([asker, &outcome] {
    outcome.code = (*asker)({{"command", "blocks"}}, tell_blocks);
  });
}

} // namespace sipward::daemon
