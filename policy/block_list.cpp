// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/block_list.h"

#include <algorithm>

namespace sipward::policy {
namespace {

using namespace std::chrono_literals;

constexpr auto kLastMinute = 1min;              // of a block: whoever still sends in it has not understood
constexpr std::uint32_t kCrowd = 3;             // users registered from one source: others live behind its address
constexpr std::uint8_t kLargeShare = 10;        // percent of all that is answered with success: a proxy, a CGNAT
constexpr std::uint32_t kHighestForOneUser = 2; // perhaps a phone with an old password: it must get to try its new one

bool is_crowd(const Evidence& evidence) noexcept {
  return evidence.registered + evidence.tcp_peers >= kCrowd || evidence.share >= kLargeShare;
}

Block block_for(const Offence& offence, const Subject& subject) {
  Block block;
  block.subject = subject;
  block.reason = offence.reason;
  block.since = offence.at;
  block.proven = offence.proven;
  block.one_user = offence.one_user;
  block.packets_before = offence.packets_before;
  block.evidence = offence.evidence;
  return block;
}

} // namespace

std::string_view to_string(Ending ending) noexcept {
  switch (ending) {
  case Ending::Expired: return "expired";
  case Ending::Unblocked: return "unblocked";
  case Ending::Flushed: return "flushed";
  case Ending::Displaced: return "displaced";
  case Ending::Superseded: return "superseded";
  case Ending::NeverBlocked: return "never_blocked";
  case Ending::Lifted: return "lifted";
  case Ending::DryRun: return "dry_run";
  case Ending::Stopped: return "stopped";
  }
  return "unknown";
}

BlockList::BlockList(BlockOptions options)
    : options_(std::move(options)), ladder_(options_.ladder, options_.max_hosts),
      neighbours_(options_.offenders, options_.within, options_.max_hosts),
      fuse_(Rate{options_.fuse / 60.0, options_.fuse}) {}

Subject BlockList::host_subject(const Address& address) const noexcept {
  return {SubjectKind::Host, Prefix::of(address, host_length(address.family)), 0};
}

Prefix BlockList::prefix_of(const Address& address) const noexcept {
  return Prefix::of(address, address.family == Family::V4 ? options_.prefix_v4 : options_.prefix_v6);
}

// What an offence comes to, considering who did it.
Offence BlockList::tempered(Offence offence) const {
  if (offence.action != Action::Block || offence.kind != SubjectKind::Host) return offence;
  if (behind_) {
    const Collateral behind = behind_(offence.source);
    offence.evidence.tcp_peers = behind.tcp_peers;
    offence.evidence.share = behind.share;
  }
  const bool crowd = is_crowd(offence.evidence);
  if (crowd && offence.proven) {
    offence.kind = SubjectKind::Endpoint;
  } else if (crowd || (offence.evidence.trusted && !offence.proven)) {
    offence.action = Action::Limit;
    offence.limit = options_.limit;
  }
  return offence;
}

BlockList::Changes BlockList::convict(const Offence& untempered) {
  Changes changes;
  // An IPv6 host is a whole /64: never-blocked addresses in it are let through before it is looked at.
  const bool may_be_limited = untempered.action == Action::Limit && ceilings_.holds(untempered.source);
  if (untempered.notice != Notice::None || (never_.holds(untempered.source) && !may_be_limited)) return changes;
  Offence offence = tempered(untempered);
  const Subject host = host_subject(offence.source);
  if (offence.action == Action::Limit) {
    limit(offence, changes);
    return changes;
  }
  const bool only_noted = offence.action != Action::Block;
  const bool endpoint = offence.kind == SubjectKind::Endpoint;
  const Subject subject =
      endpoint ? Subject{SubjectKind::Endpoint, Prefix::host(offence.source), offence.source_port} : host;
  for (const Subject& around : {subject, host}) {
    const Block* standing = blocks_.find(around);
    if (standing == nullptr || !(only_noted || enforced(*standing))) continue;
    // It stays as it is; in a dry run this is how its subject shows that it still sends.
    if (offence.proven && climbs(*standing)) watches_[around].sent_after = offence.at;
    return changes;
  }
  if (!endpoint && !only_noted && !within_pace(offence.at)) {
    ++slowed_;
    offence.limit = options_.limit;
    limit(offence, changes);
    return changes;
  }
  Block block = block_for(offence, subject);
  block.dry_run = only_noted || dry();
  set_on_ladder(block);
  add(block, offence.at, changes);
  if (!only_noted && !endpoint) count_in_prefix(block, changes);
  return changes;
}

// Does one more host may be blocked in this second? Whoever brings more of them at once has forged them, or our own
// judgement is at fault; and the kernel and the log are not to drown in them.
bool BlockList::within_pace(Time at) {
  const auto second = std::chrono::floor<std::chrono::seconds>(at).time_since_epoch().count();
  if (second > pace_second_) { // the workers' offences come nearly in order: one that is late counts with the latest
    pace_second_ = second;
    pace_count_ = 0;
  }
  if (pace_count_ >= options_.new_hosts_per_s) return false;
  ++pace_count_;
  return true;
}

// A host is limited for as long as its excess goes on, and a step of the ladder longer. The kernel is not told of every
// offence, only when half of that time is over.
void BlockList::limit(const Offence& offence, Changes& changes) {
  const Subject host = host_subject(offence.source);
  if (const Block* standing = blocks_.find(host); standing != nullptr && enforced(*standing)) return;
  const Time until = offence.at + ladder_.length(1);
  if (const Block* standing = limits_.find(host)) {
    if (standing->until - offence.at > ladder_.length(1) / 2) return;
    Block extended = *standing;
    extended.until = until;
    changes.push_back({BlockChange::Kind::Extended, limits_.put(std::move(extended))});
    return;
  }
  Block block = block_for(offence, host);
  block.limit = offence.limit;
  block.until = until;
  add(std::move(block), offence.at, changes);
}

// --- prefixes

bool BlockList::counts_in_prefix(const Block& host) const noexcept {
  return host.subject.kind == SubjectKind::Host && !host.limit && host.reason != Reason::Manual && !host.one_user &&
         enforced(host) && (host.proven || !options_.proven_only) &&
         prefix_of(host.subject.prefix.base).length < host.subject.prefix.length;
}

void BlockList::count_in_prefix(const Block& host, Changes& changes) {
  if (!counts_in_prefix(host)) return;
  const Prefix prefix = prefix_of(host.subject.prefix.base);
  const auto [hosts, proven] = neighbours_.add(prefix, host.subject, host.proven, host.since);
  const Subject subject{SubjectKind::Prefix, prefix, 0};
  const Block* standing = blocks_.find(subject);
  if (hosts < options_.offenders || (standing != nullptr && enforced(*standing))) return;
  if (local_.overlaps(prefix)) return;
  if (!proven && !fuse_holds(host.since)) {
    ++withheld_;
    return;
  }
  Block block = host;
  block.subject = subject;
  block.reason = Reason::Prefix;
  block.proven = proven;
  block.evidence.offenders = hosts;
  set_on_ladder(block);
  add(std::move(block), host.since, changes);
}

bool BlockList::fuse_holds(Time at) {
  const Ticks now = ticks(at);
  if (!fuse_seen_ || at - *fuse_seen_ > kHorizon) fuse_tat_ = now;
  fuse_seen_ = at;
  const auto [tat, conforms] = fuse_.add(fuse_tat_, now);
  fuse_tat_ = tat;
  return conforms && options_.fuse > 0;
}

// The trusted of a prefix, but for those who are blocked by themselves: that was proven.
std::vector<Prefix> BlockList::pass_through(const Prefix& prefix) const {
  if (!trusted_within_) return {};
  auto trusted = trusted_within_(prefix);
  std::erase_if(trusted, [&](const Prefix& host) {
    const Block* standing = blocks_.find({SubjectKind::Host, host, 0});
    return !prefix.holds(host) || (standing != nullptr && enforced(*standing));
  });
  std::ranges::sort(trusted);
  trusted.erase(std::ranges::unique(trusted).begin(), trusted.end());
  return trusted;
}

// --- the ladder

// Only what is sure climbs; the operator's own blocks last as long as he said.
bool BlockList::climbs(const Block& block) const noexcept {
  return block.proven && block.reason != Reason::Manual && !block.limit && enforced(block);
}

std::uint32_t BlockList::highest_step(const Block& block) const noexcept {
  // The port of a crowd's address will soon be another subscriber's.
  if (block.subject.kind == SubjectKind::Endpoint && is_crowd(block.evidence)) return 1;
  return block.one_user ? std::min(kHighestForOneUser, ladder_.top()) : ladder_.top();
}

void BlockList::set_on_ladder(Block& block) const {
  block.step = climbs(block) ? std::min(ladder_.next(block.subject, block.since), highest_step(block)) : 1;
  block.until = block.since + ladder_.length(block.step);
}

// Does a block whose time is up go on? One that may climb no higher than to a step below the top ends there: what is
// capped is perhaps no attacker, and has to get its chance.
bool BlockList::goes_on(const Block& block) const {
  // Whose packets a prefix's counter counts is not known: perhaps an innocent neighbour's. The next proven offender
  // brings it back, a step higher.
  if (!climbs(block) || block.subject.kind == SubjectKind::Prefix) return false;
  const auto watch = watches_.find(block.subject);
  const bool still_sends =
      watch != watches_.end() && watch->second.sent_after && *watch->second.sent_after >= block.until - kLastMinute;
  const bool capped = block.one_user || highest_step(block) < ladder_.top();
  return still_sends && !(capped && block.step >= highest_step(block));
}

void BlockList::renew(const Subject& subject, Time now, Changes& changes) {
  Block block = blocks_.take(subject);
  block.step = std::min(block.step + 1, highest_step(block));
  block.until = now + ladder_.length(block.step);
  block.packets_dropped += watches_[subject].packets;
  watch(block, now);
  changes.push_back({BlockChange::Kind::Renewed, blocks_.put(std::move(block))});
}

std::vector<Subject> BlockList::count_due(Time now) {
  std::vector<Subject> due;
  const Time until = now + kLastMinute;
  for (const SubjectKind kind : {SubjectKind::Host, SubjectKind::Endpoint}) {
    const auto& ends = blocks_.ends(kind);
    const auto take = [&](auto from, Time to) {
      for (; from != ends.end() && from->first <= to; ++from)
        if (climbs(*blocks_.find(from->second))) due.push_back(from->second);
    };
    take(ends.begin(), now);
    take(ends.lower_bound({std::max(now, counted_until_) + 1ns, {}}), until);
  }
  counted_until_ = std::max(counted_until_, until);
  return due;
}

void BlockList::note_dropped(const Subject& subject, std::uint64_t packets, Time now) {
  const Block* block = blocks_.find(subject);
  if (block == nullptr) return;
  const auto [at, is_first] = watches_.try_emplace(subject, Watch{packets, now});
  if (is_first) return; // what it sent before this may be long ago
  Watch& watch = at->second;
  if (packets != watch.packets) watch.sent_after = std::max(watch.told, watch.sent_after.value_or(watch.told));
  watch.packets = packets;
  watch.told = now;
}

BlockList::Changes BlockList::expire(Time now) {
  Changes changes;
  for (const auto* next = blocks_.soonest(); next != nullptr && next->first <= now; next = blocks_.soonest()) {
    const Subject subject = next->second;
    if (goes_on(*blocks_.find(subject)))
      renew(subject, now, changes);
    else
      remove(subject, Ending::Expired, changes);
  }
  for (const auto* next = limits_.soonest(); next != nullptr && next->first <= now; next = limits_.soonest())
    remove_limit(next->second, Ending::Expired, changes);
  return changes;
}

std::optional<Time> BlockList::next_expiry() const {
  const auto* block = blocks_.soonest();
  const auto* limit = limits_.soonest();
  if (block == nullptr && limit == nullptr) return std::nullopt;
  if (block == nullptr || limit == nullptr) return (block != nullptr ? block : limit)->first;
  return std::min(block->first, limit->first);
}

// --- what stands

const Block* BlockList::covering(const Address& address, std::uint16_t port) const {
  for (const Subject& subject : {Subject{SubjectKind::Endpoint, Prefix::host(address), port}, host_subject(address)})
    if (const Block* block = find(subject)) return block;
  for (auto length = host_length(address.family); --length > 0;) // the narrowest
    if (const Block* block = find({SubjectKind::Prefix, Prefix::of(address, length), 0})) return block;
  return nullptr;
}

// A block begins, or begins anew: of one that is all last minute every packet counts.
void BlockList::watch(const Block& block, Time now) {
  watches_.erase(block.subject);
  if (climbs(block) && block.until - now <= kLastMinute) watches_[block.subject].told = now;
}

void BlockList::add(Block block, Time now, Changes& changes) {
  block.dry_run |= dry();
  const Subject subject = block.subject;
  BlockChange change{BlockChange::Kind::Added, block};
  Standing& standing = block.limit ? limits_ : blocks_;
  const Block* before = standing.find(subject);
  if (before == nullptr) make_room(standing, subject.kind, changes); // else the newer word counts
  if (before != nullptr && before->wholly != block.wholly) remove(subject, Ending::Superseded, changes); // another set
  if (!block.limit) {
    watch(block, now);
    if (block.wholly && !block.dry_run) wholly_.insert(subject);
    if (subject.kind == SubjectKind::Host && enforced(block)) supersede(change, changes);
    if (subject.kind == SubjectKind::Prefix && enforced(block)) {
      auto& passing = let_through_[subject.prefix];
      change.taken_back = std::move(passing);
      keep_passing(subject.prefix, change.taken_back);
      change.let_through = passing = pass_through(subject.prefix);
    }
  }
  standing.put(std::move(block));
  changes.push_back(std::move(change));
}

// A host's block takes the place of everything less.
void BlockList::supersede(BlockChange& host, Changes& changes) {
  const Subject& subject = host.block.subject;
  remove_endpoints(subject, Ending::Superseded, changes);
  if (limits_.find(subject) != nullptr) remove_limit(subject, Ending::Superseded, changes);
  for (auto length = subject.prefix.length;
       !let_through_.empty() && --length > 0;) { // of whatever prefixes are blocked around it
    const auto passing = let_through_.find(Prefix::of(subject.prefix.base, length));
    if (passing != let_through_.end() && std::erase(passing->second, subject.prefix) > 0)
      host.taken_back = {subject.prefix};
  }
}

// Takes out of `hosts` those that another blocked prefix has to let through: of two that overlap one may end first.
void BlockList::keep_passing(const Prefix& prefix, std::vector<Prefix>& hosts) const {
  if (hosts.empty()) return;
  for (const auto& [other, passing] : let_through_)
    if (other != prefix && other.overlaps(prefix))
      std::erase_if(hosts, [&passing](const Prefix& host) { return std::ranges::binary_search(passing, host); });
}

// A full list gives up the block of the same kind that would have ended soonest.
void BlockList::make_room(const Standing& standing, SubjectKind kind, Changes& changes) {
  if (standing.count(kind) < (kind == SubjectKind::Prefix ? kMaxPrefixBlocks : options_.max_hosts)) return;
  ++displaced_;
  const Subject soonest = standing.soonest(kind)->second;
  if (&standing == &limits_)
    remove_limit(soonest, Ending::Displaced, changes);
  else
    remove(soonest, Ending::Displaced, changes);
}

void BlockList::remove(Subject subject, Ending ending, Changes& changes) {
  BlockChange change{BlockChange::Kind::Removed, blocks_.take(subject), ending};
  watches_.erase(subject);
  wholly_.erase(subject);
  if (subject.kind == SubjectKind::Prefix)
    if (auto passing = let_through_.extract(subject.prefix)) {
      change.taken_back = std::move(passing.mapped());
      keep_passing(subject.prefix, change.taken_back);
    }
  switch (ending) {
  case Ending::Unblocked:
  case Ending::Flushed:
  case Ending::NeverBlocked: ladder_.forget(subject); break; // he is forgiven
  case Ending::DryRun:
  case Ending::Lifted: break; // as if it had not been
  default: remember(change.block);
  }
  changes.push_back(std::move(change));
}

// Whoever comes back will be known; for how long counts from when his block was to end, even if it ended before.
void BlockList::remember(const Block& block) {
  if (climbs(block) && highest_step(block) > 1) ladder_.remember({block.subject, block.step, block.until});
}

void BlockList::remove_limit(Subject host, Ending ending, Changes& changes) {
  changes.push_back({BlockChange::Kind::Removed, limits_.take(host), ending});
}

void BlockList::remove_endpoints(const Subject& host, Ending ending, Changes& changes) {
  const Subject first{SubjectKind::Endpoint, Prefix::host(host.prefix.base), 0};
  for (auto at = blocks_.lower_bound(first); at != blocks_.end() && host.prefix.holds(at->first.prefix);
       at = blocks_.lower_bound(first))
    remove(at->first, ending, changes);
}

} // namespace sipward::policy
