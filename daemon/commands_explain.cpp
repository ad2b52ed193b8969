// SPDX-License-Identifier: GPL-2.0-or-later
#include <iostream>
#include <memory>

#include "daemon/command.h"
#include "daemon/explanation.h"
#include "daemon/terminal.h"
#include "daemon/text.h"

namespace sipward::daemon {
namespace {

void tell_explanation(const Json& facts) {
  const bool colours = colours_wanted();
  std::string source = facts.value("source", "");
  std::cout << facts.value("address", "") << "  (source " << source << ", " << facts.value("time", "").substr(0, 19)
            << "Z)\n";
  for (const auto& [title, lines] : explanation(facts)) {
    std::cout << "\n" << (colours ? toned(title, Tone::Faint) : title) << "\n";
    for (const auto& line : lines) std::cout << "  " << line << "\n";
  }
}

} // namespace

void add_explain_command(CLI::App& app, Outcome& outcome) {
  struct Words {
    Asker asker;
    std::string subject;
  };
  const auto words = std::make_shared<Words>();
  auto* explain = words->asker.option(app.add_subcommand("explain", "Everything that is known of one address."));
  explain->add_option("ADDR", words->subject, "which")->required();
  explain->callback([words, &outcome] {
    outcome.code = words->asker({{"command", "explain"}, {"subject", words->subject}}, tell_explanation);
  });
}

} // namespace sipward::daemon
