// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "daemon/state_records.h"

// History as `sipward history` tells it. The database holds decisions; people and programs ask for blocks, each from
// its beginning to its end. Any thread.
namespace sipward::daemon {

// One decision, as the control socket tells it: of a block the block object, with "time" and "event" before it and, if
// it ended it, "ending" after it; of an alert its "text".
nlohmann::ordered_json history_row(const HistoryRecord& record);

// Puts decisions together. A block that was renewed or whose limit went on is one block; of one that began before the
// first decision, its end tells all there is to know.
class Chronicle {
public:
  void add(const nlohmann::ordered_json& row); // in their order

  // Block objects with "ended", the time, and "ending", why: both null while it stands. Alerts, if they are wanted, are
  // {"event":"alert","time","text"}. In the order of their beginnings.
  nlohmann::ordered_json entries(bool with_alerts) const;

private:
  using Key = std::pair<std::string, bool>; // subject, and whether it is limited: it can be blocked as well
  void begin(const Key& key, const nlohmann::ordered_json& row);
  void end(const Key& key, const nlohmann::ordered_json& row);

  std::vector<nlohmann::ordered_json> entries_;
  std::map<Key, std::size_t> open_; // in entries_
};

} // namespace sipward::daemon
