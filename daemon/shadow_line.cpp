// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/shadow_line.h"

#include "daemon/block_json.h"
#include "daemon/block_log.h"

namespace sipward::daemon {

LoggedEvent shadow_event(const ShadowLine& line, policy::Time at, const WallClock& clock) {
  policy::BlockChange change = line.change;
  const bool ends = change.kind == policy::BlockChange::Kind::Removed;
  const bool only_logs = change.block.dry_run && !ends && !line.passes;
  change.block.dry_run = true;
  const std::string usual(event_name(change));
  const std::string event = line.passes ? "would_pass" : ends ? "would_" + usual : usual;

  std::string text = block_line(change, at, clock);
  text.replace(text.find(' ') + 1, usual.size(), event); // behind the time
  // Nobody counts what a prefix's block would have dropped.
  if (const bool uncounted = ends && change.block.subject.kind == policy::SubjectKind::Prefix; uncounted)
    text.erase(text.rfind(" dropped="));
  if (only_logs) text += " action=log";
  if (!line.now.empty()) text += " now=" + std::string(line.now);
  text += " shadow=yes";

  auto json = change_json(change, at, clock);
  json["event"] = event;
  if (line.passes) json["action"] = "would_pass";
  if (only_logs) json["action"] = "would_log";
  if (!line.now.empty()) json["now"] = line.now;
  json["shadow"] = true;
  return {std::move(text), json.dump()};
}

} // namespace sipward::daemon
