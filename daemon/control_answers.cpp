// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/control_answers.h"

#include <map>

namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;

const auto kReplace = Json::error_handler_t::replace; // header text may be anything; JSON is UTF-8

std::string refusal(const std::string& why) {
  return Json{{"ok", false}, {"error", why}}.dump(-1, ' ', false, kReplace);
}

} // namespace

std::expected<policy::Prefix, Answers::Refused> Answers::subject_of(const Json& request) {
  const std::string text = request.value("subject", "");
  const auto prefix = policy::Prefix::parse(text);
  if (!prefix) return std::unexpected(Refused{"not an address or prefix: " + text});
  return *prefix;
}

ControlSocket::Reply Answers::answer(std::string_view line) {
  using Command = Result (Answers::*)(const Json&);
  static const std::map<std::string, Command> kCommands = {
      {"status", &Answers::status},   {"blocks", &Answers::blocks},   {"block", &Answers::block},
      {"unblock", &Answers::unblock}, {"flush", &Answers::flush},     {"arm", &Answers::arm},
      {"saved", &Answers::saved},     {"history", &Answers::history}, {"import", &Answers::import_state},
      {"forget", &Answers::forget},   {"reload", &Answers::reload},   {"top", &Answers::top},
      {"explain", &Answers::explain}, {"events", &Answers::events},   {"confirm", &Answers::confirm},
      {"allow", &Answers::allow},     {"allowed", &Answers::allowed}, {"disallow", &Answers::disallow},
      {"off", &Answers::off},         {"on", &Answers::on},           {"doctor", &Answers::doctor},
      {"shadow", &Answers::shadow},
  };
  try {
    const Json request = Json::parse(line);
    const auto command = kCommands.find(request.value("command", ""));
    if (command == kCommands.end()) return {refusal("no such command: " + request.value("command", "")), {}};
    const auto result = (this->*command->second)(request);
    if (!result) return {refusal(result.error().why), {}};
    return {Json{{"ok", true}, {"result", *result}}.dump(-1, ' ', false, kReplace), follow_};
  } catch (const Json::exception& error) {
    return {refusal(std::string("not a request: ") + error.what()), {}};
  }
}

ControlSocket::Reply Control::answer(std::string_view request) { return Answers(*this).answer(request); }

} // namespace sipward::daemon
