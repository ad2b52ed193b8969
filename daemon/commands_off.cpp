// SPDX-License-Identifier: GPL-2.0-or-later
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "daemon/command.h"
#include "daemon/control_socket.h"
#include "daemon/nft.h"
#include "daemon/state.h"
#include "daemon/text.h"

// The off switch's commands. They must work at three in the morning: with a daemon, without one, and with one that does
// not answer.
namespace sipward::daemon {
namespace {

struct OffWords {
  Asker asker;
  std::string state = "/var/lib/sipward/sipward.db";
  std::string length, reason;
};
using OffShared = std::shared_ptr<OffWords>; // lives as long as the commands' callbacks

void add_options(OffWords& words, CLI::App* command) {
  words.asker.option(command);
  command->add_option("--state", words.state, "without a daemon: the state database")->capture_default_str();
}

std::expected<void, std::string> write_down(const std::string& path, OffSwitch off) {
  auto state = State::open(path);
  if (!state) return std::unexpected(state.error());
  (*state)->write({std::move(off)}, WallClock::now().at(monotonic_now()));
  if (!(*state)->flush(kPatience)) return std::unexpected((*state)->trouble());
  return {};
}

// ---- nobody answers

int off_without_daemon(const OffWords& words, const ControlFailure& failure) {
  auto table = nft::Nft::open();
  if (!table) return refuse(failure.nobody_there ? table.error().message : failure.message);
  auto removed = table->give_back();
  if (removed) removed = table->remove();
  if (!removed) return refuse(removed.error().message);
  const auto wall = WallClock::now().at(monotonic_now());
  OffSwitch off{.off = true, .since = wall, .until = std::nullopt, .reason = words.reason};
  if (!words.length.empty()) off.until = wall + std::chrono::seconds(seconds(words.length));
  const auto written = write_down(words.state, std::move(off));
  if (!failure.nobody_there)
    return refuse(failure.message +
                  "; every rule is removed, but it may put them back: kill it (systemctl kill -s KILL "
                  "sipward), then say `sipward off` once more");
  if (!written)
    return refuse("every rule is removed, but the next start puts them back, since this could not be written down: " +
                  written.error());
  if (words.asker.json)
    std::cout << Json{{"daemon", false}, {"off", true}}.dump(2) << "\n";
  else
    std::cout << "off: every rule is removed, and stays so when sipward is started, until `sipward on`"
              << (words.length.empty() ? "" : " or for " + words.length) << " (no daemon is running)\n";
  return kDone;
}

int on_without_daemon(const OffWords& words, const std::string& nobody) {
  std::error_code error;
  if (!std::filesystem::exists(words.state, error)) return Asker::nobody_there(nobody);
  const auto contents = read_state(words.state);
  if (!contents) return refuse(contents.error());
  if (!contents->off.off) return Asker::nobody_there(nobody + "; it is not switched off");
  if (const auto written = write_down(words.state, {}); !written) return refuse(written.error());
  if (words.asker.json)
    std::cout << Json{{"daemon", false}, {"off", false}}.dump(2) << "\n";
  else
    std::cout << "on: the rules come back when sipward is started (no daemon is running)\n";
  return kDone;
}

// ---- the commands

int off(const OffWords& words) {
  Json request{{"command", "off"}, {"reason", words.reason}};
  if (!words.length.empty()) request["for_s"] = seconds(words.length);
  const auto text = request.dump(-1, ' ', false, Json::error_handler_t::replace);
  // Not through the asker alone: it takes a daemon that gives no answer for a refusal.
  const auto line = ask(words.asker.socket, text);
  if (!line) return off_without_daemon(words, line.error());
  const Json answer = Json::parse(*line, nullptr, false);
  if (answer.is_discarded()) return refuse("the daemon's answer is not JSON");
  if (!answer.value("ok", false)) return refuse(answer.value("error", "the daemon refused"));
  const auto& done = answer["result"];
  if (words.asker.json) {
    std::cout << done.dump(2) << "\n";
    return kDone;
  }
  std::cout << "off: every rule is removed, " << done.value("blocks", 0) << " blocks are not in force; ";
  if (const auto& until = done["off"]["until"]; until.is_string())
    std::cout << "on again at " << until.get<std::string>() << ", or by `sipward on`\n";
  else
    std::cout << "`sipward on` puts them back\n";
  return kDone;
}

void add_off(CLI::App& app, const OffShared& words, Outcome& outcome) {
  auto* command = app.add_subcommand(
      "off", "Remove every rule at once. Works without a daemon, and lasts over restarts until `on`.");
  add_options(*words, command);
  command->add_option("--for", words->length, "on again by itself after so long")->check(duration_fault);
  command->add_option("--reason", words->reason, "a note for the log and for `status`");
  command->callback([words, &outcome] { outcome.code = off(*words); });
}

void add_on(CLI::App& app, const OffShared& words, Outcome& outcome) {
  auto* command = app.add_subcommand("on", "End `off`: the blocks that have not run out stand again.");
  add_options(*words, command);
  command->callback([words, &outcome] {
    outcome.code = words->asker(
        {{"command", "on"}},
        [](const Json& done) {
          std::cout << (done.value("was_off", false) ? "on: " : "it was on already: ") << done.value("blocks", 0)
                    << " blocks stand\n";
        },
        [words](const std::string& nobody) { return on_without_daemon(*words, nobody); });
  });
}

} // namespace

void add_off_commands(CLI::App& app, Outcome& outcome) {
  const auto words = std::make_shared<OffWords>();
  add_off(app, words, outcome);
  add_on(app, words, outcome);
}

} // namespace sipward::daemon
