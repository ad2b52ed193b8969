// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

// One SIP message as offsets into the datagram it came in (RFC 3261, section 7). Nothing is copied.
//
//   REGISTER sip:example.com SIP/2.0\r\n
//   |      | |             |
//   |method| |request_uri  |
//   From: "Ann" <sip:ann@example.com:5060>;tag=1\r\n
//         ||  |      | | |         |           |
//         ||  |      | | |from_host|    from_tag
//         ||  |      |from_user               |
//         ||from_display                      |
//         |from  (the whole value)            |
//   \r\n
//   v=0...
//   |body
namespace sipward::sip {

// A part of the datagram: octets begin .. end-1. Absent parts have begin == end == 0; an empty value has begin == end >
// 0.
// One word, not two halves: it is made, stored and read at once.
struct Span {
  std::uint32_t begin : 16 = 0;
  std::uint32_t end : 16 = 0;
  constexpr bool present() const noexcept { return end != 0; }
  constexpr bool empty() const noexcept { return begin == end; }
  constexpr std::size_t size() const noexcept { return static_cast<std::size_t>(end - begin); }
  constexpr std::string_view in(std::string_view datagram) const noexcept { return {datagram.data() + begin, size()}; }
  friend constexpr bool operator==(Span, Span) = default;
};

enum class Kind : std::uint8_t { Request, Response, Keepalive, Malformed };

// What a client sends only to keep a NAT binding open.
enum class Keepalive : std::uint8_t {
  None,
  Crlf,       // CRLF: a "pong" (RFC 5626, section 3.5.1)
  DoubleCrlf, // CRLF CRLF: a "ping"; more of them alike
  Stun,       // a STUN message (RFC 8489, section 5: two zero bits, the magic cookie, a length that fits)
  Zeros,      // NUL octets and nothing else
  Text,       // "jaK" or "hello", which some phones send
};
std::string_view to_string(Keepalive keepalive) noexcept;

// RFC 3261 and its extensions; Other: a token that is none of these (kept in Message::method_token). Known methods are
// known in any case, because servers answer `register` too.
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

// Why a datagram is Malformed: one enumerator per cause, the first one found. What could be read is there all the same.
enum class Malformation : std::uint8_t {
  None,
  Empty,              // no octets at all
  NotSip,             // the first line is neither a SIP request line nor a status line
  NoHeaders,          // a start line, and nothing after it
  UnsupportedVersion, // SIP/ something that is not 2.0
  BadRequestUri,      // spaces or angle brackets in it, no scheme, or an IPv6 address without its brackets
  BadStatus,          // not three digits in 100..699
  NoVia,              // RFC 3261, section 8.1.1: each of these five is mandatory
  NoFrom,
  NoTo,
  NoCallId,
  NoCSeq,
  RepeatedHeader, // From, To, Call-ID or CSeq more than once
  BadVia,         // not SIP/2.0/transport sent-by, or separators without anything between them
  BadFrom,        // an unclosed quote or angle bracket
  BadTo,
  BadCSeq,                  // not a number and a method
  CSeqOverflow,             // 2^31 or more (RFC 3261, section 8.1.1.5)
  CSeqMismatch,             // a request's CSeq names another method
  BadContentLength,         // negative, or not a number
  ConflictingContentLength, // two that differ, or more than eight
  TruncatedBody,            // Content-Length beyond the end of the datagram
  TooManyParameters,        // more than 24 in one value, or many in several; the further ones were not read
};
std::string_view to_string(Malformation malformation) noexcept;

// The headers that are known by name, in their long and compact forms.
enum class Header : std::uint8_t {
  Other,
  Via,
  From,
  To,
  CallId,
  CSeq,
  Contact,
  MaxForwards,
  UserAgent,
  Server,
  Authorization,
  ProxyAuthorization,
  WwwAuthenticate,
  ProxyAuthenticate,
  Expires,
  ContentLength,
  ContentType,
  Accept,
};
inline constexpr std::size_t kHeaderKinds = 18;

// Digest credentials (Authorization, Proxy-Authorization) or a challenge (realm and nonce only); RFC 3261, section 22.
// Quoted values without their quotes.
struct Digest {
  Span value; // the whole header value
  Span username, realm, nonce, uri, response;
  friend bool operator==(const Digest&, const Digest&) = default;
};

struct Message {
  Kind kind = Kind::Malformed;
  Method method = Method::Other;                   // of a request
  Malformation malformation = Malformation::Empty; // of a malformed datagram
  Keepalive keepalive = Keepalive::None;           // of a keepalive
  std::uint16_t status = 0;                        // of a response, 100..699
  Method cseq_method = Method::Other;              // present in responses too: what is being answered
  std::uint8_t header_count = 0;                   // headers read, at most kMaxHeaders
  std::uint32_t cseq = 0;

  Span method_token, request_uri;
  Span user_agent; // User-Agent, or else Server
  Span from, from_display, from_user, from_host, from_tag;
  Span to, to_display, to_user, to_host, to_tag;
  Span call_id, cseq_method_token;
  Span body;   // up to Content-Length where there is one
  Span server; // the Server header alone

  // The topmost Via. via_sent_by is host and port as written; via_rport is empty where the parameter has no value.
  Span via, via_transport, via_sent_by, via_branch, via_rport, via_received;
  Span contact, contact_user, contact_host;    // the first one; hosts stand without the brackets of an IPv6 reference
  Digest authorization, proxy_authorization;   // of a request
  Digest www_authenticate, proxy_authenticate; // of a response
  Span content_type;

  static constexpr std::uint32_t kAbsent = 0xffff'ffff;
  std::uint32_t max_forwards = kAbsent, expires = kAbsent,
                content_length = kAbsent; // kAbsent also where it is no number

  // How often each header stands in the message; the fields above are of the first one. Indexed by Header.
  std::array<std::uint8_t, kHeaderKinds> counts{};
  std::uint8_t count(Header header) const noexcept { return counts[static_cast<std::size_t>(header)]; }
  friend bool operator==(const Message&, const Message&) = default;
};

} // namespace sipward::sip
