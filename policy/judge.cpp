// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/judge.h"

#include <limits>

#include "sip/first_look.h"
#include "sip/parser.h"

namespace sipward::policy {
namespace {

std::uint64_t text_hash(std::string_view text) noexcept { // FNV-1a; the table's keyed hash comes on top
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3;
  return hash;
}

Reason reason_of(Why why) noexcept { return why == Why::Scanner ? Reason::Scanner : Reason::RegisterFlood; }

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

// One packet before the judge: what every conviction needs to know.
struct Judging {
  const Rules& rules;
  const Ledger& ledger;
  const Datagram& datagram;
  Source* source; // nullptr: the table had no line for its sender
  const Now& now;

  // The verdict on a request that broke a rule: what happens depends on who sent it and on what the operator asked for.
  Verdict convict(Why why, Action action, const sip::Mark* mark, Offence& offence) const noexcept {
    if (rules.never_blocked.holds(datagram.source)) return {Why::NeverBlocked};
    Verdict verdict{.why = why, .drop = rules.drop_convicting && action == Action::Block};
    if (source == nullptr || source->claim_report(now)) {
      fill(why, mark, offence);
      offence.action = action;
      verdict.offence = true;
    }
    return verdict;
  }

  // Counts the user that a request is for.
  void note_user(const sip::Message& message) const noexcept {
    if (source == nullptr) return;
    source->try_user(ledger.sources.hash(text_hash(message.to_user.in(datagram.payload))));
  }

private:
  // Writes down who did what, for the control thread. Once a second and source at most: it reads the message anew.
  void fill(Why why, const sip::Mark* mark, Offence& offence) const noexcept {
    const sip::Message message = sip::parse(datagram.payload);
    note_user(message);
    offence = {};
    offence.source = datagram.source;
    offence.source_port = datagram.source_port;
    offence.reason = reason_of(why);
    offence.packets_before = source != nullptr ? source->packets.load(std::memory_order_relaxed) : 1;
    offence.at = now.time;
    auto& evidence = offence.evidence;
    evidence.user_agent = Excerpt(message.user_agent.in(datagram.payload));
    if (mark != nullptr) evidence.mark = Excerpt(mark->name);
    evidence.method = Excerpt(message.method_token.in(datagram.payload));
    if (why == Why::RegisterFlood) evidence.limit_per_s = rules.register_flood.limit.per_second;
    if (source == nullptr) return;
    evidence.rate_per_s = source->rate_per_s(now);
    evidence.users = source->users_tried();
    evidence.failures = source->failures.load(std::memory_order_relaxed);
    evidence.successes = source->successes.load(std::memory_order_relaxed);
  }
};

// Notes how our server answered: the REGISTERs of the source that the answer goes to.
Verdict observe_answer(Ledger& ledger, const Case& c) noexcept {
  Source* source = ledger.sources.find(c.place);
  if (source == nullptr) return {Why::Answer};
  const sip::Message message = sip::parse(c.datagram.payload);
  if (message.kind != sip::Kind::Response || message.cseq_method != sip::Method::Register) return {Why::Answer};
  // A 401 or 407 is the first half of every honest digest handshake, and a 5xx is our own trouble: neither is a
  // failure.
  Atomic<std::uint16_t>* count = nullptr;
  if (message.status >= 200 && message.status < 300)
    count = &source->successes;
  else if (message.status == 403 || message.status == 404)
    count = &source->failures;
  if (count == nullptr) return {Why::Answer};
  const auto value = count->load(std::memory_order_relaxed);
  if (value != std::numeric_limits<std::uint16_t>::max())
    count->store(static_cast<std::uint16_t>(value + 1), std::memory_order_relaxed);
  return {Why::Answer};
}

// Does a packet that is not judged fall to blocks? In monitor mode it is the kernel's to drop.
bool in_scope(const Rules& rules, const Datagram& datagram) noexcept {
  constexpr std::uint16_t kSipTls = 5061;
  return datagram.side == Side::Outside &&
         (rules.block_everything || rules.is_port(datagram.destination_port) || datagram.destination_port == kSipTls);
}

} // namespace

std::string_view to_string(Why why) noexcept {
  static constexpr std::array<std::string_view, kWhys> kNames = {"not_ip",           "not_udp",
                                                                 "bad_frame",        "fragment",
                                                                 "unrelated",        "answer",
                                                                 "keepalive",        "malformed",
                                                                 "response",         "clean",
                                                                 "unmetered",        "never_blocked",
                                                                 "blocked",          "blocked_prefix",
                                                                 "too_long",         "transmit_full",
                                                                 "fragment_tiny",    "fragment_overlap",
                                                                 "fragment_copy",    "fragment_excess",
                                                                 "fragment_overdue", "fragment_displaced",
                                                                 "scanner",          "register_flood"};
  return kNames[static_cast<std::size_t>(why)];
}

Way way_of(const Rules& rules, const Datagram& datagram) noexcept {
  // Between two servers it is an answer first: it goes to nobody who could be judged.
  if (rules.is_port(datagram.source_port) && is_from_server(rules, datagram)) return Way::Out;
  if (!rules.is_port(datagram.destination_port) || !is_to_server(rules, datagram)) return Way::Aside;
  return is_from_server(rules, datagram) ? Way::Out : Way::In;
}

Case open(const Rules& rules, const Ledger& ledger, const Datagram& datagram) noexcept {
  const Way way = way_of(rules, datagram);
  if (way == Way::Aside && !in_scope(rules, datagram)) return {datagram};
  const Address& stranger = way == Way::Out ? datagram.destination : datagram.source;
  return {datagram, way, ledger.sources.prefetch(source_key(stranger, rules.ipv6_prefix))};
}

Verdict decide(const Rules& rules, Ledger& ledger, sip::AgentCache& names, const Case& c, const Now& now,
               Offence& offence) noexcept {
  if (c.way == Way::Out) return observe_answer(ledger, c);
  const Datagram& datagram = c.datagram;
  Source* source = ledger.sources.find_or_insert(c.place, now);
  if (source != nullptr) {
    source->touch(now);
    if (source->blocked(now)) return {Why::Blocked, true};
  }
  if (rules.is_blocked(datagram.source) && !rules.never_blocked.holds(datagram.source))
    return {Why::BlockedPrefix, true};

  const sip::FirstLook look = sip::first_look(datagram.payload);
  if (look.kind == sip::Kind::Keepalive) return {Why::Keepalive};
  const Judging judging{rules, ledger, datagram, source, now};
  if (rules.scanner.action != Action::Off)
    if (const sip::Mark* mark = rules.marks->find(look, datagram.payload, &names))
      return judging.convict(Why::Scanner, rules.scanner.action, mark, offence);
  // Mangled or not, a REGISTER costs the server what a REGISTER costs.
  if (source != nullptr && look.method == sip::Method::Register && rules.register_flood.action != Action::Off &&
      !source->meter(Class::Register, rules.register_meter, now))
    return judging.convict(Why::RegisterFlood, rules.register_flood.action, nullptr, offence);

  const sip::Message message = sip::parse(datagram.payload);
  const sip::Kind kind = kind_of(datagram, message);
  if (kind == sip::Kind::Request) judging.note_user(message);
  if (rules.scanner.action != Action::Off) {
    const sip::Mark* mark = rules.marks->find(message, datagram.payload, &names);
    if (mark != nullptr && mark->weight == sip::Weight::Hard)
      return judging.convict(Why::Scanner, rules.scanner.action, mark, offence);
  }
  if (kind == sip::Kind::Malformed) return {Why::Malformed}; // last: a broken message hides neither scanner nor flood
  if (kind == sip::Kind::Response) return {Why::Response};
  return {source != nullptr ? Why::Clean : Why::Unmetered};
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

} // namespace sipward::policy
