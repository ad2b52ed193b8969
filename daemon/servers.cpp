// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/servers.h"

#include <algorithm>

namespace sipward::daemon {

using policy::Address;

bool ServerSearch::is_port(std::uint16_t port) const noexcept {
  return std::ranges::find(ports_, port) != ports_.end();
}

bool ServerSearch::concerns(const policy::Datagram& datagram) const noexcept {
  return is_port(datagram.source_port) || is_port(datagram.destination_port);
}

void ServerSearch::note(const policy::Datagram& datagram, const sip::Message& message) {
  const auto remember = [](std::set<Address>& peers, const Address& peer) {
    if (peers.size() < kMaxPeers) peers.insert(peer);
  };
  if (message.kind == sip::Kind::Response && is_port(datagram.source_port)) {
    Party* server = party(datagram.source);
    if (server == nullptr) return;
    remember(server->answered, datagram.destination);
    if (message.cseq_method == sip::Method::Register) remember(server->answered_register, datagram.destination);
  } else if (message.kind == sip::Kind::Request && is_port(datagram.destination_port)) {
    if (Party* server = party(datagram.destination)) server->asked = true;
  }
}

ServerSearch::Party* ServerSearch::party(const Address& address) {
  const auto at = parties_.find(address);
  if (at != parties_.end()) return &at->second;
  return parties_.size() < kMaxParties ? &parties_[address] : nullptr;
}

bool ServerSearch::answers_anybody(const Address& address) const {
  const auto at = parties_.find(address);
  return at != parties_.end() && !at->second.answered.empty();
}

bool ServerSearch::answers_registers(const Address& address) const {
  const auto at = parties_.find(address);
  return at != parties_.end() && !at->second.answered_register.empty();
}

ServerSearch::Found ServerSearch::found() const {
  const auto those = [this](Evidence evidence, auto is_server) {
    Found found{{}, evidence};
    for (const auto& [address, party] : parties_)
      if (is_server(party)) found.servers.push_back(address);
    return found;
  };
  std::size_t most = 0;
  for (const auto& [address, party] : parties_) most = std::max(most, party.answered.size());
  if (most == 0) {
    auto asked = those(Evidence::Requests, [](const Party& party) { return party.asked; });
    if (asked.servers.empty()) asked.evidence = Evidence::None;
    return asked;
  }
  auto clear = those(Evidence::Answers, [this](const Party& party) {
    return std::ranges::any_of(party.answered_register,
                               [this](const auto& peer) { return !answers_registers(peer); }) ||
           std::ranges::any_of(party.answered, [this](const auto& peer) { return !answers_anybody(peer); });
  });
  if (!clear.servers.empty()) return clear;
  return those(Evidence::Answers, [most](const Party& party) { return party.answered.size() == most; });
}

} // namespace sipward::daemon
