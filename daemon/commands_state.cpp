// SPDX-License-Identifier: GPL-2.0-or-later
#include <filesystem>
#include <iostream>
#include <memory>

#include "daemon/command.h"
#include "daemon/control_socket.h"
#include "daemon/state.h"
#include "daemon/state_export.h"
#include "daemon/text.h"

// What one host tells its standby: state export and state import.
namespace sipward::daemon {
namespace {

constexpr std::size_t kRecordsAtOnce = 64; // handed to a daemon; fewer, where they do not fit in a line

struct StateWords {
  Asker asker;
  std::string state = "/var/lib/sipward/sipward.db", file;
};
using StateShared = std::shared_ptr<StateWords>; // lives as long as the commands' callbacks

std::string counted(std::uint64_t trust, std::uint64_t users, std::uint64_t blocks) {
  return std::to_string(trust) + " trusted sources, " + std::to_string(users) + " users, " + std::to_string(blocks) +
         " blocks";
}

// ---- export: from the database's file, once a running daemon has written down what it knows

int export_state(const StateWords& words) {
  std::string path = words.state;
  if (const auto settled = words.asker.settle()) {
    path = settled->value("path", path);
    if (const auto trouble = settled->value("trouble", ""); !trouble.empty()) return refuse(trouble);
  } else if (!settled.error().nobody_there) {
    return refuse(settled.error().why);
  } else if (std::error_code error; !std::filesystem::exists(path, error)) {
    return Asker::nobody_there(settled.error().why);
  }
  auto contents = read_state(path);
  if (!contents) return refuse(contents.error());
  const auto now = wall_now();
  std::erase_if(contents->blocks, [now](const BlockRecord& block) { return block.until <= now; });
  const StateExport state{contents->secret, std::move(contents->trust), std::move(contents->users),
                          std::move(contents->blocks)};
  if (const auto written = write_export(words.file, state, now); !written) return refuse(written.error());
  if (words.asker.json)
    std::cout << Json{{"file", words.file},
                      {"trust", state.trust.size()},
                      {"users", state.users.size()},
                      {"blocks", state.blocks.size()}}
                     .dump(2)
              << "\n";
  else
    std::cout << words.file << ": " << counted(state.trust.size(), state.users.size(), state.blocks.size())
              << ". It holds the secret of users' hashes: keep it as you keep the database.\n";
  return kDone;
}

// ---- import: to the daemon if there is one, else into the file

void add_up(Imported& sum, const Json& part) {
  sum.trust += part.value("trust", std::uint64_t{0});
  sum.users += part.value("users", std::uint64_t{0});
  sum.blocks += part.value("blocks", std::uint64_t{0});
  sum.users_left_out += part.value("users_left_out", std::uint64_t{0});
}

// Hands a piece to the daemon, in halves if it is too long for a line.
std::expected<void, Asker::Unanswered> hand_over(const Asker& asker, const StateExport& piece, Imported& imported) {
  const Json request = {{"command", "import"}, {"text", export_text(piece, wall_now())}};
  const auto records = piece.trust.size() + piece.users.size() + piece.blocks.size();
  if (records > 1 && request.dump().size() >= kMaxControlLine) {
    const auto half = [&](auto& of, std::size_t from, std::size_t to) {
      return std::remove_cvref_t<decltype(of)>(of.begin() + static_cast<std::ptrdiff_t>(from),
                                               of.begin() + static_cast<std::ptrdiff_t>(to));
    };
    StateExport first{piece.secret, {}, {}, {}}, second = first;
    const auto part = [&](auto StateExport::*of) {
      const auto& all = piece.*of;
      const auto middle = (all.size() + 1) / 2;
      first.*of = half(all, 0, middle);
      second.*of = half(all, middle, all.size());
    };
    part(&StateExport::trust), part(&StateExport::users), part(&StateExport::blocks);
    if (auto done = hand_over(asker, first, imported); !done) return done;
    return hand_over(asker, second, imported);
  }
  const auto answer = asker.question(request);
  if (!answer) return std::unexpected(answer.error());
  add_up(imported, *answer);
  return {};
}

template<class Record>
std::expected<void, Asker::Unanswered> hand_over(const Asker& asker, const StateExport& state,
                                                 std::vector<Record> StateExport::*records, Imported& imported) {
  const auto& all = state.*records;
  for (std::size_t from = 0; from < all.size(); from += kRecordsAtOnce) {
    StateExport piece{state.secret, {}, {}, {}};
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(from);
    (piece.*records).assign(begin, begin + static_cast<std::ptrdiff_t>(std::min(kRecordsAtOnce, all.size() - from)));
    if (auto done = hand_over(asker, piece, imported); !done) return done;
  }
  return {};
}

std::expected<Imported, Asker::Unanswered> import_into_daemon(const Asker& asker, const StateExport& state) {
  if (const auto there = asker.question({{"command", "saved"}}); !there) return std::unexpected(there.error());
  Imported imported;
  auto done = hand_over(asker, state, &StateExport::trust, imported); // first: the trusted pass what is blocked next
  if (done) done = hand_over(asker, state, &StateExport::users, imported);
  if (done) done = hand_over(asker, state, &StateExport::blocks, imported);
  if (!done) return std::unexpected(done.error());
  return imported;
}

std::expected<Imported, std::string> import_into_file(const std::string& path, const StateExport& state) {
  const auto claim = State::open(path); // nobody else's while we write
  if (!claim) return std::unexpected(claim.error());
  return import_state(path, state, StateLimits(), wall_now());
}

int import_state(const StateWords& words) {
  const auto state = read_export(words.file, wall_now());
  if (!state) return refuse(state.error());
  Imported imported;
  bool has_daemon = true;
  if (auto taken = import_into_daemon(words.asker, *state)) {
    imported = *taken;
  } else if (taken.error().nobody_there) {
    has_daemon = false;
    auto merged = import_into_file(words.state, *state);
    if (!merged) return refuse(merged.error());
    imported = *merged;
  } else {
    return refuse(taken.error().why);
  }
  if (words.asker.json) {
    std::cout << Json{{"daemon", has_daemon},
                      {"trust", imported.trust},
                      {"users", imported.users},
                      {"blocks", imported.blocks},
                      {"users_left_out", imported.users_left_out}}
                     .dump(2)
              << "\n";
    return kDone;
  }
  std::cout << "new here, or later than what was: " << counted(imported.trust, imported.users, imported.blocks)
            << (has_daemon ? "; in force now\n" : " (no daemon is running)\n");
  if (imported.users_left_out > 0)
    std::cout << imported.users_left_out << " users were left out: their hashes have another host's secret\n";
  return kDone;
}

} // namespace

void add_state_commands(CLI::App& app, Outcome& outcome) {
  const auto words = std::make_shared<StateWords>();
  auto* group = app.add_subcommand("state", "What is remembered, for a standby host.");
  group->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, int (*act)(const StateWords&)) {
    auto* command = words->asker.option(group->add_subcommand(name, what));
    command->add_option("FILE", words->file, "the file")->required();
    command->add_option("--state", words->state, "without a daemon: the state database")->capture_default_str();
    command->callback([words, act, &outcome] { outcome.code = act(*words); });
  };
  add("export", "Write trust, known users and blocks to a file, as a whole or not at all.", export_state);
  add("import", "Take in what another host has exported: of two memories of one source the later counts.",
      import_state);
}

} // namespace sipward::daemon
