// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/census.h"

#include <algorithm>
#include <utility>

namespace sipward::policy {
namespace {

using namespace std::chrono_literals;

constexpr auto kOutdated = 60s; // a rate over more than that says nothing of now
constexpr auto kTooSoon = 50ms; // and one over less is chance

// Least busy on top of the heap.
bool busier(const Census::Sender& a, const Census::Sender& b) noexcept {
  return a.rate_per_s != b.rate_per_s ? a.rate_per_s > b.rate_per_s : a.key < b.key;
}

} // namespace

bool Census::look(const Now& now) {
  const std::size_t lines = sources_.capacity();
  if (looked_at_.empty()) {
    looked_at_.resize((lines + kSlice - 1) / kSlice);
    if (lines <= kCompared) seen_.resize(lines);
  }
  if (next_ == 0 && finished_ != Time{} && now.time - finished_ < kTooSoon) return true; // as good as new
  Time& before = looked_at_[next_ / kSlice];
  const bool comparable = before != Time{} && now.time - before < kOutdated && !seen_.empty();
  const double elapsed_s = comparable ? std::chrono::duration<double>(now.time - before).count() : 0;
  sources_.each(next_, kSlice, [&](std::size_t line, SourceKey key, const Source& source) {
    if (const double found = rate(line, key, source, elapsed_s, now); found > 0) keep({key, found});
  });
  before = now.time;
  next_ += kSlice;
  if (next_ < lines) return false;
  next_ = 0;
  finished_ = now.time;
  busiest_ = std::exchange(round_, {});
  std::ranges::sort(busiest_, busier);
  return true;
}

// `elapsed_s`: since the line was last looked at; 0: it never was, or too long ago. Then it is the table's own measure,
// which says nothing of the blocked.
double Census::rate(std::size_t line, SourceKey key, const Source& source, double elapsed_s, const Now& now) {
  const auto packets = source.packets.load(std::memory_order_relaxed);
  const auto part = static_cast<std::uint32_t>(key ^ key >> 32);
  Seen before;
  if (!seen_.empty()) before = std::exchange(seen_[line], {part, packets});
  if (elapsed_s == 0) return source.drained(now) ? 0 : source.rate_per_s(now);
  // A line that changed hands counts from nothing, as the new source's does.
  const bool same = before.key == part && before.packets <= packets;
  return (packets - (same ? before.packets : 0)) / elapsed_s;
}

void Census::keep(const Sender& sender) {
  if (round_.size() == kMost) {
    if (!busier(sender, round_.front())) return;
    std::ranges::pop_heap(round_, busier);
    round_.pop_back();
  }
  round_.push_back(sender);
  std::ranges::push_heap(round_, busier);
}

} // namespace sipward::policy
