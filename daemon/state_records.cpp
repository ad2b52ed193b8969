// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state_records.h"

#include "daemon/block_log.h"

namespace sipward::daemon {

using policy::BlockChange;

BlockRecord to_record(const policy::Block& block, const WallClock& clock) {
  BlockRecord record{block, clock.at(block.since), clock.at(block.until)};
  record.block.since = record.block.until = policy::Time();
  return record;
}

policy::Block from_record(const BlockRecord& record, const WallClock& clock) {
  policy::Block block = record.block;
  block.since = clock.when(record.since);
  block.until = clock.when(record.until);
  return block;
}

std::string_view to_string(ExemptionKind kind) noexcept {
  switch (kind) {
  case ExemptionKind::Allowed: return "allowed";
  case ExemptionKind::Immune: return "immune";
  }
  return "unknown";
}

void append(StateChanges& to, const BlockChange& change, policy::Time at, const WallClock& clock) {
  const auto record = to_record(change.block, clock);
  if (change.kind == BlockChange::Kind::Removed)
    to.emplace_back(Gone<BlockRecord>{key_of(record)});
  else
    to.emplace_back(record);
  if (change.kind == BlockChange::Kind::Extended) return; // nothing to tell
  HistoryRecord line{.at = clock.at(at), .event = std::string(event_name(change)), .block = record};
  line.ending = change.ending;
  to.emplace_back(std::move(line));
}

} // namespace sipward::daemon
