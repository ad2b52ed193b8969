// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/judging.h"

// From a broken rule to a verdict. Who is trusted answers for the port that did it, not for the neighbours behind his
// address; and for what could be forged in his name, nobody is blocked at all where somebody honest is at home.
namespace sipward::policy {
namespace {

Reason reason_of(Why why) noexcept {
  switch (why) {
  case Why::RegisterFlood: return Reason::RegisterFlood;
  case Why::InviteFlood: return Reason::InviteFlood;
  case Why::OptionsFlood: return Reason::OptionsFlood;
  case Why::RequestFlood: return Reason::RequestFlood;
  case Why::MalformedFlood: return Reason::Malformed;
  case Why::Enumeration: return Reason::Enumeration;
  case Why::AuthFailure: return Reason::AuthFailure;
  default: return Reason::Scanner;
  }
}

constexpr std::array<Why, kClasses> kFloods{Why::RegisterFlood, Why::InviteFlood, Why::OptionsFlood, Why::RequestFlood,
                                            Why::MalformedFlood};
Class class_of(Why why) noexcept {
  for (std::size_t c = 0; c < kClasses; ++c)
    if (kFloods[c] == why) return static_cast<Class>(c);
  return Class::Request;
}
bool is_flood(Why why) noexcept { return why >= Why::RegisterFlood && why <= Why::MalformedFlood; }

} // namespace

Verdict Judging::exceed(Class c) noexcept {
  source_->set(Source::kFlooding);
  return convict(kFloods[static_cast<std::size_t>(c)], rules_.rate(c).action);
}

// All but hard marks may be suspended. False: it is not judged at all.
bool Judging::soft_verdict(Action& action) const noexcept {
  if (rules_.soft == Rules::Soft::Suspended) return false;
  if (rules_.soft == Rules::Soft::Logged) action = Action::Log;
  return true;
}

bool Judging::known_port() const noexcept {
  const Source* endpoint = ledger_.endpoints.find(endpoint_key());
  return endpoint != nullptr && endpoint->successes.load(std::memory_order_relaxed) > 0;
}

Verdict Judging::convict(Why why, Action action, const sip::Mark* mark) noexcept {
  const Verdict clean{outbound() ? Why::Answer : Why::Clean};
  if (action == Action::Off) return clean;
  if (rules_.never_blocked.holds(stranger())) return {outbound() ? Why::Answer : Why::NeverBlocked};
  const bool hard = mark != nullptr && mark->weight == sip::Weight::Hard;
  if (!hard && !soft_verdict(action)) return clean;

  SubjectKind kind = SubjectKind::Host;
  if (action == Action::Block && level() > 0) {
    // A flood from ports that nobody is known at, or what a known one sends beyond all measure: the excess goes. Any
    // other offence is the port's.
    if (is_flood(why) || (known_port() && !source_->has(Source::kProven)))
      action = hard ? Action::Log : Action::Limit;
    else
      kind = SubjectKind::Endpoint;
  }
  Verdict verdict{.why = outbound() ? Why::Answer : why};
  if (!outbound() && action != Action::Log)
    verdict.drop =
        rules_.drop_convicting || (action == Action::Limit && source_ != nullptr && source_->has(Source::kLimited));
  if (!outbound() && hard && level() > 0) verdict.drop = rules_.drop_convicting; // whoever sent it, not this packet
  if (source_ == nullptr || source_->claim_report(now_)) {
    fill(why, mark);
    offence_.action = action;
    offence_.kind = kind;
    if (action == Action::Limit) {
      const Rate& rate =
          rules_.rate(is_flood(why) && why != Why::MalformedFlood ? class_of(why) : Class::Request).limit;
      const std::uint32_t factor = kTrustFactors[level()];
      offence_.limit = {rate.per_second * factor, rate.burst * factor};
    }
    if (source_ != nullptr && action == Action::Limit) source_->set(Source::kLimited);
    if (source_ != nullptr && kind == SubjectKind::Endpoint) source_->set(Source::kWatched);
    verdict.offence = true;
  }
  return verdict;
}

// Writes down who did what, for the control thread. Once a second and source at most: it reads the message anew.
void Judging::fill(Why why, const sip::Mark* mark) noexcept {
  const sip::Message message = sip::parse(payload_);
  offence_ = {};
  offence_.source = stranger();
  offence_.source_port = port();
  offence_.reason = reason_of(why);
  offence_.packets_before = source_ != nullptr ? source_->packets.load(std::memory_order_relaxed) : 1;
  offence_.at = now_.time;
  auto& evidence = offence_.evidence;
  if (mark != nullptr) evidence.mark = Excerpt(mark->name);
  if (outbound()) {
    evidence.method = Excerpt(text(message.cseq_method_token));
  } else {
    evidence.user_agent = Excerpt(text(message.user_agent));
    evidence.method = Excerpt(text(message.method_token));
    if (message.kind == sip::Kind::Request && source_ != nullptr) source_->try_user(user_hash(message));
  }
  if (is_flood(why)) evidence.limit_per_s = rules_.rate(class_of(why)).limit.per_second * kTrustFactors[level()];
  if (source_ == nullptr) return;
  offence_.proven = source_->has(Source::kProven);
  evidence.rate_per_s = source_->rate_per_s(now_);
  evidence.users = source_->users_tried();
  evidence.failures = source_->failures.load(std::memory_order_relaxed);
  evidence.successes = source_->successes.load(std::memory_order_relaxed);
  evidence.soft_marks = source_->soft();
  evidence.trusted = level() > 0;
  offence_.one_user = why == Why::AuthFailure && evidence.users <= 1;
  if (const Trustee* trustee = ledger_.trust.find(case_.place.key, now_.s)) evidence.registered = trustee->registered();
}

Verdict Judging::notify(Notice notice, std::string_view user) noexcept {
  offence_ = {};
  offence_.source = stranger();
  offence_.source_port = port();
  offence_.notice = notice;
  offence_.at = now_.time;
  offence_.user = Excerpt(user);
  if (source_ != nullptr) {
    offence_.evidence.failures = source_->failures.load(std::memory_order_relaxed);
    offence_.evidence.successes = source_->successes.load(std::memory_order_relaxed);
  }
  return {.why = outbound() ? Why::Answer : Why::Clean, .offence = true};
}

} // namespace sipward::policy
