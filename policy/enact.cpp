// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/judge.h"

namespace sipward::policy {

void enact(Ledger& ledger, const Block& block, bool stands, std::uint8_t ipv6_prefix, const Now& now) noexcept {
  if (block.subject.kind == SubjectKind::Prefix) return;
  const SourceKey source = source_key(block.subject.prefix.base, ipv6_prefix);
  if (block.limit) {
    if (Source* line = ledger.sources.find(source))
      stands ? line->set(Source::kLimited) : line->clear(Source::kLimited);
    return;
  }
  const bool endpoint = block.subject.kind == SubjectKind::Endpoint;
  SourceTable& table = endpoint ? ledger.endpoints : ledger.sources;
  const SourceKey key = endpoint ? ledger.endpoint_key(source, block.subject.port) : source;
  if (!stands) return table.unblock(key);
  if (Source* line = endpoint ? ledger.sources.find(source) : nullptr) line->set(Source::kWatched);
  const auto until = std::chrono::ceil<std::chrono::seconds>(block.until).time_since_epoch().count();
  table.block(key, static_cast<std::uint32_t>(until), now);
}

} // namespace sipward::policy
