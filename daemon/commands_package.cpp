// SPDX-License-Identifier: GPL-2.0-or-later
#include <iostream>

#include "daemon/command.h"
#include "daemon/nft.h"
#include "daemon/version.h"

// Commands for the package and its build, which --help does not show.
namespace sipward::daemon {
namespace {

Json option_json(const CLI::Option& option) {
  Json names = Json::array();
  for (const auto& name : option.get_snames()) names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) names.push_back("--" + name);
  return {{"names", std::move(names)},
          {"positional", option.get_positional() ? option.get_name(true) : ""},
          {"description", option.get_description()},
          {"flag", option.get_expected_max() == 0},
          {"type", option.get_type_name()}, // with the choices, where there are any: TEXT:{sip,all}
          {"default", option.get_default_str()},
          {"required", option.get_required()},
          {"many", option.get_expected_max() > 1}};
}

// `name`: with those of the commands above it, "state export".
void add_command_json(const CLI::App& command, const std::string& name, Json& list) {
  Json options = Json::array();
  for (const auto* option : command.get_options()) options.push_back(option_json(*option));
  const auto below = command.get_subcommands([](const CLI::App* each) { return !each->get_group().empty(); });
  list.push_back({{"name", name},
                  {"description", command.get_description()},
                  {"group", !below.empty()},
                  {"options", std::move(options)}});
  for (const auto* each : below)
    add_command_json(*each, name.empty() ? each->get_name() : name + " " + each->get_name(), list);
}

// Every command as --help has it, as JSON: the manual and the shells' completions are made from this.
int describe_commands(const CLI::App& app) {
  Json list = Json::array();
  add_command_json(app, "", list);
  std::cout << Json{{"version", kVersion}, {"exit_codes", app.get_footer()}, {"commands", std::move(list)}}.dump(1)
            << "\n";
  return kDone;
}

// The table that a stopped daemon left, and what it took from the kernel inline. None of them is no error.
int remove_table() {
  auto nft = nft::Nft::open();
  if (!nft) return refuse(nft.error().message);
  if (const auto given = nft->give_back(); !given) return refuse(given.error().message);
  if (const auto removed = nft->remove(); !removed) return refuse(removed.error().message);
  return kDone;
}

} // namespace

void add_package_commands(CLI::App& app, Outcome& outcome) {
  app.add_subcommand("describe-commands", "Print every command as JSON.")->group("")->callback([&app, &outcome] {
    outcome.code = describe_commands(app);
  });
  app.add_subcommand("remove-table", "Remove every rule of a daemon that runs no more.")
      ->group("")
      ->callback([&outcome] { outcome.code = remove_table(); });
}

} // namespace sipward::daemon
