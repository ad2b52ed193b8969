// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <string_view>

#include "sip/index.h"
#include "sip/text.h"

// The names of the headers that are known, in lower case, and their compact forms (RFC 3261, section 7.3.3). Private to
// sip/.
namespace sipward::sip {

struct HeaderName {
  std::string_view name;
  Header header;
};

inline constexpr std::array<HeaderName, 24> kHeaderNames{{
    {"via", Header::Via},
    {"v", Header::Via},
    {"from", Header::From},
    {"f", Header::From},
    {"to", Header::To},
    {"t", Header::To},
    {"call-id", Header::CallId},
    {"i", Header::CallId},
    {"cseq", Header::CSeq},
    {"contact", Header::Contact},
    {"m", Header::Contact},
    {"max-forwards", Header::MaxForwards},
    {"user-agent", Header::UserAgent},
    {"server", Header::Server},
    {"authorization", Header::Authorization},
    {"proxy-authorization", Header::ProxyAuthorization},
    {"www-authenticate", Header::WwwAuthenticate},
    {"proxy-authenticate", Header::ProxyAuthenticate},
    {"expires", Header::Expires},
    {"content-length", Header::ContentLength},
    {"l", Header::ContentLength},
    {"content-type", Header::ContentType},
    {"c", Header::ContentType},
    {"accept", Header::Accept},
}};

// A header by its name, in any case. Defined with the plain index: not inline, so that no copy for one processor serves
// another.
Header header_of(std::string_view name) noexcept;

} // namespace sipward::sip
