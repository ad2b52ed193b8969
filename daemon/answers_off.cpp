// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/control_answers.h"

namespace sipward::daemon {

Answers::Json Answers::off_json() const {
  const auto& off = control_.off_;
  if (!off.off) return nullptr;
  return {{"since", rfc3339(off.since)},
          {"until", off.until ? Json(rfc3339(*off.until)) : Json(nullptr)},
          {"reason", utf8(off.reason)}};
}

Answers::Result Answers::off(const Json& request) {
  std::optional<std::chrono::seconds> length;
  if (request.contains("for_s")) {
    length = std::chrono::seconds(request.value("for_s", std::int64_t{0}));
    if (length->count() < 1 || length->count() > kLongestBlockS)
      return std::unexpected(Refused{"it is off for one second to one year, or until `sipward on`"});
  }
  if (!control_.switch_off(length, request.value("reason", "")))
    return std::unexpected(Refused{"switched off, but nftables refuses to give up the table; see the daemon's log"});
  return Json{{"off", off_json()}, {"blocks", control_.blocks_.size()}};
}

Answers::Result Answers::on(const Json&) {
  const bool was_off = control_.is_off();
  if (was_off && !control_.switch_on("by hand"))
    return std::unexpected(Refused{"switched on, but nftables refuses the table; see the daemon's log"});
  return Json{{"was_off", was_off}, {"blocks", control_.blocks_.size()}};
}

} // namespace sipward::daemon
