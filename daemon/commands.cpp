// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/commands.h"

#include <iostream>
#include <new>

#include "daemon/command.h"
#include "daemon/version.h"

namespace sipward::daemon {

int command_line(int argc, char** argv) {
  CLI::App app{"sipward keeps scanners and floods away from SIP servers.", "sipward"};
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("sipward ") + kVersion);
  app.footer("Exit codes: 0 done, 1 refused or invalid, 2 usage, 3 no daemon there.");
  Outcome outcome;
  add_run_commands(app, outcome);
  add_look_commands(app, outcome);
  add_block_commands(app, outcome);
  add_memory_commands(app, outcome);
  add_state_commands(app, outcome);
  add_reload_command(app, outcome);
  add_doctor_command(app, outcome);
  add_package_commands(app, outcome);
  add_top_command(app, outcome);
  add_explain_command(app, outcome);
  add_events_command(app, outcome);
  add_order_commands(app, outcome);
  add_off_commands(app, outcome);
  add_shadow_command(app, outcome);
  app.add_subcommand("version", "Print the version.")->callback([] { std::cout << "sipward " << kVersion << "\n"; });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kUsage; // help and version are not errors
  } catch (const std::bad_alloc&) {
    return refuse("not enough memory (sources.capacity takes some 100 octets for each source)");
  }
  std::cout.flush();
  return std::cout ? outcome.code : refuse("cannot write the answer to standard output");
}

} // namespace sipward::daemon
