// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/metrics.h"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
using policy::Class;

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

TEST_CASE("a latency counts in its bucket and in every wider one") {
  Latencies latencies;
  for (const auto latency :
       {policy::Duration(400us), policy::Duration(1ms), policy::Duration(30ms), policy::Duration(7s)})
    latencies.note(latency);
  std::vector<std::uint64_t> counts;
  for (std::size_t i = 0; i < Latencies::kBounds_s.size(); ++i) counts.push_back(latencies.up_to(i));
  CHECK(counts == std::vector<std::uint64_t>{1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3});
  CHECK(latencies.count() == 4);
  CHECK(latencies.sum_s() == Approx(7.0314));
}

TEST_CASE("a clock that ran backwards makes no negative latency") {
  Latencies latencies;
  latencies.note(-1s);
  CHECK(latencies.sum_s() == 0);
  CHECK(latencies.up_to(0) == 1);
}

// A table of sources whose meters stand where a test puts them.
struct Sources {
  static constexpr std::uint32_t kCapacity = 1024;
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory{
      static_cast<std::byte*>(std::aligned_alloc(64, policy::SourceTable::octets(kCapacity)))};
  policy::SourceTable table{std::span(memory.get(), policy::SourceTable::octets(kCapacity)), kCapacity, {}};
  policy::Now now{policy::Time(1h)};

  policy::Source& source(const char* address) {
    return *table.find_or_insert(policy::source_key(*policy::Address::parse(address), 64), now);
  }
  void send(const char* address, Class which, const policy::Rate& limit, unsigned requests) {
    auto& at = source(address);
    at.touch(now);
    for (unsigned i = 0; i < requests; ++i) at.meter(which, policy::Meter(limit), now);
  }
};

TEST_CASE("near misses are strangers above half of what convicts, by policy") {
  Sources sources;
  const policy::Detect detect;
  const auto& limit = detect.register_flood.limit;
  sources.send("198.51.100.1", Class::Register, limit, limit.burst / 2 - 2);
  sources.send("198.51.100.2", Class::Register, limit, limit.burst / 2 + 2);
  sources.send("198.51.100.3", Class::Register, limit, limit.burst);
  sources.send("198.51.100.4", Class::Register, limit, limit.burst);
  sources.source("198.51.100.4").set_level(1); // trusted: its limits are others
  sources.send("198.51.100.5", Class::Options, detect.options_flood.limit, detect.options_flood.limit.burst);
  auto near = near_misses(sources.table, detect, sources.now);
  CHECK(near == NearMisses{{"register_flood", 2},
                           {"invite_flood", 0},
                           {"options_flood", 1},
                           {"request_flood", 0},
                           {"malformed", 0},
                           {"enumeration", 0},
                           {"auth_failure", 0}});
  SECTION("and none any more once their meters have drained") {
    near = near_misses(sources.table, detect, policy::Now(sources.now.time + 10min));
    for (const auto& [policy, count] : near) CHECK(count == 0);
  }
}

TEST_CASE("the text says what the figures say") {
  Figures figures;
  figures.workers.resize(2);
  figures.workers[0].count(policy::Verdict{policy::Why::Scanner, true});
  figures.workers[1].count(policy::Verdict{policy::Why::Clean});
  figures.workers[1].count(policy::Verdict{policy::Why::Clean});
  figures.blocks[{"host", "scanner"}] = 3;
  figures.decisions[{"block", "scanner"}] = 4;
  figures.latencies.note(3ms);
  figures.repairs = 2;
  figures.in_sync = true;
  const auto text = metrics_text(figures);
  for (const auto* line :
       {"sipward_packets_total{verdict=\"scanner\"} 1", "sipward_packets_total{verdict=\"clean\"} 2",
        "sipward_passed_packets_total 2", "sipward_dropped_packets_total 1",
        "sipward_worker_packets_total{worker=\"1\"} 2", "sipward_blocks{kind=\"host\",reason=\"scanner\"} 3",
        "sipward_decisions_total{event=\"block\",reason=\"scanner\"} 4", "sipward_nft_in_sync 1",
        "sipward_nft_repairs_total 2", "sipward_block_latency_seconds_count 1",
        "sipward_block_latency_seconds_bucket{le=\"+Inf\"} 1", "# TYPE sipward_packets_total counter"}) {
    INFO(line << " in\n" << text);
    CHECK(has_line(text, line));
  }
}

TEST_CASE("an address in use is refused with the setting's name") {
  const auto first = Metrics::listen("127.0.0.1:19561");
  REQUIRE(first);
  const auto second = Metrics::listen("127.0.0.1:19561");
  REQUIRE_FALSE(second);
  CHECK(second.error().starts_with("metrics.listen: cannot listen on 127.0.0.1:19561"));
}

} // namespace
} // namespace sipward::daemon
