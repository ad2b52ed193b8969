// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

#include "sip/message.h"

// The parts of a header's value, found octet by octet. Each takes the value's place in the datagram. Private to sip/.
//
// Parameters (RFC 3261, section 7.3.1) stand behind the semicolons (in digests, commas as well) that are outside
// quotes, up to a comma outside quotes. White space is allowed wherever the grammar has it, and whatever else stands
// between a parameter and the next semicolon is passed over.
namespace sipward::sip {

inline constexpr std::size_t kMaxDigits = 32; // of a number

// How many of a message's parameters are looked at, so that one made of nothing else costs little: kMaxParams in one
// value, and in all of them together no more than kMaxParams beyond each one's first kFreeParams. An honest message has
// a dozen in its credentials, and half of that in any other value.
inline constexpr int kMaxParams = 24, kFreeParams = 8;
struct ParamLimit {
  int further = kMaxParams;
  bool exceeded = false;

  int of_value() const noexcept { return further + kFreeParams < kMaxParams ? further + kFreeParams : kMaxParams; }
  // So many of a value were looked at.
  void count(int params) noexcept {
    if (params > kFreeParams) further -= params - kFreeParams;
  }
};

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

// The parameter named `tag` behind `params`: empty without a value, absent if it is not there.
Span read_tag(std::string_view datagram, std::size_t params, std::size_t end, ParamLimit& limit) noexcept;

// Where the parts of From, To or Contact go, and of Via: straight into the message. A party's four stand one behind the
// other, to be written at once.
struct Party {
  Span &display, &user, &host, &tag;
  bool wants_tag = true; // false: neither its tag nor how many parameters there are matters
};
struct ViaParts {
  Span &transport, &sent_by, &branch, &rport, &received;
};
// False: not SIP/2.0/transport sent-by, or nothing stands between two separators.
bool read_via(std::string_view datagram, Span value, const ViaParts& out, ParamLimit& limit) noexcept;

// False: not a number and a method.
bool read_cseq(std::string_view datagram, Span value, std::uint32_t& number, Span& method, Method& kind) noexcept;

Digest read_digest(std::string_view datagram, Span value, ParamLimit& limit) noexcept;

// A number in decimal digits and nothing else; values beyond 2^32 - 2 stay at that. False if it is none, or longer than
// kMaxDigits.
bool read_number(std::string_view digits, std::uint32_t& out) noexcept;

} // namespace sipward::sip
