// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <string_view>

// One SIP message as offsets into the datagram it came in (RFC 3261, section 7). Nothing is copied.
//
//   REGISTER sip:example.com SIP/2.0\r\n
//   |      | |             |
//   |method| |request_uri  |
//   From: "Ann" <sip:ann@example.com>;tag=1\r\n
//         |           |from_user     |      |
//         |from  (the whole value)          |
//   \r\n
//   v=0...
//   |body
namespace sipward::sip {

// A part of the datagram: octets begin .. end-1. Absent parts have begin == end == 0; an empty value has begin == end >
// 0.
struct Span {
  std::uint16_t begin = 0;
  std::uint16_t end = 0;
  constexpr bool present() const noexcept { return end != 0; }
  constexpr bool empty() const noexcept { return begin == end; }
  constexpr std::string_view in(std::string_view datagram) const noexcept {
    return datagram.substr(begin, static_cast<std::size_t>(end - begin));
  }
  friend constexpr bool operator==(Span, Span) = default;
};

enum class Kind : std::uint8_t { Request, Response, Keepalive, Malformed };

// RFC 3261 and its extensions; Other: a token that is none of these (kept in Message::method_token).
enum class Method : std::uint8_t {
  Other,
  Register,
  Invite,
  Ack,
  Bye,
  Cancel,
  Options,
  Subscribe,
  Notify,
  Publish,
  Message,
  Info,
  Prack,
  Update,
  Refer,
};
std::string_view to_string(Method method) noexcept; // "REGISTER"; "other" for Other

// Why a datagram is Malformed: one enumerator per cause.
enum class Malformation : std::uint8_t {
  None,
  Empty,     // no octets at all
  NotSip,    // the first line is neither a SIP request line nor a status line
  NoHeaders, // a start line, and nothing after it
};
std::string_view to_string(Malformation malformation) noexcept;

struct Message {
  Kind kind = Kind::Malformed;
  Method method = Method::Other;                   // of a request
  Malformation malformation = Malformation::Empty; // of a malformed datagram
  std::uint16_t status = 0;                        // of a response, 100..699
  Span method_token, request_uri;
  Span user_agent, from, from_user, to, to_user, call_id;
  std::uint32_t cseq = 0;
  Method cseq_method = Method::Other; // present in responses too: what is being answered
  Span cseq_method_token;
  Span body;
};

} // namespace sipward::sip
