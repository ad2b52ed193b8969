// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "policy/block.h"
#include "policy/ledger.h"
#include "policy/rules.h"
#include "sip/agent_cache.h"

// The judge: one datagram in, one verdict out. A new detection goes here, as one more step of decide().
namespace sipward::policy {

// Where a packet came in, as far as it is known: only a bump in the wire knows.
enum class Side : std::uint8_t { Unknown, Outside, Inside };

// One UDP datagram as it came off the wire (or out of a capture).
struct Datagram {
  Address source, destination;
  std::uint16_t source_port = 0, destination_port = 0;
  std::string_view payload;
  bool truncated = false; // the capture or the ring did not hold all of it: its parts are judged, its shape is not
  Side side = Side::Unknown;
};

// What became of a packet, and why. Every packet received has exactly one.
enum class Why : std::uint8_t {
  NotIp,             // ARP, LLDP ... the frame is none of ours
  NotUdp,            // TCP, ICMP ...
  BadFrame,          // lengths that contradict each other
  BadChecksum,       // of IP or UDP, says the NIC: its receiver drops it, so it is evidence of nothing
  Fragment,          // of an IP datagram that is none of ours
  Unrelated,         // UDP, but not between the outside and a protected server's SIP port
  Answer,            // from a protected server, on the way out
  Keepalive,         // CRLF, STUN and the like
  Malformed,         // on the SIP port, but no SIP
  Response,          // to a request of our server
  Clean,             // a request within every limit
  Unmetered,         // as clean, but the source table had no line for its sender
  Excess,            // of what is exempt from the rates while plausible (keepalives, responses ...): over its ceiling
  NeverBlocked,      // would have been convicted, but its sender is never blocked
  Suspended,         // would have been convicted, but our own server is not well
  Blocked,           // its sender stands in the kernel's set
  BlockedEndpoint,   // its sender's address and port do
  BlockedPrefix,     // its sender's prefix does
  TooLong,           // inline: cut on its way in, or longer than the port to leave by can carry
  TransmitFull,      // inline: the port to leave by took no more (its ring is full, or its link down)
  FragmentTiny,      // the first of a datagram, without its ports. Inline, this and the next five are dropped
  FragmentOverlap,   // of one datagram, and they overlap or contradict each other otherwise
  FragmentCopy,      // a second copy; the first one's verdict is the datagram's
  FragmentExcess,    // more of one datagram than are put together
  FragmentOverdue,   // held, but the others did not come in time
  FragmentDisplaced, // held, but had to make room
  Scanner,           // from here on: it broke a rule
  RegisterFlood,
  InviteFlood,
  OptionsFlood,
  RequestFlood,
  MalformedFlood,
  Enumeration,
  AuthFailure,
};
inline constexpr std::size_t kWhys = static_cast<std::size_t>(Why::AuthFailure) + 1;
std::string_view to_string(Why why) noexcept; // as in status --json: "register_flood"

struct Verdict {
  Why why = Why::Unrelated;
  bool drop = false;    // monitor: the kernel drops it, in its own time; inline: drop it here
  bool offence = false; // the offence has been filled in and is to be sent to the control thread
  bool unused = false;  // with it, it is one word, returned in a register
};

// How a datagram stands to the protected servers.
enum class Way : std::uint8_t {
  Aside, // neither of the two
  In,    // to a server's SIP port
  Out,   // from it
};
Way way_of(const Rules& rules, const Datagram& datagram) noexcept;

// A datagram that is to be judged, and the place of the stranger whom it concerns: the sender of one that goes in, the
// addressee of one that goes out.
struct Case {
  Datagram datagram;
  Way way = Way::Aside;
  SourceTable::Place place{};
};

// Worker thread. Of a burst, open all cases, then fetch() all, then decide() or let_by() on all: so the waits for
// memory overlap. The octets of the payload must stay where they are meanwhile.
void open(const Rules& rules, const Ledger& ledger, Case& c) noexcept; // its datagram is there already
inline Case open(const Rules& rules, const Ledger& ledger, const Datagram& datagram) noexcept {
  Case c{datagram};
  open(rules, ledger, c);
  return c;
}
inline void fetch(const Ledger& ledger, Case& c) noexcept {
  if (c.place.key != 0) ledger.sources.prefetch_line(c.place);
}

// Judges one datagram that goes in or out. Worker thread, with a cache of names of its own; no allocation, no clock, no
// wait. A packet is read only as far as its verdict needs: not at all if its sender is blocked, then for its method and
// User-Agent, and whole only if these do not decide. `offence` is written only if the verdict says so.
Verdict decide(const Rules& rules, Ledger& ledger, sip::AgentCache& names, const Case& c, const Now& now,
               Offence& offence) noexcept;

// A packet that is not judged, be it TCP, media or anything else of IP. Inline it is dropped, as the kernel's chains
// would, if its sender stands blocked and it falls within the scope of blocks. `why`: what it is otherwise. Worker
// thread.
Verdict let_by(const Rules& rules, const Ledger& ledger, const Case& c, Why why, const Now& now) noexcept;

// Notes that a block, or a limit, of a host or an endpoint stands, or no longer does; prefixes are in the rules.
// Control thread.
void enact(Ledger& ledger, const Block& block, bool stands, std::uint8_t ipv6_prefix, const Now& now) noexcept;

} // namespace sipward::policy
