// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <limits>

#include "policy/judging.h"

// What our server answers says more than any rate: whom it knows, whose credentials it rejects. A first challenge is
// half of every honest handshake, a 5xx is our own trouble, and a number that nobody has is its caller's own affair:
// none of these is a failure.
namespace sipward::policy {
namespace {

constexpr std::uint32_t kHandshakeS = 1;    // and a fraction: longer than an honest phone takes to answer a challenge
constexpr std::uint32_t kChallengedS = 600; // a first challenge is remembered for so long
constexpr std::uint8_t kBurntAfter = 20;    // rejections before a success: the guesser has found one
constexpr unsigned kSourcesOnOneUser = 25;  // within kTargetS: somebody has hired a crowd
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
  std::uint8_t note = found.value_or(0);
  const bool settled = (note & Ledger::kSettled) != 0; // a repeated answer says nothing new
  const unsigned status = message.status;
  const bool invite = message.cseq_method == sip::Method::Invite,
             registers = message.cseq_method == sip::Method::Register;
  const bool ringing = invite && ((status >= 180 && status < 200) || status == 486 || status == 487);
  Verdict verdict{Why::Answer};
  if (settled) return verdict;
  if (level() > 0) {
    ledger_.pulse.answered.note(case_.place.hash);
    if (status < 300) ledger_.pulse.served.note(case_.place.hash);
    if (status >= 500 && status < 600) ledger_.pulse.failed.note(case_.place.hash);
  }
  if (ringing || (status >= 200 && status < 300))
    verdict = success(message, note);
  else if (status == 401 || status == 407)
    verdict = challenge(message, note);
  else if (registers && (status == 403 || status == 404))
    verdict = failure(message);
  else if (status >= 400 && status < 500 && level() == 0 && source_->successes.load(std::memory_order_relaxed) == 0)
    verdict = tried_in_vain(message); // of a stranger who has nothing to show for it
  if (found && status >= 180)
    ledger_.transactions.put(hash, now_.s, static_cast<std::uint8_t>(note | (status >= 200 ? Ledger::kSettled : 0)));
  return verdict;
}

// Our own server asks: what comes back with its branch, or later with its tag, is no intrusion.
void Judging::observe_request(const sip::Message& message) noexcept {
  for (const sip::Span part : {message.via_branch, message.from_tag})
    if (!part.empty()) ledger_.echoes.put(echo_hash(text(part)), now_.s, 0);
}

void Judging::note_echoes(const sip::Message& message) noexcept {
  const bool answered = message.cseq_method == sip::Method::Invite && message.status >= 200 && message.status < 300;
  if (!message.to_tag.empty())
    ledger_.echoes.put(echo_hash(text(message.to_tag)), now_.s, answered ? Ledger::kAnswered : 0);
  for (const sip::Digest* digest : {&message.www_authenticate, &message.proxy_authenticate})
    if (!digest->nonce.empty()) ledger_.echoes.put(echo_hash(text(digest->nonce)), now_.s, 0);
}

// What is answered with success is given back to the meter: the request, and the one that was challenged before it.
void Judging::settle_meter(Class c, std::uint8_t& transaction) noexcept {
  if ((transaction & Ledger::kRefunded) != 0 || rules_.rate(c).action == Action::Off) return;
  transaction |= Ledger::kRefunded;
  const bool challenged = (transaction & Ledger::kCredentialed) != 0;
  source_->refund(c, rules_.meter(c, source_->level()), now_, challenged ? 2 * Meter::kWhole : Meter::kWhole);
}

Verdict Judging::success(const sip::Message& message, std::uint8_t& transaction) noexcept {
  settle_meter(class_of(message.cseq_method), transaction);
  if (message.status >= 300 || message.status < 200) return {Why::Answer};
  Source::count(source_->successes);
  if (message.cseq_method != sip::Method::Register) return {Why::Answer};

  const std::uint64_t user = user_hash(message);
  source_->clear_user(user);
  const auto failures = source_->failures.load(std::memory_order_relaxed);
  if (failures > 0)
    source_->failures.store(static_cast<std::uint8_t>(failures - std::max(failures / 8, 1)), std::memory_order_relaxed);
  // One success among many failures is a guess that hit.
  if (failures > 3 + source_->successes.load(std::memory_order_relaxed))
    return failures >= kBurntAfter && level() == 0 ? notify(Notice::UserBurnt, text(message.to_user))
                                                   : Verdict{Why::Answer};
  ledger_.known_users.put(user, minute(), 0);
  grant_trust(user, true);
  if (Source* endpoint = ledger_.endpoints.find_or_insert(endpoint_key(), now_)) Source::count(endpoint->successes);
  return {Why::Answer};
}

void Judging::grant_trust(std::uint64_t user, bool registered) noexcept {
  if (rules_.remember_s == 0) return;
  Trustee* trustee = ledger_.trust.find_or_insert(case_.place.key, now_.s);
  trustee->until_s.store(now_.s + rules_.remember_s, std::memory_order_relaxed);
  if (registered) trustee->count_user(user);
  const std::uint32_t answered = trustee->answered.load(std::memory_order_relaxed);
  if (answered != std::numeric_limits<std::uint32_t>::max())
    trustee->answered.store(answered + 1, std::memory_order_relaxed);
  if (const std::uint8_t level = trustee->level(); level > source_->level()) source_->set_level(level);
}

// The first challenge of a handshake, or the rejection of credentials.
Verdict Judging::challenge(const sip::Message& message, std::uint8_t transaction) noexcept {
  const bool credentialed = (transaction & Ledger::kCredentialed) != 0;
  const sip::Digest& digest =
      message.www_authenticate.value.present() ? message.www_authenticate : message.proxy_authenticate;
  if (credentialed) return contains_stale(text(digest.value)) ? Verdict{Why::Answer} : failure(message);
  return tried_in_vain(message);
}

Verdict Judging::failure(const sip::Message& message) noexcept {
  Source::count(source_->failures);
  if (level() > 0) ledger_.pulse.failed.note(case_.place.hash);
  const std::uint64_t user = user_hash(message);
  const bool known = ledger_.known_users.find(user, minute(), rules_.remember_s / 60).has_value();
  if (!known || level() == 0) source_->try_user(user);
  // Somebody whom we trust answers by the port: one bad phone among many.
  Source* subject = source_;
  if (level() > 0) {
    source_->set(Source::kWatched);
    subject = ledger_.endpoints.find_or_insert(endpoint_key(), now_);
    if (subject == nullptr) return {Why::Answer};
    subject->touch(now_, rules_.users_s());
  }
  if (level() == 0 && is_crowd(user)) return notify(Notice::UserUnderAttack, text(message.to_user));
  const unsigned weight = Meter::kWhole * (1u + source_->soft());
  if (rules_.auth_failure.action != Action::Off && subject->charge(kFailureMeter, rules_.failure_meter(), now_, weight))
    return convict(Why::AuthFailure, rules_.auth_failure.action);
  if (enumerates()) return convict(Why::Enumeration, rules_.enumeration.action);
  return {Why::Answer};
}

// Do many sources guess this user's password, each too slowly to be told apart? True once for each such time.
bool Judging::is_crowd(std::uint64_t user) noexcept {
  Source* target = ledger_.targets.find_or_insert(Ledger::target_key(user), now_);
  if (target == nullptr) return false;
  target->touch(now_, kTargetS / 8);
  target->try_user(ledger_.sources.hash(case_.place.key));
  const unsigned sources = target->users_tried();
  if (sources < kSourcesOnOneUser / 2) target->clear(Source::kWatched);
  if (sources < kSourcesOnOneUser || target->has(Source::kWatched)) return false;
  target->set(Source::kWatched);
  return true;
}

// A try that came to nothing, as yet: the user counts as tried until he shows credentials.
Verdict Judging::tried_in_vain(const sip::Message& message) noexcept {
  const std::uint64_t user = user_hash(message);
  if (ledger_.known_users.find(user, minute(), rules_.remember_s / 60)) return {Why::Answer};
  const std::uint64_t first = first_challenge();
  if (!ledger_.echoes.find(first, now_.s, kChallengedS)) ledger_.echoes.put(first, now_.s, 0);
  Source::count(source_->challenged);
  source_->try_user(user);
  return enumerates() ? convict(Why::Enumeration, rules_.enumeration.action) : Verdict{Why::Answer};
}

// Many users tried, and not in the way of an office whose phones all come back at once: those answer their challenges.
bool Judging::enumerates() const noexcept {
  if (level() > 0 || rules_.enumeration.action == Action::Off) return false;
  if (source_->users_tried() * (1u + source_->soft()) < rules_.enumeration.count) return false;
  const unsigned challenged = source_->challenged.load(std::memory_order_relaxed);
  if (source_->credentialed.load(std::memory_order_relaxed) * 2 > challenged)
    return source_->failures.load(std::memory_order_relaxed) >= rules_.enumeration.count / 2;
  return !ledger_.echoes.find(first_challenge(), now_.s, kHandshakeS);
}

std::uint64_t Judging::first_challenge() const noexcept { return ~echo_hash({}); }

} // namespace sipward::policy
