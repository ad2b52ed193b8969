// SPDX-License-Identifier: GPL-2.0-or-later
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>

#include "daemon/control.h"

// What outlasts the process: blocks, how far offenders have climbed, who is trusted, and since when we learn.
namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
using policy::BlockChange;

constexpr auto kTrustEvery = 10s;          // the trusted are looked through
constexpr auto kUsersEvery = 60s;          // and known users
constexpr std::uint32_t kTrustStepS = 60;  // and written, if their trust was renewed by so much
constexpr auto kRetainEvery = 1h;          // what is old is forgotten
constexpr auto kLastWrites = 2s;           // a stop waits so long for the disk
constexpr auto kClockTold = 1s;            // the log tells of a clock that was set by so much
constexpr std::size_t kLinesMost = 20'000; // that wait for the kernel; history has all of them

// The trust book's own octets in a record: the sketch of registered users, and the answers of an hour.
Sketch sketch_of(const policy::Trustee& trustee) {
  std::array<std::uint8_t, 36> octets{};
  for (std::size_t i = 0; i < trustee.users.size(); ++i) {
    const std::uint64_t word = trustee.users[i].load(std::memory_order_relaxed);
    std::memcpy(octets.data() + 8 * i, &word, sizeof word);
  }
  const std::uint32_t answered = trustee.answered_per_hour();
  std::memcpy(octets.data() + 32, &answered, sizeof answered);
  return Sketch(octets);
}

void read_sketch(const Sketch& sketch, policy::Trustee& trustee, std::uint32_t now_s) {
  if (sketch.size != 36) return; // another version's
  for (std::size_t i = 0; i < trustee.users.size(); ++i) {
    std::uint64_t word;
    std::memcpy(&word, sketch.octets.data() + 8 * i, sizeof word);
    trustee.users[i].store(word, std::memory_order_relaxed);
  }
  std::uint32_t answered;
  std::memcpy(&answered, sketch.octets.data() + 32, sizeof answered);
  trustee.resume_answers(answered, now_s);
}

} // namespace

std::unique_ptr<State> Control::open_state_file() {
  auto opened = State::open(settings_.state.path);
  if (opened) return std::move(*opened);
  spdlog::error("{}; going on without: blocks and trust will not outlast this run", opened.error());
  return State::without(opened.error());
}

void Control::open_state(std::unique_ptr<State> state, StateContents contents) {
  state_ = std::move(state);
  remember_alerts();
  const auto wall = clock_.at(monotonic_now());
  saved_at_ = contents.saved_at;
  believes_clock_ = !saved_at_ || wall >= *saved_at_; // else it was set back, or is not set yet
  secret_ = contents.secret;
  restore_exemptions(contents); // before the blocks: whom they spare
  restore_trust(contents);      // first: the trusted pass the prefixes that come back
  restore_users(contents.users);
  restore_blocks(contents);
  restore_off(contents.off); // after the blocks: they stand again once it is over
  learning_ = contents.learning;
  learns_since_now_ = !learning_.started;
  const bool first_start = !learning_.started && contents.trust.empty() && contents.blocks.empty();
  if (!learning_.started) learning_.started = first_start ? wall : wall - settings_.trust.learning;
  state_->write({learning_}, wall);
  if (learning())
    log_->alert("learning until=" + rfc3339(learning_end()) + " only_hard_marks_block=yes", monotonic_now(), clock_);
  was_learning_ = learning();
  dataplane_->publish(make_rules()); // with the blocked prefixes
}

// With the time that is left, but never more than they had; and for no longer than the first step, if the clock that
// tells what is left is not to be believed.
void Control::restore_blocks(StateContents& contents) {
  const auto now = monotonic_now();
  std::vector<policy::Block*> blocks;
  blocks.reserve(contents.blocks.size());
  for (auto& record : contents.blocks) { // there may be very many: they are not copied
    auto& block = record.block;
    block.since = std::min(clock_.when(record.since), now);
    block.until = std::min(clock_.when(record.until), now + (record.until - record.since));
    blocks.push_back(&block);
    if (believes_clock_ || block.reason == policy::Reason::Manual) continue;
    block.step = 1;
    block.until = std::min(block.until, now + settings_.block.ladder.front());
  }
  std::vector<policy::Climb> climbs;
  for (const auto& record : contents.ladder) climbs.push_back({record.subject, record.step, clock_.when(record.last)});
  blocks_.resume(std::move(blocks), std::move(climbs), now);
  if (blocks_.size() + blocks_.limits().size() > 0)
    log_->alert("restored blocks=" + std::to_string(blocks_.size()) +
                    " limits=" + std::to_string(blocks_.limits().size()),
                now, clock_);
}

void Control::restore_trust(const StateContents& contents) {
  const policy::Now now(monotonic_now());
  for (const auto& record : contents.trust) {
    if (!take_trust(record, now)) continue;
    const auto key = policy::source_key(record.source.base, settings_.sources.ipv6_prefix);
    const auto* trustee = dataplane_->ledger().trust.find(key, now.s);
    if (trustee != nullptr) trust_written_[key] = trustee->until_s.load(std::memory_order_relaxed);
  }
}

// With the time that is left; of two records of one source the later success counts.
bool Control::take_trust(const TrustRecord& record, const policy::Now& now) {
  const auto age = std::chrono::floor<std::chrono::seconds>(clock_.at(now.time) - record.last_success);
  const auto left = settings_.trust.remember - std::max<std::chrono::seconds>(age, 0s);
  if (left <= 0s) return false;
  const auto until = now.s + static_cast<std::uint32_t>(left.count());
  auto& trust = dataplane_->ledger().trust;
  const auto key = policy::source_key(record.source.base, settings_.sources.ipv6_prefix);
  const policy::Trustee* known = trust.find(key, now.s);
  if (known != nullptr && known->until_s.load(std::memory_order_relaxed) >= until) return false;
  policy::Trustee* trustee = trust.find_or_insert(key, now.s);
  read_sketch(record.sketch, *trustee, now.s);
  trustee->until_s.store(until, std::memory_order_relaxed);
  return true;
}

bool Control::learning() const {
  if (!state_) return true; // whether we learn stands there: until it is read, nobody is blocked by mistake
  return !learning_.armed && clock_.at(monotonic_now()) < learning_end();
}
WallTime Control::learning_end() const { return learning_.started.value_or(WallTime{}) + settings_.trust.learning; }

// The wall clock was set. What lasts is timed by another one, but on file it has the wall clock's dates: all of them
// are written anew, or the next start would find an hour too much left, or too little. While we learn for the first
// time, we have learnt for as long as before.
void Control::date_anew(std::chrono::nanoseconds step) {
  if (!state_) return;
  const auto now = monotonic_now();
  believes_clock_ |= clock_.at(now) >= saved_at_.value_or(WallTime{});
  if (learns_since_now_) *learning_.started += step;
  if (off_.off) {
    off_.since += step;
    if (off_.until) *off_.until += step;
    state_->write({off_}, clock_.at(now));
  }
  write_all();
  next_trust_ = next_users_ = now;
  if (std::chrono::abs(step) < kClockTold) return;
  const auto told = std::chrono::round<std::chrono::seconds>(std::chrono::abs(step));
  log_->alert((step.count() < 0 ? "clock_set by=-" : "clock_set by=+") + human_duration(told), now, clock_);
}

void Control::arm() {
  learning_.armed = true;
  state_->write({learning_}, clock_.at(monotonic_now()));
  dataplane_->publish(make_rules());
}

// Learning may have ended; the trusted are written, those whose trust is new.
void Control::tend_state() {
  const auto now = monotonic_now();
  if (const bool learns = learning(); learns != was_learning_) {
    was_learning_ = learns;
    if (!learns) log_->alert("armed", now, clock_);
    dataplane_->publish(make_rules());
  }
  state_->clear_event();
  for (const auto& news : state_->take_news()) spdlog::warn("{}", news);
  if (const auto trouble = state_->trouble(); trouble != state_trouble_) {
    state_trouble_ = trouble;
    log_->alert(trouble.empty() ? "state_written_again" : "state_not_written why=" + in_quotes(trouble), now, clock_);
  }
  if (state_->wants_all()) write_all();
  write_lines();
  if (believes_clock_ && now >= next_retention_) {
    next_retention_ = now + kRetainEvery;
    const auto wall = clock_.at(now);
    state_->write({Retention{.now = wall, .trust = settings_.trust.remember}}, wall, State::Urgency::Later);
  }
  if (now >= next_trust_) {
    next_trust_ = now + kTrustEvery;
    write_trust();
  }
  if (now >= next_users_) {
    next_users_ = now + kUsersEvery;
    write_users();
  }
}

void Control::write_trust() {
  const policy::Now now(monotonic_now());
  const auto wall = clock_.at(now.time);
  StateChanges changes;
  const auto& trust = dataplane_->ledger().trust;
  answered_per_hour_ = 0;
  trust.each(0, trust.lines(), now.s, [&](const policy::Trustee& trustee) {
    const auto key = trustee.key.load(std::memory_order_relaxed);
    const auto until = trustee.until_s.load(std::memory_order_relaxed);
    if (until > now.s) answered_per_hour_ += trustee.answered_per_hour();
    if (trustee.provisional(now.s) && !trust_written_.contains(key)) return; // our server has not said so yet
    auto& written = trust_written_[key];
    if (until <= now.s || (written != 0 && until < written + kTrustStepS)) return;
    written = until;
    changes.emplace_back(
        TrustRecord{.source = policy::source_prefix(key, settings_.sources.ipv6_prefix),
                    .last_success = wall - std::max(settings_.trust.remember - std::chrono::seconds(until - now.s), 0s),
                    .users = trustee.registered(),
                    .answered_per_s = trustee.answered_per_hour() / 3600.0,
                    .sketch = sketch_of(trustee)});
  });
  std::erase_if(trust_written_, [&](const auto& entry) {
    if (!trust.forgotten(entry.first, now.s)) return entry.second <= now.s;
    changes.emplace_back(Gone<TrustRecord>{policy::source_prefix(entry.first, settings_.sources.ipv6_prefix)});
    return true;
  });
  if (!changes.empty()) state_->write(std::move(changes), wall, State::Urgency::Later);
}

// The file lacks things: everything that should be on it.
void Control::write_all() {
  StateChanges changes{AllGone<BlockRecord>{}, AllGone<LadderRecord>{}, learning_};
  for (const auto& [subject, block] : blocks_) changes.emplace_back(to_record(block, clock_));
  for (const auto& [subject, block] : blocks_.limits()) changes.emplace_back(to_record(block, clock_));
  for (const auto& climb : blocks_.snapshot().climbs)
    changes.emplace_back(LadderRecord{climb.subject, climb.step, clock_.at(climb.ended)});
  state_->write(std::move(changes), clock_.at(monotonic_now()));
  for (const auto& [prefix, until] : immune_) write_exemption(ExemptionKind::Immune, prefix, until);
  for (const auto& [prefix, until] : allowed_) write_exemption(ExemptionKind::Allowed, prefix, until);
  trust_written_.clear(); // next time all of them
  users_written_.clear();
}

// A decision goes to the disk, and to the log once it is there, and the kernel has taken it.
void Control::record(const policy::BlockList::Changes& changes, policy::Time now, bool enforced) {
  StateChanges rows;
  const auto is_flushed = [](const BlockChange& change) { return change.ending == policy::Ending::Flushed; };
  if (std::ranges::any_of(changes, is_flushed)) rows.emplace_back(AllGone<LadderRecord>{}); // all are forgiven
  for (const auto& change : changes) {
    const bool removed = change.kind == BlockChange::Kind::Removed;
    if (removed && change.ending == policy::Ending::Stopped) continue; // the next run goes on with it
    append(rows, change, now, clock_);
    if (!removed || change.block.limit) continue;
    if (const auto climb = blocks_.climb_of(change.block.subject))
      rows.emplace_back(LadderRecord{climb->subject, climb->step, clock_.at(climb->ended)});
    else
      rows.emplace_back(Gone<LadderRecord>{change.block.subject});
  }
  const auto batch = rows.empty() ? state_->settled() : state_->write(std::move(rows), clock_.at(now));
  for (const auto& change : changes) {
    if (change.kind == BlockChange::Kind::Extended) continue;
    if (enforced || lines_.size() < kLinesMost)
      lines_.push_back({batch, change, change.kind == BlockChange::Kind::Added ? change.block.since : now, !enforced});
    else
      ++lines_left_out_;
  }
  write_lines();
}

// In their order: what waits for the kernel keeps back what comes after it.
void Control::write_lines() {
  const auto settled = state_->settled();
  for (; !lines_.empty() && lines_.front().batch <= settled; lines_.pop_front()) {
    if (lines_.front().waits && !in_sync_) return;
    log_->write(lines_.front().change, lines_.front().at, clock_);
  }
}

// The kernel takes things again. Who was blocked and lifted while it did not never was blocked: the log tells neither.
void Control::drop_lines_in_vain() {
  std::map<BlockKey, std::vector<std::size_t>> begun;
  std::vector<bool> in_vain(lines_.size());
  for (std::size_t i = 0; i < lines_.size(); ++i) {
    const auto& [batch, change, at, waits] = lines_[i];
    const auto key = key_of(change.block);
    auto lines = begun.find(key);
    if (lines == begun.end() && waits && change.kind == BlockChange::Kind::Added) lines = begun.try_emplace(key).first;
    if (lines == begun.end()) continue;
    lines->second.push_back(i);
    if (change.kind != BlockChange::Kind::Removed) continue;
    for (const auto line : lines->second) in_vain[line] = true;
    begun.erase(lines);
  }
  std::size_t at = 0;
  std::erase_if(lines_, [&](const Line&) { return in_vain[at++]; });
}

void Control::close_state() {
  write_trust();
  write_users();
  state_->flush(kLastWrites);
  for (; !lines_.empty(); lines_.pop_front())
    if (!lines_.front().waits || in_sync_) log_->write(lines_.front().change, lines_.front().at, clock_);
}

} // namespace sipward::daemon
