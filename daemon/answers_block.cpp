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
  if (request.value("scope", "sip") != "sip")
    return std::unexpected(
        Refused{"--scope all for one block is not supported by this version; nftables.scope sets it for all"});
  const auto length = request.value("for_s", std::int64_t{3600});
  if (length < 1 || length > kLongestBlockS)
    return std::unexpected(Refused{"a block lasts from one second to one year"});
  auto changes =
      control_.blocks_.block(*prefix, std::chrono::seconds(length), request.value("reason", ""), monotonic_now());
  if (!changes) return std::unexpected(Refused{changes.error()});
  const auto subject = changes->back().block.subject;
  control_.end_immunity(subject.prefix); // the operator thinks better of it
  control_.collect(std::move(*changes));
  control_.enforce();
  if (!control_.in_sync_)
    return std::unexpected(Refused{to_string(subject) + " is noted, but nftables refuses it; see the daemon's log"});
  return block_json(*control_.blocks_.find(subject), control_.clock_);
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
