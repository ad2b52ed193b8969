// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/model/schedule.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <unordered_set>

#include "tests/model/policy/atomic.h"

namespace sipward::model {
namespace {

constexpr std::size_t kStack = 256 << 10;
constexpr std::size_t kNobody = ~std::size_t{0};
constexpr std::size_t kSteps = 100'000; // of one run: more is a loop without end

std::uint64_t mixed(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t x = (a ^ b * 0x9e3779b97f4a7c15) + 0x632be59bd9b4e019;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

struct Fiber {
  ucontext_t context{};
  std::vector<char> stack = std::vector<char>(kStack);
  std::uint64_t history = 0; // of what it has read
  bool done = false, waits = false;
  bool news = false; // somebody else has changed something since it last paused
};

struct Choice {
  std::vector<std::size_t> able;
  std::size_t taken = 0;
};

class Explorer {
public:
  explicit Explorer(const Case& wanted) : case_(wanted), fibers_(wanted.threads.size()) {}

  Outcome explore();
  void step(const void* address, bool reads_only) noexcept;
  void seen(std::size_t value) noexcept {
    if (turn_ != kNobody) fibers_[turn_].history = mixed(fibers_[turn_].history, value);
  }
  void changed(const void* address, std::size_t before, std::size_t after) noexcept;
  void wait() noexcept;
  void complain(const std::string& fault) {
    if (fault_.empty()) fault_ = fault;
  }

private:
  void run();
  void choose() noexcept;
  void switch_to(std::size_t next) noexcept;
  static void body();
  std::string order() const;

  const Case& case_;
  std::vector<Fiber> fibers_;
  ucontext_t main_{};
  std::size_t turn_ = kNobody;
  std::vector<Choice> choices_; // of this run
  std::size_t depth_ = 0, steps_ = 0, preemptions_ = 0;
  std::uint64_t memory_ = 0; // a sum over all places: it does not depend on who wrote first
  std::unordered_set<std::uint64_t> visited_;
  std::unordered_set<const void*> written_;
  bool pruned_ = false, grown_ = false;
  std::string fault_;
};

Explorer* explorer = nullptr;

void Explorer::body() {
  Explorer& self = *explorer;
  const std::size_t mine = self.turn_;
  self.case_.threads[mine]();
  self.fibers_[mine].done = true;
  self.choose();
}

void Explorer::switch_to(std::size_t next) noexcept {
  const std::size_t from = turn_;
  if (next == from) return;
  turn_ = next;
  ucontext_t& here = from == kNobody ? main_ : fibers_[from].context;
  ucontext_t& there = next == kNobody ? main_ : fibers_[next].context;
  swapcontext(&here, &there);
}

// Who goes on?
void Explorer::choose() noexcept {
  std::vector<std::size_t> able;
  bool waiting = false;
  for (std::size_t i = 0; i < fibers_.size(); ++i) {
    if (fibers_[i].done) continue;
    if (fibers_[i].waits)
      waiting = true;
    else
      able.push_back(i);
  }
  if (able.empty() && waiting) complain("all wait for each other");
  if (able.empty() || !fault_.empty() || grown_) return switch_to(kNobody);
  const bool able_itself = turn_ != kNobody && std::ranges::find(able, turn_) != able.end();
  if (able_itself && preemptions_ == case_.preemptions) able = {turn_};
  if (able.size() == 1) return switch_to(able[0]);
  if (depth_ == choices_.size()) {
    std::uint64_t state = memory_;
    for (const Fiber& fiber : fibers_)
      state = mixed(state, fiber.history * 8 + fiber.done * 4U + fiber.waits * 2U + fiber.news);
    if (case_.preemptions != kNobody) state = mixed(state, preemptions_ * fibers_.size() + turn_);
    if (!visited_.insert(state).second) {
      pruned_ = true;
      return switch_to(kNobody);
    }
    choices_.push_back({able, 0});
  }
  const Choice& choice = choices_[depth_++];
  preemptions_ += able_itself && choice.able[choice.taken] != turn_;
  switch_to(choice.able[choice.taken]);
}

void Explorer::step(const void* address, bool reads_only) noexcept {
  if (turn_ == kNobody) return;
  Fiber& fiber = fibers_[turn_];
  fiber.history = mixed(fiber.history, reinterpret_cast<std::uintptr_t>(address));
  if (++steps_ > kSteps) complain("a loop without end");
  if (!reads_only || written_.contains(address)) choose();
}

void Explorer::changed(const void* address, std::size_t before, std::size_t after) noexcept {
  if (turn_ == kNobody) return;
  const auto place = reinterpret_cast<std::uintptr_t>(address);
  memory_ += mixed(place, after) - mixed(place, before);
  if (written_.insert(address).second) grown_ = true;
  if (before == after) return;
  for (std::size_t i = 0; i < fibers_.size(); ++i) {
    if (i == turn_) continue;
    fibers_[i].waits = false;
    fibers_[i].news = true;
  }
}

void Explorer::wait() noexcept {
  if (turn_ == kNobody) return;
  Fiber& fiber = fibers_[turn_];
  fiber.waits = !fiber.news;
  fiber.news = false;
  choose();
}

void Explorer::run() {
  case_.prepare();
  depth_ = steps_ = preemptions_ = 0;
  memory_ = 0;
  pruned_ = false;
  for (std::size_t i = 0; i < fibers_.size(); ++i) {
    Fiber& fiber = fibers_[i];
    fiber.history = i;
    fiber.done = fiber.waits = fiber.news = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, &Explorer::body, 0);
  }
  choose();
}

std::string Explorer::order() const {
  std::string text;
  for (std::size_t i = 0; i < depth_; ++i) text += std::to_string(choices_[i].able[choices_[i].taken]);
  return text;
}

Outcome Explorer::explore() {
  explorer = this;
  Outcome outcome;
  for (;;) {
    run();
    if (grown_ && fault_.empty()) { // one more place that is written: all over again
      grown_ = false;
      choices_.clear();
      visited_.clear();
      outcome.runs = 0;
      continue;
    }
    if (!pruned_) {
      ++outcome.runs;
      if (fault_.empty()) fault_ = case_.check();
    }
    if (!fault_.empty()) {
      outcome.fault = fault_ + "; the turns: " + order();
      break;
    }
    while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().able.size()) choices_.pop_back();
    if (choices_.empty()) break;
    ++choices_.back().taken;
  }
  outcome.states = visited_.size();
  explorer = nullptr;
  return outcome;
}

} // namespace

Outcome explore(const Case& wanted) { return Explorer(wanted).explore(); }

void complain(const std::string& fault) {
  if (explorer != nullptr) explorer->complain(fault);
}

void step(const void* address, bool reads_only) noexcept {
  if (explorer != nullptr) explorer->step(address, reads_only);
}
void seen(std::size_t value) noexcept {
  if (explorer != nullptr) explorer->seen(value);
}
void changed(const void* address, std::size_t before, std::size_t after) noexcept {
  if (explorer != nullptr) explorer->changed(address, before, after);
}
void wait_for_a_change() noexcept {
  if (explorer != nullptr) explorer->wait();
}

} // namespace sipward::model
