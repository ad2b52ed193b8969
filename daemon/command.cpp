// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/command.h"

#include <iostream>

#include "config/units.h"
#include "daemon/control_socket.h"

namespace sipward::daemon {

int refuse(const std::string& why, Exit code) {
  std::cerr << "sipward: " << why << "\n";
  return code;
}

std::int64_t seconds(const std::string& duration) { return config::parse_duration(duration)->count(); }

std::string duration_fault(const std::string& duration) {
  return config::parse_duration(duration) ? "" : "'" + duration + "' is no duration: write 90s, 5m, 1h30m, 2h or 7d";
}

int Asker::nobody_there(const std::string& sentence) { return refuse(sentence, kNobodyThere); }

int Asker::operator()(const Json& request, const Tell& tell, const Otherwise& otherwise) const {
  const auto line = ask(socket, request.dump(-1, ' ', false, Json::error_handler_t::replace));
  if (!line) return line.error().nobody_there ? otherwise(line.error().message) : refuse(line.error().message);
  const Json answer = Json::parse(*line, nullptr, false);
  if (answer.is_discarded()) return refuse("the daemon's answer is not JSON");
  if (!answer.value("ok", false)) return refuse(answer.value("error", "the daemon refused"));
  if (json)
    std::cout << answer["result"].dump(2) << "\n";
  else
    tell(answer["result"]);
  return kDone;
}

CLI::App* Asker::option(CLI::App* command) {
  command->add_option("--socket", socket, "the daemon's control socket")->capture_default_str();
  command->add_flag("--json", json, "print JSON");
  return command;
}

} // namespace sipward::daemon
