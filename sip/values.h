// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

#include "sip/message.h"

// The parts of a header's value, found octet by octet. Each takes the value's place in the datagram. Private to sip/.
namespace sipward::sip {

struct Uri {
  Span user, host;
};
// sip, sips and tel URIs (RFC 3261, section 19.1; RFC 3966); a tel number is the user. Others have neither part.
Uri read_uri(std::string_view datagram, Span uri) noexcept;

struct Address {
  Span display, user, host;
  std::size_t params = 0; // where the header's own parameters begin
  bool good = true;       // false: a quote or an angle bracket is not closed
};
// name-addr or addr-spec (RFC 3261, section 20.10).
Address read_address(std::string_view datagram, Span value) noexcept;

// A parameter ;name=value in [begin, end), up to a comma. `name` in lower case. Absent if it is not there, empty
// without a value.
Span read_param(std::string_view datagram, std::size_t begin, std::size_t end, std::string_view name) noexcept;

struct Via {
  Span transport, sent_by, branch, rport, received;
  bool good = false;
};
Via read_via(std::string_view datagram, Span value) noexcept;

struct CSeq {
  std::uint32_t number = 0;
  Span method;
  bool good = false;
};
CSeq read_cseq(std::string_view datagram, Span value) noexcept;

Digest read_digest(std::string_view datagram, Span value) noexcept;

} // namespace sipward::sip
