// SPDX-License-Identifier: GPL-2.0-or-later
#include <iostream>
#include <memory>

#include "daemon/command.h"

namespace sipward::daemon {
namespace {

std::string listed(const Json& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name.get<std::string>();
  return text;
}

void tell_reload(const Json& done) {
  if (done["changed"].empty())
    std::cout << "nothing has changed\n";
  else
    std::cout << "in force now: " << listed(done["changed"]) << "\n";
  if (!done["for_restart"].empty())
    std::cout << "after a restart only (systemctl restart sipward): " << listed(done["for_restart"]) << "\n";
  if (!done["lifted"].empty())
    std::cout << "not blocked any more, being never blocked now: " << listed(done["lifted"]) << "\n";
}

} // namespace

void add_reload_command(CLI::App& app, Outcome& outcome) {
  const auto asker = std::make_shared<Asker>();
  asker->option(app.add_subcommand("reload", "Apply the settings file anew, without losing a packet or a block."))
      ->callback([asker, &outcome] {
        outcome.code = (*asker)({{"command", "reload"}}, tell_reload);
      });
}

} // namespace sipward::daemon
