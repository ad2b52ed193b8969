// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/marks.h"

#include <algorithm>
#include <array>

#include "sip/text.h"

namespace sipward::sip {
namespace {

using namespace text;

// Tools that nobody uses for calls: safe to drop on.
constexpr std::array<std::string_view, 22> kShipped{
    "*friendly-scanner*",
    "*sipvicious*",
    "*sundayddr*",
    "*sundayaddr*",
    "sipcli/*",
    "pplsip",
    "sipptk",
    "*vaxsipuseragent*",
    "*vaxipuseragent*",
    "sip-scan*",
    "*sipscan*",
    "iwar",
    "*sivus*",
    "smap",
    "smap/*",
    "gulp",
    "sipv",
    "siparmyknife*",
    "*viproy*",
    "protos*",
    "nmap nse",
    "hacker",
};

std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}

} // namespace

Marks::Marks(std::span<const std::string> user_agents) {
  patterns_.reserve(kShipped.size() + user_agents.size());
  const auto add = [&](std::string_view written) {
    Pattern pattern{std::string(written), {}, false, false};
    std::string_view text = written;
    pattern.leading_star = text.starts_with('*');
    if (pattern.leading_star) text.remove_prefix(1);
    pattern.trailing_star = text.ends_with('*');
    if (pattern.trailing_star) text.remove_suffix(1);
    pattern.text = lowered(text);
    patterns_.push_back(std::move(pattern));
  };
  for (const std::string_view shipped : kShipped) add(shipped);
  for (const std::string& own : user_agents)
    if (valid_pattern(own)) add(own);
  for (const Pattern& pattern : patterns_) marks_.push_back({pattern.written, Weight::Hard});
}

const Mark* Marks::find(const Message& message, std::string_view datagram) const noexcept {
  if (!message.user_agent.present()) return nullptr;
  const std::string_view value = message.user_agent.in(datagram);
  for (std::size_t i = 0; i < patterns_.size(); ++i) {
    const Pattern& pattern = patterns_[i];
    if (value.size() < pattern.text.size()) continue;
    const std::size_t last = pattern.leading_star ? value.size() - pattern.text.size() : 0;
    for (std::size_t at = 0; at <= last; ++at) {
      if (!pattern.trailing_star && at + pattern.text.size() != value.size()) continue;
      if (equals(value.substr(at, pattern.text.size()), pattern.text)) return &marks_[i];
    }
  }
  return nullptr;
}

bool Marks::valid_pattern(std::string_view pattern) noexcept {
  if (pattern.starts_with('*')) pattern.remove_prefix(1);
  if (pattern.ends_with('*')) pattern.remove_suffix(1);
  if (pattern.size() < 3 || pattern.size() > 255) return false;
  return std::all_of(pattern.begin(), pattern.end(),
                     [](char c) { return c != '*' && static_cast<unsigned char>(c) >= ' ' && c != 0x7f; });
}

} // namespace sipward::sip
