// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <limits>

#include "policy/judging.h"

// What our server answers says more than any rate: whom it knows, whose credentials it rejects. A first challenge is
// half of every honest handshake, a 5xx is our own trouble, and a number that nobody has is its caller's own affair:
// none of these is a failure.
namespace sipward::policy {
namespace {

// Longer than an honest phone takes to answer a challenge: half a second there and back is a satellite's.
constexpr std::int64_t kHandshakeMs = 600;
constexpr unsigned kFewOpen = 10;          // challenges that may wait for their answers, however long
constexpr std::uint8_t kBurntAfter = 20;   // rejections before a success: the guesser has found one
constexpr unsigned kSourcesOnOneUser = 25; // within kTargetS: somebody has hired a crowd
constexpr std::uint32_t kTargetS = 24 * 3600;

bool contains_stale(std::string_view challenge) noexcept {
  constexpr std::string_view kStale = "stale=true";
  const auto same = [](char a, char b) { return (a | 0x20) == (b | 0x20); };
  return std::search(challenge.begin(), challenge.end(), kStale.begin(), kStale.end(), same) != challenge.end();
}

} // namespace

std::uint64_t Judging::transaction_hash(const sip::Message& message, sip::Method method) const noexcept {
  const std::uint64_t with = case_.place.key ^ std::uint64_t{message.cseq} << 8 ^ static_cast<std::uint64_t>(method);
  return ledger_.hash(text(message.via_branch), ledger_.hash(text(message.call_id), with));
}

Verdict Judging::observe() noexcept {
  const sip::Message message = sip::parse(payload_);
  if (message.kind == sip::Kind::Request) observe_request(message);
  if (message.kind != sip::Kind::Response) return {Why::Answer};
  note_echoes(message);
  if (source_ == nullptr) return {Why::Answer};

  const std::uint64_t hash = transaction_hash(message, message.cseq_method);
  const auto found = ledger_.transactions.find(hash, now_.s, Ledger::kTransactionS);
  std::uint8_t note = found.value_or(Ledger::kRefunded);    // who asked what we do not know is given nothing back
  if ((note & Ledger::kSettled) != 0) return {Why::Answer}; // a repeated answer says nothing new
  const bool credentialed = (note & Ledger::kCredentialed) != 0;
  const bool guesses_wait = credentialed && message.status >= 300 && (note & Ledger::kCount) > 1;
  proven_ = credentialed;
  const Verdict verdict = weigh_answer(message, note);
  if (guesses_wait)
    --note;
  else if (message.status >= 200)
    note |= Ledger::kSettled;
  if (found && message.status >= 180) ledger_.transactions.put(hash, now_.s, note);
  return verdict;
}

Verdict Judging::weigh_answer(const sip::Message& message, std::uint8_t& transaction) noexcept {
  const unsigned status = message.status;
  const sip::Method method = message.cseq_method;
  const bool ringing =
      method == sip::Method::Invite && ((status >= 180 && status < 200) || status == 486 || status == 487);
  if (level() > 0) note_pulse(status);
  if (ringing || (status >= 200 && status < 300)) return success(message, transaction);
  if (status == 401 || status == 407) {
    if (!proven_) return tried_in_vain(message);
    const sip::Digest& digest =
        message.www_authenticate.value.present() ? message.www_authenticate : message.proxy_authenticate;
    return contains_stale(text(digest.value)) ? Verdict{Why::Answer} : failure(message);
  }
  if (method == sip::Method::Register && (status == 403 || status == 404)) return failure(message);
  // A stranger who has nothing to show for it asks for users whom our server does not have, or not for him. Busy lines
  // and the like (408, 480 and above) are there.
  const bool refused = status >= 400 && status < 480 && status != 408;
  if (refused && level() == 0 && source_->successes.load(std::memory_order_relaxed) == 0) return tried_in_vain(message);
  return {Why::Answer};
}

// A first challenge is an answer, but neither success nor failure.
void Judging::note_pulse(unsigned status) noexcept {
  Pulse& pulse = ledger_.pulse;
  if (status < 180) return; // "100 Trying" comes from whoever is nearest
  pulse.answered.note(source_hash());
  if (status < 300) pulse.served.note(source_hash());
  if (status >= 500 && status < 600) pulse.failed.note(source_hash());
}

// Our own server asks: what comes back with its branch, or later with its tag, is no intrusion.
void Judging::observe_request(const sip::Message& message) noexcept {
  const bool makes_trust = message.method == sip::Method::Register || message.method == sip::Method::Invite;
  const auto known = echoed(Echo::Branch, message.via_branch); // a retransmission is credited no second time
  if (!known) put_echo(Echo::Branch, message.via_branch, makes_trust ? Ledger::kAnswered : 0);
  put_echo(Echo::Tag, message.from_tag, Ledger::kDialogue);
}

void Judging::note_echoes(const sip::Message& message) noexcept {
  if (!message.to_tag.empty()) {
    std::uint8_t note = echoed(Echo::Tag, message.to_tag).value_or(0);
    if (message.status < 300 && message.cseq_method != sip::Method::Register &&
        message.cseq_method != sip::Method::Options)
      note |= Ledger::kDialogue;
    // One call is credited once, however often its answer is repeated.
    const bool answered = message.cseq_method == sip::Method::Invite && message.status >= 200 && message.status < 300;
    if (answered && (note & Ledger::kCredited) == 0) note |= Ledger::kAnswered;
    put_echo(Echo::Tag, message.to_tag, note);
  }
  for (const sip::Digest* digest : {&message.www_authenticate, &message.proxy_authenticate})
    if (!echoed(Echo::Nonce, digest->nonce)) put_echo(Echo::Nonce, digest->nonce, 0);
}

// What is answered with success is given back to the meter, all but an eighth: however honest, no class is a free
// flood.
void Judging::settle_meter(const sip::Message& message, std::uint8_t& transaction) noexcept {
  const Class c = class_of(message.cseq_method);
  if ((transaction & (Ledger::kRefunded | Ledger::kLight)) != 0 || rules_.rate(c).action == Action::Off) return;
  transaction |= Ledger::kRefunded;
  credit(c, Meter::kWhole - Meter::kExempt);
}

Verdict Judging::success(const sip::Message& message, std::uint8_t& transaction) noexcept {
  settle_meter(message, transaction);
  if (message.status >= 300 || message.status < 200) return {Why::Answer};
  if (message.cseq_method != sip::Method::Register) return {Why::Answer}; // anybody's OPTIONS is answered 200
  Source::count(source_->successes);
  const std::uint64_t user = user_hash(message);
  source_->clear_user(user);
  const unsigned failures = source_->failures.load(std::memory_order_relaxed);
  Source::count_down(source_->failures, std::max(failures / 8, 1u));
  // One success among many failures is a guess that hit.
  if (failures > 3u + source_->successes.load(std::memory_order_relaxed))
    return failures >= kBurntAfter && level() == 0 ? notify(Notice::UserBurnt, text(message.to_user))
                                                   : Verdict{Why::Answer};
  ledger_.known_users.put(user, minute(), Ledger::kUser);
  grant_trust(user, true);
  return {Why::Answer};
}

void Judging::grant_trust(std::uint64_t user, bool registered) noexcept {
  if (rules_.remember_s == 0) return;
  Trustee* trustee = ledger_.trust.find_or_insert(case_.place.key, now_.s);
  trustee->until_s.store(now_.s + rules_.remember_s, std::memory_order_relaxed);
  if (registered) trustee->count_user(user);
  trustee->count_answer(now_.s);
  ledger_.known_users.put(port_hash(), minute(), 0);
  if (const std::uint8_t level = trustee->level(); level > source_->level()) source_->set_level(level);
}

// A user who registered before, at a new address, and he receives our answers: a line that came back with another one.
// Whether it is he, our server says in a moment; until then he is no stranger. Not where anybody has failed already.
void Judging::trust_provisionally(std::uint64_t user) noexcept {
  if (rules_.remember_s == 0 || !is_known(user) || source_->failures.load(std::memory_order_relaxed) > 0) return;
  const Trustee* const before = ledger_.trust.find(case_.place.key, now_.s);
  if (before != nullptr && !before->provisional(now_.s)) return;
  Trustee* trustee = ledger_.trust.find_or_insert(case_.place.key, now_.s);
  if (before == nullptr) trustee->until_s.store(now_.s + kProvisionalS, std::memory_order_relaxed);
  trustee->count_user(user);
  if (const std::uint8_t level = trustee->level(); level > source_->level()) source_->set_level(level);
}

void Judging::end_provisional_trust() noexcept {
  const Trustee* const trustee = ledger_.trust.find(case_.place.key, now_.s);
  if (trustee == nullptr || !trustee->provisional(now_.s)) return;
  ledger_.trust.forget(case_.place.key);
  source_->set_level(0);
}

// Somebody whom we trust answers by the port: one bad phone among many. Not for what anybody could have sent in his
// name from a port that he is known to use. nullptr: nobody.
Source* Judging::answerable() noexcept {
  if (level() == 0) return source_;
  if (!proven_ && known_port()) return nullptr;
  endpoint_ = ledger_.endpoints.find_or_insert(endpoint_key(), now_);
  if (endpoint_ == nullptr) return nullptr;
  endpoint_->touch(now_, rules_.users_s());
  if (proven_) endpoint_->set(Source::kProven);
  return endpoint_;
}

Verdict Judging::failure(const sip::Message& message) noexcept {
  Source::count(source_->failures);
  if (level() > 0) end_provisional_trust();
  if (level() > 0) ledger_.pulse.failed.note(source_hash());
  Source* const subject = answerable();
  if (subject == nullptr) return {Why::Answer};
  const std::uint64_t user = user_hash(message);
  if (subject != source_) Source::count(subject->failures);
  // Who registered before is no user tried; but one phone that fails is told from many.
  if (subject != source_ || !is_known(user)) subject->try_user(user);
  if (is_crowd(user)) return notify(Notice::UserUnderAttack, text(message.to_user));
  const unsigned weight = Meter::kWhole * (1u + source_->soft());
  const bool often =
      rules_.auth_failure.action != Action::Off && subject->charge(kFailureMeter, rules_.failure_meter(), now_, weight);
  if (!is_known(user) && enumerates(*subject)) return convict(Why::Enumeration, rules_.enumeration.action);
  if (often || guesses_by_many_ports(user, weight)) return convict(Why::AuthFailure, rules_.auth_failure.action);
  return {Why::Answer};
}

// One customer who guesses at several users, from port after port, each too seldom to be told: he has lost our trust.
bool Judging::guesses_by_many_ports(std::uint64_t user, unsigned weight) noexcept {
  if (level() == 0 || !proven_ || !is_one_customer() || is_known(user)) return false;
  source_->try_user(user);
  const bool over =
      rules_.auth_failure.action != Action::Off && source_->charge(kFailureMeter, rules_.failure_meter(), now_, weight);
  if (!over || source_->users_tried() < 2) return false;
  ledger_.trust.forget(case_.place.key);
  source_->set_level(0);
  return true;
}

// Do many sources guess this user's password, each too slowly to be told apart? True once for each such time.
bool Judging::is_crowd(std::uint64_t user) noexcept {
  Source* target = ledger_.targets.find_or_insert(Ledger::target_key(user), now_);
  if (target == nullptr) return false;
  target->touch(now_, kTargetS / 8);
  target->try_user(level() > 0 ? port_hash() : source_hash()); // a trusted one may change his port at each try
  const unsigned sources = target->users_tried();
  if (sources < kSourcesOnOneUser / 2) target->clear(Source::kWatched);
  if (sources < kSourcesOnOneUser || target->has(Source::kWatched)) return false;
  target->set(Source::kWatched);
  return true;
}

// A try that came to nothing, as yet: the user counts as tried until he shows credentials.
Verdict Judging::tried_in_vain(const sip::Message& message) noexcept {
  const std::uint64_t user = user_hash(message);
  if (is_known(user)) return {Why::Answer};
  Source* const subject = answerable();
  if (subject == nullptr) return {Why::Answer};
  Source::count(subject->unanswered);
  if (subject->unanswered.load(std::memory_order_relaxed) <= kFewOpen) note_plausible();
  subject->try_user(user);
  return enumerates(*subject) ? convict(Why::Enumeration, rules_.enumeration.action) : Verdict{Why::Answer};
}

// Many users tried, and not in the way of an office whose phones all come back at once: those answer their challenges.
bool Judging::enumerates(const Source& subject) const noexcept {
  if (rules_.enumeration.action == Action::Off) return false;
  // Users are an estimate that forgets; what was left unanswered is exact, and makes up for a quarter of them.
  const std::uint32_t most = rules_.enumeration.count;
  const std::uint32_t unanswered = subject.unanswered.load(std::memory_order_relaxed);
  const std::uint32_t users = subject.users_tried() * (1u + source_->soft());
  if (users < most && (users < most - most / 4 || unanswered < most + most / 4)) return false;
  if (subject.failures.load(std::memory_order_relaxed) * 2u >= most) return true;
  return unanswered > kFewOpen && !plausible_lately();
}

// When the stranger last did as the honest do: he had few challenges open, or answered one. It stands among the echoes,
// in seconds, with 4 ms as the unit of its note.
std::uint64_t Judging::plausible_hash() const noexcept {
  return ~ledger_.hash({}, level() > 0 ? port_hash() : source_hash());
}

void Judging::note_plausible() noexcept {
  const auto ms = now_.time.time_since_epoch() / std::chrono::milliseconds(1) % 1000;
  ledger_.echoes.put(plausible_hash(), now_.s, static_cast<std::uint8_t>(ms / 4));
}

bool Judging::plausible_lately() const noexcept {
  const auto ms = now_.time.time_since_epoch() / std::chrono::milliseconds(1) % 1000;
  for (const std::uint32_t seconds : {0u, 1u})
    if (const auto note = ledger_.echoes.find(plausible_hash(), now_.s, seconds))
      return seconds * 1000 + ms - *note * 4 <= kHandshakeMs;
  return false;
}

} // namespace sipward::policy
