// SPDX-License-Identifier: GPL-2.0-or-later
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>

#include "daemon/command.h"
#include "daemon/nft.h"
#include "daemon/state.h"
#include "daemon/text.h"

// The commands that block and unblock.
namespace sipward::daemon {
namespace {

// ---- what must work when no daemon answers: the kernel's table is still there, and a customer still waits

using AskedFor = std::function<bool(const policy::Subject&)>;

// Takes blocks out of what an earlier daemon wrote down, so that the next one does not put them back: how many. Without
// such a file there are none.
std::expected<std::size_t, std::string> lift_in_state(const std::string& path, const AskedFor& asked_for) {
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
  if (!has_table && *noted == 0) return Asker::nobody_there(nobody);
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

// ---- the commands

struct BlockWords {
  Asker asker;
  std::string state = "/var/lib/sipward/sipward.db";
  std::string subject, length = "1h", immune = "10m", reason, scope = "sip", confirm;
  bool force = false;
};
using BlockShared = std::shared_ptr<BlockWords>; // lives as long as the commands' callbacks

// For what works without a daemon.
CLI::App* finds_state(BlockWords& words, CLI::App* command) {
  command->add_option("--state", words.state, "without a daemon: the state database")->capture_default_str();
  return command;
}

void add_arm(CLI::App& app, const BlockShared& words, Outcome& outcome) {
  words->asker.option(app.add_subcommand("arm", "End learning: from now on every policy acts as it is set."))
      ->callback([words, &outcome] {
        outcome.code = words->asker({{"command", "arm"}}, [](const Json& done) {
          std::cout << (done.value("was_learning", false) ? "armed: every policy acts as it is set\n"
                                                          : "it was armed already\n");
        });
      });
}

void tell_block(const Json& block) {
  const bool stands = block.value("action", "") == "block";
  std::cout << block.value("subject", "") << (stands ? " is" : " would be") << " blocked"
            << (block.value("scope", "") == "all" ? ", with all its traffic," : "") << " until "
            << block.value("confirm_until", block.value("until", "")) << "\n";
  if (block.contains("confirm_until"))
    std::cout << "unless nobody confirms it: `sipward confirm`, before " << block.value("until", "") << "\n";
}

void add_block(CLI::App& app, const BlockShared& words, Outcome& outcome) {
  auto* block_command = words->asker.option(app.add_subcommand("block", "Block a host or a prefix."));
  block_command->add_option("ADDR[/LEN]", words->subject, "whom")->required();
  block_command->add_option("--for", words->length, "how long")->check(duration_fault)->capture_default_str();
  block_command->add_option("--reason", words->reason, "a note for the log");
  block_command->add_option("--scope", words->scope, "sip, or all traffic")
      ->check(CLI::IsMember({"sip", "all"}))
      ->capture_default_str();
  block_command
      ->add_option("--confirm", words->confirm,
                   "it ends after so long, unless `sipward confirm` says that all is well: for who might lock "
                   "himself out")
      ->check(duration_fault);
  block_command->add_flag("--force", words->force,
                          "be it a resolver of this host, or where somebody is logged in from");
  block_command->callback([words, &outcome] {
    Json request = {{"command", "block"},      {"subject", words->subject}, {"for_s", seconds(words->length)},
                    {"reason", words->reason}, {"scope", words->scope},     {"force", words->force}};
    if (!words->confirm.empty()) request["confirm_s"] = seconds(words->confirm);
    outcome.code = words->asker(request, tell_block);
  });
}

void add_unblock_and_flush(CLI::App& app, const BlockShared& words, Outcome& outcome) {
  auto* unblock_command = finds_state(*words, words->asker.option(app.add_subcommand("unblock", "Lift a block.")));
  unblock_command->add_option("ADDR[/LEN]", words->subject, "whom")->required();
  unblock_command->add_option("--immune", words->immune, "and do not block it again for so long")
      ->check(duration_fault)
      ->capture_default_str();
  unblock_command->callback([words, &outcome] {
    outcome.code = words->asker(
        {{"command", "unblock"}, {"subject", words->subject}, {"immune_s", seconds(words->immune)}},
        [words](const Json& done) {
          std::cout << done.value("subject", "") << " is not blocked any more"
                    << (done.value("immune_s", 0) > 0 ? ", and will not be for " + words->immune : "") << "\n";
        },
        [words](const std::string& nobody) {
          return unblock_without_daemon(words->asker, words->state, words->subject, nobody);
        });
  });

  finds_state(*words, words->asker.option(app.add_subcommand("flush", "Lift every block.")))
      ->callback([words, &outcome] {
        outcome.code = words->asker(
            {{"command", "flush"}},
            [](const Json& done) { std::cout << done.value("flushed", 0) << " blocks lifted\n"; },
            [words](const std::string& nobody) { return flush_without_daemon(words->asker, words->state, nobody); });
      });
}

} // namespace

void add_block_commands(CLI::App& app, Outcome& outcome) {
  const auto words = std::make_shared<BlockWords>();
  add_arm(app, words, outcome);
  add_block(app, words, outcome);
  add_unblock_and_flush(app, words, outcome);
}

} // namespace sipward::daemon
