// SPDX-License-Identifier: GPL-2.0-or-later
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <optional>

#include "daemon/command.h"
#include "daemon/terminal.h"
#include "daemon/text.h"

// `sipward top`, for people: one screen after the other, or one and no more.
namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;

struct TopWords {
  Asker asker;
  std::string sort = "rate", every = "2s";
  std::size_t most = 50;
  bool once = false;
};

std::string grouped(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, 1, ',');
  return text;
}

std::string joined(const Json& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : " ") + name.get<std::string>();
  return text;
}

std::string count(const Json& row, const char* key) {
  const auto value = row.value(key, std::uint64_t{0});
  return value == 0 ? "" : grouped(value);
}

std::string rate(double per_s) {
  return per_s < 10 ? fixed(per_s, 1) : grouped(static_cast<std::uint64_t>(per_s + 0.5));
}

std::string state(const Json& row, std::string_view time) {
  const std::string state = row.value("state", "");
  if (state == "free") return "";
  std::string text = state == "block" ? "blocked" : state == "limit" ? "limited" : state;
  if (!row.contains("until")) return text;
  if (state == "never_blocked") return text;
  const auto until = parse_rfc3339(row.value("until", "")), now = parse_rfc3339(time);
  text += " " + row.value("reason", "");
  if (until && now && *until > *now)
    text += " " + human_duration(std::chrono::ceil<std::chrono::seconds>(*until - *now));
  return text;
}

Tone tone(const std::string& state, const std::string& trust) {
  if (state == "block") return Tone::Bad;
  if (state == "limit" || state == "would_block" || state == "would_limit") return Tone::Doubtful;
  return state == "never_blocked" || trust != "stranger" ? Tone::Good : Tone::Plain;
}

std::string header(const Json& top) {
  const auto& per_s = top["per_s"];
  const auto each = [&](const char* key) { return rate(per_s.value(key, 0.0)); };
  std::string text = "sipward " + top.value("mode", "") + ", " + top.value("time", "").substr(11, 8) + " UTC";
  if (!top["off"].is_null()) text += ", SWITCHED OFF: nobody is blocked (`sipward on`)";
  if (top.value("dry_run", false)) text += ", dry run: nobody is blocked";
  if (top["learning"].is_string()) text += ", learning until " + top.value("learning", "").substr(0, 16) + "Z";
  if (top.value("server_unwell", false)) text += ", OUR SERVER IS UNWELL: only scanners are blocked";
  if (!top.value("nft_in_sync", false)) text += ", NFTABLES OUT OF SYNC";
  text += "\n" + each("received") + " packets/s: " + each("requests") + " requests, " + each("answers") + " answers, " +
          each("dropped") + " dropped\n";
  return text + count(top, "sources") + " sources, " + grouped(top.value("blocks", std::uint64_t{0})) + " blocked, " +
         grouped(top.value("limits", std::uint64_t{0})) + " limited; by " + top.value("sorted_by", "") + "\n\n";
}

Table senders(const Json& top, std::size_t most) {
  Table table({{"ADDRESS"},
               {"PKT/S", Align::Right},
               {"PACKETS", Align::Right},
               {"METHODS"},
               {"USERS", Align::Right},
               {"FAILED", Align::Right},
               {"OK", Align::Right},
               {"TRUST"},
               {"STATE"},
               {"USER-AGENT"}});
  for (const auto& row : top["senders"]) {
    if (most-- == 0) break;
    const std::string agent = row.value("user_agent", ""), trust = row.value("trust", "");
    table.add({row.value("address", ""), rate(row.value("rate_per_s", 0.0)), count(row, "packets"),
               joined(row["methods"]), count(row, "users"), count(row, "failures"), count(row, "successes"), trust,
               state(row, top.value("time", "")), agent.empty() ? "" : in_quotes(agent)},
              tone(row.value("state", ""), trust));
  }
  return table;
}

// What goes on a terminal of this size; colours do not count as columns, so a line is cut before it gets its own.
std::string page(const Json& top, const TerminalSize& size, bool colours) {
  constexpr std::size_t kAround = 7; // the header's lines, the titles, the keys
  const std::string head = header(top);
  std::string text;
  for (std::size_t at = 0; at < head.size();) {
    const auto end = head.find('\n', at);
    text += std::string(clipped(std::string_view(head).substr(at, end - at), size.columns)) + "\n";
    at = end + 1;
  }
  text += senders(top, size.rows > kAround ? size.rows - kAround : 1).text(colours, size.columns);
  return text + std::string(clipped("\nq quit   sort: r rate, p packets, u users, f failed, s succeeded, a address",
                                    size.columns + 1)); // the line's end has no column
}

std::optional<std::string> sort_of(char key) {
  switch (key) {
  case 'r': return "rate";
  case 'p': return "packets";
  case 'u': return "users";
  case 'f': return "failures";
  case 's': return "successes";
  case 'a': return "address";
  default: return std::nullopt;
  }
}

Json request(const TopWords& words) { return {{"command", "top"}, {"sort", words.sort}, {"most", words.most}}; }

// A table too large for one look is gone through in several.
int ask_whole(const TopWords& words, const Asker::Tell& tell) {
  int code = kDone;
  for (bool complete = false; !complete && code == kDone;) {
    Asker quiet = words.asker;
    quiet.json = false;
    code = quiet(request(words), [&](const Json& top) {
      complete = top.value("complete", true);
      if (complete) tell(top);
    });
  }
  return code;
}

int watch(TopWords words) {
  const bool colours = colours_wanted();
  const std::chrono::milliseconds every = std::chrono::seconds(std::max<std::int64_t>(1, seconds(words.every)));
  {
    const Screen screen;
    for (char key = '\0'; key != 'q' && key != 'Q';) {
      const auto size = terminal_size();
      words.most = size.rows;
      if (ask_whole(words, [&](const Json& top) { screen.show(page(top, size, colours)); }) != kDone) break;
      key = screen.wait_key(every);
      if (const auto sort = sort_of(key)) words.sort = *sort;
      if (key == 'q' || key == 'Q') return kDone;
    }
  }
  return ask_whole(words, [](const Json&) {}); // on the terminal as it was: why there is no answer
}

int show_once(const TopWords& words) {
  return ask_whole(words, [&](const Json& top) {
    if (words.asker.json)
      std::cout << top.dump(2) << "\n";
    else
      std::cout << header(top) << senders(top, words.most).text(colours_wanted());
  });
}

} // namespace

void add_top_command(CLI::App& app, Outcome& outcome) {
  const auto words = std::make_shared<TopWords>();
  auto* top = words->asker.option(app.add_subcommand("top", "Who sends most just now, and what becomes of it."));
  top->add_flag("--once", words->once, "one screen, and no more (always so in a pipe)");
  top->add_option("--sort", words->sort, "by what")
      ->check(CLI::IsMember({"rate", "packets", "users", "failures", "successes", "address"}))
      ->capture_default_str();
  top->add_option("--most", words->most, "so many senders, with --once")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  top->add_option("--every", words->every, "a new screen so often")->check(duration_fault)->capture_default_str();
  top->callback([words, &outcome] {
    const bool screen = isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
    outcome.code = words->once || words->asker.json || !screen ? show_once(*words) : watch(*words);
  });
}

} // namespace sipward::daemon
