// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

#include "sip/index.h"

// What a datagram is, as its first line tells. Private to sip/.
namespace sipward::sip {

// A datagram that holds no message at all: empty, or a keepalive. Sets `out` and returns true if so.
bool read_keepalive(std::string_view datagram, Index& out) noexcept;

// The CRs and LFs before the start line (RFC 3261, section 7.5), counted.
std::size_t skip_line_ends(std::string_view datagram) noexcept;

// The start line at [begin, end) of `datagram`, without its line end (RFC 3261, sections 7.1 and 7.2): kind, method,
// request URI, status and malformation. Extra spaces between the parts are forgiven.
void read_start_line(std::string_view datagram, std::size_t begin, std::size_t end, Index& out) noexcept;

// A method by its token, in any case.
Method method_of(std::string_view token) noexcept;

} // namespace sipward::sip
