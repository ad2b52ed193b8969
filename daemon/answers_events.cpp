// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "daemon/control_answers.h"

// `sipward events`: what the block log said lately, and says from now on.
namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostOctets = 32 * 1024; // handed to a follower at once

Json event_json(const LoggedEvent& event) { return {{"text", event.text}, {"event", Json::parse(event.json)}}; }

} // namespace

Answers::Result Answers::events(const Json& request) {
  const auto& ring = control_.events_;
  const auto most = static_cast<std::uint64_t>(std::max<std::int64_t>(request.value("most", std::int64_t{100}), 0));
  Json events = Json::array();
  for (auto number = ring.next() - std::min(most, ring.next() - ring.oldest()); number < ring.next(); ++number)
    events.push_back(event_json(ring.at(number)));
  if (request.value("follow", false)) follow_ = ring.next();
  return events;
}

// What a follower has not been told yet, a line for each event; `place` is the number of the next one.
std::string Control::news(std::uint64_t& place) const {
  std::string lines;
  const auto add = [&](const Json& line) { lines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; };
  if (const auto oldest = events_.oldest(); place < oldest) {
    const auto missed = oldest - std::exchange(place, oldest);
    add({{"text", "(" + std::to_string(missed) + " events missed: they came faster than they were read)"},
         {"event", {{"event", "missed"}, {"count", missed}}}});
  }
  for (; place < events_.next() && lines.size() < kMostOctets; ++place) add(event_json(events_.at(place)));
  return lines;
}

} // namespace sipward::daemon
