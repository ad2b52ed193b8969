// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/second_judge.h"

#include <utility>

namespace sipward::dataplane {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

// Of a figure that has one writer.
void add(std::atomic<std::uint64_t>& figure, bool one) noexcept {
  if (one) figure.store(figure.load(kRelaxed) + 1, kRelaxed);
}

} // namespace

std::shared_ptr<SecondJudge> SecondJudge::begin(std::size_t workers, const policy::Ledger& first,
                                                std::uint32_t capacity, policy::Secret secret, policy::Secret users,
                                                std::unique_ptr<const policy::Rules> rules, std::uint32_t now_s) {
  auto memory = table_memory(policy::Ledger::octets(capacity), 0, false); // hugepages were counted out for the first
  if (!memory) return nullptr;
  std::shared_ptr<SecondJudge> judge(
      new SecondJudge(workers, std::move(memory), capacity, secret, users, std::move(rules)));
  judge->ledger_.inherit(first, now_s);
  return judge;
}

SecondJudge::SecondJudge(std::size_t workers, TableMemory memory, std::uint32_t capacity, policy::Secret secret,
                         policy::Secret users, std::unique_ptr<const policy::Rules> rules)
    : memory_(std::move(memory)), ledger_({memory_.get(), policy::Ledger::octets(capacity)}, capacity, secret, users),
      rules_(rules.get()), current_(std::move(rules)) {
  for (std::size_t i = 0; i < workers; ++i) seats_.push_back(std::make_unique<Seat>());
}

void SecondJudge::fetch(std::span<const policy::Case> cases) const noexcept {
  for (const policy::Case& c : cases)
    if (c.way != policy::Way::Aside) ledger_.sources.prefetch(c.place.key);
  for (const policy::Case& c : cases) {
    policy::SourceTable::Place place{c.place.key, c.place.hash, nullptr};
    if (c.way != policy::Way::Aside) ledger_.sources.prefetch_line(place);
  }
}

bool SecondJudge::judge(unsigned id, const policy::Case& c, const policy::Verdict& first,
                        const policy::Now& now) noexcept {
  Seat& seat = *seats_[id];
  policy::Case mine = c;
  mine.place.likely = nullptr;                                          // that line is the first judge's
  const policy::Rules& rules = *rules_.load(std::memory_order_acquire); // pairs with publish()
  const auto verdict = policy::decide(rules, ledger_, seat.names, mine, now, seat.offence);
  add(seat.judged, true);
  add(seat.dropped, verdict.drop);
  add(seat.more, verdict.drop && !first.drop);
  add(seat.less, first.drop && !verdict.drop);
  if (!verdict.offence || seat.offence.notice != policy::Notice::None) return false; // the first has told of users
  const bool sent = seat.offence_ring.push(seat.offence);
  add(sent ? seat.offences : seat.lost, true);
  return sent;
}

std::unique_ptr<const policy::Rules> SecondJudge::publish(std::unique_ptr<const policy::Rules> rules) noexcept {
  rules_.store(rules.get(), std::memory_order_release);
  return std::exchange(current_, std::move(rules));
}

void SecondJudge::drain(const std::function<void(const policy::Offence&)>& take) {
  policy::Offence offence;
  for (const auto& seat : seats_)
    for (std::size_t i = 0; i < kRing && seat->offence_ring.pop(offence); ++i) take(offence);
}

SecondCounters SecondJudge::counters() const noexcept {
  SecondCounters sum;
  for (const auto& seat : seats_) {
    sum.judged += seat->judged.load(kRelaxed);
    sum.dropped += seat->dropped.load(kRelaxed);
    sum.more += seat->more.load(kRelaxed);
    sum.less += seat->less.load(kRelaxed);
    sum.offences += seat->offences.load(kRelaxed);
    sum.lost_offences += seat->lost.load(kRelaxed);
  }
  return sum;
}

} // namespace sipward::dataplane
