// SPDX-License-Identifier: GPL-2.0-or-later
#include <filesystem>
#include <iostream>
#include <memory>

#include "daemon/command.h"
#include "daemon/history.h"
#include "daemon/state.h"
#include "daemon/text.h"
#include "daemon/user_names.h"

// The commands that ask the memory.
namespace sipward::daemon {
namespace {

constexpr std::size_t kRowsAtOnce = 1024;
constexpr std::uint8_t kUsualV6 = 64; // of an IPv6 source, where no daemon knows better

struct MemoryWords {
  Asker asker;
  std::string state = "/var/lib/sipward/sipward.db";
  std::string since = "24h", whom;
  bool alerts = false;
};
using MemoryShared = std::shared_ptr<MemoryWords>; // lives as long as the commands' callbacks

// ---- history

std::expected<void, Asker::Unanswered> ask_history(const Asker& asker, WallTime since, Chronicle& chronicle) {
  if (const auto settled = asker.settle(); !settled) return std::unexpected(settled.error());
  Json after = {{"at", since.time_since_epoch().count()}, {"id", 0}};
  while (!after.is_null()) {
    const auto answer = asker.question({{"command", "history"}, {"after", after}});
    if (!answer) return std::unexpected(answer.error());
    for (const auto& row : (*answer)["rows"]) chronicle.add(row);
    after = (*answer)["next"];
  }
  return {};
}

std::expected<void, std::string> read_whole_history(const std::string& path, WallTime since, Chronicle& chronicle) {
  for (HistoryPlace place{since};;) {
    const auto records = read_history(path, place, kRowsAtOnce);
    if (!records) return std::unexpected(records.error());
    for (const auto& record : *records) chronicle.add(history_row(record));
    if (records->size() < kRowsAtOnce) return {};
    place.id = records->back().id;
  }
}

std::string what_of(const Json& entry) {
  const auto& evidence = entry["evidence"];
  std::string what;
  if (evidence.contains("note")) what = in_quotes(evidence.value("note", ""));
  if (const auto agent = evidence.value("user_agent", ""); what.empty() && !agent.empty()) what = in_quotes(agent);
  if (const auto action = entry.value("action", ""); action != "block")
    what += (what.empty() ? "" : " ") + ("(" + action + ")");
  return what;
}

void tell_history(const Json& entries, const std::string& since) {
  if (entries.empty()) {
    std::cout << "nothing in the last " << since << "\n";
    return;
  }
  Table table({{"BEGAN"}, {"ENDED"}, {"SUBJECT"}, {"REASON"}, {"ENDING"}, {"DROPPED", Align::Right}, {"WHAT"}});
  for (const auto& entry : entries) {
    if (!entry.contains("subject")) {
      table.add({entry.value("time", ""), "", "", "alert", "", "", entry.value("text", "")});
      continue;
    }
    const bool ended = entry["ended"].is_string();
    table.add({entry.value("since", ""), ended ? entry.value("ended", "") : "stands", entry.value("subject", ""),
               entry.value("reason", ""), ended ? entry.value("ending", "") : "",
               std::to_string(entry.value("packets_dropped", std::uint64_t{0})), what_of(entry)});
  }
  std::cout << table.text();
}

int history(const MemoryWords& words) {
  Chronicle chronicle;
  const auto since = wall_now() - std::chrono::seconds(seconds(words.since));
  if (const auto asked = ask_history(words.asker, since, chronicle); !asked) {
    if (!asked.error().nobody_there) return refuse(asked.error().why);
    std::error_code error;
    if (!std::filesystem::exists(words.state, error)) return Asker::nobody_there(asked.error().why);
    if (const auto read = read_whole_history(words.state, since, chronicle); !read) return refuse(read.error());
  }
  const auto entries = chronicle.entries(words.alerts);
  if (words.asker.json)
    std::cout << entries.dump(2) << "\n";
  else
    tell_history(entries, words.since);
  return kDone;
}

void add_history(CLI::App& app, const MemoryShared& words, Outcome& outcome) {
  auto* command =
      words->asker.option(app.add_subcommand("history", "Who was blocked, when and why, and how it ended."));
  command->add_option("--since", words->since, "what began or ended in this time")
      ->check(duration_fault)
      ->capture_default_str();
  command->add_flag("--alerts", words->alerts, "and what the log called an alert");
  command->add_option("--state", words->state, "without a daemon: the state database")->capture_default_str();
  command->callback([words, &outcome] { outcome.code = history(*words); });
}

// ---- forget

// A standing block stays; everything else goes, from the database's file as well.
std::expected<void, std::string> forget_in_file(const std::string& path, const std::string& whom) {
  auto state = State::open(path);
  if (!state) return std::unexpected(state.error());
  const auto contents = (*state)->load();
  StateChanges changes;
  if (auto prefix = policy::Prefix::parse(whom)) {
    const bool v6_host = prefix->is_host() && prefix->base.family == policy::Family::V6;
    changes.emplace_back(Forget{v6_host ? policy::Prefix::of(prefix->base, kUsualV6) : *prefix});
  } else {
    changes.emplace_back(ForgetUser{siphash(whom, contents.secret)});
    // How many buckets the daemon's table has is not known here; two users agree in the rest once in 2^36.
    constexpr unsigned kTagShift = 28;
    const auto hash = policy::text_hash(whom, 0, ledger_secret(contents.secret));
    for (const auto& user : contents.users)
      if (user.hash >> kTagShift == hash >> kTagShift) changes.emplace_back(Gone<UserRecord>{user.hash});
  }
  (*state)->write(std::move(changes), wall_now());
  if (!(*state)->flush(kPatience)) return std::unexpected(path + ": " + (*state)->trouble());
  return {};
}

int forget_without_daemon(const MemoryWords& words, const std::string& nobody) {
  std::error_code error;
  if (!std::filesystem::exists(words.state, error)) return Asker::nobody_there(nobody);
  if (const auto done = forget_in_file(words.state, words.whom); !done) return refuse(done.error());
  if (words.asker.json)
    std::cout << Json{{"daemon", false}, {"forgotten", words.whom}}.dump(2) << "\n";
  else
    std::cout << words.whom << " is forgotten (no daemon is running)\n";
  return kDone;
}

void tell_forgotten(const Json& done, const std::string& whom) {
  std::cout << whom << " is forgotten";
  if (done.contains("addresses"))
    std::cout << ": " << done.value("trusted", 0) << " trusted, " << done.value("climbed", 0) << " on the ladder";
  std::cout << ", and the history. Lines in the log's files stay until they are rotated away.\n";
}

void add_forget(CLI::App& app, const MemoryShared& words, Outcome& outcome) {
  auto* command = words->asker.option(
      app.add_subcommand("forget", "Forget a user or an address: trust, history and ladder. Blocks that stand go on."));
  command->add_option("USER|ADDR[/LEN]", words->whom, "a user as in a SIP address, or whose addresses")->required();
  command->add_option("--state", words->state, "without a daemon: the state database")->capture_default_str();
  command->callback([words, &outcome] {
    outcome.code = words->asker(
        {{"command", "forget"}, {"whom", words->whom}},
        [words](const Json& done) {
          tell_forgotten(done, words->whom);
          if (!words->asker.settle()) std::cerr << "sipward: the daemon went away before it was on the disk\n";
        },
        [words](const std::string& nobody) { return forget_without_daemon(*words, nobody); });
  });
}

} // namespace

void add_memory_commands(CLI::App& app, Outcome& outcome) {
  const auto words = std::make_shared<MemoryWords>();
  add_history(app, words, outcome);
  add_forget(app, words, outcome);
}

} // namespace sipward::daemon
