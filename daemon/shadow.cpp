// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/shadow.h"

#include <map>
#include <numeric>
#include <ostream>

#include "daemon/block_json.h"
#include "daemon/block_log.h"
#include "daemon/text.h"

namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;

using Firsts = std::map<policy::Subject, const policy::Block*>;
Firsts firsts(std::span<const policy::Block> blocks) {
  Firsts found;
  for (const auto& block : blocks) found.try_emplace(block.subject, &block);
  return found;
}

Json blocks_json(const std::vector<const policy::Block*>& blocks, const WallClock& clock) {
  Json list = Json::array();
  for (const auto* block : blocks) {
    list.push_back(block_json(*block, clock));
    list.back()["known"] = is_known(*block);
  }
  return list;
}

std::string line_of(const policy::Block& block) {
  return block_line({policy::BlockChange::Kind::Added, block, {}}, block.since, kCaptureClock) +
         (is_known(block) ? " KNOWN" : "");
}

void write_list(const char* title, const std::vector<const policy::Block*>& blocks, std::ostream& out) {
  if (blocks.empty()) return;
  out << title << "\n";
  for (const auto* block : blocks) out << "  " << line_of(*block) << "\n";
}

std::size_t known_among(const std::vector<const policy::Block*>& blocks) {
  return static_cast<std::size_t>(std::ranges::count_if(blocks, [](const auto* block) { return is_known(*block); }));
}

} // namespace

bool is_known(const policy::Block& block) noexcept { return block.evidence.trusted || block.evidence.successes > 0; }

ShadowDifference compare(std::span<const policy::Block> present, std::span<const policy::Block> other) {
  ShadowDifference difference;
  const Firsts now = firsts(present), then = firsts(other);
  for (const auto& block : other) {
    if (then.at(block.subject) != &block) continue;
    const auto same = now.find(block.subject);
    if (same == now.end())
      difference.more.push_back(&block);
    else if (same->second->reason != block.reason || same->second->since != block.since)
      difference.otherwise.push_back({same->second, &block});
  }
  for (const auto& block : present)
    if (now.at(block.subject) == &block && !then.contains(block.subject)) difference.less.push_back(&block);
  return difference;
}

ShadowDifference compare(const ReplayReport& present, const ReplayReport& other) {
  ShadowDifference difference = compare(present.blocks, other.blocks);
  difference.dropped_now = present.counters.dropped;
  difference.dropped_then = other.counters.dropped;
  return difference;
}

Json shadow_json(const ShadowDifference& difference, const WallClock& clock) {
  Json otherwise = Json::array();
  for (const auto& [now, then] : difference.otherwise)
    otherwise.push_back({{"now", block_json(*now, clock)}, {"then", block_json(*then, clock)}});
  return {{"more", blocks_json(difference.more, clock)},
          {"less", blocks_json(difference.less, clock)},
          {"otherwise", std::move(otherwise)},
          {"dropped_now", difference.dropped_now},
          {"dropped_then", difference.dropped_then}};
}

void write_shadow(const ShadowDifference& difference, const std::string& file, std::ostream& out) {
  out << "\nwith " << word(file) << " instead: " << difference.more.size() << " more blocked, "
      << known_among(difference.more) << " of them known to the servers; " << difference.less.size() << " less; "
      << difference.otherwise.size() << " for another reason or at another time; packets dropped "
      << difference.dropped_then << " instead of " << difference.dropped_now << "\n";
  write_list("more:", difference.more, out);
  write_list("less:", difference.less, out);
  if (!difference.otherwise.empty()) out << "otherwise:\n";
  for (const auto& [now, then] : difference.otherwise)
    out << "  now   " << line_of(*now) << "\n  then  " << line_of(*then) << "\n";
}

} // namespace sipward::daemon
