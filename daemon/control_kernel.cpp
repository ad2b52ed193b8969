// SPDX-License-Identifier: GPL-2.0-or-later
#include <net/if.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "daemon/control.h"
#include "daemon/kernel_block.h"

// What the kernel and the workers are told of the block list's changes.
namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
using policy::BlockChange;

constexpr auto kRetry = 1s;
constexpr auto kCounting = 200ms; // at most, of the time that making the table anew takes: some 20,000 counters

nft::Change kernel_block(const policy::Block& block, nft::Change::Kind kind, policy::Time now) {
  nft::Change change{kind, block.subject, kind == nft::Change::Kind::Add ? kernel_timeout(block, now) : 0s,
                     effect_of(block)};
  if (block.limit) change.limit = kernel_limit(*block.limit);
  return change;
}

nft::Change allowed(const policy::Prefix& prefix, nft::Change::Kind kind) {
  const auto subject = prefix.is_host() ? policy::SubjectKind::Host : policy::SubjectKind::Prefix;
  return {kind, {subject, prefix, 0}, 0s, nft::Effect::Allow};
}

} // namespace

// Whoever still sends as his block ends is blocked on: the list asks for those whose turn it is.
void Control::tell_counts() {
  const auto now = monotonic_now();
  for (const auto& subject : blocks_.count_due(now))
    if (const auto* block = blocks_.find(subject))
      if (const auto packets = dropped(*block)) blocks_.note_dropped(subject, *packets, now);
}

// What ends takes its kernel counter with it: the log's closing line says what it dropped. What goes on begins to count
// anew.
void Control::read_counters(policy::BlockList::Changes& changes) {
  for (auto& change : changes) {
    auto& block = change.block;
    if (change.kind == BlockChange::Kind::Added || !is_in_kernel(block)) continue;
    const auto packets = dropped(block);
    if (!packets) continue;
    if (change.kind == BlockChange::Kind::Removed) block.packets_dropped += *packets;
    if (change.kind == BlockChange::Kind::Extended)
      blocks_.carry_over(block.subject, block.limit.has_value(), *packets);
  }
}

// What the kernel and the NICs have dropped since it was added or renewed; nothing, if it does not stand.
std::optional<std::uint64_t> Control::dropped(const policy::Block& block) {
  const auto element = nft_->read(block.subject, effect_of(block));
  if (!element || !*element) return std::nullopt;
  const bool by_nics = block.subject.kind == policy::SubjectKind::Host && !block.limit;
  return (*element)->packets + (by_nics ? dataplane_->dropped_early(block.subject.prefix) : 0);
}

// True if the kernel now holds what the block list says.
bool Control::apply(const policy::BlockList::Changes& changes) {
  if (is_off()) return true; // nothing is what it is to hold
  if (!in_sync_) return false;
  const auto now = monotonic_now();
  std::vector<nft::Change> kernel;
  for (const auto& change : changes) {
    if (!is_in_kernel(change.block)) continue;
    for (const auto& prefix : change.taken_back) kernel.push_back(allowed(prefix, nft::Change::Kind::Delete));
    for (const auto& prefix : change.let_through) kernel.push_back(allowed(prefix, nft::Change::Kind::Add));
    const bool gone = change.kind == BlockChange::Kind::Removed;
    kernel.push_back(kernel_block(change.block, gone ? nft::Change::Kind::Delete : nft::Change::Kind::Add, now));
    if (change.block.limit)
      std::ranges::move(
          spare_ports(change.block, !gone, kernel_limit(*change.block.limit), kernel_timeout(change.block, now)),
          std::back_inserter(kernel));
  }
  if (kernel.empty()) return true;
  const auto committed = nft_->commit(kernel);
  if (committed) return true;
  spdlog::warn("nftables refused a batch of {} ({}); making the table anew", kernel.size(), committed.error().message);
  return resynchronise(changes);
}

// What the kernel has counted for those who stand, for when its table is made anew; not of those whose counters were
// read already.
std::vector<Control::Counted> Control::read_standing(std::span<const BlockChange> already) {
  std::vector<Counted> found;
  if (const auto there = nft_->installed(); !there || !*there) return found;
  std::set<BlockKey> known;
  for (const auto& change : already) known.insert(key_of(change.block));
  const auto end = monotonic_now() + kCounting;
  const auto take = [&](const policy::Block& block) {
    if (!is_in_kernel(block) || known.contains(key_of(block)) || monotonic_now() > end) return;
    const auto element = nft_->read(block.subject, effect_of(block));
    if (element && *element && (*element)->packets > 0) found.push_back({key_of(block), (*element)->packets});
  };
  for (const auto& [subject, block] : blocks_) take(block);
  for (const auto& [subject, block] : blocks_.limits()) take(block);
  return found;
}

// Makes the kernel's table from the block list. On failure it is tried again after kRetry. `counted`: changes whose
// counters were read.
bool Control::resynchronise(std::span<const BlockChange> counted) {
  if (is_off()) return lift_rules();
  const auto now = monotonic_now();
  const auto standing = read_standing(counted);
  std::vector<nft::Change> elements;
  for (const auto& prefix : blocks_.let_through()) elements.push_back(allowed(prefix, nft::Change::Kind::Add));
  const auto add = [&](const policy::Block& block) {
    if (!is_in_kernel(block)) return;
    elements.push_back(kernel_block(block, nft::Change::Kind::Add, now));
    if (block.limit)
      std::ranges::move(spare_ports(block, true, kernel_limit(*block.limit), kernel_timeout(block, now)),
                        std::back_inserter(elements));
  };
  for (const auto& [subject, block] : blocks_) add(block);
  for (const auto& [subject, block] : blocks_.limits()) add(block);
  const auto installed = nft_->install(layout(), let_through(), elements);
  if (installed) {
    for (const auto& [key, packets] : standing) blocks_.carry_over(key.subject, key.limit, packets);
    for (const auto& [subject, block] : blocks_) mark_source(block, true);
    for (const auto& [subject, block] : blocks_.limits()) mark_source(block, true);
  }
  return note_sync(installed);
}

// Whether the kernel has what it should is told when that changes. While it has not, it is tried again after kRetry.
bool Control::note_sync(const std::expected<void, nft::Error>& done) {
  const auto now = monotonic_now();
  if (!done) {
    spdlog::error("{}", done.error().message);
    if (in_sync_) {
      out_of_sync_since_ = now;
      log_->alert("nft_out_of_sync what=" + in_quotes(done.error().message), now, clock_);
    }
    retry_at_ = now + kRetry;
  } else if (out_of_sync_since_) {
    std::string text = "nft_in_sync_again after=" + human_duration(now - *out_of_sync_since_);
    if (lines_left_out_ > 0) text += " lines_left_out=" + std::to_string(std::exchange(lines_left_out_, 0));
    log_->alert(text, now, clock_);
    out_of_sync_since_.reset();
    drop_lines_in_vain();
  }
  in_sync_ = done.has_value();
  return in_sync_;
}

// Tells the workers who stands in the kernel's sets (prefixes are in the rules), and the NICs that can drop, which
// hosts. The workers may find no room for it, in a bucket full of blocked sources; the kernel's set holds all the same.
void Control::mark_source(const policy::Block& block, bool stands) {
  if (!is_in_kernel(block)) return;
  stands &= !is_off();
  policy::enact(dataplane_->ledger(), block, stands, settings_.sources.ipv6_prefix, policy::Now(monotonic_now()));
  if (block.subject.kind != policy::SubjectKind::Host || block.limit) return;
  // An IPv6 host is a network: a NIC would drop the never-blocked in it.
  const bool v6 = block.subject.prefix.base.family == policy::Family::V6;
  if (stands && !(v6 && let_through().overlaps(block.subject.prefix)))
    dataplane_->drop_early(block.subject.prefix, block.evidence.rate_per_s);
  else
    dataplane_->let_in(block.subject.prefix);
}

nft::Layout Control::layout() const {
  nft::Layout layout;
  if (inline_mode()) {
    auto ports = settings_.ports.outside;
    ports.push_back(settings_.ports.inside);
    std::ranges::copy_if(ports, std::back_inserter(layout.taken), [](const auto& port) {
      return dataplane::is_interface(port) && if_nametoindex(port.c_str()) != 0;
    });
    layout.hook = config::Hook::Prerouting; // what comes in at the interfaces is the dataplane's to drop
  } else {
    // One that was deleted meanwhile must not keep the rules from the others.
    std::ranges::copy_if(settings_.ports.outside, std::back_inserter(layout.interfaces), [](const auto& port) {
      return dataplane::is_interface(port) && if_nametoindex(port.c_str()) != 0;
    });
    layout.hook = settings_.nftables.hook;
  }
  layout.scope = settings_.nftables.scope;
  layout.ports = settings_.sip.ports;
  layout.prefix_v4 = settings_.prefix.ipv4;
  layout.prefix_v6 = settings_.prefix.ipv6;
  layout.ceilings = !inline_mode() && !ceilings().empty();
  layout.source_v6 = settings_.sources.ipv6_prefix;
  return layout;
}

} // namespace sipward::daemon
