// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <exception>
#include <limits>
#include <mutex>
#include <utility>

#include "daemon/version.h"

namespace sipward::daemon {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Label = ClientMetric::Label;

// Names and units as https://prometheus.io/docs/practices/naming/ has them: counters end in _total, units are base
// units and stand at the end.
class Families {
public:
  Families& counter(const char* name, const char* help) { return begin(name, help, MetricType::Counter); }
  Families& gauge(const char* name, const char* help) { return begin(name, help, MetricType::Gauge); }

  Families& value(double value, std::vector<Label> labels = {}) {
    ClientMetric metric;
    metric.label = std::move(labels);
    (list_.back().type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    list_.back().metric.push_back(std::move(metric));
    return *this;
  }
  Families& value(std::uint64_t number, std::vector<Label> labels = {}) {
    return value(static_cast<double>(number), std::move(labels));
  }

  void histogram(const char* name, const char* help, const Latencies& latencies) {
    begin(name, help, MetricType::Histogram);
    ClientMetric metric;
    metric.histogram.sample_count = latencies.count();
    metric.histogram.sample_sum = latencies.sum_s();
    for (std::size_t i = 0; i < Latencies::kBounds_s.size(); ++i)
      metric.histogram.bucket.push_back({latencies.up_to(i), Latencies::kBounds_s[i]});
    metric.histogram.bucket.push_back({latencies.count(), std::numeric_limits<double>::infinity()});
    list_.back().metric.push_back(std::move(metric));
  }

  std::vector<MetricFamily> take() { return std::move(list_); }

private:
  Families& begin(const char* name, const char* help, MetricType type) {
    list_.push_back({std::string("sipward_") + name, help, type, {}});
    return *this;
  }
  std::vector<MetricFamily> list_;
};

void add_packets(Families& to, const Figures& figures) {
  dataplane::Counters all;
  for (const auto& worker : figures.workers) all = all + worker;
  to.counter("packets_total", "Packets read from the outside ports, by what was found of them.");
  for (std::size_t i = 0; i < policy::kWhys; ++i)
    to.value(all.verdicts[i], {{"verdict", std::string(to_string(static_cast<policy::Why>(i)))}});
  to.counter("passed_packets_total", "Packets that were let through.").value(all.passed);
  to.counter("dropped_packets_total", "Packets that were dropped, here or by the kernel.").value(all.dropped);
  to.counter("received_bytes_total", "Octets of the frames that were read.").value(all.octets);
  to.counter("truncated_packets_total", "Frames of which only the beginning was read.").value(all.truncated);
  to.counter("lost_packets_total", "Packets that came too fast to be read: a receive ring was full.")
      .value(figures.lost.rx);
  to.counter("offences_total", "Offences that workers reported.").value(all.offences);
  to.counter("lost_offences_total", "Offences not reported: the ring to the control thread was full.")
      .value(figures.lost.offences);
  to.counter("worker_packets_total", "Packets read, by worker.");
  for (std::size_t i = 0; i < figures.workers.size(); ++i)
    to.value(figures.workers[i].received, {{"worker", std::to_string(i)}});
}

void add_sources(Families& to, const Figures& figures) {
  to.gauge("sources", "Sources remembered.").value(figures.sources.used);
  to.gauge("sources_capacity", "Sources that can be remembered at once.").value(std::uint64_t{figures.source_capacity});
  to.counter("sources_evicted_total", "Sources forgotten before their meters had drained: the table was full.")
      .value(figures.sources.evicted);
  to.counter("sources_refused_total", "Sources that found no line in the table.").value(figures.sources.pinned);
  to.gauge("near_limit_sources", "Untrusted sources above half of what convicts them, by policy.");
  for (const auto& [policy, count] : figures.near) to.value(count, {{"policy", policy}});
}

void add_blocks(Families& to, const Figures& figures) {
  to.gauge("blocks", "Blocks that stand, by kind and reason.");
  for (const auto& [labels, count] : figures.blocks)
    to.value(count, {{"kind", labels.first}, {"reason", labels.second}});
  to.gauge("limits", "Sources of which only the excess is dropped.").value(figures.limits);
  to.counter("decisions_total", "Lines of the block log, by event and reason.");
  for (const auto& [labels, count] : figures.decisions)
    to.value(count, {{"event", labels.first}, {"reason", labels.second}});
  to.histogram("block_latency_seconds", "From the convicting packet's arrival until the kernel dropped its sender.",
               figures.latencies);
  to.counter("prefixes_withheld_total", "Prefix blocks that the fuse held back.").value(figures.prefixes_withheld);
  to.counter("blocks_displaced_total", "Blocks that a full list pushed out.").value(figures.blocks_displaced);
  to.gauge("nic_drop_sources", "Sources that NICs drop by rules of their own.")
      .value(std::uint64_t{figures.early.sources});
}

void add_health(Families& to, const Figures& figures) {
  const auto flag = [](bool on) { return std::uint64_t{on}; };
  to.gauge("build_info", "The version; always 1.").value(1.0, {{"version", kVersion}});
  to.gauge("start_time_seconds", "When it started, in seconds since 1970.").value(figures.started_s);
  to.gauge("nft_in_sync", "1 while the kernel's table holds what it should.").value(flag(figures.in_sync));
  to.counter("nft_repairs_total", "How often the kernel's table had to be repaired.").value(figures.repairs);
  to.gauge("state_written", "1 while the state database can be written.").value(flag(figures.state_written));
  to.gauge("learning", "1 while only scanners are blocked.").value(flag(figures.learning));
  to.gauge("dry_run", "1 if nobody is blocked.").value(flag(figures.dry_run));
  to.gauge("server_unwell", "1 while the protected servers fail, and judgement is suspended.")
      .value(flag(figures.server_unwell));
  to.gauge("answers_unseen", "1 while requests are seen and no answers.").value(flag(figures.answers_unseen));
}

std::vector<MetricFamily> families(const Figures& figures) {
  Families all;
  add_packets(all, figures);
  add_sources(all, figures);
  add_blocks(all, figures);
  add_health(all, figures);
  return all.take();
}

// The figures published last. A scrape copies them, and works on its copy.
class Latest : public prometheus::Collectable {
public:
  void set(Figures figures) {
    const std::lock_guard held(mutex_);
    figures_ = std::move(figures);
  }
  std::vector<MetricFamily> Collect() const override {
    std::unique_lock held(mutex_);
    const Figures figures = figures_;
    held.unlock();
    return families(figures);
  }

private:
  mutable std::mutex mutex_; // of figures_
  Figures figures_;
};

} // namespace

std::string metrics_text(const Figures& figures) { return prometheus::TextSerializer().Serialize(families(figures)); }

struct Metrics::State {
  std::shared_ptr<Latest> latest = std::make_shared<Latest>();
  std::unique_ptr<prometheus::Exposer> exposer; // destroyed first: it asks `latest`
};

std::expected<std::unique_ptr<Metrics>, std::string> Metrics::listen(const std::string& address) {
  auto state = std::make_unique<State>();
  try {
    state->exposer = std::make_unique<prometheus::Exposer>(address, 1);
    state->exposer->RegisterCollectable(state->latest);
  } catch (const std::exception& error) {
    return std::unexpected("metrics.listen: cannot listen on " + address + ": " + error.what());
  }
  return std::unique_ptr<Metrics>(new Metrics(std::move(state)));
}

Metrics::Metrics(std::unique_ptr<State> state) : state_(std::move(state)) {}
Metrics::~Metrics() = default;

void Metrics::publish(Figures figures) { state_->latest->set(std::move(figures)); }

} // namespace sipward::daemon
