// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "daemon/commands.h"
#include "daemon/text.h"

// Private to this layer. What the commands share. Each group of them is a file of its own, commands_GROUP.cpp, and one
// function here.
namespace sipward::daemon {

using Json = nlohmann::ordered_json;

// What a command came to; the callback of whichever was typed writes it.
struct Outcome {
  int code = kDone;
};

using AddCommands = void(CLI::App& app, Outcome& outcome);
AddCommands add_run_commands;     // run, check, replay
AddCommands add_look_commands;    // status, blocks
AddCommands add_block_commands;   // block, unblock, flush, arm
AddCommands add_memory_commands;  // history, forget
AddCommands add_state_commands;   // state export, state import
AddCommands add_reload_command;   // reload
AddCommands add_doctor_command;   // doctor
AddCommands add_package_commands; // hidden: for the package and its build
AddCommands add_top_command;      // top
AddCommands add_explain_command;  // explain
AddCommands add_events_command;   // events
AddCommands add_order_commands;   // confirm, allow
AddCommands add_off_commands;     // off, on
AddCommands add_shadow_command;   // shadow

// Says why not, on stderr, in one line.
int refuse(const std::string& why, Exit code = kRefused);

std::int64_t seconds(const std::string& duration);       // of text that duration_fault() has nothing against
std::string duration_fault(const std::string& duration); // for CLI11: what is wrong with it, or nothing

WallTime wall_now();
inline constexpr std::chrono::seconds kPatience{5}; // with a slow disk

// A question to the running daemon.
struct Asker {
  std::string socket = "/run/sipward/control.sock";
  bool json = false;

  using Tell = std::function<void(const Json& result)>;
  using Otherwise = std::function<int(const std::string& nobody)>;
  static int nobody_there(const std::string& sentence);

  // Sends a request; on success prints what the daemon answered, as JSON or through `tell`. `otherwise` is what can be
  // done without a daemon; it is given the sentence that says that there is none.
  int operator()(const Json& request, const Tell& tell, const Otherwise& otherwise = nobody_there) const;

  // The same without a word: what the daemon answered, or why not. For commands that ask more than once.
  struct Unanswered {
    bool nobody_there = false;
    std::string why;
  };
  std::expected<Json, Unanswered> question(const Json& request) const;

  // Waits until all that the daemon knows is on its disk, as long as that makes sense. The answer names its "path".
  std::expected<Json, Unanswered> settle() const;

  CLI::App* option(CLI::App* command); // --socket and --json
};

} // namespace sipward::daemon
