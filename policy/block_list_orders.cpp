// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <iterator>

#include "policy/block_list.h"

// The block list's other half: what is not an offence's doing. Orders by hand, the never-blocked, and restarts.
namespace sipward::policy {

BlockList::Changes BlockList::set_never_blocked(PrefixSet never) {
  never_ = std::move(never);
  Changes changes;
  const auto spared = [&](const Subject& subject) {
    return subject.kind != SubjectKind::Prefix && never_.covers(subject.prefix);
  };
  for (auto at = blocks_.begin(); at != blocks_.end();) {
    const Subject subject = (at++)->first;
    if (spared(subject)) remove(subject, Ending::NeverBlocked, changes);
  }
  for (auto at = limits_.begin(); at != limits_.end();) {
    const Subject subject = (at++)->first;
    if (spared(subject) && !ceilings_.covers(subject.prefix)) remove_limit(subject, Ending::NeverBlocked, changes);
  }
  return changes;
}

std::expected<Subject, std::string> BlockList::subject_of(const Prefix& prefix) const {
  const std::uint8_t length = host_length(prefix.base.family);
  if (prefix.is_host()) return host_subject(prefix.base);
  if (prefix.length == length) return Subject{SubjectKind::Host, prefix, 0};
  if (prefix.length > 0 && prefix.length < length) return Subject{SubjectKind::Prefix, prefix, 0};
  return std::unexpected(to_string(prefix) + ": only hosts (/" + std::to_string(length) + ") and prefixes of /1 to /" +
                         std::to_string(length - 1) + " can be blocked");
}

std::expected<BlockList::Changes, std::string> BlockList::block(const Prefix& prefix, Duration length, std::string note,
                                                                Time now, bool wholly) {
  const auto subject = subject_of(prefix);
  if (!subject) return std::unexpected(subject.error());
  if (never_.overlaps(subject->prefix))
    return std::unexpected(to_string(prefix) + (prefix.is_host() ? " is" : " holds an address that is") +
                           " never blocked: on the allow list, or an address, gateway or resolver of this host");
  if (length <= Duration::zero()) return std::unexpected("a block must last longer than nothing");
  Block block;
  block.subject = *subject;
  block.since = now;
  block.until = now + length;
  block.proven = true;
  block.wholly = wholly;
  block.note = std::move(note);
  Changes changes;
  add(std::move(block), now, changes);
  return changes;
}

BlockList::Changes BlockList::prolong(const Subject& subject, Time until, std::uint64_t packets) {
  if (blocks_.find(subject) == nullptr) return {};
  Block block = blocks_.take(subject);
  block.until = until;
  block.packets_dropped += packets;
  return {{BlockChange::Kind::Renewed, blocks_.put(std::move(block))}};
}

std::expected<BlockList::Changes, std::string> BlockList::unblock(const Prefix& prefix) {
  Changes changes;
  const Subject host = prefix.is_host() ? host_subject(prefix.base) : Subject{SubjectKind::Host, prefix, 0};
  for (const Subject& subject : {host, Subject{SubjectKind::Prefix, prefix, 0}})
    if (blocks_.find(subject) != nullptr) remove(subject, Ending::Unblocked, changes);
  if (host == host_subject(host.prefix.base)) {
    remove_endpoints(host, Ending::Unblocked, changes);
    if (limits_.find(host) != nullptr) remove_limit(host, Ending::Unblocked, changes);
  }
  if (changes.empty()) return std::unexpected(to_string(prefix) + " is not blocked");
  neighbours_.forget(host.prefix);
  return changes;
}

BlockList::Changes BlockList::flush(Ending ending) {
  Changes changes;
  while (!blocks_.empty()) remove(blocks_.begin()->first, ending, changes);
  while (!limits_.empty()) remove_limit(limits_.begin()->first, ending, changes);
  neighbours_.clear();
  if (ending == Ending::Flushed) ladder_.clear();
  return changes;
}

std::size_t BlockList::forget(const Prefix& addresses) {
  neighbours_.forget(addresses);
  std::size_t climbed = 0;
  for (const auto& climb : ladder_.climbs()) {
    if (!addresses.holds(climb.subject.prefix)) continue;
    ladder_.forget(climb.subject);
    ++climbed;
  }
  return climbed;
}

BlockList::Changes BlockList::lift_since(Time since) {
  Changes changes;
  const auto doubtful = [&](const Block& block) {
    return block.since >= since && block.reason != Reason::Manual && block.reason != Reason::Scanner;
  };
  for (auto at = blocks_.begin(); at != blocks_.end();) {
    const auto& [subject, block] = *at++;
    if (!doubtful(block)) continue;
    if (subject.kind == SubjectKind::Host) neighbours_.forget(prefix_of(subject.prefix.base), subject);
    remove(subject, Ending::Lifted, changes);
  }
  for (auto at = limits_.begin(); at != limits_.end();) {
    const auto& [subject, block] = *at++;
    if (doubtful(block)) remove_limit(subject, Ending::Lifted, changes);
  }
  return changes;
}

// The counter of a watched block falls back: that its subject sent since it was last told must not be lost with it.
void BlockList::carry_over(const Subject& subject, bool limited, std::uint64_t packets) {
  Standing& standing = limited ? limits_ : blocks_;
  const Block* found = standing.find(subject);
  if (found == nullptr) return;
  Block counted = *found;
  counted.packets_dropped += packets;
  standing.put(std::move(counted));
  const auto at = limited ? watches_.end() : watches_.find(subject);
  if (at == watches_.end()) return;
  Watch& watch = at->second;
  if (packets > watch.packets) watch.sent_after = std::max(watch.told, watch.sent_after.value_or(watch.told));
  watch.packets -= std::min(packets, watch.packets);
}

std::vector<const Block*> BlockList::about(const Address& address) const {
  std::vector<const Block*> found;
  const Subject host = host_subject(address);
  const Subject first{SubjectKind::Endpoint, Prefix::host(host.prefix.base), 0};
  for (auto at = blocks_.lower_bound(first);
       at != blocks_.end() && at->first.kind == SubjectKind::Endpoint && host.prefix.holds(at->first.prefix); ++at)
    if (at->first.prefix.base == address) found.push_back(&at->second);
  if (const Block* block = blocks_.find(host)) found.push_back(block);
  if (const Block* limit = limits_.find(host)) found.push_back(limit);
  for (const auto& [end, subject] : blocks_.ends(SubjectKind::Prefix))
    if (subject.prefix.holds(address)) found.push_back(blocks_.find(subject));
  return found;
}

std::vector<Prefix> BlockList::prefixes() const {
  std::vector<Prefix> result;
  for (const auto& [end, subject] : blocks_.ends(SubjectKind::Prefix))
    if (!blocks_.find(subject)->dry_run) result.push_back(subject.prefix);
  std::ranges::sort(result, {}, [](const Prefix& prefix) { return std::pair(prefix.length, prefix.base); });
  return result;
}

std::vector<Prefix> BlockList::wholly() const {
  std::vector<Prefix> result;
  for (const auto& subject : wholly_) result.push_back(subject.prefix);
  std::ranges::sort(result, {}, [](const Prefix& prefix) { return std::pair(prefix.length, prefix.base); });
  return result;
}

std::vector<Prefix> BlockList::let_through() const {
  std::vector<Prefix> all;
  for (const auto& [prefix, passing] : let_through_) all.insert(all.end(), passing.begin(), passing.end());
  return all;
}

BlockList::Snapshot BlockList::snapshot() const {
  Snapshot snapshot;
  snapshot.blocks.reserve(blocks_.size() + limits_.size());
  for (const auto* standing : {&blocks_, &limits_})
    for (const auto& [subject, block] : *standing) snapshot.blocks.push_back(block);
  snapshot.climbs = ladder_.climbs();
  return snapshot;
}

// `told` is given the changes of one block after the other.
template<class Told>
void BlockList::restore(std::vector<Block*> blocks, std::vector<Climb> climbs, Time now, Told told) {
  std::ranges::stable_sort(climbs, {}, &Climb::ended);
  for (const auto& climb : climbs) ladder_.remember(climb);
  std::ranges::stable_sort(blocks, {}, &Block::since);
  Changes changes;
  for (Block* const each : blocks) {
    Block& block = *each;
    if (!fits(block)) continue;
    if (counts_in_prefix(block))
      neighbours_.add(prefix_of(block.subject.prefix.base), block.subject, block.proven, block.since);
    if (block.until <= now) {
      remember(block);
      continue;
    }
    add(std::move(block), now, changes);
    told(changes);
    changes.clear();
  }
}

BlockList::Changes BlockList::restore(Snapshot snapshot, Time now) {
  std::vector<Block*> blocks; // a block is half a kilobyte: sorting a hundred thousand of them takes a second
  for (auto& block : snapshot.blocks) blocks.push_back(&block);
  Changes all;
  all.reserve(blocks.size());
  restore(std::move(blocks), std::move(snapshot.climbs), now,
          [&all](Changes& changes) { std::ranges::move(changes, std::back_inserter(all)); });
  return all;
}

void BlockList::resume(std::vector<Block*> blocks, std::vector<Climb> climbs, Time now) {
  restore(std::move(blocks), std::move(climbs), now, [](const Changes&) {});
}

// Could a block be made today as it was made before the restart? The settings, and who is never blocked, may differ.
bool BlockList::fits(const Block& block) const {
  const auto& [kind, prefix, port] = block.subject;
  switch (kind) {
  case SubjectKind::Host: return block.subject == host_subject(prefix.base) && !never_.covers(prefix);
  case SubjectKind::Endpoint: return prefix.is_host() && !never_.covers(prefix);
  case SubjectKind::Prefix:
    if (never_.covers(prefix)) return false;
    if (block.reason == Reason::Manual) return prefix.length > 0 && prefix.length < host_length(prefix.base.family);
    return prefix == prefix_of(prefix.base) && !local_.overlaps(prefix);
  }
  return false;
}

} // namespace sipward::policy
