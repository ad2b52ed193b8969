// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/control_answers.h"
#include "daemon/history.h"

namespace sipward::daemon {
namespace {

constexpr std::size_t kRowsAtOnce = 256; // of history in one answer: a millisecond or two of the loop's time

} // namespace

// What has been handed to the disk, and how much of it is there. {"now":true}: after handing over all that is new.
Answers::Result Answers::saved(const Json& request) {
  const auto batch = request.value("now", false) ? control_.save() : control_.state_->handed_over();
  return Json{{"handed_over", batch},
              {"committed", control_.state_->committed()},
              {"trouble", control_.state_->trouble()},
              {"path", control_.settings_.state.path.string()}};
}

// Some rows of history, the oldest first: {"after":{"at":NANOSECONDS,"id":N}}: since when, and where the answer before
// this ended.
Answers::Result Answers::history(const Json& request) {
  const Json after = request.value("after", Json::object());
  const HistoryPlace place{WallTime(std::chrono::nanoseconds(after.value("at", std::int64_t{0}))),
                           after.value("id", std::int64_t{0})};
  const auto records = read_history(control_.settings_.state.path, place, kRowsAtOnce);
  if (!records) return std::unexpected(Refused{records.error()});
  Json rows = Json::array();
  for (const auto& record : *records) rows.push_back(history_row(record));
  Json next = nullptr;
  if (records->size() == kRowsAtOnce) next = {{"at", place.at.time_since_epoch().count()}, {"id", records->back().id}};
  return Json{{"rows", std::move(rows)}, {"next", std::move(next)}};
}

// A piece of an exported state, with a beginning and an end of its own.
Answers::Result Answers::import_state(const Json& request) {
  const auto state = parse_export(request.value("text", ""), control_.clock_.at(monotonic_now()));
  if (!state) return std::unexpected(Refused{"line " + state.error()});
  const auto imported = control_.take_in(*state);
  return Json{{"trust", imported.trust},
              {"users", imported.users},
              {"blocks", imported.blocks},
              {"users_left_out", imported.users_left_out}};
}

Answers::Result Answers::forget(const Json& request) {
  const std::string whom = request.value("whom", "");
  if (whom.empty()) return std::unexpected(Refused{"forget whom?"});
  if (const auto prefix = policy::Prefix::parse(whom)) {
    const auto forgotten = control_.forget(*prefix);
    return Json{{"addresses", to_string(*prefix)}, {"trusted", forgotten.trusted}, {"climbed", forgotten.climbs}};
  }
  return Json{{"user", whom}, {"was_known", control_.forget(whom)}};
}

} // namespace sipward::daemon
