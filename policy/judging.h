// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <optional>

#include "policy/judge.h"
#include "sip/first_look.h"
#include "sip/parser.h"

// One case before the judge: the steps that decide() is made of. What is asked goes in (judge.cpp), what is answered
// comes out (answers.cpp); both convict in the same way (sentence.cpp).
namespace sipward::policy {

class Judging {
public:
  Judging(const Rules& rules, Ledger& ledger, const Case& c, Source* source, const Now& now, Offence& offence) noexcept
      : rules_(rules), ledger_(ledger), case_(c), payload_(c.datagram.payload), source_(source), now_(now),
        offence_(offence) {}

  // In, in the order of decide().
  Verdict read(sip::AgentCache& names) noexcept;

  // Out.
  Verdict observe() noexcept;

private:
  // What is known of a request beside its own octets.
  struct Standing {
    bool retransmission = false;
    bool in_dialogue = false;        // its To-tag is one of ours
    unsigned weight = Meter::kWhole; // in its class
    bool exempt() const noexcept { return retransmission || in_dialogue; }
  };

  Verdict judge_request(const sip::Message& message, sip::Method method, bool over) noexcept;
  Verdict judge_response(const sip::Message& message) noexcept;
  Verdict judge_malformed(const sip::Message& message, Class c, bool over) noexcept;
  bool is_probe() noexcept;
  bool asks(const sip::Message& message) const noexcept;
  void fetch_memories(const sip::Message& message) noexcept;
  Standing standing_of(const sip::Message& message) noexcept;
  bool is_repeated(std::uint64_t hash, std::optional<std::uint8_t> before) noexcept;
  bool is_repeated_guess(std::uint64_t hash, std::optional<std::uint8_t> before, std::string_view response) noexcept;
  unsigned weigh(bool answers_challenge) noexcept;
  void note_handshake(std::uint64_t user) noexcept;
  Verdict exempt(Why why, unsigned weight = Meter::kExempt) noexcept;
  bool conforms_at_known_port(Class c) noexcept;
  bool strains_network(Class c, unsigned weight) noexcept;
  void give_back(Class c, unsigned weight) noexcept;
  void credit(Class c, unsigned weight) noexcept;

  void observe_request(const sip::Message& message) noexcept;
  void note_echoes(const sip::Message& message) noexcept;
  Verdict weigh_answer(const sip::Message& message, std::uint8_t& transaction) noexcept;
  void note_pulse(unsigned status) noexcept;
  Verdict success(const sip::Message& message, std::uint8_t& transaction) noexcept;
  Verdict failure(const sip::Message& message) noexcept;
  Verdict tried_in_vain(const sip::Message& message) noexcept;
  Source* answerable() noexcept;
  bool guesses_by_many_ports(std::uint64_t user, unsigned weight) noexcept;
  bool is_one_customer() const noexcept;
  bool enumerates(const Source& subject) const noexcept;
  bool is_crowd(std::uint64_t user) noexcept;
  std::uint64_t plausible_hash() const noexcept;
  void note_plausible() noexcept;
  bool plausible_lately() const noexcept;
  void grant_trust(std::uint64_t user, bool registered) noexcept;
  void trust_provisionally(std::uint64_t user) noexcept;
  void end_provisional_trust() noexcept;
  void settle_meter(const sip::Message& message, std::uint8_t& transaction) noexcept;

  // Of one who is never blocked. True: this packet is above his ceiling, and `verdict` is its verdict.
  bool over_ceiling(Verdict& verdict) noexcept;
  // A rule was broken: the verdict depends on who it was and on what the operator asked for.
  Verdict convict(Why why, Action action, const sip::Mark* mark = nullptr) noexcept;
  Verdict exceed(Class c, Action action) noexcept; // a rate
  SubjectKind who_answers(Why why, bool hard, Action& action) const noexcept;
  bool is_proven() const noexcept;
  void forfeit_trust(Why why) noexcept;
  void fill(Why why, const sip::Mark* mark, SubjectKind kind) noexcept;
  Verdict notify(Notice notice, std::string_view user) noexcept;

  bool outbound() const noexcept { return case_.way == Way::Out; }
  const Address& stranger() const noexcept { return outbound() ? case_.datagram.destination : case_.datagram.source; }
  std::uint16_t port() const noexcept {
    return outbound() ? case_.datagram.destination_port : case_.datagram.source_port;
  }
  std::uint8_t level() const noexcept { return source_ != nullptr ? source_->level() : std::uint8_t{0}; }
  std::string_view text(sip::Span part) const noexcept { return part.in(payload_); }
  std::uint64_t user_hash(const sip::Message& message) const noexcept {
    return ledger_.user_hash(text(message.to_user));
  }
  // What our server has sent to this source, each kind by itself: a tag is no nonce, and neither is a branch.
  enum class Echo : std::uint64_t { Tag = 1, Nonce, Branch };
  std::uint64_t echo_hash(Echo kind, std::string_view what) const noexcept {
    return ledger_.hash(what, case_.place.key ^ static_cast<std::uint64_t>(kind) << 40);
  }
  std::uint64_t source_hash() const noexcept { return case_.place.hash; }
  std::optional<std::uint8_t> echoed(Echo kind, sip::Span what) const noexcept { // its note
    if (what.empty()) return std::nullopt;
    return ledger_.echoes.find(echo_hash(kind, text(what)), now_.s, Ledger::kEchoS);
  }
  void put_echo(Echo kind, sip::Span what, std::uint8_t note) noexcept {
    if (!what.empty()) ledger_.echoes.put(echo_hash(kind, text(what)), now_.s, note);
  }
  std::uint64_t transaction_hash(const sip::Message& message, sip::Method method) const noexcept;
  SourceKey network_key() const noexcept { return prefix_key(rules_.network_of(stranger())); }
  SourceKey endpoint_key() const noexcept { return ledger_.endpoint_key(case_.place.key, port()); }
  std::uint64_t port_hash() const noexcept { return ledger_.port_hash(case_.place.key, port()); }
  bool known_port() const noexcept { // somebody registered from there, or called
    return ledger_.known_users.find(port_hash(), minute(), Ledger::kPortMinutes).has_value();
  }
  bool is_known(std::uint64_t user) const noexcept {
    return ledger_.known_users.find(user, minute(), rules_.remember_s / 60).has_value();
  }
  std::uint32_t minute() const noexcept { return now_.s / 60; }

  const Rules& rules_;
  Ledger& ledger_;
  const Case& case_;
  const std::string_view payload_;
  Source* const source_;       // nullptr: the table had no line for the stranger
  Source* endpoint_ = nullptr; // of a trusted one, if there is something to say about this port
  bool charged_ = false;       // the packet was added to its class's meter
  bool has_ceiling_ = false;   // its sender is never blocked, but may send only so much
  bool proven_ = false;        // it shows, or answers what shows, that its sender receives our answers
  const Now& now_;
  Offence& offence_;
  // Hashes, from fetch_memories() on: of a request, of its user, and of that user's last REGISTER from here.
  std::uint64_t transaction_ = 0, user_ = 0, opening_ = 0;
};

// A stranger's request weighs so much while his network's strangers together are above their limit.
inline constexpr unsigned kStrictness = 16;

inline constexpr unsigned kMostRepeats = 11; // of one request: RFC 3261's timers E and A come to no more

// The class that a method is metered in.
constexpr Class class_of(sip::Method method) noexcept {
  switch (method) {
  case sip::Method::Register: return Class::Register;
  case sip::Method::Invite: return Class::Invite;
  case sip::Method::Options: return Class::Options;
  default: return Class::Request;
  }
}

} // namespace sipward::policy
