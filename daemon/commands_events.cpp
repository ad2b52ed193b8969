// SPDX-License-Identifier: GPL-2.0-or-later
#include <iostream>
#include <memory>

#include "daemon/command.h"
#include "daemon/control_socket.h"
#include "daemon/terminal.h"
#include "daemon/text.h"

namespace sipward::daemon {
namespace {

struct EventWords {
  Asker asker;
  std::size_t most = 100;
  bool follow = false;
};

Tone tone_of(const Json& event) {
  const std::string name = event.value("event", "");
  if (name.starts_with("un")) return Tone::Good;
  if (name == "block" || name == "renew") return Tone::Bad;
  return name == "summary" ? Tone::Plain : Tone::Doubtful;
}

void tell(const Json& entry, bool json, bool colours) {
  const std::string text = json ? entry["event"].dump() : entry.value("text", "");
  std::cout << (colours && !json ? toned(text, tone_of(entry["event"])) : text) << "\n";
}

// Until the daemon ends, or whoever reads this has had enough.
int follow(const EventWords& words, const Json& request) {
  const bool colours = colours_wanted();
  std::string refused;
  const auto heard = hear(words.asker.socket, request.dump(), [&](const std::string& line) {
    const Json said = Json::parse(line, nullptr, false);
    if (said.is_discarded()) return false;
    if (said.contains("ok")) {
      if (!said.value("ok", false)) refused = said.value("error", "the daemon refused");
      if (!refused.empty()) return false;
      for (const auto& entry : said["result"]) tell(entry, words.asker.json, colours);
    } else {
      tell(said, words.asker.json, colours);
    }
    std::cout.flush();
    return static_cast<bool>(std::cout);
  });
  if (!refused.empty()) return refuse(refused);
  if (!heard) return refuse(heard.error().message, heard.error().nobody_there ? kNobodyThere : kRefused);
  return std::cout ? refuse("the daemon has ended", kNobodyThere) : kDone;
}

int recent(const EventWords& words, const Json& request) {
  Asker asker = words.asker;
  asker.json = false;
  return asker(request, [&](const Json& entries) {
    if (words.asker.json) {
      Json events = Json::array();
      for (const auto& entry : entries) events.push_back(entry["event"]);
      std::cout << events.dump(2) << "\n";
    } else {
      if (entries.empty()) std::cout << "nothing has happened since the daemon started\n";
      const bool colours = colours_wanted();
      for (const auto& entry : entries) tell(entry, false, colours);
    }
  });
}

} // namespace

void add_events_command(CLI::App& app, Outcome& outcome) {
  const auto words = std::make_shared<EventWords>();
  auto* events = words->asker.option(app.add_subcommand(
      "events", "What the block log said lately; with --follow, and says from now on (with --json a line each)."));
  events->add_flag("-f,--follow", words->follow, "go on with what happens, until interrupted");
  events->add_option("--most", words->most, "so many of the past")->check(CLI::Range(0, 1000))->capture_default_str();
  events->callback([words, &outcome] {
    const Json request = {{"command", "events"}, {"follow", words->follow}, {"most", words->most}};
    outcome.code = words->follow ? follow(*words, request) : recent(*words, request);
  });
}

} // namespace sipward::daemon
