// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/control_answers.h"

namespace sipward::daemon {

Answers::Result Answers::reload(const Json&) {
  const auto done = control_.reload();
  if (!done) return std::unexpected(Refused{done.error()});
  Json lifted = Json::array();
  for (const auto& subject : done->lifted) lifted.push_back(to_string(subject));
  return Json{{"changed", done->changed}, {"for_restart", done->for_restart}, {"lifted", std::move(lifted)}};
}

} // namespace sipward::daemon
