// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "tests/model/schedule.h"
#include "tests/source_table_lab.h"

// Small cases of the source table in every order of their accesses: what its header promises under races. The table's
// source is compiled here against atomics that hand over the turn (tests/model/policy/atomic.h).
namespace sipward::policy {
namespace {

using namespace std::chrono_literals;
using model::Case;

const Now kNow = at(100s);
constexpr std::uint32_t kUntil = 1000;

// A table of one bucket, most of it pinned by blocked sources that nobody else touches.
class Bucket {
public:
  void fill(std::size_t pinned) {
    sources.emplace(std::span(memory), SourceTable::kWays, kSecret);
    for (std::uint32_t n = 0; n < pinned; ++n) sources->block(key(1000 + n), kUntil, kNow);
  }
  SourceTable* operator->() { return &*sources; }
  Source& line(std::size_t i) { return reinterpret_cast<Source*>(memory)[i]; }
  int lines_of(SourceKey wanted) {
    int count = 0;
    for (std::size_t i = 0; i < SourceTable::kWays; ++i) count += line(i).key == wanted;
    return count;
  }
  bool blocked(SourceKey wanted) {
    const Source* source = sources->find(wanted);
    return source != nullptr && source->blocked(kNow);
  }
  // What must hold in the end, whatever was done.
  std::string fault() {
    std::uint64_t used = 0;
    for (std::size_t i = 0; i < SourceTable::kWays; ++i) {
      const SourceKey held = line(i).key;
      if (held == ~SourceKey{0}) return "a line is still owned";
      if (held == 0 || held == ~SourceKey{0} - 1) continue;
      ++used;
      if (lines_of(held) != 1) return "a key stands twice";
      if (sources->find(held) != &line(i)) return "a source is not found";
    }
    return used == sources->occupancy().used ? "" : "the count of lines is wrong";
  }

private:
  alignas(64) std::byte memory[(SourceTable::kWays + 1) * sizeof(Source)];
  std::optional<SourceTable> sources;
};

Bucket bucket;
const SourceKey kA = key(1), kB = key(2);

void pass(const Case& wanted) {
  const auto outcome = model::explore(wanted);
  INFO(outcome.states << " states, " << outcome.runs << " runs to the end");
  CHECK(outcome.fault == "");
}

void insert(SourceKey wanted) {
  if (bucket->find_or_insert(wanted, kNow) == nullptr) model::complain("turned away");
}

TEST_CASE("the harness finds a lost update, and that an atomic one is not lost") {
  Atomic<int> count;
  for (const bool atomic : {false, true}) {
    const auto add = [&] {
      if (atomic)
        count.fetch_add(1);
      else
        count.store(count.load() + 1);
    };
    const auto outcome = model::explore(
        {.prepare = [&] { count = 0; }, .threads = {add, add}, .check = [&] { return count == 2 ? "" : "lost"; }});
    CHECK(outcome.fault.empty() == atomic);
  }
}

TEST_CASE("the harness finds two that wait for each other") {
  Atomic<bool> a, b;
  const auto outcome = model::explore({.prepare = [&] { a = b = false; },
                                       .threads = {[&] {
                                                     while (!b) pause();
                                                     a = true;
                                                   },
                                                   [&] {
                                                     while (!a) pause();
                                                     b = true;
                                                   }},
                                       .check = [] { return ""; }});
  CHECK(outcome.fault.starts_with("all wait for each other"));
}

TEST_CASE("newcomers of one key end in one line, and what they were given is it") {
  const auto [threads, pinned] = GENERATE(table<int, std::size_t>({{2, 0}, {2, 6}, {2, 7}, {3, 6}}));
  INFO(threads << " threads, " << pinned << " lines pinned");
  static std::array<Source*, 3> given;
  Case wanted{.prepare = [pinned = pinned] { bucket.fill(pinned); },
              .threads = {},
              .check =
                  [threads = threads] {
                    for (int t = 0; t < threads; ++t)
                      if (given[static_cast<std::size_t>(t)] != bucket->find(kA)) return std::string("another's line");
                    return bucket.lines_of(kA) == 1 ? bucket.fault() : "not there";
                  }};
  if (threads > 2) wanted.preemptions = 2;
  for (int t = 0; t < threads; ++t)
    wanted.threads.emplace_back([t] { given[static_cast<std::size_t>(t)] = bucket->find_or_insert(kA, kNow); });
  pass(wanted);
}

TEST_CASE("newcomers of one key that choose different lines end in one") {
  // They disagree on which line is worth least, for the one in it is being used.
  pass({.prepare =
            [] {
              bucket.fill(6);
              bucket->find_or_insert(key(10), at(80s));
              bucket->find_or_insert(key(11), at(90s));
            },
        .threads = {[] { insert(kA); }, [] { insert(kA); },
                    [] {
                      if (Source* source = bucket->find(key(10))) source->seen_s = 100;
                    }},
        .check = [] { return bucket.lines_of(kA) == 1 ? bucket.fault() : "not there"; },
        .preemptions = 3});
}

TEST_CASE("of two keys for one line the later has it, and it carries at most one packet of the other") {
  const Meter limit({1, 10});
  const auto arrive = [&](SourceKey k) {
    Source* source = bucket->find_or_insert(k, kNow);
    if (source == nullptr) return model::complain("turned away");
    source->touch(kNow);
    source->meter(Class::Register, limit, kNow);
  };
  pass({.prepare = [] { bucket.fill(7); },
        .threads = {[&] { arrive(kA); }, [&] { arrive(kB); }},
        .check = [&]() -> std::string {
          const Source* source = bucket->find(kA) != nullptr ? bucket->find(kA) : bucket->find(kB);
          if (source == nullptr || bucket.lines_of(kA) + bucket.lines_of(kB) != 1) return "not there";
          const Ticks debt = source->tat[0] - kNow.tick;
          if (source->packets > 2 || debt > 2 * kTicksPerSecond) return "more than one packet of another's";
          return bucket.fault();
        },
        .preemptions = 4});
}

TEST_CASE("whoever looks for a source that loses its line finds it or nobody") {
  pass({.prepare =
            [] {
              bucket.fill(7);
              bucket->find_or_insert(kA, at(10s));
              bucket->find(kA)->users = 77;
            },
        .threads = {[] { insert(kB); },
                    [] {
                      const Source* source = bucket->find(kA);
                      if (source != nullptr && source->users != 77 && source->key == kA) model::complain("torn");
                    },
                    [] {
                      const Source* source = bucket->find(kB);
                      if (source != nullptr && source->users != 0) model::complain("inherited");
                    }},
        .check = [] { return bucket.lines_of(kB) == 1 ? bucket.fault() : "not there"; }});
}

TEST_CASE("a source that is blocked while a newcomer takes its line stays blocked, and the newcomer is not") {
  pass({.prepare =
            [] {
              bucket.fill(7);
              bucket->find_or_insert(kA, at(10s));
            },
        .threads = {[] { bucket->find_or_insert(kB, kNow); }, [] { bucket->block(kA, kUntil, kNow); }},
        .check = [] { return !bucket.blocked(kA)  ? "not blocked"
                             : bucket.blocked(kB) ? "B blocked"
                                                  : bucket.fault(); },
        .preemptions = 5});
}

TEST_CASE("a block outlives the meeting of two newcomers of its key") {
  pass({.prepare =
            [] {
              bucket.fill(6);
              bucket->find_or_insert(key(10), at(80s));
              bucket->find_or_insert(key(11), at(90s));
            },
        .threads = {[] { insert(kA); }, [] { bucket->block(kA, kUntil, kNow); },
                    [] {
                      if (Source* source = bucket->find(key(10))) source->seen_s = 100;
                    }},
        .check = [] { return !bucket.blocked(kA) ? "not blocked" : bucket.fault(); },
        .preemptions = 3});
}

TEST_CASE("a source being blocked anew or unblocked is never taken for a newcomer") {
  const bool unblock = GENERATE(false, true);
  pass({.prepare =
            [] {
              bucket.fill(6);
              bucket->block(kA, kUntil, kNow);
            },
        .threads = {[] { insert(kA); },
                    [unblock] { unblock ? bucket->unblock(kA) : (void)bucket->block(kA, kUntil + 1, kNow); }},
        .check =
            [unblock] {
              if (bucket.lines_of(kA) != 1) return std::string("not there");
              return bucket.blocked(kA) == unblock ? "the block is wrong" : bucket.fault();
            }});
}

TEST_CASE("two workers meter one source exactly") {
  const Meter limit({1, 3});
  static std::array<int, 2> passed;
  const auto meter = [&](std::size_t t) {
    Source* source = bucket->find_or_insert(kA, kNow);
    passed[t] = source->meter(Class::Register, limit, kNow) + source->meter(Class::Register, limit, kNow);
  };
  pass({.prepare =
            [] {
              bucket.fill(7);
              bucket->find_or_insert(kA, kNow);
            },
        .threads = {[&] { meter(0); }, [&] { meter(1); }},
        .check = [&] { return passed[0] + passed[1] == 3 ? bucket.fault() : "metered twice or not at all"; }});
}

TEST_CASE("an offence is reported by one of two workers") {
  static std::array<bool, 2> mine;
  pass({.prepare =
            [] {
              bucket.fill(7);
              bucket->find_or_insert(kA, kNow);
            },
        .threads = {[] { mine[0] = bucket->find(kA)->claim_report(kNow); },
                    [] { mine[1] = bucket->find(kA)->claim_report(kNow); }},
        .check = [] { return mine[0] != mine[1] ? "" : "by both or none"; }});
}

} // namespace
} // namespace sipward::policy
