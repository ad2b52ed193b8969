// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/judge.h"

#include <limits>

namespace sipward::policy {
namespace {

std::uint64_t text_hash(std::string_view text) noexcept { // FNV-1a; the table's keyed hash comes on top
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3;
  return hash;
}

Reason reason_of(Why why) noexcept { return why == Why::Scanner ? Reason::Scanner : Reason::RegisterFlood; }

// Writes down who did what, for the control thread.
void fill(Offence& offence, Why why, const Rules& rules, const Source* source, const Datagram& datagram,
          const sip::Message& message, const sip::Mark* mark, const Now& now) noexcept {
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

// The verdict on a request that broke a rule: what happens depends on who sent it and on what the operator asked for.
Verdict convict(Why why, Action action, const Rules& rules, Source* source, const Datagram& datagram,
                const sip::Message& message, const sip::Mark* mark, const Now& now, Offence& offence) noexcept {
  if (rules.never_blocked.holds(datagram.source)) return {Why::NeverBlocked};
  Verdict verdict{.why = why, .drop = rules.drop_convicting && action == Action::Block};
  if (source == nullptr || source->claim_report(now)) {
    fill(offence, why, rules, source, datagram, message, mark, now);
    offence.log_only = action != Action::Block;
    verdict.offence = true;
  }
  return verdict;
}

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

bool concerns(const Rules& rules, const Datagram& datagram) noexcept {
  if (rules.is_port(datagram.destination_port) && is_to_server(rules, datagram)) return true;
  return rules.is_port(datagram.source_port) && is_from_server(rules, datagram);
}

Verdict decide(const Rules& rules, SourceTable& table, sip::AgentCache& names, const Datagram& datagram,
               const sip::Message& message, const Now& now, Offence& offence) noexcept {
  if (is_from_server(rules, datagram)) {
    observe_answer(rules, table, datagram, message);
    return {Why::Answer};
  }
  Source* source = table.find_or_insert(source_key(datagram.source, rules.ipv6_prefix), now);
  if (source != nullptr) {
    source->touch(now);
    if (source->blocked(now)) return {Why::Blocked, true};
  }
  if (rules.is_blocked(datagram.source) && !rules.never_blocked.holds(datagram.source))
    return {Why::BlockedPrefix, true};
  const sip::Kind kind = kind_of(datagram, message);
  if (kind == sip::Kind::Keepalive) return {Why::Keepalive};

  if (source != nullptr && kind == sip::Kind::Request)
    source->try_user(table.hash(text_hash(message.to_user.in(datagram.payload))));
  if (rules.scanner.action != Action::Off) {
    const sip::Mark* mark = rules.marks->find(message, datagram.payload, &names);
    if (mark != nullptr && mark->weight == sip::Weight::Hard)
      return convict(Why::Scanner, rules.scanner.action, rules, source, datagram, message, mark, now, offence);
  }
  // Mangled or not, a REGISTER costs the server what a REGISTER costs.
  if (source != nullptr && message.method == sip::Method::Register && rules.register_flood.action != Action::Off &&
      !source->meter(Class::Register, rules.register_meter, now))
    return convict(Why::RegisterFlood, rules.register_flood.action, rules, source, datagram, message, nullptr, now,
                   offence);
  if (kind == sip::Kind::Malformed) return {Why::Malformed}; // last: a broken message hides neither scanner nor flood
  if (kind == sip::Kind::Response) return {Why::Response};
  if (source == nullptr) return {Why::Unmetered};
  return {Why::Clean};
}

Verdict let_by(const Rules& rules, SourceTable& table, const Datagram& datagram, Why why, const Now& now) noexcept {
  constexpr std::uint16_t kSipTls = 5061;
  const bool in_scope = rules.is_port(datagram.destination_port) || datagram.destination_port == kSipTls;
  if (datagram.side != Side::Outside || (!in_scope && !rules.block_everything)) return {why};
  const Source* source = table.find(source_key(datagram.source, rules.ipv6_prefix));
  if (source != nullptr && source->blocked(now)) return {Why::Blocked, true};
  if (rules.is_blocked(datagram.source) && !rules.never_blocked.holds(datagram.source))
    return {Why::BlockedPrefix, true};
  return {why};
}

void observe_answer(const Rules& rules, SourceTable& table, const Datagram& datagram,
                    const sip::Message& message) noexcept {
  if (message.kind != sip::Kind::Response || message.cseq_method != sip::Method::Register) return;
  Source* source = table.find(source_key(datagram.destination, rules.ipv6_prefix));
  if (source == nullptr) return;
  // A 401 or 407 is the first half of every honest digest handshake, and a 5xx is our own trouble: neither is a
  // failure.
  Atomic<std::uint16_t>* count = nullptr;
  if (message.status >= 200 && message.status < 300)
    count = &source->successes;
  else if (message.status == 403 || message.status == 404)
    count = &source->failures;
  if (count == nullptr) return;
  const auto value = count->load(std::memory_order_relaxed);
  if (value != std::numeric_limits<std::uint16_t>::max())
    count->store(static_cast<std::uint16_t>(value + 1), std::memory_order_relaxed);
}

} // namespace sipward::policy
