// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/block_json.h"
#include "daemon/control_answers.h"

namespace sipward::daemon {

// Blocks that wait to be confirmed: one of them, or all.
Answers::Result Answers::confirm(const Json& request) {
  std::optional<policy::Prefix> whom;
  if (request.value("subject", "") != "") {
    const auto prefix = subject_of(request);
    if (!prefix) return std::unexpected(prefix.error());
    whom = *prefix;
  }
  const auto confirmed = control_.confirm(whom);
  if (confirmed.empty())
    return std::unexpected(Refused{whom ? to_string(*whom) + " does not wait to be confirmed: it was, or it has ended"
                                        : "nothing waits to be confirmed: it was, or it has ended"});
  Json blocks = Json::array();
  for (const auto& subject : confirmed)
    if (const auto* block = control_.blocks_.find(subject)) blocks.push_back(block_json(*block, control_.clock_));
  return blocks;
}

Answers::Result Answers::allow(const Json& request) {
  const auto prefix = subject_of(request);
  if (!prefix) return std::unexpected(prefix.error());
  std::optional<std::chrono::seconds> length;
  if (const auto for_s = request.value("for_s", std::int64_t{0}); for_s != 0) {
    if (for_s < 1 || for_s > kLongestBlockS) return std::unexpected(Refused{"from one second to one year"});
    length = std::chrono::seconds(for_s);
  }
  if (const auto done = control_.allow(*prefix, length); !done) return std::unexpected(Refused{done.error()});
  const auto until = control_.allowed_.at(*prefix);
  return Json{{"subject", to_string(*prefix)},
              {"until", until ? Json(rfc3339(control_.clock_.at(*until))) : Json(nullptr)}};
}

Answers::Result Answers::disallow(const Json& request) {
  const auto prefix = subject_of(request);
  if (!prefix) return std::unexpected(prefix.error());
  if (!control_.end_allowance(*prefix))
    return std::unexpected(Refused{to_string(*prefix) + " was not allowed by this command; the settings' `allow` is "
                                                        "changed in the file"});
  return Json{{"subject", to_string(*prefix)}};
}

// Everybody who is never blocked by somebody's word.
Answers::Result Answers::allowed(const Json&) {
  Json list = Json::array();
  const auto add = [&](const policy::Prefix& prefix, const char* by, const std::optional<policy::Time>& until) {
    list.push_back({{"subject", to_string(prefix)},
                    {"by", by},
                    {"until", until ? Json(rfc3339(control_.clock_.at(*until))) : Json(nullptr)}});
  };
  for (const auto& prefix : control_.settings_.allow) add(prefix, "settings", std::nullopt);
  for (const auto& prefix : control_.allow_found_) add(prefix, "names and lists", std::nullopt);
  for (const auto& [prefix, until] : control_.allowed_) add(prefix, "command", until);
  for (const auto& [prefix, until] : control_.immune_) add(prefix, "unblock", until);
  for (const auto& address : control_.logged_in_) add(policy::Prefix::host(address), "login", std::nullopt);
  return list;
}

} // namespace sipward::daemon
