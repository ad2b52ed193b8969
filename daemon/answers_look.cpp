// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/block_json.h"
#include "daemon/control_answers.h"
#include "daemon/version.h"

namespace sipward::daemon {

Answers::Result Answers::status(const Json&) {
  auto& dataplane = *control_.dataplane_;
  dataplane::Counters counters;
  Json workers = Json::array();
  for (const auto& each : dataplane.counters_by_worker()) {
    workers.push_back({{"received", each.received}, {"passed", each.passed}, {"dropped", each.dropped}});
    counters = counters + each;
  }
  const auto lost = dataplane.lost();
  const auto early = dataplane.early();
  const auto occupancy = dataplane.ledger().sources.occupancy();
  const auto& settings = control_.settings_;
  Json immune = Json::array();
  for (const auto& [prefix, until] : control_.immune_)
    immune.push_back({{"subject", to_string(prefix)}, {"until", rfc3339(control_.clock_.at(until))}});
  Json limits = Json::array();
  for (const auto& [subject, block] : control_.blocks_.limits()) limits.push_back(block_json(block, control_.clock_));
  const auto table = control_.nft_->installed();
  const bool there = table && *table;
  Json verdicts = Json::object();
  for (std::size_t i = 0; i < policy::kWhys; ++i)
    verdicts[std::string(to_string(static_cast<policy::Why>(i)))] = counters.verdicts[i];
  return Json{{"version", kVersion},
              {"mode", control_.inline_mode() ? "inline" : "monitor"},
              {"dry_run", settings.block.dry_run},
              {"off", off_json()},
              {"outside", settings.ports.outside},
              {"inside", settings.ports.inside},
              {"uptime_s", std::chrono::floor<std::chrono::seconds>(monotonic_now() - control_.started_).count()},
              {"received", counters.received},
              {"passed", counters.passed},
              {"dropped", counters.dropped},
              {"verdicts", std::move(verdicts)},
              {"octets", counters.octets},
              {"truncated", counters.truncated},
              {"offences", counters.offences},
              {"lost", {{"rx", lost.rx}, {"offences", lost.offences}}},
              {"workers", std::move(workers)},
              {"sources", occupancy.used},
              {"source_table",
               {{"capacity", dataplane.ledger().sources.capacity()},
                {"evicted", occupancy.evicted},
                {"pinned", occupancy.pinned}}},
              {"blocks", control_.blocks_.size()},
              {"limits", std::move(limits)},
              {"learning", control_.learning() ? Json(rfc3339(control_.learning_end())) : Json(nullptr)},
              {"state", {{"written", control_.state_trouble_.empty()}, {"trouble", control_.state_trouble_}}},
              {"server_unwell", control_.wellbeing_.state().unwell},
              {"answers_unseen", control_.wellbeing_.state().answers_unseen},
              {"immune", std::move(immune)},
              {"displaced", control_.blocks_.displaced()},
              {"prefixes_withheld", control_.blocks_.withheld()},
              {"nft", {{"in_sync", control_.kernel_in_sync()}, {"table", there}, {"repairs", control_.repairs()}}},
              {"nic_drops", {{"nics", early.nics}, {"sources", early.sources}, {"refused", early.refused}}},
              {"shadow", shadow_json()},
              {"hugepages", dataplane.on_hugepages()},
              {"telemetry", dataplane.telemetry_socket()}};
}

Answers::Result Answers::blocks(const Json&) {
  Json list = Json::array();
  for (const auto& [subject, block] : control_.blocks_) {
    policy::Block counted = block;
    counted.packets_dropped += control_.dropped(block).value_or(0);
    counted.dry_run |= control_.is_off();
    list.push_back(block_json(counted, control_.clock_));
  }
  return list;
}

} // namespace sipward::daemon
