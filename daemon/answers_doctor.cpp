// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/control_answers.h"

namespace sipward::daemon {

// What only the daemon knows of the traffic: for `sipward doctor`.
Answers::Result Answers::doctor(const Json&) {
  auto& dataplane = *control_.dataplane_;
  const auto counters = dataplane.counters();
  std::uint64_t users = 0, most = 0;
  policy::SourceKey registrar = 0;
  const auto& trust = dataplane.ledger().trust;
  trust.each(0, trust.lines(), policy::Now(monotonic_now()).s, [&](const policy::Trustee& trustee) {
    const std::uint64_t registered = trustee.registered();
    users += registered;
    if (registered <= most) return;
    most = registered;
    registrar = trustee.key.load(std::memory_order_relaxed);
  });
  const auto prefix = policy::source_prefix(registrar, control_.settings_.sources.ipv6_prefix);
  return Json{{"received", counters.received},
              {"bad_checksum", counters.verdicts[static_cast<std::size_t>(policy::Why::BadChecksum)]},
              {"lost", dataplane.lost().rx},
              {"answers_unseen", control_.wellbeing_.state().answers_unseen},
              {"in_sync", control_.kernel_in_sync()},
              {"registered_users", users},
              {"most_registered", most},
              {"registrar", most > 0 ? to_string(prefix) : ""},
              {"off", control_.is_off()},
              {"learning", control_.learning()},
              {"hugepages", dataplane.on_hugepages()},
              {"state_trouble", control_.state_trouble_},
              {"gone", dataplane.gone()},
              {"too_long", counters.verdicts[static_cast<std::size_t>(policy::Why::TooLong)]},
              {"running_s", std::chrono::floor<std::chrono::seconds>(monotonic_now() - control_.started_).count()}};
}

} // namespace sipward::daemon
