// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/command.h"

#include <chrono>
#include <iostream>
#include <thread>

#include "config/units.h"
#include "daemon/control_socket.h"
#include "daemon/text.h"

namespace sipward::daemon {

int refuse(const std::string& why, Exit code) {
  std::cerr << "sipward: " << why << "\n";
  return code;
}

WallTime wall_now() { return WallClock::now().at(monotonic_now()); }

std::int64_t seconds(const std::string& duration) { return config::parse_duration(duration)->count(); }

std::string duration_fault(const std::string& duration) {
  return config::parse_duration(duration) ? "" : "'" + duration + "' is no duration: write 90s, 5m, 1h30m, 2h or 7d";
}

int Asker::nobody_there(const std::string& sentence) { return refuse(sentence, kNobodyThere); }

std::expected<Json, Asker::Unanswered> Asker::question(const Json& request) const {
  const auto line = ask(socket, request.dump(-1, ' ', false, Json::error_handler_t::replace));
  if (!line) return std::unexpected(Unanswered{line.error().nobody_there, line.error().message});
  const Json answer = Json::parse(*line, nullptr, false);
  if (answer.is_discarded()) return std::unexpected(Unanswered{false, "the daemon's answer is not JSON"});
  if (!answer.value("ok", false))
    return std::unexpected(Unanswered{false, answer.value("error", "the daemon refused")});
  return answer["result"];
}

std::expected<Json, Asker::Unanswered> Asker::settle() const {
  using namespace std::chrono_literals;
  auto saved = question({{"command", "saved"}, {"now", true}});
  if (!saved) return saved;
  const auto wanted = saved->value("handed_over", std::uint64_t{0});
  for (const auto end = monotonic_now() + kPatience; monotonic_now() < end; std::this_thread::sleep_for(20ms)) {
    if (saved->value("committed", std::uint64_t{0}) >= wanted || saved->value("trouble", "") != "") break;
    saved = question({{"command", "saved"}});
    if (!saved) break;
  }
  return saved;
}

int Asker::operator()(const Json& request, const Tell& tell, const Otherwise& otherwise) const {
  const auto result = question(request);
  if (!result) return result.error().nobody_there ? otherwise(result.error().why) : refuse(result.error().why);
  if (json)
    std::cout << result->dump(2) << "\n";
  else
    tell(*result);
  return kDone;
}

CLI::App* Asker::option(CLI::App* command) {
  command->add_option("--socket", socket, "the daemon's control socket")->capture_default_str();
  command->add_flag("--json", json, "print JSON");
  return command;
}

} // namespace sipward::daemon
