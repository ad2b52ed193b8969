// SPDX-License-Identifier: GPL-2.0-or-later
#include <spdlog/spdlog.h>

#include "daemon/control.h"

// What the control thread tells Prometheus.
namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
constexpr auto kFiguresEvery = 1s;
constexpr auto kNearEvery = 10s; // goes through the whole source table

} // namespace

// Protection matters more: without metrics it goes on.
void Control::open_metrics() {
  if (settings_.metrics.listen.empty()) return;
  auto metrics = Metrics::listen(settings_.metrics.listen);
  if (!metrics) return spdlog::error("{}; going on without metrics", metrics.error());
  metrics_ = std::move(*metrics);
}

// Carried out, or refused by the kernel, just now.
void Control::count_decisions(const policy::BlockList::Changes& changes, bool enforced) {
  const auto now = monotonic_now();
  for (const auto& change : changes) {
    if (change.kind == policy::BlockChange::Kind::Extended) continue; // no line of the log
    ++decisions_[{std::string(event_name(change)), std::string(to_string(change.block.reason))}];
    const bool dropped_now = enforced && change.kind == policy::BlockChange::Kind::Added && !change.block.dry_run;
    if (dropped_now && change.block.reason != policy::Reason::Manual) latencies_.note(now - change.block.since);
  }
}

void Control::tell_metrics() {
  const auto now = monotonic_now();
  if (!metrics_ || now < next_figures_) return;
  next_figures_ = now + kFiguresEvery;
  auto& ledger = dataplane_->ledger();
  if (now >= next_near_) {
    next_near_ = now + kNearEvery;
    near_ = near_misses(ledger.sources, settings_.detect, policy::Now(now));
  }
  Figures figures{.workers = dataplane_->counters_by_worker(),
                  .lost = dataplane_->lost(),
                  .early = dataplane_->early(),
                  .sources = ledger.sources.occupancy(),
                  .source_capacity = ledger.sources.capacity(),
                  .near = near_,
                  .blocks = {},
                  .decisions = decisions_,
                  .limits = blocks_.limits().size(),
                  .prefixes_withheld = blocks_.withheld(),
                  .blocks_displaced = blocks_.displaced(),
                  .latencies = latencies_,
                  .in_sync = kernel_in_sync(),
                  .repairs = repairs(),
                  .state_written = state_trouble_.empty(),
                  .learning = learning(),
                  .dry_run = settings_.block.dry_run,
                  .server_unwell = wellbeing_.state().unwell,
                  .answers_unseen = wellbeing_.state().answers_unseen,
                  .started_s = std::chrono::duration<double>(clock_.at(started_).time_since_epoch()).count()};
  for (const auto& [subject, block] : blocks_)
    ++figures.blocks[{std::string(to_string(subject.kind)), std::string(to_string(block.reason))}];
  metrics_->publish(std::move(figures));
}

} // namespace sipward::daemon
