// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "policy/address.h"
#include "policy/meter.h"
#include "policy/time.h"
#include "sip/message.h"

// The block: the value that the judge's offence becomes, and that the kernel's set, the log, the control socket and
// replay all carry.
namespace sipward::policy {

// Why somebody is blocked. The names are fixed: outside tools read them.
enum class Reason : std::uint8_t {
  Scanner,
  RegisterFlood,
  InviteFlood,
  OptionsFlood,
  RequestFlood,
  Malformed,
  Enumeration,
  AuthFailure,
  Prefix,
  Manual,
};
std::string_view to_string(Reason reason) noexcept; // "register_flood"

// What happens to whoever breaks a rule. Limit: what exceeds the rate is dropped, the rest goes through.
enum class Action : std::uint8_t { Off, Log, Limit, Block };

// Who is blocked: a host (an IPv4 address, or an IPv6 /64), a prefix, or one port of one address.
enum class SubjectKind : std::uint8_t { Host, Prefix, Endpoint };
inline constexpr std::size_t kSubjectKinds = 3;
std::string_view to_string(SubjectKind kind) noexcept;
struct Subject {
  SubjectKind kind = SubjectKind::Host;
  Prefix prefix;
  std::uint16_t port = 0; // of an endpoint
  friend auto operator<=>(const Subject&, const Subject&) = default;
};
std::string to_string(const Subject& subject); // "198.51.100.66/32", "2001:db8:1:2::/64", "198.51.100.66:5061"

// A short text copied out of a datagram: at most `capacity` octets, raw. Printing it safely is the printer's duty.
struct Excerpt {
  static constexpr std::size_t kCapacity = 96;
  std::uint8_t size = 0;
  std::array<char, kCapacity> octets{};

  Excerpt() = default;
  explicit Excerpt(std::string_view text) noexcept {
    size = static_cast<std::uint8_t>(text.size() < kCapacity ? text.size() : kCapacity);
    for (std::size_t i = 0; i < size; ++i) octets[i] = text[i];
  }
  std::string_view view() const noexcept { return {octets.data(), size}; }
};

// What the verdict rests on.
struct Evidence {
  Excerpt user_agent;
  Excerpt mark; // the scanner mark that convicted, by name
  Excerpt method;
  double rate_per_s = 0;  // of the class that convicted, over the last seconds; 0: a single packet has no rate
  double limit_per_s = 0; // 0: no rate was involved
  std::uint32_t users = 0;
  std::uint32_t failures = 0;
  std::uint32_t successes = 0;
  std::uint32_t offenders = 0;  // of a prefix: how many of its hosts were blocked
  std::uint32_t registered = 0; // users of this source who registered with success: what a block would cut off
  std::uint32_t tcp_peers = 0;  // lasting TCP and TLS connections from there to our SIP ports: phones as well
  std::uint8_t share = 0;       // of all that our server answered with success lately, in percent
  std::uint8_t soft_marks = 0;  // the most that one of its messages had
  bool trusted = false;
};

// What a worker has to tell beside offences: nobody is blocked for it.
enum class Notice : std::uint8_t {
  None,
  UserBurnt,       // a source that had guessed many passwords found one: the user's must be changed
  UserUnderAttack, // many sources try one user's password
};

// One packet too many. Plain data: it crosses from a worker to the control thread through a ring.
struct Offence {
  Address source;
  std::uint16_t source_port = 0;
  SubjectKind kind = SubjectKind::Host; // or Endpoint: only this address and port are to answer for it
  Reason reason = Reason::Scanner;
  Action action = Action::Block;    // Log: judged, but nobody is blocked for it
  Rate limit;                       // of action Limit: what still goes through
  Notice notice = Notice::None;     // other than None: no offence, `user` says whose
  bool proven = false;              // the source has shown that it receives our answers: it is not forged
  bool one_user = false;            // all of it concerned one user: perhaps a phone with an old password
  std::uint32_t packets_before = 0; // the subject's packets, up to and with the convicting one; stops at 65,535
  Time at;
  Evidence evidence;
  Excerpt user; // of a notice
};

struct Block {
  Subject subject;
  Reason reason = Reason::Manual;
  Time since, until;
  std::uint32_t step = 1; // of the ladder
  bool proven = false;
  bool dry_run = false;      // would_block: everything but the blocking
  bool one_user = false;     // as the offence says
  bool wholly = false;       // loses every packet, not only the service (by hand, --scope all)
  std::optional<Rate> limit; // there: no block, only what exceeds this is dropped
  std::uint32_t packets_before = 0;
  std::uint64_t packets_dropped = 0; // in the block list without what the kernel counts now
  Evidence evidence;
  std::string note; // the operator's own words, of a manual block
};

} // namespace sipward::policy
