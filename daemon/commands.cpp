// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/commands.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/units.h"
#include "daemon/control.h"
#include "daemon/nft.h"
#include "daemon/replay.h"
#include "daemon/state.h"
#include "daemon/version.h"

namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kSettings[] = "/etc/sipward/sipward.yaml";
constexpr char kSocket[] = "/run/sipward/control.sock";
constexpr char kState[] = "/var/lib/sipward/sipward.db";

int refuse(const std::string& why, Exit code = kRefused) {
  std::cerr << "sipward: " << why << "\n";
  return code;
}

// ---- the daemon and the files it reads

// The keys that a file sets and this version does not act on yet.
std::vector<std::string> not_in_force(const std::string& file) {
  std::ifstream stream(file);
  return config::not_in_force(std::string(std::istreambuf_iterator<char>(stream), {}));
}

int run(const std::string& file, bool dry_run) {
  auto settings = config::load(file);
  if (!settings) return refuse(to_string(settings.error()));
  settings->block.dry_run |= dry_run;

  spdlog::set_default_logger(spdlog::stderr_color_mt("sipward"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%fZ %l %v", spdlog::pattern_time_type::utc);
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::err, spdlog::level::warn, spdlog::level::info,
                                                          spdlog::level::debug};
  spdlog::set_level(kLevels[static_cast<std::size_t>(settings->log.level)]);

  sigset_t all; // the control loop reads signals when it is ready for them; threads made from here on inherit this
  sigfillset(&all);
  for (const int fatal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigdelset(&all, fatal);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);

  if (const auto keys = not_in_force(file); !keys.empty())
    spdlog::info("{} settings of {} are not in force in this version; `sipward check` names them", keys.size(), file);
  auto control = Control::start(std::move(*settings));
  if (!control) return refuse(control.error());
  (*control)->run();
  return kDone;
}

int check(const std::string& file) {
  const auto settings = config::load(file);
  if (!settings) return refuse(to_string(settings.error()));
  std::cout << config::describe(*settings);
  std::string names;
  for (const auto& key : not_in_force(file)) names += (names.empty() ? "" : ", ") + key;
  if (!names.empty())
    std::cerr << "sipward: set in " << word(file) << ", but not in force in this version: " << names << "\n";
  return kDone;
}

// ---- questions to a running daemon

int nobody_there(const std::string& sentence) { return refuse(sentence, kNobodyThere); }

struct Asker {
  std::string socket = kSocket;
  bool json = false;

  // Sends a request; on success prints what the daemon answered, as JSON or through `tell`. `otherwise` is what can be
  // done without a daemon; it is given the sentence that says that there is none.
  using Otherwise = std::function<int(const std::string& nobody)>;
  template<typename Tell>
  int operator()(const Json& request, Tell tell, const Otherwise& otherwise = nobody_there) const {
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
};

void tell_status(const Json& status) {
  const auto number = [&](const char* key) { return std::to_string(status.value(key, std::uint64_t{0})); };
  const auto row = [](const std::string& name, const std::string& value) {
    std::cout << name << std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') << value << "\n";
  };
  std::string ports;
  for (const auto& port : status["outside"]) ports += (ports.empty() ? "" : ", ") + port.get<std::string>();
  row("mode", status.value("mode", "") + " on " + ports + (status.value("dry_run", false) ? ", dry run" : ""));
  row("up for", human_duration(std::chrono::seconds(status.value("uptime_s", std::int64_t{0}))));
  row("received", number("received") + " packets, " + number("passed") + " passed, " + number("dropped") + " dropped");
  row("lost", std::to_string(status["lost"].value("rx", 0)) + " packets, " +
                  std::to_string(status["lost"].value("offences", 0)) + " offences");
  row("sources", number("sources") + " of " + std::to_string(status["source_table"].value("capacity", 0)));
  row("blocks", number("blocks"));
  if (status["learning"].is_string())
    row("learning", "until " + status.value("learning", "") + "; `sipward arm` ends it");
  row("nftables", status["nft"].value("in_sync", false) ? "in sync" : "OUT OF SYNC");
  std::cout << "\nverdicts\n";
  for (const auto& [name, count] : status["verdicts"].items())
    if (count != 0) row("  " + name, count.dump());
}

void tell_blocks(const Json& blocks) {
  if (blocks.empty()) {
    std::cout << "nobody is blocked\n";
    return;
  }
  Table table({{"SUBJECT"}, {"REASON"}, {"SINCE"}, {"UNTIL"}, {"DROPPED", Align::Right}, {"WHAT"}});
  for (const auto& block : blocks) {
    const auto& evidence = block["evidence"];
    std::string what = evidence.contains("note") ? in_quotes(evidence.value("note", "")) : "";
    if (const auto agent = evidence.value("user_agent", ""); what.empty() && !agent.empty()) what = in_quotes(agent);
    if (block.value("action", "") == "would_block") what += " (would block)";
    table.add({block.value("subject", ""), block.value("reason", ""), block.value("since", ""),
               block.value("until", ""), std::to_string(block.value("packets_dropped", std::uint64_t{0})), what});
  }
  std::cout << table.text();
}

// ---- what must work when no daemon answers: the kernel's table is still there, and a customer still waits

using AskedFor = std::function<bool(const policy::Subject&)>;

// Takes blocks out of what an earlier daemon wrote down, so that the next one does not put them back: how many. Without
// such a file there are none.
std::expected<std::size_t, std::string> lift_in_state(const std::string& path, const AskedFor& asked_for) {
  constexpr auto kPatience = std::chrono::seconds(5);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return 0;
  auto state = State::open(path);
  if (!state) return std::unexpected(state.error());
  StateChanges changes;
  const auto wall = WallClock::now().at(monotonic_now());
  const StateContents contents = (*state)->load();
  std::size_t lifted = 0;
  for (const auto& record : contents.blocks) {
    if (!asked_for(record.block.subject)) continue;
    changes.emplace_back(Gone<BlockRecord>{key_of(record)});
    lifted += record.until > wall;
  }
  for (const auto& record : contents.ladder) // and is forgiven
    if (asked_for(record.subject)) changes.emplace_back(Gone<LadderRecord>{record.subject});
  if (changes.empty()) return lifted;
  (*state)->write(std::move(changes), wall);
  if (!(*state)->flush(kPatience)) return std::unexpected(path + ": " + (*state)->trouble());
  return lifted;
}

// Lifts blocks in the table that an earlier daemon left, and in what it wrote down; without either there is nothing to
// do but to say so.
int lift_without_daemon(const Asker& asker, const std::string& state, const std::string& nobody,
                        const std::string& done, const std::string& none, const AskedFor& asked_for) {
  auto table = nft::Nft::open();
  const auto there = table ? table->installed() : std::unexpected(table.error());
  const bool has_table = there && *there;
  const auto noted = lift_in_state(state, asked_for);
  if (!noted) return refuse(noted.error());
  if (!has_table && *noted == 0) return nobody_there(nobody);
  std::size_t lifted = *noted;
  if (has_table) {
    const auto standing = table->lift([&](const nft::Element& element) { return asked_for(element.subject); });
    if (!standing) return refuse(standing.error().message);
    lifted += *standing;
  }
  if (lifted == 0 && !none.empty()) return refuse(none);
  if (asker.json)
    std::cout << Json{{"daemon", false}, {"done", done}}.dump(2) << "\n";
  else
    std::cout << done << " (no daemon is running)\n";
  return kDone;
}

int flush_without_daemon(const Asker& asker, const std::string& state, const std::string& nobody) {
  return lift_without_daemon(asker, state, nobody, "every block lifted", "", [](const auto&) { return true; });
}

int unblock_without_daemon(const Asker& asker, const std::string& state, const std::string& text,
                           const std::string& nobody) {
  const auto prefix = policy::Prefix::parse(text);
  if (!prefix) return refuse("not an address or prefix: " + text);
  return lift_without_daemon(
      asker, state, nobody, to_string(*prefix) + " is not blocked any more", to_string(*prefix) + " is not blocked",
      [&](const policy::Subject& subject) { // as the daemon does
        if (subject.kind == policy::SubjectKind::Prefix) return subject.prefix == *prefix;
        return prefix->is_host() ? subject.prefix.holds(prefix->base) : subject.prefix == *prefix;
      });
}

std::int64_t seconds(const std::string& text) { return config::parse_duration(text)->count(); }

// For CLI11: a duration as the settings write it.
std::string duration_fault(const std::string& text) {
  return config::parse_duration(text) ? "" : "'" + text + "' is no duration: write 90s, 5m, 1h30m, 2h or 7d";
}

// ---- the command line: what was typed, and one function for each group of commands

struct Words {
  std::string settings_file = kSettings;
  bool dry_run = false;
  ReplayOptions replay_options;
  std::vector<std::string> replay_servers;
  std::string replay_settings;
  Asker asker;
  std::string state = kState;
  std::string subject, length = "1h", immune = "10m", reason, scope = "sip";
  int code = kDone; // what the command came to
};

// For what works without a daemon.
CLI::App* finds_state(Words& words, CLI::App* command) {
  command->add_option("--state", words.state, "without a daemon: the state database")->capture_default_str();
  return command;
}

CLI::App* asks(Words& words, CLI::App* command) {
  command->add_option("--socket", words.asker.socket, "the daemon's control socket")->capture_default_str();
  command->add_flag("--json", words.asker.json, "print JSON");
  return command;
}

void add_run_and_check(CLI::App& app, Words& words) {
  auto* run_command = app.add_subcommand("run", "The daemon, in the foreground.");
  run_command->add_option("--config", words.settings_file, "the settings file")->capture_default_str();
  run_command->add_flag("--dry-run", words.dry_run, "judge and log, but block nobody");
  run_command->callback([&words] { words.code = run(words.settings_file, words.dry_run); });

  auto* check_command =
      app.add_subcommand("check", "Is a settings file valid? Prints the settings that would be in effect.");
  check_command->add_option("--config", words.settings_file, "the settings file")->capture_default_str();
  check_command->callback([&words] { words.code = check(words.settings_file); });
}

void add_replay(CLI::App& app, Words& words) {
  auto* replay_command = app.add_subcommand(
      "replay", "Who would have been blocked in these captures, when, and why; and who talked most.");
  replay_command->add_option("CAPTURE", words.replay_options.captures, "pcap or pcapng files")->required();
  replay_command->add_option("--config", words.replay_settings,
                             "judge by this settings file (default: the built-in settings)");
  replay_command->add_option("--shadow", words.replay_options.shadow_file,
                             "further settings: tell what they would do otherwise");
  replay_command
      ->add_option("--server", words.replay_servers, "an address of the protected servers; may be given again")
      ->allow_extra_args(false);
  replay_command->add_option("--sort", words.replay_options.sort, "order of the talkers")
      ->check(CLI::IsMember({"requests", "flows", "octets", "packets", "duration"}))
      ->capture_default_str();
  replay_command->add_flag("--json", words.replay_options.json, "print JSON");
  replay_command->callback([&words] {
    for (const auto& text : words.replay_servers) {
      const auto server = policy::Address::parse(text);
      if (!server) throw CLI::ValidationError("--server", "'" + text + "' is no address");
      words.replay_options.servers.push_back(*server);
    }
    if (!words.replay_settings.empty()) {
      auto settings = config::load(words.replay_settings);
      if (!settings) {
        words.code = refuse(to_string(settings.error()));
        return;
      }
      words.replay_options.settings = std::move(*settings);
    }
    if (const auto& file = words.replay_options.shadow_file; !file.empty()) {
      auto settings = config::load(file);
      if (!settings) {
        words.code = refuse(to_string(settings.error()));
        return;
      }
      words.replay_options.shadow = std::move(*settings);
    }
    const auto done = replay(words.replay_options, std::cout);
    words.code = done ? kDone : refuse(done.error());
  });
}

void add_status_and_blocks(CLI::App& app, Words& words) {
  asks(words, app.add_subcommand("status", "What the daemon sees and does."))->callback([&words] {
    words.code = words.asker({{"command", "status"}}, tell_status);
  });
  asks(words, app.add_subcommand("blocks", "Who is blocked."))->callback([&words] {
    words.code = words.asker({{"command", "blocks"}}, tell_blocks);
  });
}

void add_arm(CLI::App& app, Words& words) {
  asks(words, app.add_subcommand("arm", "End learning: from now on every policy acts as it is set."))
      ->callback([&words] {
        words.code = words.asker({{"command", "arm"}}, [](const Json& done) {
          std::cout << (done.value("was_learning", false) ? "armed: every policy acts as it is set\n"
                                                          : "it was armed already\n");
        });
      });
}

void add_block(CLI::App& app, Words& words) {
  auto* block_command = asks(words, app.add_subcommand("block", "Block a host or a prefix."));
  block_command->add_option("ADDR[/LEN]", words.subject, "whom")->required();
  block_command->add_option("--for", words.length, "how long")->check(duration_fault)->capture_default_str();
  block_command->add_option("--reason", words.reason, "a note for the log");
  block_command->add_option("--scope", words.scope, "sip, or all traffic")
      ->check(CLI::IsMember({"sip", "all"}))
      ->capture_default_str();
  block_command->callback([&words] {
    words.code = words.asker({{"command", "block"},
                              {"subject", words.subject},
                              {"for_s", seconds(words.length)},
                              {"reason", words.reason},
                              {"scope", words.scope}},
                             [](const Json& block) {
                               std::cout << block.value("subject", "")
                                         << (block.value("action", "") == "block" ? " is" : " would be")
                                         << " blocked until " << block.value("until", "") << "\n";
                             });
  });
}

void add_unblock_and_flush(CLI::App& app, Words& words) {
  auto* unblock_command = finds_state(words, asks(words, app.add_subcommand("unblock", "Lift a block.")));
  unblock_command->add_option("ADDR[/LEN]", words.subject, "whom")->required();
  unblock_command->add_option("--immune", words.immune, "and do not block it again for so long")
      ->check(duration_fault)
      ->capture_default_str();
  unblock_command->callback([&words] {
    words.code = words.asker(
        {{"command", "unblock"}, {"subject", words.subject}, {"immune_s", seconds(words.immune)}},
        [&words](const Json& done) {
          std::cout << done.value("subject", "") << " is not blocked any more"
                    << (done.value("immune_s", 0) > 0 ? ", and will not be for " + words.immune : "") << "\n";
        },
        [&words](const std::string& nobody) {
          return unblock_without_daemon(words.asker, words.state, words.subject, nobody);
        });
  });

  finds_state(words, asks(words, app.add_subcommand("flush", "Lift every block.")))->callback([&words] {
    words.code = words.asker(
        {{"command", "flush"}}, [](const Json& done) { std::cout << done.value("flushed", 0) << " blocks lifted\n"; },
        [&words](const std::string& nobody) { return flush_without_daemon(words.asker, words.state, nobody); });
  });
}

} // namespace

int command_line(int argc, char** argv) {
  CLI::App app{"sipward keeps scanners and floods away from SIP servers.", "sipward"};
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("sipward ") + kVersion);
  app.footer("Exit codes: 0 done, 1 refused or invalid, 2 usage, 3 no daemon there.");
  Words words;
  add_run_and_check(app, words);
  add_replay(app, words);
  add_status_and_blocks(app, words);
  add_arm(app, words);
  add_block(app, words);
  add_unblock_and_flush(app, words);
  app.add_subcommand("version", "Print the version.")->callback([] { std::cout << "sipward " << kVersion << "\n"; });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kUsage; // help and version are not errors
  } catch (const std::bad_alloc&) {
    return refuse("not enough memory (sources.capacity takes some 100 octets for each source)");
  }
  std::cout.flush();
  return std::cout ? words.code : refuse("cannot write the answer to standard output");
}

} // namespace sipward::daemon
