// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/alerts.h"

#include <fmt/format.h>

#include "daemon/text.h"

namespace sipward::daemon {

std::string alert_of(const policy::Offence& notice, const UserNames& names) {
  const auto user = names.shown(notice.user.view());
  if (notice.notice == policy::Notice::UserBurnt)
    return fmt::format("user_burnt user={} source={} failures={}", user, to_string(notice.source),
                       notice.evidence.failures);
  return fmt::format("user_under_attack user={} last_source={}", user, to_string(notice.source));
}

std::string health_alert(const policy::Wellbeing::State& before, const policy::Wellbeing& now) {
  if (now.state().unwell == before.unwell) return {};
  const auto figures = now.figures();
  return fmt::format("server_{} served={} failed={} unanswered={}", now.state().unwell ? "unwell" : "well",
                     figures.served, figures.failed, figures.unanswered);
}

std::string sight_alert(const policy::Wellbeing::State& before, const policy::Wellbeing& now) {
  if (now.state().answers_unseen == before.answers_unseen) return {};
  return now.state().answers_unseen ? "answers_unseen only_hard_marks_block=yes" : "answers_seen";
}

std::string surge_alert(std::string_view server, policy::Surge::Event event, const policy::Surge& surge,
                        std::string_view talkers) {
  const bool rising = event == policy::Surge::Event::Rising;
  return fmt::format("surge{} server={} packets={:.0f}/s usually={:.0f}/s octets={:.0f}/s usually={:.0f}/s{}{}",
                     rising ? "" : "_over", server, surge.present().packets_per_s, surge.usual().packets_per_s,
                     surge.present().octets_per_s, surge.usual().octets_per_s, rising ? " talkers=" : "",
                     rising ? in_quotes(talkers) : "");
}

} // namespace sipward::daemon
