// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "daemon/block_json.h"
#include "daemon/control_answers.h"
#include "policy/census.h"

// `sipward top`: who sends most just now, and what becomes of it.
namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;
using policy::Source;

constexpr std::int64_t kMostRows = static_cast<std::int64_t>(policy::Census::kMost);

// The classes whose meters hold something: what it has sent lately that was not answered with success.
Json methods_of(const Source& source, const policy::Now& now) {
  static constexpr std::array<const char*, policy::kClasses> kNames = {"REGISTER", "INVITE", "OPTIONS", "other",
                                                                       "malformed"};
  Json names = Json::array();
  for (std::size_t c = 0; c < policy::kClasses; ++c)
    if (!policy::Meter::drained(source.tat[c].load(std::memory_order_relaxed), now.tick)) names.push_back(kNames[c]);
  return names;
}

} // namespace

std::string_view trust_name(std::uint8_t level) noexcept {
  static constexpr std::array<std::string_view, policy::kTrustLevels> kNames = {"stranger", "home", "office",
                                                                                "large office", "carrier"};
  return kNames[std::min<std::size_t>(level, kNames.size() - 1)];
}

// What stands against a source, or for it.
Json Answers::standing_of(const policy::Prefix& source) const {
  const auto& blocks = control_.blocks_;
  const policy::Block* block = blocks.covering(source.base);
  if (block == nullptr) block = blocks.limit_of(source.base);
  Json standing;
  if (control_.let_through().holds(source.base))
    standing["state"] = "never_blocked";
  else if (block == nullptr)
    standing["state"] = "free";
  else
    standing["state"] = block_json(*block, control_.clock_)["action"];
  if (block == nullptr) return standing;
  standing["subject"] = to_string(block->subject);
  standing["reason"] = to_string(block->reason);
  standing["until"] = rfc3339(control_.clock_.at(block->until));
  standing["user_agent"] = utf8(block->evidence.user_agent.view());
  return standing;
}

Json Answers::sender_row(policy::SourceKey key, double rate_per_s, const policy::Now& now) const {
  const Source* source = control_.dataplane_->ledger().sources.find(key);
  if (source == nullptr) return {};
  const auto prefix = policy::source_prefix(key, control_.settings_.sources.ipv6_prefix);
  const auto relaxed = std::memory_order_relaxed;
  Json row = {{"address", prefix.is_host() ? to_string(prefix.base) : to_string(prefix)},
              {"rate_per_s", tenths(rate_per_s)},
              {"packets", source->packets.load(relaxed)},
              {"methods", methods_of(*source, now)},
              {"users", source->users_tried()},
              {"failures", source->failures.load(relaxed)},
              {"successes", source->successes.load(relaxed)},
              {"trust", trust_name(source->level())},
              {"proven", source->has(Source::kProven)}};
  row.update(standing_of(prefix));
  return row;
}

Answers::Result Answers::top(const Json& request) {
  const std::string sort = request.value("sort", "rate");
  static constexpr std::array kSorts = {"rate", "packets", "users", "failures", "successes", "address"};
  if (std::ranges::find(kSorts, sort) == kSorts.end())
    return std::unexpected(
        Refused{"cannot sort by " + sort + ": by rate, packets, users, failures, successes or address"});
  const auto most = std::clamp<std::int64_t>(request.value("most", std::int64_t{50}), 1, kMostRows);
  const policy::Now now(monotonic_now());
  auto& census = control_.census();
  const bool complete = census.look(now);
  std::vector<Json> rows;
  const bool ranked = sort == "rate"; // the census has that order; else all that it names are needed to find the first
  for (const auto& sender : census.busiest()) {
    if (ranked && static_cast<std::int64_t>(rows.size()) == most) break;
    if (auto row = sender_row(sender.key, sender.rate_per_s, now); !row.is_null()) rows.push_back(std::move(row));
  }
  if (sort == "address")
    std::ranges::stable_sort(rows, {},
                             [](const Json& row) { return *policy::Prefix::parse(row["address"].get<std::string>()); });
  else if (!ranked)
    std::ranges::stable_sort(rows, std::greater{}, [&](const Json& row) { return row[sort].get<std::uint64_t>(); });
  if (static_cast<std::int64_t>(rows.size()) > most) rows.resize(static_cast<std::size_t>(most));
  const auto& second = control_.last_second_;
  return Json{{"time", rfc3339(control_.clock_.at(now.time))},
              {"mode", control_.inline_mode() ? "inline" : "monitor"},
              {"dry_run", control_.settings_.block.dry_run},
              {"off", off_json()},
              {"learning", control_.learning() ? Json(rfc3339(control_.learning_end())) : Json(nullptr)},
              {"server_unwell", control_.wellbeing_.state().unwell},
              {"nft_in_sync", control_.kernel_in_sync()},
              {"blocks", control_.blocks_.size()},
              {"limits", control_.blocks_.limits().size()},
              {"sources", control_.dataplane_->ledger().sources.occupancy().used},
              {"per_s",
               {{"received", tenths(second.received)},
                {"requests", tenths(second.requests)},
                {"answers", tenths(second.answers)},
                {"dropped", tenths(second.dropped)}}},
              {"sorted_by", sort},
              {"complete", complete},
              {"senders", std::move(rows)}};
}

} // namespace sipward::daemon
