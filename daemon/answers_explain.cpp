// SPDX-License-Identifier: GPL-2.0-or-later
#include <spdlog/spdlog.h>

#include <algorithm>

#include "daemon/block_json.h"
#include "daemon/control_answers.h"

// `sipward explain ADDR`: everything that is known of one address, as facts; the command makes sentences of them
// (explanation.h).
namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;
using policy::Source;

constexpr std::size_t kHistory = 20; // decisions that are told
constexpr auto kRelaxed = std::memory_order_relaxed;

// Requests, or failures, that a meter holds now: it drains at the rate.
double held(policy::Ticks tat, const policy::Now& now, double per_second) {
  const auto debt = static_cast<std::int32_t>(tat - now.tick);
  return debt <= 0 ? 0 : debt * per_second / policy::kTicksPerSecond;
}

const char* judged(policy::Rules::Soft soft) {
  switch (soft) {
  case policy::Rules::Soft::Judged: return "judged";
  case policy::Rules::Soft::Logged: return "logged";
  case policy::Rules::Soft::Suspended: return "suspended";
  }
  return "unknown";
}

const char* name_of(policy::Action action) {
  static constexpr const char* kNames[] = {"off", "log", "limit", "block"};
  return kNames[static_cast<std::size_t>(action)];
}

constexpr const char* kFloods[] = {"register_flood", "invite_flood", "options_flood", "request_flood", "malformed"};

// A class of requests, as this source is measured.
Json rate_json(policy::Class c, const policy::Rules& rules, const Source& source, const policy::Now& now) {
  const auto i = static_cast<std::size_t>(c);
  const auto& policy = rules.rate(c);
  const double factor = policy::kTrustFactors[source.level()];
  const double per_second = policy.limit.per_second * factor;
  return {{"policy", kFloods[i]},
          {"held", tenths(held(source.tat[i].load(kRelaxed), now, per_second))},
          {"burst", policy.limit.burst * factor},
          {"rate_per_s", per_second},
          {"action", name_of(policy.action)}};
}

Json counts_json(const policy::Rules& rules, const Source& source, const policy::Now& now) {
  const auto within_s = [](const policy::CountPolicy& policy) {
    return std::chrono::duration_cast<std::chrono::seconds>(policy.within).count();
  };
  const auto& failures = rules.auth_failure;
  const double per_second = failures.count / std::chrono::duration<double>(failures.within).count();
  return {{{"policy", "enumeration"},
           {"held", source.users_tried()},
           {"most", rules.enumeration.count},
           {"within_s", within_s(rules.enumeration)},
           {"action", name_of(rules.enumeration.action)}},
          {{"policy", "auth_failure"},
           {"held", tenths(held(source.tat[policy::kFailureMeter].load(kRelaxed), now, per_second))},
           {"most", failures.count},
           {"within_s", within_s(failures)},
           {"action", name_of(failures.action)}}};
}

} // namespace

// Why no block may touch it; nothing: one may.
std::optional<std::string> Answers::spared_for(const policy::Address& address) const {
  const auto& facts = control_.facts_;
  for (const auto& [interface, list] : facts.addresses)
    if (std::ranges::find(list, address) != list.end()) return "own address, on " + interface;
  if (std::ranges::find(facts.gateways, address) != facts.gateways.end()) return "this host's gateway";
  if (std::ranges::find(facts.resolvers, address) != facts.resolvers.end()) return "this host's resolver";
  if (std::ranges::find(control_.settings_.sip.servers, address) != control_.settings_.sip.servers.end())
    return "a protected server, in sip.servers";
  for (const auto& prefix : facts.never_blocked())
    if (prefix.holds(address)) return "in " + to_string(prefix) + ", which is special";
  if (control_.never_blocked({}).holds(address)) return "on the allow list";
  return std::nullopt;
}

Json Answers::activity_json(const policy::Address& address, const policy::Rules& rules, const policy::Now& now) const {
  const auto key = policy::source_key(address, rules.ipv6_prefix);
  const Source* source = control_.dataplane_->ledger().sources.find(key);
  if (source == nullptr) return nullptr;
  Json meters = Json::array();
  for (std::size_t c = 0; c < policy::kClasses; ++c)
    meters.push_back(rate_json(static_cast<policy::Class>(c), rules, *source, now));
  const auto idle = std::chrono::seconds(now.s - source->seen_s.load(kRelaxed));
  return {{"packets", source->packets.load(kRelaxed)},
          {"last_judged", rfc3339(control_.clock_.at(now.time - idle))},
          {"rate_per_s", source->drained(now) ? 0.0 : tenths(source->rate_per_s(now))},
          {"failures", source->failures.load(kRelaxed)},
          {"successes", source->successes.load(kRelaxed)},
          {"unanswered", source->unanswered.load(kRelaxed)},
          {"soft_marks", source->soft()},
          {"proven", source->has(Source::kProven)},
          {"meters", std::move(meters)},
          {"counts", counts_json(rules, *source, now)}};
}

Json Answers::trust_json(const policy::Address& address, const policy::Rules& rules, const policy::Now& now) const {
  const policy::Trustee* trustee =
      control_.dataplane_->ledger().trust.find(policy::source_key(address, rules.ipv6_prefix), now.s);
  const bool peer = rules.peers.holds(address);
  if (trustee == nullptr && !peer) return nullptr;
  if (trustee == nullptr) return {{"peer", true}, {"level", "carrier"}};
  const auto at = [&](std::uint32_t s) { // seconds of the daemon's clock
    const auto ahead = std::chrono::seconds(std::int64_t{s} - std::int64_t{now.s});
    return rfc3339(control_.clock_.at(now.time + ahead));
  };
  return {{"peer", peer},
          {"level", trust_name(trustee->level())},
          {"until", at(trustee->until_s.load(kRelaxed))},
          {"registered", trustee->registered()},
          {"answered_per_hour", trustee->answered_per_hour()}};
}

Json Answers::history_json(const policy::Prefix& host) const {
  Json history = Json::array();
  const auto read = read_history_of(control_.settings_.state.path, host, kHistory);
  if (!read) {
    spdlog::warn("history is not to be had: {}", read.error());
    return history;
  }
  for (const auto& record : *read) {
    Json row = {{"time", rfc3339(record.at)}, {"event", record.event}};
    if (record.block) {
      row.update(block_json(from_record(*record.block, control_.clock_), control_.clock_));
      if (record.event.starts_with("un")) row["ending"] = to_string(record.ending);
    } else {
      row["text"] = utf8(record.text);
    }
    history.push_back(std::move(row));
  }
  return history;
}

// Where the next block would put it.
Json Answers::ladder_json(const policy::Subject& host, policy::Time now) const {
  const auto& ladder = control_.blocks_.ladder();
  const auto climb = ladder.find(host);
  const auto next = ladder.next(host, now);
  const auto length = [&](std::uint32_t step) {
    return std::chrono::duration_cast<std::chrono::seconds>(ladder.length(step)).count();
  };
  Json json = {
      {"step", climb ? climb->step : 0}, {"next_step", next}, {"next_for_s", length(next)}, {"first_for_s", length(1)}};
  if (climb) json["ended"] = rfc3339(control_.clock_.at(climb->ended));
  return json;
}

Answers::Result Answers::explain(const Json& request) {
  const auto address = policy::Address::parse(request.value("subject", ""));
  if (!address) return std::unexpected(Refused{"not an address: " + request.value("subject", "")});
  const policy::Now now(monotonic_now());
  const auto rules = control_.make_rules();
  const auto& blocks = control_.blocks_;
  const auto host = blocks.host_subject(*address);
  Json against = Json::array();
  for (const policy::Block* block : blocks.about(*address)) {
    policy::Block counted = *block;
    counted.packets_dropped += control_.dropped(*block).value_or(0);
    Json row = block_json(counted, control_.clock_);
    row["left_s"] = std::chrono::ceil<std::chrono::seconds>(block->until - now.time).count();
    against.push_back(std::move(row));
  }
  Json immune;
  for (const auto& [prefix, until] : control_.immune_)
    if (prefix.holds(*address)) immune = rfc3339(control_.clock_.at(until));
  const auto spared = spared_for(*address);
  const auto passing = blocks.let_through();
  const auto passes = [&](const policy::Prefix& prefix) { return prefix.holds(*address); };
  return Json{{"address", to_string(*address)},
              {"source", to_string(host)},
              {"time", rfc3339(control_.clock_.at(now.time))},
              {"never_blocked", spared ? Json(*spared) : Json(nullptr)},
              {"immune_until", std::move(immune)},
              {"against", std::move(against)},
              {"passes_its_prefix", std::ranges::any_of(passing, passes)},
              {"offenders_near", blocks.offenders_near(*address, now.time)},
              {"offenders_enough", blocks.options().offenders},
              {"trust", trust_json(*address, *rules, now)},
              {"activity", activity_json(*address, *rules, now)},
              {"ladder", ladder_json(host, now.time)},
              {"soft", judged(rules->soft)},
              {"learning", control_.learning()},
              {"dry_run", control_.settings_.block.dry_run},
              {"off", off_json()},
              {"history", history_json(host.prefix)}};
}

} // namespace sipward::daemon
