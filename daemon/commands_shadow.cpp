// SPDX-License-Identifier: GPL-2.0-or-later
#include <iostream>
#include <memory>

#include "daemon/command.h"
#include "daemon/terminal.h"
#include "daemon/text.h"

// `sipward shadow`: what the settings that are tried on live traffic would do otherwise.
namespace sipward::daemon {
namespace {

std::vector<std::string> cells(const Json& block) {
  const auto agent = block["evidence"].value("user_agent", "");
  return {block.value("subject", ""), block.value("reason", ""), block.value("since", ""),
          block.value("known", false) ? "yes" : "no", agent.empty() ? "" : in_quotes(agent)};
}

void tell_list(const char* title, const Json& blocks, Tone tone) {
  if (blocks.empty()) return;
  Table table({{"SUBJECT"}, {"REASON"}, {"SINCE"}, {"KNOWN"}, {"WHAT"}});
  for (const auto& block : blocks) table.add(cells(block), block.value("known", false) ? Tone::Bad : tone);
  std::cout << "\n" << title << "\n" << table.text(colours_wanted());
}

void tell_otherwise(const Json& pairs) {
  if (pairs.empty()) return;
  Table table({{"SUBJECT"}, {"NOW"}, {"SINCE"}, {"THEN"}, {"SINCE"}});
  for (const auto& pair : pairs)
    table.add({pair["now"].value("subject", ""), pair["now"].value("reason", ""), pair["now"].value("since", ""),
               pair["then"].value("reason", ""), pair["then"].value("since", "")});
  std::cout << "\nfor another reason, or at another time\n" << table.text(colours_wanted());
}

void tell_shadow(const Json& shadow) {
  const auto number = [](const Json& of, const char* key) { return std::to_string(of.value(key, std::uint64_t{0})); };
  const auto& blocks = shadow["blocks"];
  const auto& packets = shadow["packets"];
  std::cout << "with " << word(shadow.value("file", "")) << " instead, since " << shadow.value("since", "") << ":\n"
            << "  " << blocks["more"].size() << " more blocked, " << blocks["less"].size() << " less, "
            << blocks["otherwise"].size() << " for another reason or at another time\n"
            << "  of " << number(packets, "judged") << " packets " << number(packets, "more") << " more dropped, "
            << number(packets, "less") << " less\n";
  tell_list("more", blocks["more"], Tone::Doubtful);
  tell_list("less", blocks["less"], Tone::Good);
  tell_otherwise(blocks["otherwise"]);
  if (const auto lost = shadow.value("lost_offences", std::uint64_t{0}); lost > 0)
    std::cout << "\n" << lost << " offences were lost: they came faster than they were read\n";
  if (const auto left_out = blocks.value("left_out", std::uint64_t{0}); left_out > 0)
    std::cout << "\n" << left_out << " further blocks are not compared\n";
}

} // namespace

void add_shadow_command(CLI::App& app, Outcome& outcome) {
  const auto asker = std::make_shared<Asker>();
  asker
      ->option(app.add_subcommand("shadow", "What the settings of the shadow file would do otherwise: who would be "
                                            "blocked more, who less, and whom of them the servers know."))
      ->callback([asker, &outcome] {
        outcome.code = (*asker)({{"command", "shadow"}}, tell_shadow);
      });
}

} // namespace sipward::daemon
