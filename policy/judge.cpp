// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/judge.h"

#include "policy/judging.h"

namespace sipward::policy {
namespace {

constexpr std::size_t kSoftMarksTogether = 3; // in one message they are as good as a hard one
constexpr unsigned kMostRepeats = 11;         // of one request: RFC 3261's timers E and A come to no more
constexpr std::uint32_t kProbes = 4;          // the first packets of a source, in which they are looked for
constexpr sip::Mark kEmptyProbes{"empty_probes", sip::Weight::Hard};
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

// A source's first packet, or its first since it was forgotten: is it one whom we trust?
void acquaint(const Rules& rules, const Ledger& ledger, const Case& c, Source& source, const Now& now) noexcept {
  if (const Trustee* trustee = ledger.trust.find(c.place.key, now.s)) source.set_level(trustee->level());
  if (rules.peers.holds(c.datagram.source) && source.level() < kPeerLevel) source.set_level(kPeerLevel);
}

// Does a packet that is not judged fall to blocks? In monitor mode it is the kernel's to drop.
bool in_scope(const Rules& rules, const Datagram& datagram) noexcept {
  constexpr std::uint16_t kSipTls = 5061;
  return datagram.side == Side::Outside &&
         (rules.block_everything || rules.is_port(datagram.destination_port) || datagram.destination_port == kSipTls);
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
    if (blocked) return {Why::Blocked, true};
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
  if (source != nullptr && source->blocked(now)) return {Why::Blocked, true};
  if (rules.is_blocked(datagram.source) && !rules.never_blocked.holds(datagram.source))
    return {Why::BlockedPrefix, true};
  return {why};
}

Verdict Judging::read(sip::AgentCache& names) noexcept {
  if (source_ != nullptr && source_->has(Source::kWatched)) {
    const Source* endpoint = ledger_.endpoints.find(endpoint_key());
    if (endpoint != nullptr && endpoint->blocked(now_)) return {Why::BlockedEndpoint, true};
  }
  const sip::FirstLook look = sip::first_look(payload_);
  if (look.kind == sip::Kind::Keepalive) return {conforms_exempt() ? Why::Keepalive : Why::Excess};
  const bool seeks_scanners = rules_.scanner.action != Action::Off;
  if (seeks_scanners)
    if (const sip::Mark* mark = rules_.marks->find(look, payload_, &names))
      return convict(Why::Scanner, rules_.scanner.action, mark);

  // Mangled or not, a REGISTER costs the server what a REGISTER costs.
  const Class c = class_of(look.method);
  const bool metered = source_ != nullptr && look.kind != sip::Kind::Response && look.status == 0 &&
                       rules_.rate(c).action != Action::Off;
  const bool over = metered && !source_->meter(c, rules_.meter(c, source_->level()), now_);
  if (over && source_->has(Source::kFlooding)) return exceed(c);
  if (metered && !over) source_->clear(Source::kFlooding);

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
  case sip::Kind::Keepalive: return {conforms_exempt() ? Why::Keepalive : Why::Excess};
  case sip::Kind::Malformed: break;
  }
  return over ? exceed(c) : judge_malformed(message); // a broken message hides neither scanner nor flood
}

// What is asked after the marks were looked for: the wait for memory passes meanwhile.
void Judging::fetch_memories(const sip::Message& message) noexcept {
  if (!message.method_token.present()) return;
  transaction_ = transaction_hash(message, message.method);
  user_ = user_hash(message);
  ledger_.transactions.prefetch(transaction_);
  ledger_.known_users.prefetch(user_);
}

// What is exempt from the rates weighs an eighth of another request: no class of messages is a free flood.
bool Judging::conforms_exempt() noexcept {
  if (source_ == nullptr || rules_.rate(Class::Request).action == Action::Off) return true;
  return source_->meter(Class::Request, rules_.meter(Class::Request, source_->level()), now_, Meter::kExempt);
}

Verdict Judging::judge_request(const sip::Message& message, sip::Method method, bool over) noexcept {
  if (source_ == nullptr) return {Why::Unmetered};
  ledger_.pulse.sources.note(case_.place.hash);
  if (source_->level() > 0) ledger_.pulse.asking.note(case_.place.hash);
  const Standing standing = standing_of(message);
  const Class c = class_of(method);
  if (standing.exempt()) {
    if (!over && rules_.rate(c).action != Action::Off)
      source_->refund(c, rules_.meter(c, source_->level()), now_, Meter::kWhole);
    return {conforms_exempt() ? Why::Clean : Why::Excess};
  }
  return over ? exceed(c) : Verdict{Why::Clean};
}

// Notes the request for when its answer comes, and what it shows of its sender.
Judging::Standing Judging::standing_of(const sip::Message& message) noexcept {
  Standing standing;
  const auto echoed = [&](sip::Span part) {
    return !part.empty() && ledger_.echoes.find(echo_hash(text(part)), now_.s, Ledger::kEchoS).has_value();
  };
  const sip::Digest& digest =
      message.authorization.response.present() ? message.authorization : message.proxy_authorization;
  const bool credentialed = digest.response.present();
  bool proven = credentialed && echoed(digest.nonce);
  if (!message.to_tag.empty())
    if (const auto note = ledger_.echoes.find(echo_hash(text(message.to_tag)), now_.s, Ledger::kEchoS)) {
      standing.in_dialogue = proven = true;
      if ((*note & Ledger::kAnswered) != 0) grant_trust(0, false); // who talks in a call that was answered
    }
  if (proven) source_->set(Source::kProven);

  const auto seen = ledger_.transactions.find(transaction_, now_.s, Ledger::kTransactionS);
  const std::uint8_t note = seen.value_or(0);
  const unsigned repeats = note & Ledger::kRepeats;
  standing.retransmission = seen && repeats < kMostRepeats;
  ledger_.transactions.put(transaction_, now_.s,
                           static_cast<std::uint8_t>((note & (0xff ^ Ledger::kRepeats)) |
                                                     (credentialed ? Ledger::kCredentialed : 0) |
                                                     (seen ? std::min(repeats + 1, kMostRepeats) : 0)));
  if (credentialed && !seen) {
    Source::count(source_->credentialed);
    source_->clear_user(user_);
  }
  const bool known = ledger_.known_users.find(user_, minute(), rules_.remember_s / 60).has_value();
  if (!credentialed && !seen && !known && source_->level() == 0 && !standing.in_dialogue) source_->try_user(user_);
  standing.known_user = message.method == sip::Method::Register && known;
  return standing;
}

// An answer to a request of our server, by the branch that it made; the rest is a flood like any other.
Verdict Judging::judge_response(const sip::Message& message) noexcept {
  if (source_ == nullptr) return {Why::Response};
  const auto asked = ledger_.echoes.find(echo_hash(text(message.via_branch)), now_.s, Ledger::kEchoS);
  if (asked) {
    source_->set(Source::kProven);
    const bool success = message.status >= 200 && message.status < 300;
    if (success && (message.cseq_method == sip::Method::Register || message.cseq_method == sip::Method::Invite))
      grant_trust(0, false); // our own server registers there, or calls
    return {conforms_exempt() ? Why::Response : Why::Excess};
  }
  if (rules_.rate(Class::Request).action == Action::Off) return {Why::Response};
  const Meter& meter = rules_.meter(Class::Request, source_->level());
  return {source_->meter(Class::Request, meter, now_) ? Why::Response : Why::Excess};
}

// A port scanner asks "is it open?" with empty datagrams, each from a port of its own, before it says a word of SIP. A
// phone that keeps its binding open with them does so from one port.
bool Judging::is_probe() noexcept {
  if (source_->level() > 0 || source_->packets.load(std::memory_order_relaxed) > kProbes) return false;
  const std::uint64_t hash = ledger_.hash({}, case_.place.key);
  const auto before = ledger_.transactions.find(hash, now_.s, Ledger::kTransactionS);
  const auto low_octet = static_cast<std::uint8_t>(port());
  ledger_.transactions.put(hash, now_.s, low_octet);
  return before && *before != low_octet;
}

Verdict Judging::judge_malformed(const sip::Message& message) noexcept {
  const RatePolicy& policy = rules_.rate(Class::Malformed);
  if (source_ == nullptr) return {Why::Malformed};
  if (message.malformation == sip::Malformation::Empty && rules_.scanner.action != Action::Off && is_probe())
    return convict(Why::Scanner, rules_.scanner.action, &kEmptyProbes);
  if (policy.action == Action::Off) return {Why::Malformed};
  if (source_->meter(Class::Malformed, rules_.meter(Class::Malformed, source_->level()), now_)) return {Why::Malformed};
  // A phone behind a router that mangles is a customer: who sends a REGISTER that can be read is never blocked for it.
  const bool readable = message.method == sip::Method::Register && message.from_user.present();
  return convict(Why::MalformedFlood, readable && policy.action == Action::Block ? Action::Limit : policy.action);
}

} // namespace sipward::policy
