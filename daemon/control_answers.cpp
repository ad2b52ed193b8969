// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <nlohmann/json.hpp>

#include "daemon/block_json.h"
#include "daemon/control.h"
#include "daemon/version.h"

// What the control socket answers. A request is {"command": NAME, ...}; an answer is {"ok": true, "result": ...} or
// {"ok": false, "error": SENTENCE}. A new command is one more function here and one line in the table at the end.
namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kLongestBlockS = 366 * 24 * 3600;

struct Refused {
  std::string why;
};
using Result = std::expected<Json, Refused>;

std::expected<policy::Prefix, Refused> subject_of(const Json& request) {
  const std::string text = request.value("subject", "");
  const auto prefix = policy::Prefix::parse(text);
  if (!prefix) return std::unexpected(Refused{"not an address or prefix: " + text});
  return *prefix;
}

const auto kReplace = Json::error_handler_t::replace; // header text may be anything; JSON is UTF-8

std::string refusal(const std::string& why) {
  return Json{{"ok", false}, {"error", why}}.dump(-1, ' ', false, kReplace);
}

} // namespace

// The commands, one function each. They run in the control thread, between two rounds of its loop.
class Answers {
public:
  explicit Answers(Control& control) : control_(control) {}

  std::string answer(std::string_view line) {
    static const std::map<std::string, Result (Answers::*)(const Json&)> kCommands = {
        {"status", &Answers::status},   {"blocks", &Answers::blocks}, {"block", &Answers::block},
        {"unblock", &Answers::unblock}, {"flush", &Answers::flush},   {"arm", &Answers::arm}};
    try {
      const Json request = Json::parse(line);
      const auto command = kCommands.find(request.value("command", ""));
      if (command == kCommands.end()) return refusal("no such command: " + request.value("command", ""));
      const auto result = (this->*command->second)(request);
      if (!result) return refusal(result.error().why);
      return Json{{"ok", true}, {"result", *result}}.dump(-1, ' ', false, kReplace);
    } catch (const Json::exception& error) {
      return refusal(std::string("not a request: ") + error.what());
    }
  }

private:
  Result status(const Json&) {
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
                {"nft", {{"in_sync", control_.in_sync_ && there}, {"table", there}}},
                {"nic_drops", {{"nics", early.nics}, {"sources", early.sources}, {"refused", early.refused}}},
                {"hugepages", dataplane.on_hugepages()},
                {"telemetry", dataplane.telemetry_socket()}};
  }

  Result blocks(const Json&) {
    Json list = Json::array();
    for (const auto& [subject, block] : control_.blocks_) {
      policy::Block counted = block;
      counted.packets_dropped += control_.dropped(block).value_or(0);
      list.push_back(block_json(counted, control_.clock_));
    }
    return list;
  }

  Result arm(const Json&) {
    const bool learned = control_.learning();
    control_.arm();
    return Json{{"was_learning", learned}};
  }

  Result block(const Json& request) {
    const auto prefix = subject_of(request);
    if (!prefix) return std::unexpected(prefix.error());
    if (request.value("scope", "sip") != "sip")
      return std::unexpected(
          Refused{"--scope all for one block is not supported by this version; nftables.scope sets it for all"});
    const auto length = request.value("for_s", std::int64_t{3600});
    if (length < 1 || length > kLongestBlockS)
      return std::unexpected(Refused{"a block lasts from one second to one year"});
    auto changes =
        control_.blocks_.block(*prefix, std::chrono::seconds(length), request.value("reason", ""), monotonic_now());
    if (!changes) return std::unexpected(Refused{changes.error()});
    const auto subject = changes->back().block.subject;
    control_.end_immunity(subject.prefix); // the operator thinks better of it
    control_.collect(std::move(*changes));
    control_.enforce();
    if (!control_.in_sync_)
      return std::unexpected(Refused{to_string(subject) + " is noted, but nftables refuses it; see the daemon's log"});
    return block_json(*control_.blocks_.find(subject), control_.clock_);
  }

  Result unblock(const Json& request) {
    const auto prefix = subject_of(request);
    if (!prefix) return std::unexpected(prefix.error());
    const auto immunity = std::clamp<std::int64_t>(request.value("immune_s", std::int64_t{0}), 0, kLongestBlockS);
    auto changes = control_.blocks_.unblock(*prefix);
    if (!changes) {
      // Not blocked itself; its prefix may be, and then immunity alone lets it through.
      const policy::Block* around = prefix->is_host() ? control_.blocks_.covering(prefix->base) : nullptr;
      if (around == nullptr) return std::unexpected(Refused{changes.error()});
      if (immunity == 0)
        return std::unexpected(Refused{changes.error() + " itself, but " + to_string(around->subject) +
                                       " is: unblock that, or give --immune"});
    }
    if (changes) control_.collect(std::move(*changes));
    // Of an IPv6 host its whole source: that is what would be blocked again.
    const auto spared = prefix->is_host() ? control_.blocks_.host_subject(prefix->base).prefix : *prefix;
    if (immunity > 0) control_.make_immune(spared, std::chrono::seconds(immunity));
    control_.enforce();
    return Json{{"subject", to_string(*prefix)}, {"immune_s", immunity}};
  }

  Result flush(const Json&) {
    const auto count = control_.blocks_.size();
    control_.collect(control_.blocks_.flush());
    control_.enforce();
    if (!control_.in_sync_)
      return std::unexpected(Refused{"the list is empty, but nftables refuses the change; see the daemon's log"});
    return Json{{"flushed", count}};
  }

  Control& control_;
};

std::string Control::answer(std::string_view request) { return Answers(*this).answer(request); }

} // namespace sipward::daemon
