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
  case Why::RequestFlood:
  case Why::Excess: return Reason::RequestFlood;
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
bool is_flood(Why why) noexcept {
  return (why >= Why::RegisterFlood && why <= Why::MalformedFlood) || why == Why::Excess;
}

constexpr std::uint32_t kFewUsers = 3; // a source with fewer is one customer, not a building full of them

} // namespace

Verdict Judging::exceed(Class c, Action action) noexcept {
  source_->set(Source::kFlooding);
  if (source_->has(Source::kLimited) && action == Action::Block) action = Action::Limit; // the excess never arrives
  return convict(kFloods[static_cast<std::size_t>(c)], action);
}

// The host, or of one whom we trust only this port; and what may be done to them.
SubjectKind Judging::who_answers(Why why, bool hard, Action& action) const noexcept {
  if (!hard && rules_.soft == Rules::Soft::Logged) action = Action::Log;
  if (action != Action::Block || level() == 0) return SubjectKind::Host;
  // The ports that nobody is known at are anybody's; a known one within its own limit is not over. The excess goes.
  if (is_flood(why)) {
    action = Action::Limit;
    return SubjectKind::Host;
  }
  // Whoever knows a customer's port could have him cut off by one forged datagram; a carrier's everybody knows. And
  // after a restart we do not know the ports yet.
  const Trustee* trustee = ledger_.trust.find(case_.place.key, now_.s);
  const bool ports_unknown = trustee != nullptr && !trustee->heard();
  if (!proven_ && (known_port() || ports_unknown || rules_.peers.holds(stranger()))) action = Action::Log;
  return SubjectKind::Endpoint;
}

// Is it the one who receives our answers? A stranger, or a port that nobody honest uses, was proven once and for all;
// at a known port somebody else may have forged this.
bool Judging::is_proven() const noexcept {
  if (level() == 0) return source_->has(Source::kProven);
  return proven_ || (endpoint_ != nullptr && endpoint_->has(Source::kProven) && !known_port());
}

bool Judging::is_one_customer() const noexcept {
  const Trustee* trustee = ledger_.trust.find(case_.place.key, now_.s);
  return trustee != nullptr && trustee->level() == 1 && trustee->registered() < kFewUsers &&
         !rules_.peers.holds(stranger());
}

// One customer who scans, or tries one user after another, has lost our trust. A phone with an old password has not,
// nor has a building for one of its many.
void Judging::forfeit_trust(Why why) noexcept {
  if (!offence_.proven || is_flood(why) || !is_one_customer()) return;
  if (why == Why::AuthFailure && endpoint_ != nullptr && endpoint_->users_tried() <= 1) return;
  ledger_.trust.forget(case_.place.key);
  source_->set_level(0);
}

Verdict Judging::convict(Why why, Action action, const sip::Mark* mark) noexcept {
  const auto otherwise = [&](Why inbound) { return Verdict{outbound() ? Why::Answer : inbound}; };
  if (action == Action::Off) return otherwise(Why::Clean);
  if (rules_.never_blocked.holds(stranger())) return otherwise(Why::NeverBlocked);
  const bool hard = mark != nullptr && mark->weight == sip::Weight::Hard;
  if (!hard && rules_.soft == Rules::Soft::Suspended) return otherwise(Why::Suspended);

  const SubjectKind kind = who_answers(why, hard, action);
  Verdict verdict = otherwise(why);
  const bool limited = source_ != nullptr && source_->has(Source::kLimited);
  // Inline the very packet goes; but of what is logged or limited only what is above the limit, once that stands.
  if (!outbound())
    verdict.drop = action == Action::Block   ? rules_.drop_convicting
                   : action == Action::Limit ? rules_.drop_convicting || limited
                                             : hard && level() > 0 && rules_.drop_convicting;
  Source* reporter = source_;
  if (kind == SubjectKind::Endpoint && source_ != nullptr) {
    if (endpoint_ == nullptr) endpoint_ = ledger_.endpoints.find_or_insert(endpoint_key(), now_);
    if (endpoint_ != nullptr) reporter = endpoint_;
    source_->set(Source::kWatched);
  }
  if (reporter != nullptr && !reporter->claim_report(now_)) return verdict;
  fill(why, mark, kind);
  offence_.action = action;
  if (kind == SubjectKind::Endpoint && action == Action::Block) forfeit_trust(why);
  verdict.offence = true;
  return verdict;
}

// Whatever he sends counts. The meter is that of malformed messages, which has no other use for who is never blocked.
bool Judging::over_ceiling(Verdict& verdict) noexcept {
  const Ceiling* const ceiling = rules_.ceiling_of(stranger());
  if (ceiling == nullptr || source_ == nullptr) return false;
  has_ceiling_ = true;
  if (source_->meter(Class::Malformed, ceiling->meter, now_)) return false;
  verdict = {Why::Excess, rules_.drop_convicting || source_->has(Source::kLimited)};
  if (!source_->claim_report(now_)) return true;
  fill(Why::Excess, nullptr, SubjectKind::Host);
  offence_.action = Action::Limit;
  offence_.limit = ceiling->limit;
  offence_.evidence.limit_per_s = ceiling->limit.per_second;
  verdict.offence = true;
  return true;
}

// Writes down who did what, for the control thread. Once a second and source at most: it reads the message anew.
void Judging::fill(Why why, const sip::Mark* mark, SubjectKind kind) noexcept {
  const sip::Message message = sip::parse(payload_);
  const Source* const subject = kind == SubjectKind::Endpoint ? endpoint_ : source_;
  offence_ = {};
  offence_.source = stranger();
  offence_.source_port = port();
  offence_.kind = kind;
  offence_.reason = reason_of(why);
  offence_.at = now_.time;
  const Class c = why == Why::MalformedFlood ? Class::Request : class_of(why); // malformed ones have no other rate
  const Rate& rate = rules_.rate(c).limit;
  const std::uint32_t factor = kTrustFactors[level()];
  offence_.limit = {rate.per_second * factor, rate.burst * factor};
  auto& evidence = offence_.evidence;
  if (mark != nullptr) evidence.mark = Excerpt(mark->name);
  if (outbound()) {
    evidence.method = Excerpt(text(message.cseq_method_token));
  } else {
    evidence.user_agent = Excerpt(text(message.user_agent));
    evidence.method = Excerpt(text(message.method_token));
    if (message.kind == sip::Kind::Request && source_ != nullptr) source_->try_user(user_hash(message));
  }
  if (is_flood(why)) {
    evidence.limit_per_s = rules_.rate(class_of(why)).limit.per_second * factor;
    if (const Source* network = level() == 0 ? ledger_.networks.find(network_key()) : nullptr;
        network != nullptr && network->has(Source::kFlooding))
      evidence.limit_per_s /= kStrictness;
  }
  offence_.packets_before = subject != nullptr ? subject->packets.load(std::memory_order_relaxed) : 1;
  if (source_ == nullptr) return;
  offence_.proven = is_proven();
  evidence.rate_per_s = source_->rate_per_s(now_);
  evidence.successes = source_->successes.load(std::memory_order_relaxed);
  evidence.soft_marks = source_->soft();
  evidence.trusted = level() > 0;
  if (const Trustee* trustee = ledger_.trust.find(case_.place.key, now_.s)) evidence.registered = trustee->registered();
  if (subject == nullptr) return;
  evidence.users = subject->users_tried();
  evidence.failures = subject->failures.load(std::memory_order_relaxed);
  offence_.one_user = why == Why::AuthFailure && evidence.users <= 1;
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
