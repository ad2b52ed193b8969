// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "daemon/block_json.h"
#include "daemon/control_answers.h"

namespace sipward::daemon {

Answers::Result Answers::arm(const Json&) {
  const bool learned = control_.learning();
  control_.arm();
  return Json{{"was_learning", learned}};
}

Answers::Result Answers::block(const Json& request) {
  const auto prefix = subject_of(request);
  if (!prefix) return std::unexpected(prefix.error());
  const auto scope = request.value("scope", "sip");
  if (scope != "sip" && scope != "all") return std::unexpected(Refused{"a block's scope is sip or all"});
  const auto length = request.value("for_s", std::int64_t{3600});
  if (length < 1 || length > kLongestBlockS)
    return std::unexpected(Refused{"a block lasts from one second to one year"});
  Control::BlockOrder order{.prefix = *prefix,
                            .length = std::chrono::seconds(length),
                            .note = request.value("reason", ""),
                            .wholly = scope == "all",
                            .force = request.value("force", false)};
  if (const auto within = request.value("confirm_s", std::int64_t{0}); within != 0) {
    if (within < 1 || within > length) return std::unexpected(Refused{"--confirm must not be longer than --for"});
    order.confirm_within = std::chrono::seconds(within);
  }
  const auto subject = control_.carry_out(order);
  if (!subject) return std::unexpected(Refused{subject.error()});
  if (!control_.in_sync_)
    return std::unexpected(Refused{to_string(*subject) + " is noted, but nftables refuses it; see the daemon's log"});
  Json block = block_json(*control_.blocks_.find(*subject), control_.clock_);
  if (const auto waits = control_.unconfirmed_.find(*subject); waits != control_.unconfirmed_.end())
    block["confirm_until"] = rfc3339(control_.clock_.at(waits->second.until));
  return block;
}

Answers::Result Answers::unblock(const Json& request) {
  const auto prefix = subject_of(request);
  if (!prefix) return std::unexpected(prefix.error());
  const auto immunity = std::clamp<std::int64_t>(request.value("immune_s", std::int64_t{0}), 0, kLongestBlockS);
  auto changes = control_.blocks_.unblock(*prefix);
  if (!changes) {
    // Not blocked itself; its prefix may be, and then immunity alone lets it through.
    const policy::Block* around = prefix->is_host() ? control_.blocks_.covering(prefix->base) : nullptr;
    if (around == nullptr) return std::unexpected(Refused{changes.error()});
    if (immunity == 0)
      return std::unexpected(Refused{changes.error() + " itself, but " + to_string(around->subject) +
                                     " is: unblock that, or give --immune"});
  }
  if (changes) control_.collect(std::move(*changes));
  // Of an IPv6 host its whole source: that is what would be blocked again.
  const auto spared = prefix->is_host() ? control_.blocks_.host_subject(prefix->base).prefix : *prefix;
  if (immunity > 0) control_.make_immune(spared, std::chrono::seconds(immunity));
  control_.enforce();
  if (!control_.in_sync_)
    return std::unexpected(
        Refused{to_string(*prefix) + " is off the list, but nftables refuses the change; see the daemon's log"});
  return Json{{"subject", to_string(*prefix)}, {"immune_s", immunity}};
}

Answers::Result Answers::flush(const Json&) {
  const auto count = control_.blocks_.size();
  control_.collect(control_.blocks_.flush());
  control_.enforce();
  if (!control_.in_sync_)
    return std::unexpected(Refused{"the list is empty, but nftables refuses the change; see the daemon's log"});
  return Json{{"flushed", count}};
}

} // namespace sipward::daemon
