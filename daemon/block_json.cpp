// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/block_json.h"

#include <cmath>

#include "daemon/block_log.h"

namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;

Json evidence_json(const policy::Block& block) {
  const auto& evidence = block.evidence;
  Json json = {{"user_agent", utf8(evidence.user_agent.view())},
               {"method", utf8(evidence.method.view())},
               {"rate_per_s", tenths(evidence.rate_per_s)},
               {"limit_per_s", evidence.limit_per_s},
               {"users", evidence.users},
               {"failures", evidence.failures},
               {"successes", evidence.successes}};
  if (evidence.soft_marks > 0) json["soft_marks"] = evidence.soft_marks;
  if (evidence.trusted) json["trusted"] = true;
  if (evidence.registered > 0) json["registered"] = evidence.registered;
  if (evidence.tcp_peers > 0) json["tcp_peers"] = evidence.tcp_peers;
  if (evidence.share > 0) json["share_percent"] = evidence.share;
  if (evidence.mark.size > 0) json["mark"] = utf8(evidence.mark.view());
  if (block.subject.kind == policy::SubjectKind::Prefix) json["offenders"] = evidence.offenders;
  if (!block.note.empty()) json["note"] = utf8(block.note);
  return json;
}

std::string_view action(const policy::Block& block) {
  if (block.limit) return block.dry_run ? "would_limit" : "limit";
  return block.dry_run ? "would_block" : "block";
}

} // namespace

double tenths(double value) { return std::round(value * 10) / 10; }

Json block_json(const policy::Block& block, const WallClock& clock) {
  Json json = {{"subject", to_string(block.subject)},
               {"kind", to_string(block.subject.kind)},
               {"reason", to_string(block.reason)},
               {"since", rfc3339(clock.at(block.since))},
               {"until", rfc3339(clock.at(block.until))},
               {"step", block.step},
               {"proven", block.proven},
               {"action", action(block)},
               {"packets_before", block.packets_before},
               {"packets_dropped", block.packets_dropped},
               {"evidence", evidence_json(block)}};
  if (block.wholly) json["scope"] = "all";
  if (block.limit) json["limit"] = {{"rate_per_s", block.limit->per_second}, {"burst", block.limit->burst}};
  return json;
}

Json change_json(const policy::BlockChange& change, policy::Time at, const WallClock& clock) {
  Json line = {{"time", rfc3339(clock.at(at))}, {"event", event_name(change)}};
  line.update(block_json(change.block, clock));
  if (change.kind == policy::BlockChange::Kind::Removed) line["ending"] = to_string(change.ending);
  return line;
}

} // namespace sipward::daemon
