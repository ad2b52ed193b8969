// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/drop_rules.h"

#include <algorithm>
#include <utility>

namespace sipward::dataplane {

DropRules::DropRules(std::vector<std::unique_ptr<Nic>> nics, std::vector<std::uint16_t> ports, std::size_t most)
    : nics_(std::move(nics)), ports_(std::move(ports)), most_(nics_.empty() ? 0 : most) {
  if (ports_.empty()) ports_.push_back(0);
}

DropRules::~DropRules() {
  for (auto& [source, talker] : talkers_) uninstall(talker);
}

void DropRules::add(const policy::Prefix& source, double rate_per_s) {
  if (nics_.empty()) return;
  if (const auto known = talkers_.find(source); known != talkers_.end()) {
    known->second.rate_per_s = rate_per_s;
    known->second.before = count(known->second);
    return;
  }
  if (talkers_.size() >= most_) {
    const auto slowest =
        std::ranges::min_element(talkers_, {}, [](const auto& entry) { return entry.second.rate_per_s; });
    if (slowest == talkers_.end() || slowest->second.rate_per_s >= rate_per_s) {
      ++refused_;
      return;
    }
    uninstall(slowest->second);
    talkers_.erase(slowest);
  }
  Talker talker{rate_per_s, {}, 0};
  if (!install(source, talker)) {
    most_ = talkers_.size();
    ++refused_;
  } else if (!talker.rules.empty()) {
    talkers_.emplace(source, std::move(talker));
  }
}

void DropRules::remove(const policy::Prefix& source) {
  const auto found = talkers_.find(source);
  if (found == talkers_.end()) return;
  uninstall(found->second);
  talkers_.erase(found);
}

void DropRules::set_ports(std::vector<std::uint16_t> ports) {
  if (ports.empty()) ports.push_back(0);
  if (ports == std::exchange(ports_, std::move(ports))) return;
  for (auto at = talkers_.begin(); at != talkers_.end();) {
    auto& [source, talker] = *at;
    const std::uint64_t dropped = count(talker) - talker.before;
    uninstall(talker);
    if (install(source, talker)) {
      talker.before = count(talker) - dropped; // modulo 2^64, as the difference is
      ++at;
    } else { // they hold fewer of these
      ++refused_;
      at = talkers_.erase(at);
    }
  }
}

std::uint64_t DropRules::dropped(const policy::Prefix& source) const {
  const auto found = talkers_.find(source);
  return found == talkers_.end() ? 0 : count(found->second) - found->second.before;
}

std::uint64_t DropRules::count(const Talker& talker) {
  std::uint64_t packets = 0;
  for (const auto& [nic, rule] : talker.rules) packets += nic->dropped(rule);
  return packets;
}

// All of a source's rules, or none: false.
bool DropRules::install(const policy::Prefix& source, Talker& talker) {
  for (const auto& nic : nics_)
    for (const std::uint16_t port : ports_) {
      if (!nic->takes(source.base.family)) continue;
      void* rule = nic->install({source, port});
      if (rule == nullptr) {
        uninstall(talker);
        return false;
      }
      talker.rules.push_back({nic.get(), rule});
    }
  return true;
}

void DropRules::uninstall(Talker& talker) {
  for (const auto& [nic, rule] : talker.rules) nic->remove(rule);
  talker.rules.clear();
}

} // namespace sipward::dataplane
