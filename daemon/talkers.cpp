// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/talkers.h"

#include <algorithm>
#include <array>

namespace sipward::daemon {
namespace {

std::uint64_t weight(const Talker& talker, SortKey key) noexcept {
  switch (key) {
  case SortKey::Requests: return talker.requests;
  case SortKey::Flows: return talker.flows.size();
  case SortKey::Octets: return talker.octets;
  case SortKey::Packets: return talker.packets;
  case SortKey::Duration: return static_cast<std::uint64_t>(talker.duration().count());
  }
  return 0;
}

void count_method(Talker& talker, sip::Method method) {
  const auto at = std::ranges::find(talker.methods, method, &std::pair<sip::Method, std::uint64_t>::first);
  if (at != talker.methods.end())
    ++at->second;
  else
    talker.methods.emplace_back(method, 1);
}

void note_user_agent(Talker& talker, std::string_view user_agent) {
  user_agent = user_agent.substr(0, Talker::kMaxUserAgentOctets);
  if (user_agent.empty() || talker.user_agents.size() == Talker::kMaxUserAgents) return;
  if (std::ranges::find(talker.user_agents, user_agent) == talker.user_agents.end())
    talker.user_agents.emplace_back(user_agent);
}

} // namespace

std::optional<SortKey> sort_key(std::string_view name) noexcept {
  static constexpr std::array<std::string_view, 5> kNames = {"requests", "flows", "octets", "packets", "duration"};
  const auto at = std::ranges::find(kNames, name);
  if (at == kNames.end()) return std::nullopt;
  return static_cast<SortKey>(at - kNames.begin());
}

Talker* Talkers::add(const policy::Datagram& datagram, const sip::Message& message, std::uint32_t server,
                     std::size_t octets, policy::Time at) {
  auto found = talkers_.find(datagram.source);
  if (found == talkers_.end()) {
    if (talkers_.size() == kMaxTalkers) {
      ++left_out_;
      return nullptr;
    }
    found = talkers_.try_emplace(datagram.source).first;
    found->second.address = datagram.source;
    found->second.first = at;
  }
  Talker& talker = found->second;
  talker.last = at;
  ++talker.packets;
  talker.octets += octets;
  talker.flows.insert(std::uint64_t{server} << 32 | std::uint64_t{datagram.source_port} << 16 |
                      datagram.destination_port);
  if (message.kind == sip::Kind::Request) {
    ++talker.requests;
    count_method(talker, message.method);
  }
  note_user_agent(talker, message.user_agent.in(datagram.payload));
  return &talker;
}

std::uint64_t Talkers::packets_from(const policy::Prefix& prefix) const {
  std::uint64_t packets = 0;
  for (auto at = talkers_.lower_bound(prefix.base); at != talkers_.end() && prefix.holds(at->first); ++at)
    packets += at->second.packets;
  return packets;
}

std::vector<const Talker*> Talkers::sorted(SortKey key) const {
  std::vector<const Talker*> result;
  result.reserve(talkers_.size());
  for (const auto& [address, talker] : talkers_) result.push_back(&talker);
  std::ranges::stable_sort(result,
                           [key](const Talker* a, const Talker* b) { return weight(*a, key) > weight(*b, key); });
  return result;
}

} // namespace sipward::daemon
