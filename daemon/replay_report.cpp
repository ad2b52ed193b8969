// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/replay_report.h"

#include <algorithm>
#include <ostream>

#include "daemon/block_json.h"
#include "daemon/block_log.h"
#include "daemon/shadow.h"
#include "daemon/text.h"

namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kTalkersShown = 20;
constexpr std::size_t kUserAgentsShown = 2;
constexpr std::size_t kServersShown = 8;
constexpr auto kNoteworthyBackwards = std::chrono::seconds(1); // less happens wherever several queues feed one capture

Json talker_json(const Talker& talker) {
  Json methods = Json::object();
  for (const auto& [method, count] : talker.methods) methods[std::string(to_string(method))] = count;
  Json user_agents = Json::array();
  for (const auto& user_agent : talker.user_agents) user_agents.push_back(utf8(user_agent));
  return {{"address", to_string(talker.address)},
          {"requests", talker.requests},
          {"flows", talker.flows.size()},
          {"octets", talker.octets},
          {"packets", talker.packets},
          {"dropped", talker.dropped},
          {"first", rfc3339(kCaptureClock.at(talker.first))},
          {"last", rfc3339(kCaptureClock.at(talker.last))},
          {"methods", std::move(methods)},
          {"user_agents", std::move(user_agents)}};
}

template<typename List, typename Print>
std::string joined(const List& list, std::size_t shown, Print print) {
  std::string text;
  for (std::size_t i = 0; i < std::min(list.size(), shown); ++i) text += (i == 0 ? "" : ", ") + print(list[i]);
  if (list.size() > shown) text += " and " + std::to_string(list.size() - shown) + " more";
  return text;
}

std::string plural(std::uint64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string servers_line(const ReplayReport& report) {
  std::string text = joined(report.servers, kServersShown, [](const auto& address) { return to_string(address); });
  if (!report.assumed) return text;
  switch (*report.assumed) {
  case ServerSearch::Evidence::Answers:
    return text + " (assumed: answered requests on the SIP ports; --server names others)";
  case ServerSearch::Evidence::Requests:
    return text + " (assumed: were sent requests on the SIP ports, and no answers are there; --server names others)";
  case ServerSearch::Evidence::None: break;
  }
  return "none found: nobody answered or was sent requests on the SIP ports; --server and sip.ports name them";
}

void write_totals(const ReplayReport& report, std::ostream& out) {
  const auto& sip = report.sip;
  out << "captures  "
      << joined(report.captures, report.captures.size(), [](const auto& file) { return word(file.string()); }) << "\n";
  out << "packets   " << report.counters.received << ", " << human_octets(report.counters.octets);
  if (report.first)
    out << ", in " << human_duration(*report.last - *report.first) << " from "
        << rfc3339(kCaptureClock.at(*report.first)) << " to " << rfc3339(kCaptureClock.at(*report.last));
  out << "\nSIP       " << plural(sip.requests, "request") << ", " << plural(sip.responses, "response") << ", "
      << sip.malformed << " malformed, " << plural(sip.keepalives, "keepalive") << "\n";
  out << "servers   " << servers_line(report) << "\n";
  if (report.counters.truncated > 0)
    out << "note      " << plural(report.counters.truncated, "datagram")
        << " cut short by the capture: judged by what is there\n";
  if (report.farthest_backwards >= kNoteworthyBackwards)
    out << "note      " << plural(report.backwards, "time stamp") << " ran backwards, by up to "
        << human_duration(report.farthest_backwards)
        << ", and counted as no later than the one before: rates may be wrong. Name the captures in the order of their "
           "time\n";
}

void write_talkers(const ReplayReport& report, SortKey sort, std::ostream& out) {
  const auto talkers = report.talkers.sorted(sort);
  if (talkers.empty()) {
    out << "\nnobody sent anything to a SIP port of the servers\n";
    return;
  }
  Table table({{"ADDRESS"},
               {"REQUESTS", Align::Right},
               {"FLOWS", Align::Right},
               {"OCTETS", Align::Right},
               {"PACKETS", Align::Right},
               {"DROPPED", Align::Right},
               {"DURATION", Align::Right},
               {"METHODS"},
               {"USER-AGENTS"}});
  for (std::size_t i = 0; i < std::min(talkers.size(), kTalkersShown); ++i) {
    const Talker& talker = *talkers[i];
    const auto method = [](const auto& entry) {
      return std::string(to_string(entry.first)) + " " + std::to_string(entry.second);
    };
    table.add({to_string(talker.address), std::to_string(talker.requests), std::to_string(talker.flows.size()),
               human_octets(talker.octets), std::to_string(talker.packets), std::to_string(talker.dropped),
               human_duration(talker.duration()), joined(talker.methods, talker.methods.size(), method),
               joined(talker.user_agents, kUserAgentsShown, [](const auto& text) { return in_quotes(text); })});
  }
  out << "\n" << table.text();
  if (talkers.size() > kTalkersShown)
    out << "and " << talkers.size() - kTalkersShown << " more; --json lists them all\n";
  if (const auto packets = report.talkers.packets_left_out(); packets > 0)
    out << "and " << plural(packets, "packet") << " of further sources: no more than " << Talkers::kMaxTalkers
        << " are told apart\n";
}

void write_blocks(const ReplayReport& report, std::ostream& out) {
  if (report.blocks.empty()) {
    out << "\nnobody would have been blocked\n";
    return;
  }
  out << "\nwould have been blocked:\n";
  for (const auto& block : report.blocks)
    out << block_line({policy::BlockChange::Kind::Added, block, {}}, block.since, kCaptureClock)
        << " dropped=" << block.packets_dropped << "\n";
  for (const auto& [at, text] : report.alerts) out << rfc3339(kCaptureClock.at(at)) << " alert - " << text << "\n";
  if (report.blocks_left_out > 0) out << "and " << report.blocks_left_out << " more\n";
}

} // namespace

void write_json(const ReplayReport& report, SortKey sort, std::ostream& out) {
  Json captures = Json::array(), servers = Json::array(), sources = Json::array(), blocks = Json::array();
  for (const auto& file : report.captures) captures.push_back(utf8(file.string()));
  for (const auto& address : report.servers) servers.push_back(to_string(address));
  for (const Talker* talker : report.talkers.sorted(sort)) sources.push_back(talker_json(*talker));
  for (const auto& block : report.blocks) blocks.push_back(block_json(block, kCaptureClock));
  Json alerts = Json::array();
  for (const auto& [at, text] : report.alerts)
    alerts.push_back({{"time", rfc3339(kCaptureClock.at(at))}, {"text", utf8(text)}});
  Json verdicts = Json::object();
  for (std::size_t i = 0; i < policy::kWhys; ++i)
    verdicts[std::string(to_string(static_cast<policy::Why>(i)))] = report.counters.verdicts[i];
  Json object = {{"captures", std::move(captures)},
                 {"packets", report.counters.received},
                 {"servers", std::move(servers)},
                 {"sip",
                  {{"requests", report.sip.requests},
                   {"responses", report.sip.responses},
                   {"malformed", report.sip.malformed},
                   {"keepalives", report.sip.keepalives}}},
                 {"sources", std::move(sources)},
                 {"verdicts", std::move(verdicts)},
                 {"blocks", std::move(blocks)},
                 {"alerts", std::move(alerts)}};
  if (report.shadow) object["shadow"] = shadow_json(compare(report, *report.shadow), WallClock{});
  out << object.dump(2) << "\n";
}

void write_text(const ReplayReport& report, SortKey sort, std::ostream& out) {
  write_totals(report, out);
  write_talkers(report, sort, out);
  write_blocks(report, out);
  if (report.shadow) write_shadow(compare(report, *report.shadow), report.shadow_file, out);
}

} // namespace sipward::daemon
