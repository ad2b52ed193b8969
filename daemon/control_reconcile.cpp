// SPDX-License-Identifier: GPL-2.0-or-later
#include <net/if.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>

#include "daemon/control.h"
#include "daemon/kernel_block.h"
#include "daemon/nft_watch.h"
#include "daemon/repair_pace.h"

// Keeping the kernel's table as it is meant to be. Others flush rulesets, delete sets, add elements: the kernel tells
// (nft_watch.h), and what they did is undone. What it may not have told is found by looking: at once when it says that
// it has lost something, and every half minute besides.
namespace sipward::daemon {

using namespace std::chrono_literals;
using policy::Block;
using policy::BlockChange;

namespace {

constexpr auto kLookEvery = 30s;
constexpr auto kHooksEvery = 100ms;
constexpr auto kWatchAgain = 1s;   // at most, a watch that hears no more is replaced
constexpr auto kPartEvery = 10ms;  // of a survey: between two, blocks go in
constexpr auto kTellEvery = 5s;    // while others keep on
constexpr auto kStale = 5s;        // an element's timeout may differ by so much
constexpr int kPartBlocks = 2048;  // compared between two rounds of the loop
constexpr int kHurriedPasses = 16; // one after the other without a pause
constexpr int kPartReads = 64;     // of those that seem to be missing, looked at again

// An element as a key of what was seen.
using Seen = std::set<std::pair<policy::Subject, nft::Effect>>;

} // namespace

struct TableWatch {
  nft::Watch watch;
  RepairPace pace{};
  nft::Disturbance found{}; // not repaired yet
  nft::Frame frame{};       // as it was after our own last change ...
  std::uint64_t frames = 0; // ... which was this one
  bool knows_frame = false;
  std::uint64_t repairs = 0, told = 0; // since the start; and as told in the log
  std::string told_what{}, told_by{};
  policy::Time next_alert{}, next_look{}, next_part{}, next_hooks{}, next_watch{};
  std::vector<std::pair<std::string, unsigned>> hooks{}; // the interfaces that chains hear, by their numbers

  // The pass under way. First the kernel's elements are looked through, then the list's blocks.
  std::optional<nft::Survey> survey{};
  bool comparing = false, hurried = false;
  std::uint64_t wrong = 0;        // found by it ...
  std::uint64_t wrong_before = 0; // ... and by those right before it
  int passes = 0;
  Seen seen{};
  std::optional<policy::Subject> at{};
  bool at_limits = false;

  bool looks() const noexcept { return survey.has_value() || comparing; }
  void end_look(policy::Time now) {
    survey.reset();
    comparing = hurried = false;
    seen.clear();
    next_look = now + kLookEvery;
  }
};

void DeleteTableWatch::operator()(TableWatch* tables) const noexcept { delete tables; }

std::expected<void, std::string> Control::watch_tables() {
  auto watch = nft::Watch::open(nft_->port());
  if (!watch) return std::unexpected(watch.error().message);
  tables_.reset(new TableWatch{.watch = std::move(*watch)});
  tables_->next_look = monotonic_now() + kLookEvery;
  hear_tables();
  tables_->hooks = hooks();
  learn_frame();
  return {};
}

void Control::hear_tables() {
  epoll_event event{EPOLLIN, {.fd = tables_->watch.event()}};
  epoll_ctl(epoll_, EPOLL_CTL_ADD, tables_->watch.event(), &event);
}

// A watch that hears no more is replaced, as often as it takes. What it has missed is found by looking.
void Control::hear_again(policy::Time now) {
  auto& tables = *tables_;
  if (!tables.watch.is_deaf(nft_->port()) || now < tables.next_watch) return;
  tables.next_watch = now + kWatchAgain;
  epoll_ctl(epoll_, EPOLL_CTL_DEL, tables.watch.event(), nullptr);
  auto watch = nft::Watch::open(nft_->port());
  if (!watch)
    return spdlog::error("{}; changes of nftables by others are found by looking only", watch.error().message);
  spdlog::warn("nftables: the socket that follows changes heard no more; another one takes its place");
  tables.watch = std::move(*watch);
  hear_tables();
  tables.found.lost = true;
}

// When the loop has to come round for it.
policy::Time Control::next_reconciliation(policy::Time latest) const {
  if (!in_sync_) return std::min(latest, retry_at_);
  if (tables_->found.any()) latest = std::min(latest, tables_->pace.due());
  if (tables_->looks()) latest = std::min(latest, tables_->next_part);
  return latest;
}

void Control::reconcile() {
  auto& tables = *tables_;
  const auto now = monotonic_now();
  tables.found.merge(tables.watch.take(nft_->layout()));
  hear_again(now);
  follow_hooks(now);
  if (!in_sync_) return; // enforce() tries to make it anew
  if (tables.found.any() && tables.pace.is_due(now)) repair(now);
  if (nft_->frames() != tables.frames) learn_frame();
  if (now >= tables.next_look && !tables.looks()) look_closer(now);
  if (tables.looks() && now >= tables.next_part) {
    tables.next_part = tables.hurried ? now : now + kPartEvery;
    tables.comparing ? compare_part(now) : survey_part(now);
  }
  if (tables.told != tables.repairs && now >= tables.next_alert) tell_repair(now);
}

// What the frame is after a change of our own: whatever it is later, without one, is somebody else's doing.
void Control::learn_frame() {
  auto frame = nft::Frame::read();
  tables_->knows_frame = frame.has_value();
  if (!frame) return; // others are at work; the next look sees to it
  tables_->frame = std::move(*frame);
  tables_->frames = nft_->frames();
}

std::vector<std::pair<std::string, unsigned>> Control::hooks() const {
  std::vector<std::pair<std::string, unsigned>> found;
  auto ports = settings_.ports.outside;
  if (inline_mode()) ports.push_back(settings_.ports.inside);
  for (const auto& port : ports)
    if (dataplane::is_interface(port)) found.emplace_back(port, if_nametoindex(port.c_str()));
  return found;
}

// An interface that was deleted takes its hook with it (before Linux 6.16 perhaps the whole chain), and one that is
// made anew under its name is another one: only new kernels hook it by themselves.
void Control::follow_hooks(policy::Time now) {
  if (now < tables_->next_hooks) return;
  tables_->next_hooks = now + kHooksEvery;
  auto current = hooks();
  if (current == tables_->hooks) return;
  tables_->hooks = std::move(current);
  spdlog::info("an interface went or came: the chains are made anew");
  resynchronise();
}

// --- repairs

void Control::repair(policy::Time now) {
  auto& tables = *tables_;
  if (tables.found.lost) { // anything may have happened: look, the frame now and the elements without a pause
    if (const auto frame = nft::Frame::read(); !frame || !tables.knows_frame || *frame != tables.frame) {
      tables.found.frame = true;
      if (frame) tables.found.what.merge(frame->against(tables.frame));
    }
  }
  const bool lost = tables.found.lost && !tables.found.frame;
  const auto found = std::exchange(tables.found, {});
  const bool mended = found.frame ? resynchronise() : repair_elements(found);
  if (lost) {
    tables.end_look(now);
    look_closer(now);
    tables.hurried = true;
  }
  if (mended && (found.frame || !found.deleted.empty() || !found.added.empty())) note_repair(found, now);
}

void Control::note_repair(const nft::Disturbance& found, policy::Time now) {
  auto& tables = *tables_;
  tables.pace.note(now);
  ++tables.repairs;
  tables.told_what = found.text();
  tables.told_by = found.by;
}

// The block that this element should be, or of a spared port its limit; nullptr: it should not be there.
const Block* Control::meant(const nft::Element& element) const {
  if (is_off()) return nullptr;
  if (element.effect == nft::Effect::Spare) {
    const Block* limit = blocks_.limit_of(element.subject.prefix.base);
    const auto ports = limit == nullptr ? spared_.end() : spared_.find(limit->subject);
    if (ports == spared_.end()) return nullptr;
    return std::ranges::binary_search(ports->second, element.subject.port) ? limit : nullptr;
  }
  const bool limits = element.effect == nft::Effect::Limit;
  const Block* block = limits ? blocks_.limit_of(element.subject.prefix.base) : blocks_.find(element.subject);
  if (block == nullptr || block->subject != element.subject) return nullptr;
  return is_in_kernel(*block) && effect_of(*block) == element.effect ? block : nullptr;
}

// Puts back what was deleted, with what it had counted; what was added goes, or is made again as it should be.
bool Control::repair_elements(const nft::Disturbance& found) {
  policy::BlockList::Changes wrong;
  std::vector<nft::Change> foreign;
  for (const auto& element : found.deleted) {
    const Block* block = meant(element);
    if (block == nullptr) continue;
    if (effect_of(*block) == element.effect) // a spared port counts what passed
      blocks_.carry_over(block->subject, block->limit.has_value(), element.packets);
    wrong.push_back({BlockChange::Kind::Added, *block});
  }
  for (const auto& element : found.added) {
    if (const Block* block = meant(element)) // with another timeout, or limit
      wrong.push_back({BlockChange::Kind::Added, *block});
    else
      foreign.push_back({nft::Change::Kind::Delete, element.subject, 0s, element.effect});
  }
  for (const auto& change : wrong) { // what stands begins to count anew
    const auto& block = change.block;
    if (const auto there = nft_->read(block.subject, effect_of(block)); there && *there)
      blocks_.carry_over(block.subject, block.limit.has_value(), (*there)->packets);
  }
  if (const auto gone = nft_->commit(foreign); !gone) {
    spdlog::warn("nftables refused to give up {} foreign elements ({}); making the table anew", foreign.size(),
                 gone.error().message);
    return resynchronise();
  }
  return wrong.empty() || apply(wrong);
}

// Once for a burst, and seldom while others keep on.
void Control::tell_repair(policy::Time now) {
  auto& tables = *tables_;
  std::string text = "nft_repaired what=" + in_quotes(tables.told_what);
  if (!tables.told_by.empty()) text += " by=" + in_quotes(tables.told_by);
  if (const auto times = tables.repairs - tables.told; times > 1) text += " times=" + std::to_string(times);
  log_->alert(text, now, clock_);
  tables.told = tables.repairs;
  tables.next_alert = now + kTellEvery;
}

// --- looking

// Begins a pass: the frame at once, the elements part by part.
void Control::look_closer(policy::Time now) {
  auto& tables = *tables_;
  tables.end_look(now);
  if (!tables.knows_frame) return learn_frame();
  const auto frame = nft::Frame::read();
  if (frame && *frame != tables.frame) {
    tables.found.frame = true;
    tables.found.what.merge(frame->against(tables.frame));
    return;
  }
  if (is_off()) return;
  tables.survey.emplace(nft_->sets());
}

void Control::survey_part(policy::Time now) {
  auto& tables = *tables_;
  std::vector<nft::Element> odd;
  const auto more = tables.survey->next([&](const nft::Element& element) {
    const Block* block = meant(element);
    if (block == nullptr) return odd.push_back(element);
    tables.seen.emplace(element.subject, element.effect);
    const auto left = block->until + kKernelGrace - now;
    const bool stale = std::chrono::abs(left - element.remaining) > kStale + 1s; // it was rounded up
    if (stale || (block->limit && element.limit != kernel_limit(*block->limit))) odd.push_back(element);
  });
  if (!more) return end_look(now); // a set is gone: its notification is on the way, or the next look tells
  nft::Disturbance wrong;
  for (const auto& element : odd) { // may have been on its way out, or in
    const auto still = nft_->read(element.subject, element.effect);
    if (still && *still) wrong.added.push_back(element);
  }
  mend(wrong);
  if (*more) return;
  tables.survey.reset();
  tables.comparing = true;
  tables.at.reset();
  tables.at_limits = false;
}

// What looking has found is mended on the spot: a pass is slow enough.
void Control::mend(const nft::Disturbance& wrong) {
  if (!wrong.any()) return;
  tables_->wrong += wrong.added.size() + wrong.deleted.size();
  repair_elements(wrong);
}

void Control::end_look(policy::Time now) {
  auto& tables = *tables_;
  tables.end_look(now);
  // What is taken out while a set is read moves the rest past the reader: so the pass that counts finds nothing wrong.
  if (const auto wrong = std::exchange(tables.wrong, 0); wrong > 0) {
    tables.wrong_before += wrong;
    look_closer(now);
    tables.hurried = ++tables.passes < kHurriedPasses;
    return;
  }
  tables.passes = 0;
  if (const auto all = std::exchange(tables.wrong_before, 0); all > 0) {
    nft::Disturbance found;
    found.what.insert(std::to_string(all) + " elements");
    note_repair(found, now);
  }
}

// The other way round: is everyone in the list that should be in the kernel?
void Control::compare_part(policy::Time now) {
  auto& tables = *tables_;
  int blocks = kPartBlocks, reads = kPartReads;
  nft::Disturbance wrong;
  const auto compare = [&](auto from, auto end) {
    for (; from != end && blocks > 0 && reads > 0; ++from, --blocks) {
      const auto& [subject, block] = *from;
      tables.at = subject;
      if (!is_in_kernel(block) || tables.seen.contains({subject, effect_of(block)})) continue;
      --reads;
      const auto there = nft_->read(subject, effect_of(block));
      if (there && !*there) wrong.deleted.push_back({.subject = subject, .effect = effect_of(block)});
    }
    if (from != end) tables.at = from->first; // to go on with
    return from == end;
  };
  const auto first = tables.at.value_or(policy::Subject{});
  const bool done = tables.at_limits ? compare(blocks_.limits().lower_bound(first), blocks_.limits().end())
                                     : compare(blocks_.from(first), blocks_.end());
  mend(wrong);
  if (done && tables.at_limits) return end_look(now);
  if (done) {
    tables.at_limits = true;
    tables.at.reset();
  }
}

std::uint64_t Control::repairs() const noexcept { return tables_->repairs; }
bool Control::kernel_in_sync() {
  const auto there = nft_->installed();
  return in_sync_ && !tables_->found.any() && (there && *there) != is_off();
}

} // namespace sipward::daemon
