// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/block_list.h"

#include <algorithm>

namespace sipward::policy {

std::string_view to_string(Ending ending) noexcept {
  switch (ending) {
  case Ending::Expired: return "expired";
  case Ending::Unblocked: return "unblocked";
  case Ending::Flushed: return "flushed";
  case Ending::Displaced: return "displaced";
  case Ending::NeverBlocked: return "never_blocked";
  case Ending::Stopped: return "stopped";
  }
  return "unknown";
}

BlockList::BlockList(BlockOptions options)
    : options_(std::move(options)), fuse_(Rate{options_.fuse / 60.0, options_.fuse}) {}

Subject BlockList::host_subject(const Address& address) const noexcept {
  const std::uint8_t length = address.family == Family::V4 ? 32 : options_.source_v6;
  return {SubjectKind::Host, Prefix::of(address, length), 0};
}

BlockList::Changes BlockList::set_never_blocked(PrefixSet never) {
  never_ = std::move(never);
  Changes changes;
  for (auto at = blocks_.begin(); at != blocks_.end();) {
    const auto next = std::next(at);
    if (at->first.kind == SubjectKind::Host && never_.covers(at->first.prefix))
      remove(at, Ending::NeverBlocked, changes);
    at = next;
  }
  return changes;
}

BlockList::Changes BlockList::convict(const Offence& offence) {
  Changes changes;
  const Subject host = host_subject(offence.source);
  // Unproven evidence neither renews a block nor climbs the ladder (UDP sources can be forged): a blocked host stays as
  // it is.
  // An IPv6 host is a whole /64: never-blocked addresses in it are let through before it is looked at.
  const auto standing = blocks_.find(host);
  const bool only_noted =
      standing != blocks_.end() && standing->second.dry_run && offence.action == Action::Block && !options_.dry_run;
  if ((standing != blocks_.end() && !only_noted) || never_.holds(offence.source)) return changes;
  Block block;
  block.dry_run = offence.action != Action::Block;
  block.subject = host;
  block.reason = offence.reason;
  block.since = offence.at;
  block.until = offence.at + options_.ladder.front();
  block.proven = offence.proven;
  block.packets_before = offence.packets_before;
  block.evidence = offence.evidence;
  add(std::move(block), changes);
  if (offence.action == Action::Block) count_in_prefix(offence, host, changes);
  return changes;
}

void BlockList::count_in_prefix(const Offence& offence, const Subject& host, Changes& changes) {
  const std::uint8_t length = offence.source.family == Family::V4 ? options_.prefix_v4 : options_.prefix_v6;
  if (length >= host.prefix.length) return;
  const auto prefix = Prefix::of(offence.source, length);
  if (neighbours_.size() >= options_.max_hosts && !neighbours_.contains(prefix)) forget_neighbours(prefix, offence.at);
  auto& hosts = neighbours_[prefix].hosts;
  std::erase_if(hosts,
                [&](const auto& entry) { return entry.second == host || offence.at - entry.first > options_.within; });
  hosts.emplace_back(offence.at, host);
  while (hosts.size() > options_.offenders) hosts.pop_front();
  const Subject subject{SubjectKind::Prefix, prefix, 0};
  if (hosts.size() < options_.offenders || blocks_.contains(subject)) return;

  if (!offence.proven) {
    const Ticks now = ticks(offence.at);
    if (!fuse_seen_ || offence.at - *fuse_seen_ > kHorizon) fuse_tat_ = now;
    fuse_seen_ = offence.at;
    const auto [tat, conforms] = fuse_.add(fuse_tat_, now);
    fuse_tat_ = tat;
    if (!conforms || options_.fuse == 0) {
      ++withheld_;
      return;
    }
  }
  Block block;
  block.subject = subject;
  block.reason = Reason::Prefix;
  block.since = offence.at;
  block.until = offence.at + options_.ladder.front();
  block.proven = offence.proven;
  block.packets_before = offence.packets_before;
  block.evidence = offence.evidence;
  block.evidence.offenders = static_cast<std::uint32_t>(hosts.size());
  add(std::move(block), changes);
}

BlockList::Changes BlockList::expire(Time now) {
  Changes changes;
  while (!by_end_.empty() && by_end_.begin()->first <= now)
    remove(blocks_.find(by_end_.begin()->second), Ending::Expired, changes);
  return changes;
}

std::expected<BlockList::Changes, std::string> BlockList::block(const Prefix& prefix, Duration length, std::string note,
                                                                Time now) {
  const bool v4 = prefix.base.family == Family::V4;
  const std::uint8_t host_length = v4 ? 32 : options_.source_v6;
  const std::uint8_t prefix_length = v4 ? options_.prefix_v4 : options_.prefix_v6;
  Subject subject{SubjectKind::Host, prefix, 0};
  if (prefix.length == prefix_length)
    subject.kind = SubjectKind::Prefix;
  else if (prefix.is_host())
    subject = host_subject(prefix.base);
  else if (prefix.length != host_length)
    return std::unexpected(to_string(prefix) + ": only hosts (/" + std::to_string(host_length) + ") and prefixes of /" +
                           std::to_string(prefix_length) + " can be blocked");
  if (never_.overlaps(subject.prefix))
    return std::unexpected(to_string(prefix) + (prefix.is_host() ? " is" : " holds an address that is") +
                           " never blocked: on the allow list, or an address, gateway or resolver of this host");
  if (length <= Duration::zero()) return std::unexpected("a block must last longer than nothing");
  Block block;
  block.subject = subject;
  block.since = now;
  block.until = now + length;
  block.proven = true;
  block.note = std::move(note);
  Changes changes;
  add(std::move(block), changes);
  return changes;
}

std::expected<BlockList::Changes, std::string> BlockList::unblock(const Prefix& prefix) {
  Changes changes;
  const Subject host = prefix.is_host() ? host_subject(prefix.base) : Subject{SubjectKind::Host, prefix, 0};
  for (const Subject& subject : {host, Subject{SubjectKind::Prefix, prefix, 0}})
    if (const auto at = blocks_.find(subject); at != blocks_.end()) remove(at, Ending::Unblocked, changes);
  if (changes.empty()) return std::unexpected(to_string(prefix) + " is not blocked");
  for (auto& [range, neighbours] : neighbours_)
    std::erase_if(neighbours.hosts, [&](const auto& entry) { return host.prefix.holds(entry.second.prefix); });
  return changes;
}

BlockList::Changes BlockList::flush(Ending ending) {
  Changes changes;
  while (!blocks_.empty()) remove(blocks_.begin(), ending, changes);
  neighbours_.clear();
  return changes;
}

const Block* BlockList::find(const Subject& subject) const {
  const auto at = blocks_.find(subject);
  return at == blocks_.end() ? nullptr : &at->second;
}

const Block* BlockList::covering(const Address& address) const {
  if (const Block* host = find(host_subject(address))) return host;
  const std::uint8_t length = address.family == Family::V4 ? options_.prefix_v4 : options_.prefix_v6;
  return find({SubjectKind::Prefix, Prefix::of(address, length), 0});
}

std::optional<Time> BlockList::next_expiry() const {
  if (by_end_.empty()) return std::nullopt;
  return by_end_.begin()->first;
}

std::vector<Prefix> BlockList::prefixes() const {
  std::vector<Prefix> result;
  for (const auto& [subject, block] : blocks_)
    if (subject.kind == SubjectKind::Prefix && !block.dry_run) result.push_back(subject.prefix);
  std::ranges::sort(result, {}, [](const Prefix& prefix) { return std::pair(prefix.length, prefix.base); });
  return result;
}

void BlockList::add(Block block, Changes& changes) {
  block.dry_run |= options_.dry_run;
  if (const auto at = blocks_.find(block.subject);
      at != blocks_.end()) { // by hand over an older one: the newer word counts
    by_end_.erase({at->second.until, at->first});
    by_end_.insert({block.until, at->first});
    at->second = block;
  } else {
    make_room(block.subject.kind, changes);
    by_end_.insert({block.until, block.subject});
    prefix_blocks_ += block.subject.kind == SubjectKind::Prefix;
    blocks_.emplace(block.subject, block);
  }
  changes.push_back({BlockChange::Kind::Added, std::move(block), {}});
}

// A full list gives up the block of the same kind that would have ended soonest.
void BlockList::make_room(SubjectKind kind, Changes& changes) {
  const bool prefix = kind == SubjectKind::Prefix;
  const std::size_t held = prefix ? prefix_blocks_ : blocks_.size() - prefix_blocks_;
  if (held < (prefix ? kMaxPrefixBlocks : options_.max_hosts)) return;
  const auto soonest = std::ranges::find_if(
      by_end_, [&](const auto& entry) { return (entry.second.kind == SubjectKind::Prefix) == prefix; });
  ++displaced_;
  remove(blocks_.find(soonest->second), Ending::Displaced, changes);
}

void BlockList::remove(std::map<Subject, Block>::iterator at, Ending ending, Changes& changes) {
  by_end_.erase({at->second.until, at->first});
  prefix_blocks_ -= at->first.kind == SubjectKind::Prefix;
  changes.push_back({BlockChange::Kind::Removed, std::move(at->second), ending});
  blocks_.erase(at);
}

// Makes room for one more prefix. Those that are out of date go, but looking for them takes long: once a minute at
// most. In between it is whichever stands next to the newcomer, so that a storm of forged prefixes mostly pushes out
// its own.
void BlockList::forget_neighbours(const Prefix& newcomer, Time now) {
  if (!swept_ || now - *swept_ >= std::chrono::minutes(1)) {
    swept_ = now;
    std::erase_if(neighbours_, [&](const auto& entry) {
      const auto& hosts = entry.second.hosts;
      return hosts.empty() || now - hosts.back().first > options_.within;
    });
  }
  if (neighbours_.size() < options_.max_hosts) return;
  const auto next = neighbours_.lower_bound(newcomer);
  neighbours_.erase(next != neighbours_.end() ? next : neighbours_.begin());
}

} // namespace sipward::policy
