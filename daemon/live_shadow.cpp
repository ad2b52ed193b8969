// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/live_shadow.h"

#include <algorithm>
#include <utility>

#include "config/rules.h"

namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
using policy::BlockChange;
using policy::Subject;
using policy::SubjectKind;

// Both settings judge the same packet at the same time, but thresholds are reached one after the other. After so long
// it is said that somebody passes; should he be convicted later, a line says that too.
constexpr auto kPatience = 10s;

// As if it blocked: what comes of a block (the ladder, its prefix, an end to what the packets say) is to be seen.
policy::BlockOptions enforcing(const config::Settings& settings) {
  auto options = config::block_options(settings);
  options.dry_run = false;
  return options;
}

} // namespace

LiveShadow::LiveShadow(config::Settings settings, policy::Ledger& ledger, const policy::BlockList& present, Desk desk,
                       policy::Time now)
    : settings_(std::move(settings)), ledger_(ledger), blocks_(enforcing(settings_)), desk_(std::move(desk)),
      since_(now), now_(now) {
  std::vector<policy::Prefix> ceilings;
  for (const auto& limit : settings_.allow_limits) ceilings.push_back(limit.range);
  blocks_.set_ceilings(policy::PrefixSet(ceilings));
  blocks_.restore({.blocks = {}, .climbs = present.snapshot().climbs}, now);
  blocks_.set_trusted_within([this](const policy::Prefix& prefix) {
    return policy::trusted_within(ledger_.trust, settings_.trust.peers, prefix, settings_.sources.ipv6_prefix,
                                  policy::Now(now_).s);
  });
  for (const auto& [subject, block] : present)
    if (!block.dry_run) before_.insert(subject);
}

void LiveShadow::set_never_blocked(policy::PrefixSet never, policy::Time now) {
  settle(blocks_.set_never_blocked(std::move(never)), now);
}

void LiveShadow::hear(const policy::Offence& offence) { settle(blocks_.convict(offence), offence.at); }

void LiveShadow::note_present(const BlockChange& change, bool is_judgement) {
  const policy::Block& block = change.block;
  if (change.kind == BlockChange::Kind::Removed) before_.erase(block.subject);
  if (change.kind != BlockChange::Kind::Added || block.limit || block.reason == policy::Reason::Manual) return;
  if (block.dry_run && !is_judgement) return;
  if (doubts_.size() < kMostCompared) doubts_.push_back({block.since, block});
  compare_later(present_, block);
}

void LiveShadow::tend(policy::Time now) {
  for (const auto& subject : blocks_.count_due(now)) blocks_.note_dropped(subject, dropped(subject), now);
  settle(blocks_.expire(now), now);
  for (; !doubts_.empty() && doubts_.front().at + kPatience <= now; doubts_.pop_front()) {
    const policy::Block& block = doubts_.front().block;
    if (tried_.subjects.contains(block.subject) ||
        blocks_.covering(block.subject.prefix.base, block.subject.port) != nullptr)
      continue;
    ++counts_.less;
    desk_.write({{BlockChange::Kind::Added, block}, true, desk_.now(block.subject)}, now);
  }
}

void LiveShadow::lift_since(policy::Time since, policy::Time now) { settle(blocks_.lift_since(since), now); }

// Each change is told to the second judge's ledger, and to the log.
void LiveShadow::settle(policy::BlockList::Changes changes, policy::Time now) {
  now_ = now;
  for (auto& change : changes) {
    auto& block = change.block;
    const bool ends = change.kind == BlockChange::Kind::Removed;
    if (ends) block.packets_dropped += dropped(block.subject);
    if (!block.dry_run) policy::enact(ledger_, block, !ends, settings_.sources.ipv6_prefix, policy::Now(now));
    prefixes_changed_ |= block.subject.kind == SubjectKind::Prefix;
    if (change.kind == BlockChange::Kind::Extended) continue;
    if (ends && !block.limit)
      counted_from_.erase(block.subject);
    else if (!block.limit)
      counted_from_[block.subject] = packets_of(block.subject);
    const auto present = ends ? std::string_view{} : desk_.now(block.subject);
    count(change, present);
    desk_.write({change, false, present}, now);
  }
}

void LiveShadow::count(const BlockChange& change, std::string_view now) {
  const policy::Block& block = change.block;
  if (change.kind == BlockChange::Kind::Renewed) ++counts_.would_renew;
  if (change.kind != BlockChange::Kind::Added) return;
  if (block.limit) {
    ++counts_.would_limit;
    return;
  }
  if (block.dry_run) return; // these, too, would only write it down
  ++counts_.would_block;
  if (before_.contains(block.subject) || !compare_later(tried_, block)) return;
  if (present_.subjects.contains(block.subject) || now == "blocked") return;
  ++counts_.more;
  counts_.more_known += is_known(block);
}

// True: it is the first of its subject, as far as is remembered. Its line calls it a would_block, as JSON does.
bool LiveShadow::compare_later(Side& side, const policy::Block& block) {
  if (side.subjects.contains(block.subject)) return false;
  if (side.blocks.size() == kMostCompared) {
    ++counts_.left_out;
    return true;
  }
  side.subjects.insert(block.subject);
  side.blocks.push_back(block);
  side.blocks.back().dry_run |= &side == &tried_;
  return true;
}

// Of a host or an endpoint, as the second ledger counts them; nobody counts a prefix's.
std::uint32_t LiveShadow::packets_of(const Subject& subject) const {
  const auto source = policy::source_key(subject.prefix.base, settings_.sources.ipv6_prefix);
  const policy::Source* line = nullptr;
  if (subject.kind == SubjectKind::Host) line = ledger_.sources.find(source);
  if (subject.kind == SubjectKind::Endpoint) line = ledger_.endpoints.find(ledger_.endpoint_key(source, subject.port));
  return line == nullptr ? 0 : line->packets.load(std::memory_order_relaxed);
}

std::uint64_t LiveShadow::dropped(const Subject& subject) const {
  const auto from = counted_from_.find(subject);
  const auto packets = packets_of(subject);
  return from == counted_from_.end() || packets < from->second ? 0 : packets - from->second;
}

} // namespace sipward::daemon
