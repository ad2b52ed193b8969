// SPDX-License-Identifier: GPL-2.0-or-later
#include <iostream>
#include <memory>

#include "daemon/command.h"
#include "daemon/text.h"

// The commands that say who is right: confirm a block, allow somebody.
namespace sipward::daemon {
namespace {

struct OrderWords {
  Asker asker;
  std::string subject, length;
  bool end = false;
};
using OrderShared = std::shared_ptr<OrderWords>; // lives as long as the commands' callbacks

void add_confirm(CLI::App& app, const OrderShared& words, Outcome& outcome) {
  auto* command = words->asker.option(
      app.add_subcommand("confirm", "Keep what was blocked with --confirm; unconfirmed it ends by itself."));
  command->add_option("ADDR[/LEN]", words->subject, "this one only");
  command->callback([words, &outcome] {
    outcome.code = words->asker({{"command", "confirm"}, {"subject", words->subject}}, [](const Json& blocks) {
      for (const auto& block : blocks)
        std::cout << block.value("subject", "") << " stays blocked until " << block.value("until", "") << "\n";
    });
  });
}

void tell_allowed(const Json& list) {
  if (list.empty()) {
    std::cout << "nobody is allowed by name\n";
    return;
  }
  Table table({{"SUBJECT"}, {"BY"}, {"UNTIL"}});
  for (const auto& entry : list)
    table.add({entry.value("subject", ""), entry.value("by", ""),
               entry["until"].is_string() ? entry.value("until", "") : std::string()});
  std::cout << table.text();
}

int allow(const OrderWords& words) {
  if (words.subject.empty()) return words.asker({{"command", "allowed"}}, tell_allowed);
  if (words.end)
    return words.asker({{"command", "disallow"}, {"subject", words.subject}}, [](const Json& done) {
      std::cout << done.value("subject", "") << " is judged again as everybody\n";
    });
  Json request = {{"command", "allow"}, {"subject", words.subject}};
  if (!words.length.empty()) request["for_s"] = seconds(words.length);
  return words.asker(request, [](const Json& done) {
    std::cout << done.value("subject", "") << " is never blocked"
              << (done["until"].is_string() ? ", until " + done.value("until", "") : std::string()) << "\n";
  });
}

void add_allow(CLI::App& app, const OrderShared& words, Outcome& outcome) {
  auto* command = words->asker.option(
      app.add_subcommand("allow", "Never block somebody, over restarts as well; alone: who is allowed, and by whom."));
  auto* whom = command->add_option("ADDR[/LEN]", words->subject, "whom");
  auto* length =
      command->add_option("--for", words->length, "for so long; else until --end")->check(duration_fault)->needs(whom);
  command->add_flag("--end", words->end, "no more")->needs(whom)->excludes(length);
  command->callback([words, &outcome] { outcome.code = allow(*words); });
}

} // namespace

void add_order_commands(CLI::App& app, Outcome& outcome) {
  const auto words = std::make_shared<OrderWords>();
  add_confirm(app, words, outcome);
  add_allow(app, words, outcome);
}

} // namespace sipward::daemon
