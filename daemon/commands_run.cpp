// SPDX-License-Identifier: GPL-2.0-or-later
#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <expected>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <vector>

#include "config/allow.h"
#include "config/config.h"
#include "config/shadow.h"
#include "daemon/capabilities.h"
#include "daemon/command.h"
#include "daemon/control.h"
#include "daemon/replay.h"
#include "daemon/service.h"
#include "daemon/text.h"

// The daemon itself, and what needs none: reading its settings and captures.
namespace sipward::daemon {
namespace {

// Lists of whom is never blocked, that others may put beside the settings.
std::filesystem::path allow_folder(const std::filesystem::path& settings_file) {
  return settings_file.parent_path() / "allow.d";
}

std::expected<config::Settings, std::string> read_settings(const std::filesystem::path& file, bool dry_run) {
  auto settings = config::load(file);
  if (!settings) return std::unexpected(to_string(settings.error()));
  settings->block.dry_run |= dry_run;
  settings->allow_folder = allow_folder(file);
  return *settings;
}

int run(const std::string& file, bool dry_run) {
  auto settings = read_settings(file, dry_run);
  if (!settings) return refuse(settings.error());

  log_to_stderr_or_journal();
  set_log_level(settings->log.level);

  sigset_t all; // the control loop reads signals when it is ready for them; threads made from here on inherit this
  sigfillset(&all);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, capability_signal()}) sigdelset(&all, signal);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);

  auto control = Control::start(
      std::move(*settings), [path = std::filesystem::absolute(file), dry_run] { return read_settings(path, dry_run); });
  if (!control) return refuse(control.error());
  (*control)->run();
  return kDone;
}

// The first thing wrong with the lists that the settings name, and with those beside them.
std::optional<std::string> fault_in_lists(const config::Settings& settings, const std::filesystem::path& folder) {
  auto files = settings.allow_files;
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator(folder, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error))
    if (entry->path().extension() == ".yaml") files.push_back(entry->path());
  for (const auto& path : files)
    if (const auto list = config::load_allow(path); !list) return to_string(list.error());
  return std::nullopt;
}

// Whoever is never blocked may be forged, and may then send what he likes, unless he has a limit.
void warn_of_unlimited(const config::Settings& settings) {
  constexpr std::size_t kNamed = 3;
  std::vector<std::string> unlimited;
  for (const auto& range : settings.allow)
    if (std::ranges::find(settings.allow_limits, range, &config::Settings::AllowLimit::range) ==
        settings.allow_limits.end())
      unlimited.push_back(to_string(range));
  unlimited.insert(unlimited.end(), settings.allow_names.begin(), settings.allow_names.end());
  for (const auto& list : settings.allow_files) unlimited.push_back("file:" + list.string());
  if (unlimited.empty()) return;
  std::string names;
  for (std::size_t i = 0; i < std::min(kNamed, unlimited.size()); ++i)
    names += (i == 0 ? "" : ", ") + word(unlimited[i]);
  if (unlimited.size() > kNamed) names += " and " + std::to_string(unlimited.size() - kNamed) + " more";
  std::cerr << "sipward: allowed without a limit: " << names
            << "; who forges such an address may send what he likes ({address: ADDR, limit: 200/s} bounds it)\n";
}

// A host of the kernel's is a whole /64 in IPv6: no limit of one address.
void warn_of_limits_in_vain(const config::Settings& settings) {
  if (settings.mode != config::Mode::Monitor) return;
  for (const auto& [range, per_second] : settings.allow_limits)
    if (range.base.family == policy::Family::V6)
      std::cerr << "sipward: the limit of " << to_string(range) << " is of IPv6, and acts in mode: inline only\n";
}

int check(const std::string& file) {
  const auto settings = config::load(file);
  if (!settings) return refuse(to_string(settings.error()));
  std::cout << config::describe(*settings);
  if (const auto fault = fault_in_lists(*settings, allow_folder(file))) return refuse(*fault);
  if (!settings->shadow.empty()) {
    const auto shadow = config::load_shadow(*settings);
    if (!shadow) return refuse(shadow.error());
    std::string in_vain;
    for (const auto& key : shadow->in_vain) in_vain += (in_vain.empty() ? "" : ", ") + key;
    if (!in_vain.empty())
      std::cerr << "sipward: set in " << word(settings->shadow.string())
                << ", but counts for nothing in a shadow: " << in_vain << "\n";
  }
  warn_of_unlimited(*settings);
  warn_of_limits_in_vain(*settings);
  return kDone;
}

struct RunWords {
  std::string settings_file = "/etc/sipward/sipward.yaml";
  bool dry_run = false;
  ReplayOptions replay;
  std::vector<std::string> replay_servers;
  std::string replay_settings;
};

void add_run_and_check(CLI::App& app, Outcome& outcome) {
  const auto words = std::make_shared<RunWords>();
  auto* run_command = app.add_subcommand("run", "The daemon, in the foreground.");
  run_command->add_option("--config", words->settings_file, "the settings file")->capture_default_str();
  run_command->add_flag("--dry-run", words->dry_run, "judge and log, but block nobody");
  run_command->callback([words, &outcome] { outcome.code = run(words->settings_file, words->dry_run); });

  auto* check_command =
      app.add_subcommand("check", "Is a settings file valid? Prints the settings that would be in effect.");
  check_command->add_option("--config", words->settings_file, "the settings file")->capture_default_str();
  check_command->callback([words, &outcome] { outcome.code = check(words->settings_file); });
}

void add_replay(CLI::App& app, Outcome& outcome) {
  const auto words = std::make_shared<RunWords>();
  auto* replay_command = app.add_subcommand(
      "replay", "Who would have been blocked in these captures, when, and why; and who talked most.");
  replay_command->add_option("CAPTURE", words->replay.captures, "pcap or pcapng files")->required();
  replay_command->add_option("--config", words->replay_settings,
                             "judge by this settings file (default: the built-in settings)");
  replay_command->add_option("--shadow", words->replay.shadow_file,
                             "further settings: tell what they would do otherwise");
  replay_command
      ->add_option("--server", words->replay_servers, "an address of the protected servers; may be given again")
      ->allow_extra_args(false);
  replay_command->add_option("--sort", words->replay.sort, "order of the talkers")
      ->check(CLI::IsMember({"requests", "flows", "octets", "packets", "duration"}))
      ->capture_default_str();
  replay_command->add_flag("--json", words->replay.json, "print JSON");
  replay_command->callback([words, &outcome] {
    for (const auto& text : words->replay_servers) {
      const auto server = policy::Address::parse(text);
      if (!server) throw CLI::ValidationError("--server", "'" + text + "' is no address");
      words->replay.servers.push_back(*server);
    }
    if (!words->replay_settings.empty()) {
      auto settings = config::load(words->replay_settings);
      if (!settings) {
        outcome.code = refuse(to_string(settings.error()));
        return;
      }
      words->replay.settings = std::move(*settings);
    }
    if (const auto& file = words->replay.shadow_file; !file.empty()) {
      auto settings = config::load(file);
      if (!settings) {
        outcome.code = refuse(to_string(settings.error()));
        return;
      }
      words->replay.shadow = std::move(*settings);
    }
    const auto done = replay(words->replay, std::cout);
    outcome.code = done ? kDone : refuse(done.error());
  });
}

} // namespace

void add_run_commands(CLI::App& app, Outcome& outcome) {
  add_run_and_check(app, outcome);
  add_replay(app, outcome);
}

} // namespace sipward::daemon
