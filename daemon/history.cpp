// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/history.h"

#include <algorithm>

#include "daemon/block_json.h"

namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;

bool is_end(const std::string& event) { return event == "unblock" || event == "unlimit"; }
bool is_renewal(const std::string& event) { return event == "renew" || event == "would_renew"; }

// A row without what only a row has.
Json block_of(const Json& row) {
  Json block = row;
  for (const char* key : {"time", "event", "ending"}) block.erase(key);
  return block;
}

std::string beginning(const Json& entry) { return entry.value("since", entry.value("time", "")); }

} // namespace

Json history_row(const HistoryRecord& record) {
  Json row = {{"time", rfc3339(record.at)}, {"event", record.event}};
  if (!record.block) {
    row["text"] = utf8(record.text);
    return row;
  }
  row.update(block_json(from_record(*record.block, kUnixClock), kUnixClock));
  if (is_end(record.event)) row["ending"] = to_string(record.ending);
  return row;
}

void Chronicle::add(const Json& row) {
  const auto event = row.value("event", "");
  if (!row.contains("subject")) {
    entries_.push_back(row);
    return;
  }
  const Key key{row.value("subject", ""), row.contains("limit")};
  if (is_end(event))
    end(key, row);
  else if (is_renewal(event) && open_.contains(key))
    entries_[open_[key]].update(block_of(row));
  else
    begin(key, row);
}

void Chronicle::begin(const Key& key, const Json& row) {
  if (const auto before = open_.find(key); before != open_.end()) { // a newer word took its place
    auto& replaced = entries_[before->second];
    replaced["ended"] = row.value("time", "");
    replaced["ending"] = to_string(policy::Ending::Superseded);
  }
  open_[key] = entries_.size();
  auto& entry = entries_.emplace_back(block_of(row));
  entry["ended"] = nullptr;
  entry["ending"] = nullptr;
}

void Chronicle::end(const Key& key, const Json& row) {
  const auto open = open_.extract(key);
  auto& entry = open ? entries_[open.mapped()] : entries_.emplace_back();
  if (open)
    entry.update(block_of(row)); // its last word, with all that it dropped
  else
    entry = block_of(row);
  entry["ended"] = row.value("time", "");
  entry["ending"] = row.value("ending", "");
}

Json Chronicle::entries(bool with_alerts) const {
  std::vector<Json> chosen;
  std::ranges::copy_if(entries_, std::back_inserter(chosen),
                       [&](const Json& entry) { return with_alerts || entry.contains("subject"); });
  std::ranges::stable_sort(chosen, {}, beginning); // RFC 3339 in one form: text sorts as time does
  return Json(chosen);
}

} // namespace sipward::daemon
