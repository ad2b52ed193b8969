// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "policy/block_list.h"

// The block list under other options than it was made with: what stands when the operator changes his settings.
namespace sipward::policy {

BlockList::Changes BlockList::set_options(BlockOptions options, Time now) {
  Changes changes;
  const auto source_v6 = options_.source_v6;
  options_ = std::move(options);
  options_.source_v6 = source_v6;
  ladder_.set_steps(options_.ladder, options_.max_hosts);
  neighbours_.set_terms(options_.offenders, options_.within, options_.max_hosts,
                        [this](const Address& host) { return prefix_of(host); });
  fuse_ = Meter(Rate{options_.fuse / 60.0, options_.fuse});
  if (options_.dry_run) stand_down(now, changes);
  shrink(changes);
  return changes;
}

// A dry run begins: what was enforced ends, and is noted as would_block for the time that it had left.
void BlockList::stand_down(Time now, Changes& changes) {
  for (auto* standing : {&blocks_, &limits_}) {
    std::vector<Subject> enforced_ones;
    for (const auto& [subject, block] : *standing)
      if (!block.dry_run) enforced_ones.push_back(subject);
    for (const auto& subject : enforced_ones) {
      Block noted = *standing->find(subject);
      if (standing == &blocks_)
        remove(subject, Ending::DryRun, changes);
      else
        remove_limit(subject, Ending::DryRun, changes);
      noted.dry_run = true;
      noted.since = now;
      noted.packets_dropped = 0;
      if (standing == &blocks_) watch(noted, now);
      changes.push_back({BlockChange::Kind::Added, standing->put(std::move(noted))});
    }
  }
}

// There are more than the options have room for: who would have ended soonest goes.
void BlockList::shrink(Changes& changes) {
  for (const SubjectKind kind : {SubjectKind::Host, SubjectKind::Endpoint})
    for (; blocks_.count(kind) > options_.max_hosts; ++displaced_)
      remove(blocks_.soonest(kind)->second, Ending::Displaced, changes);
  for (; limits_.count(SubjectKind::Host) > options_.max_hosts; ++displaced_)
    remove_limit(limits_.soonest(SubjectKind::Host)->second, Ending::Displaced, changes);
}

BlockList::Changes BlockList::ask_who_passes() {
  Changes changes;
  for (auto& [prefix, passing] : let_through_) {
    auto now_passing = pass_through(prefix);
    const Block* block = blocks_.find({SubjectKind::Prefix, prefix, 0});
    if (block == nullptr || now_passing == passing) continue;
    BlockChange change{BlockChange::Kind::Extended, *block};
    change.taken_back = std::exchange(passing, std::move(now_passing));
    keep_passing(prefix, change.taken_back);
    change.let_through = passing;
    changes.push_back(std::move(change));
  }
  return changes;
}

} // namespace sipward::policy
