// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/control_answers.h"
#include "daemon/live_shadow.h"

namespace sipward::daemon {

// For status; null: nothing is tried.
Answers::Json Answers::shadow_json() const {
  if (!control_.shadow_) return nullptr;
  const LiveShadow& shadow = *control_.shadow_;
  const auto counters = control_.dataplane_->second_counters();
  const auto& counts = shadow.counts();
  return Json{{"file", control_.settings_.shadow.string()},
              {"since", rfc3339(control_.clock_.at(shadow.since()))},
              {"would_block", counts.would_block},
              {"would_limit", counts.would_limit},
              {"would_renew", counts.would_renew},
              {"more", counts.more},
              {"more_known", counts.more_known},
              {"less", counts.less},
              {"packets",
               {{"judged", counters.judged},
                {"would_drop", counters.dropped},
                {"more", counters.more},
                {"less", counters.less}}},
              {"lost_offences", counters.lost_offences}};
}

// Who would be blocked more, who less, and whom of them our servers know.
Answers::Result Answers::shadow(const Json&) {
  if (!control_.shadow_)
    return std::unexpected(Refused{"no second settings are tried: name their file in the settings, as shadow: /PATH"});
  auto answer = shadow_json();
  auto difference = daemon::shadow_json(control_.shadow_->difference(), control_.clock_);
  for (const char* list : {"more", "less", "otherwise"}) answer["blocks"][list] = std::move(difference[list]);
  answer["blocks"]["left_out"] = control_.shadow_->counts().left_out;
  return answer;
}

} // namespace sipward::daemon
