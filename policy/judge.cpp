// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/judge.h"

#include "policy/judging.h"

namespace sipward::policy {
namespace {

constexpr std::size_t kSoftMarksTogether = 3; // in one message they are as good as a hard one
constexpr std::uint32_t kAgainS = 10;         // a phone that failed tries again no sooner, or not often
constexpr std::uint32_t kProbes = 4;          // the first packets of a source, in which they are looked for
constexpr std::uint32_t kProbesS = 1;         // and a fraction: a scanner does not wait, phones seldom meet
constexpr sip::Mark kEmptyProbes{"empty_probes", sip::Weight::Soft};
constexpr std::uint8_t kPeerLevel = 3; // a carrier: as a large office

// What a datagram is taken for. One that did not reach us whole is judged by what there is of it: its shape is not its
// sender's doing.
sip::Kind kind_of(const Datagram& datagram, const sip::Message& message) noexcept {
  if (message.kind != sip::Kind::Malformed || !datagram.truncated) return message.kind;
  if (message.status != 0) return sip::Kind::Response;
  return message.method_token.present() ? sip::Kind::Request : sip::Kind::Malformed;
}

// Where the side is known, a server's address on the wrong one is forged; and if no servers are named, all inside are.
bool is_protected(const Rules& rules, const Address& address, bool inside) noexcept {
  return rules.servers.empty() ? inside : rules.is_server(address);
}
bool is_from_server(const Rules& rules, const Datagram& datagram) noexcept {
  return datagram.side != Side::Outside && is_protected(rules, datagram.source, datagram.side == Side::Inside);
}
bool is_to_server(const Rules& rules, const Datagram& datagram) noexcept {
  return datagram.side != Side::Inside && is_protected(rules, datagram.destination, datagram.side == Side::Outside);
}

// Is it one whom we trust? Asked again now and then: trust ends, and is given, while the source goes on.
void acquaint(const Rules& rules, const Ledger& ledger, const Case& c, Source& source, const Now& now) noexcept {
  const Trustee* trustee = ledger.trust.find(c.place.key, now.s);
  const std::uint8_t known = trustee != nullptr ? trustee->level() : std::uint8_t{0};
  source.set_level(rules.peers.holds(c.datagram.source) ? std::max(known, kPeerLevel) : known);
}

// An IPv6 source is a whole network: somebody in it may be never blocked although it is.
bool is_spared(const Rules& rules, const Address& source) noexcept {
  return source.family == Family::V6 && rules.never_blocked.holds(source);
}

// Does a packet that is not judged fall to blocks? In monitor mode it is the kernel's to drop.
bool in_scope(const Rules& rules, const Datagram& datagram) noexcept {
  constexpr std::uint16_t kSipTls = 5061;
  return datagram.side == Side::Outside &&
         (rules.block_everything || rules.is_port(datagram.destination_port) || datagram.destination_port == kSipTls ||
          rules.is_blocked_wholly(datagram.source));
}

} // namespace

std::string_view to_string(Why why) noexcept {
  static constexpr std::array<std::string_view, kWhys> kNames = {"not_ip",
                                                                 "not_udp",
                                                                 "bad_frame",
                                                                 "bad_checksum",
                                                                 "fragment",
                                                                 "unrelated",
                                                                 "answer",
                                                                 "keepalive",
                                                                 "malformed",
                                                                 "response",
                                                                 "clean",
                                                                 "unmetered",
                                                                 "excess",
                                                                 "never_blocked",
                                                                 "suspended",
                                                                 "blocked",
                                                                 "blocked_endpoint",
                                                                 "blocked_prefix",
                                                                 "too_long",
                                                                 "transmit_full",
                                                                 "fragment_tiny",
                                                                 "fragment_overlap",
                                                                 "fragment_copy",
                                                                 "fragment_excess",
                                                                 "fragment_overdue",
                                                                 "fragment_displaced",
                                                                 "scanner",
                                                                 "register_flood",
                                                                 "invite_flood",
                                                                 "options_flood",
                                                                 "request_flood",
                                                                 "malformed_flood",
                                                                 "enumeration",
                                                                 "auth_failure"};
  return kNames[static_cast<std::size_t>(why)];
}

Way way_of(const Rules& rules, const Datagram& datagram) noexcept {
  // Between two servers it is an answer first: it goes to nobody who could be judged.
  const bool from_server = is_from_server(rules, datagram);
  if (from_server && rules.is_port(datagram.source_port)) return Way::Out;
  if (!rules.is_port(datagram.destination_port) || !is_to_server(rules, datagram)) return Way::Aside;
  return from_server ? Way::Out : Way::In;
}

void open(const Rules& rules, const Ledger& ledger, Case& c) noexcept {
  c.way = way_of(rules, c.datagram);
  if (c.way == Way::Aside && !in_scope(rules, c.datagram)) {
    c.place = {};
    return;
  }
  const Address& stranger = c.way == Way::Out ? c.datagram.destination : c.datagram.source;
  c.place = ledger.sources.prefetch(source_key(stranger, rules.ipv6_prefix));
}

Verdict decide(const Rules& rules, Ledger& ledger, sip::AgentCache& names, const Case& c, const Now& now,
               Offence& offence) noexcept {
  if (c.way == Way::Out) return Judging(rules, ledger, c, ledger.sources.find(c.place), now, offence).observe();
  Source* const source = ledger.sources.find_or_insert(c.place, now);
  if (source != nullptr) {
    const bool blocked = source->blocked(now);
    if (blocked ? source->count_packet() : source->touch(now, rules.users_s()))
      acquaint(rules, ledger, c, *source, now);
    if (blocked && !is_spared(rules, c.datagram.source)) return {Why::Blocked, true};
  }
  const bool trusted = source != nullptr && source->level() > 0;
  if (!trusted && rules.is_blocked(c.datagram.source) && !rules.never_blocked.holds(c.datagram.source))
    return {Why::BlockedPrefix, true};
  if (const std::size_t server = rules.server_place(c.datagram.destination); server < Ledger::kMaxLoads)
    ledger.loads[server].add(c.datagram.payload.size());
  return Judging(rules, ledger, c, source, now, offence).read(names);
}

Verdict let_by(const Rules& rules, const Ledger& ledger, const Case& c, Why why, const Now& now) noexcept {
  const Datagram& datagram = c.datagram;
  if (!in_scope(rules, datagram)) return {why};
  const Source* source = ledger.sources.find(c.place);
  if (source != nullptr && source->blocked(now) && !is_spared(rules, datagram.source)) return {Why::Blocked, true};
  if (rules.is_blocked(datagram.source) && !rules.never_blocked.holds(datagram.source) &&
      !rules.peers.holds(datagram.source) && ledger.trust.find(c.place.key, now.s) == nullptr)
    return {Why::BlockedPrefix, true};
  return {why};
}

Verdict Judging::read(sip::AgentCache& names) noexcept {
  if (Verdict verdict; !rules_.ceilings.empty() && over_ceiling(verdict)) return verdict;
  if (level() > 0 || (source_ != nullptr && source_->has(Source::kWatched))) {
    endpoint_ = ledger_.endpoints.find(endpoint_key());
    if (endpoint_ != nullptr) endpoint_->touch(now_, rules_.users_s());
    if (endpoint_ != nullptr && endpoint_->blocked(now_)) return {Why::BlockedEndpoint, true};
  }
  const sip::FirstLook look = sip::first_look(payload_);
  if (look.kind == sip::Kind::Keepalive) return exempt(Why::Keepalive);
  const bool seeks_scanners = rules_.scanner.action != Action::Off;
  if (seeks_scanners)
    if (const sip::Mark* mark = rules_.marks->find(look, payload_, &names))
      return convict(Why::Scanner, rules_.scanner.action, mark);

  // Mangled or not, a REGISTER costs the server what a REGISTER costs.
  const Class c = class_of(look.method);
  const bool metered = source_ != nullptr && look.kind != sip::Kind::Response && look.status == 0 &&
                       rules_.rate(c).action != Action::Off;
  charged_ = metered && source_->meter(c, rules_.meter(c, level()), now_);
  const bool over = metered && !charged_ && !conforms_at_known_port(c);
  if (over && source_->has(Source::kFlooding)) return exceed(c, rules_.rate(c).action);
  if (charged_) source_->clear(Source::kFlooding);

  const sip::Message message = sip::parse(payload_);
  fetch_memories(message);
  if (seeks_scanners) {
    const sip::MarkSet marks = rules_.marks->find_all(message, payload_, &names);
    if (marks.count > 0 && marks.marks[0]->weight == sip::Weight::Hard)
      return convict(Why::Scanner, rules_.scanner.action, marks.marks[0]);
    if (source_ != nullptr && marks.count > source_->soft()) source_->set_soft(static_cast<unsigned>(marks.count));
    if (marks.count >= kSoftMarksTogether) return convict(Why::Scanner, rules_.scanner.action, marks.marks[0]);
  }
  switch (kind_of(case_.datagram, message)) {
  case sip::Kind::Request: return judge_request(message, look.method, over);
  case sip::Kind::Response: return judge_response(message);
  case sip::Kind::Keepalive: return exempt(Why::Keepalive);
  case sip::Kind::Malformed: break;
  }
  return judge_malformed(message, c, over);
}

// What is asked after the marks were looked for: the wait for memory passes meanwhile.
void Judging::fetch_memories(const sip::Message& message) noexcept {
  if (!message.method_token.present()) return;
  transaction_ = transaction_hash(message, message.method);
  user_ = user_hash(message);
  ledger_.transactions.prefetch(transaction_);
  ledger_.known_users.prefetch(user_);
  if (message.method != sip::Method::Register) return;
  opening_ = ledger_.hash({}, user_ ^ case_.place.key);
  ledger_.transactions.prefetch(opening_);
}

// What is exempt from the rates weighs an eighth of another request, and what is above its ceiling goes: no class of
// messages is a free flood. The sender's requests keep their quarter.
Verdict Judging::exempt(Why why, unsigned weight) noexcept {
  const Action action = rules_.rate(Class::Request).action;
  if (source_ == nullptr || action == Action::Off) return {why};
  const Meter meter = rules_.meter(Class::Request, level()).leaving_a_quarter();
  if (source_->meter(Class::Request, meter, now_, weight)) return {why};
  return convict(Why::Excess, action == Action::Log ? Action::Log : Action::Limit);
}

// Whoever floods in a trusted source's name does not know its ports: those have meters of their own.
bool Judging::conforms_at_known_port(Class c) noexcept {
  if (level() == 0 || !known_port()) return false;
  if (endpoint_ == nullptr) endpoint_ = ledger_.endpoints.find_or_insert(endpoint_key(), now_);
  return endpoint_ != nullptr && endpoint_->meter(c, rules_.meter(c, level()), now_);
}

void Judging::give_back(Class c, unsigned weight) noexcept {
  source_->refund(c, rules_.meter(c, level()), now_, weight);
}

// The same for what has been settled: it was added to the network's meter as well.
void Judging::credit(Class c, unsigned weight) noexcept {
  give_back(c, weight);
  if (level() > 0) return;
  if (Source* network = ledger_.networks.find(network_key())) network->refund(c, rules_.network_meter(c), now_, weight);
}

// Many hosts of one network, each within its own limit, are a flood all the same. While all strangers of a network are
// above four times one's limit, each has a sixteenth of his own: who asks once or twice gets by, who goes on is over.
// Who has answered a challenge is judged by himself.
bool Judging::strains_network(Class c, unsigned weight) noexcept {
  if (level() > 0 || source_->has(Source::kProven)) return false;
  Source* const network = ledger_.networks.find_or_insert(network_key(), now_);
  if (network == nullptr) return false;
  network->touch(now_);
  if (network->meter(c, rules_.network_meter(c), now_, weight)) {
    network->clear(Source::kFlooding);
    return false;
  }
  network->set(Source::kFlooding);
  return !source_->meter(c, rules_.meter(c, 0), now_, (kStrictness - 1) * weight);
}

Verdict Judging::judge_request(const sip::Message& message, sip::Method method, bool over) noexcept {
  ledger_.pulse.sources.note(source_hash());
  if (source_ == nullptr) return {Why::Unmetered};
  const Standing standing = standing_of(message);
  if (asks(message)) ledger_.pulse.asking.note(source_hash());
  const Class c = class_of(method);
  if (standing.exempt()) {
    if (charged_) give_back(c, Meter::kWhole);
    return exempt(Why::Clean);
  }
  if (charged_ && standing.weight < Meter::kWhole) give_back(c, Meter::kWhole - standing.weight);
  if (charged_ && standing.weight > 0) over = strains_network(c, standing.weight);
  if (!over || standing.weight == 0) return {Why::Clean};
  // Nothing was charged for it, so its answer gives nothing back.
  const auto note = ledger_.transactions.find(transaction_, now_.s, Ledger::kTransactionS).value_or(0);
  ledger_.transactions.put(transaction_, now_.s, note | Ledger::kRefunded);
  return exceed(c, rules_.rate(c).action);
}

// Does somebody whom we trust wait for an answer? Not what anybody may send in his name, and an ACK has none.
bool Judging::asks(const sip::Message& message) const noexcept {
  return level() > 0 && message.method != sip::Method::Ack && (proven_ || known_port());
}

// Notes the request for when its answer comes, and what it shows of its sender.
Judging::Standing Judging::standing_of(const sip::Message& message) noexcept {
  Standing standing;
  const sip::Digest& digest =
      message.authorization.response.present() ? message.authorization : message.proxy_authorization;
  std::optional<std::uint8_t> nonce;
  if (digest.response.present()) nonce = echoed(Echo::Nonce, digest.nonce);
  const bool answers_challenge = nonce.has_value();
  const auto tag = echoed(Echo::Tag, message.to_tag);
  proven_ = answers_challenge || tag;
  if (proven_) source_->set(Source::kProven);
  standing.in_dialogue = tag && (*tag & Ledger::kDialogue) != 0 && message.method != sip::Method::Register;
  if (tag && (*tag & Ledger::kAnswered) != 0) { // who talks in a call that was answered: once for each
    put_echo(Echo::Tag, message.to_tag, Ledger::kDialogue | Ledger::kCredited);
    grant_trust(0, false);
  }
  const auto before = ledger_.transactions.find(transaction_, now_.s, Ledger::kTransactionS);
  standing.retransmission = answers_challenge ? is_repeated_guess(transaction_, before, text(digest.response))
                                              : is_repeated(transaction_, before);
  if (standing.retransmission || standing.in_dialogue) return standing;
  if (message.method == sip::Method::Register) standing.weight = weigh(answers_challenge);
  // The request that was challenged is given back, once for each challenge: it was half of this one.
  if (answers_challenge && (*nonce & Ledger::kCredited) == 0) {
    put_echo(Echo::Nonce, digest.nonce, Ledger::kCredited);
    const Class c = class_of(message.method);
    if (standing.weight == Meter::kWhole && rules_.rate(c).action != Action::Off) credit(c, Meter::kWhole);
  }
  if (answers_challenge) {
    note_handshake(user_);
    trust_provisionally(user_);
  } else if (!before && level() == 0 && !is_known(user_)) {
    source_->try_user(user_);
  }
  return standing;
}

// The same datagram again? So often is each sent at most.
bool Judging::is_repeated(std::uint64_t hash, std::optional<std::uint8_t> before) noexcept {
  const unsigned repeats = before.value_or(0) & Ledger::kCount;
  const unsigned more = before ? std::min(repeats + 1, kMostRepeats) : 0;
  ledger_.transactions.put(hash, now_.s,
                           static_cast<std::uint8_t>((before.value_or(0) & (0xff ^ Ledger::kCount)) | more));
  return before && repeats < kMostRepeats;
}

// The same with credentials. A guesser may try one password after another in what he calls one transaction: each is a
// try, and waits for an answer of its own.
bool Judging::is_repeated_guess(std::uint64_t hash, std::optional<std::uint8_t> before,
                                std::string_view response) noexcept {
  const std::uint64_t guess = ledger_.hash(response, hash);
  const auto same = ledger_.transactions.find(guess, now_.s, Ledger::kTransactionS);
  if (is_repeated(guess, same)) return true;
  const unsigned waiting = before && (*before & Ledger::kCredentialed) != 0 ? *before & Ledger::kCount : 0;
  const unsigned more = same ? waiting : std::min<unsigned>(waiting + 1, Ledger::kCount);
  ledger_.transactions.put(hash, now_.s, static_cast<std::uint8_t>(Ledger::kCredentialed | more));
  return false;
}

// An office has as many users as phones, and all of them register at once after an outage: of each user the first
// REGISTER in some seconds weighs an eighth, and the one that goes on from there nothing.
unsigned Judging::weigh(bool answers_challenge) noexcept {
  const std::uint64_t mine = answers_challenge ? ~opening_ : opening_;
  const auto lately = [&](std::uint64_t hash) { return ledger_.transactions.find(hash, now_.s, kAgainS).has_value(); };
  if (lately(mine)) return Meter::kWhole;
  ledger_.transactions.put(mine, now_.s, 0);
  const auto note = ledger_.transactions.find(transaction_, now_.s, Ledger::kTransactionS).value_or(0);
  ledger_.transactions.put(transaction_, now_.s, note | Ledger::kLight);
  return answers_challenge && lately(opening_) ? 0 : Meter::kExempt;
}

// A challenge was answered: this user is no longer merely tried.
void Judging::note_handshake(std::uint64_t user) noexcept {
  Source* const subject = level() > 0 ? endpoint_ : source_;
  if (subject == nullptr) return;
  subject->clear_user(user);
  Source::count_down(subject->unanswered);
  note_plausible();
}

// An answer to a request of our server, by the branch that it made; the rest is a flood like any other.
Verdict Judging::judge_response(const sip::Message& message) noexcept {
  if (source_ == nullptr) return {Why::Response};
  const auto asked = echoed(Echo::Branch, message.via_branch);
  if (asked) {
    source_->set(Source::kProven);
    proven_ = true;
    const bool success = message.status >= 200 && message.status < 300;
    if (success && (*asked & Ledger::kAnswered) != 0) { // our own server registers there, or calls: once for each
      put_echo(Echo::Branch, message.via_branch, Ledger::kCredited);
      grant_trust(0, false);
    }
    return exempt(Why::Response);
  }
  return exempt(Why::Response, Meter::kWhole);
}

// A port scanner asks "is it open?" with empty datagrams, each from a port of its own, before it says a word of SIP. A
// phone that keeps its binding open with them does so from one port.
bool Judging::is_probe() noexcept {
  if (source_->level() > 0 || source_->packets.load(std::memory_order_relaxed) > kProbes) return false;
  const std::uint64_t hash = ledger_.hash({}, case_.place.key);
  const auto before = ledger_.transactions.find(hash, now_.s, kProbesS);
  const auto low_octet = static_cast<std::uint8_t>(port());
  ledger_.transactions.put(hash, now_.s, low_octet);
  return before && *before != low_octet;
}

// A broken message hides neither scanner nor flood. But a phone behind a router that mangles is a customer: who sends a
// REGISTER that can be read is never blocked for it.
Verdict Judging::judge_malformed(const sip::Message& message, Class c, bool over) noexcept {
  const bool readable = message.method == sip::Method::Register && message.from_user.present();
  const auto tempered = [&](Action action) { return readable && action == Action::Block ? Action::Limit : action; };
  if (over) return exceed(c, tempered(rules_.rate(c).action));
  if (source_ == nullptr) return {Why::Malformed};
  if (message.malformation == sip::Malformation::Empty && rules_.scanner.action != Action::Off && is_probe())
    return convict(Why::Scanner, rules_.scanner.action, &kEmptyProbes);
  const RatePolicy& policy = rules_.rate(Class::Malformed);
  if (policy.action == Action::Off || has_ceiling_) return {Why::Malformed}; // that has this meter
  if (source_->meter(Class::Malformed, rules_.meter(Class::Malformed, level()), now_)) return {Why::Malformed};
  return convict(Why::MalformedFlood, tempered(policy.action));
}

} // namespace sipward::policy
