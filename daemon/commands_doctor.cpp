// SPDX-License-Identifier: GPL-2.0-or-later
#include <iostream>
#include <memory>

#include "daemon/command.h"
#include "daemon/control_socket.h"
#include "daemon/doctor.h"

namespace sipward::daemon {
namespace {

struct DoctorWords {
  std::string settings_file = "/etc/sipward/sipward.yaml";
  std::string socket = "/run/sipward/control.sock";
  bool json = false;
};

// What a daemon has seen, if one answers.
std::optional<TrafficSigns> ask_daemon(const std::string& socket) {
  const auto line = ask(socket, Json{{"command", "doctor"}}.dump());
  if (!line) return std::nullopt;
  const Json answer = Json::parse(*line, nullptr, false);
  if (answer.is_discarded() || !answer.value("ok", false)) return std::nullopt;
  const auto& seen = answer["result"];
  return TrafficSigns{.received = seen.value("received", std::uint64_t{0}),
                      .bad_checksum = seen.value("bad_checksum", std::uint64_t{0}),
                      .lost = seen.value("lost", std::uint64_t{0}),
                      .answers_unseen = seen.value("answers_unseen", false),
                      .in_sync = seen.value("in_sync", true),
                      .registered_users = seen.value("registered_users", std::uint64_t{0}),
                      .most_registered = seen.value("most_registered", std::uint64_t{0}),
                      .registrar = seen.value("registrar", ""),
                      .off = seen.value("off", false),
                      .learning = seen.value("learning", false),
                      .hugepages = seen.value("hugepages", false),
                      .state_trouble = seen.value("state_trouble", ""),
                      .gone = seen.value("gone", ""),
                      .too_long = seen.value("too_long", std::uint64_t{0}),
                      .running_s = seen.value("running_s", std::uint64_t{0})};
}

Json finding_json(const Finding& finding) {
  return {{"check", finding.check},
          {"weight", finding.weight == Finding::Weight::Trouble ? "trouble" : "hint"},
          {"what", finding.what},
          {"remedy", finding.remedy}};
}

int doctor(const DoctorWords& words) {
  const auto settings = config::load(words.settings_file);
  if (!settings) return refuse(to_string(settings.error()));
  auto signs = look_at_host(*settings);
  signs.traffic = ask_daemon(words.socket);
  const auto found = diagnose(signs, *settings);
  Json list = Json::array();
  bool trouble = false;
  for (const auto& finding : found) {
    trouble |= finding.weight == Finding::Weight::Trouble;
    list.push_back(finding_json(finding));
    if (words.json) continue;
    std::cout << (finding.weight == Finding::Weight::Trouble ? "TROUBLE  " : "hint     ") << finding.what << "\n"
              << "         " << finding.remedy << "\n";
  }
  if (words.json)
    std::cout << Json{{"daemon", signs.traffic.has_value()},
                      {"complete", signs.privileged},
                      {"findings", std::move(list)}}
                     .dump(2)
              << "\n";
  else if (found.empty())
    std::cout << "nothing on this host stands in sipward's way\n";
  if (!words.json && !signs.traffic)
    std::cout << "(no daemon answers: what it sees of the traffic was not looked at)\n";
  if (!words.json && !signs.privileged)
    std::cout << "(run it as root: rules, programs and denials that only root may see were not looked at)\n";
  return trouble ? kRefused : kDone;
}

} // namespace

void add_doctor_command(CLI::App& app, Outcome& outcome) {
  const auto words = std::make_shared<DoctorWords>();
  auto* command = app.add_subcommand(
      "doctor",
      "What on this host would make sipward blind or toothless, and what to do. Exit code 1: something does.");
  command->add_option("--config", words->settings_file, "the settings file")->capture_default_str();
  command->add_option("--socket", words->socket, "the daemon's control socket")->capture_default_str();
  command->add_flag("--json", words->json, "print JSON");
  command->callback([words, &outcome] { outcome.code = doctor(*words); });
}

} // namespace sipward::daemon
