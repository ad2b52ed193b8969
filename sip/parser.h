// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

#include "sip/message.h"

namespace sipward::sip {

inline constexpr std::size_t kMaxHeaders = 128;       // headers read per message; further ones are not looked at
inline constexpr std::size_t kMaxHeaderOctets = 8192; // octets inspected for headers

// Reads one datagram. Total: every octet string has a defined result. Bounded, allocates nothing, throws nothing.
// Any thread. `datagram` is at most 65,535 octets; longer input is read as if it ended there.
Message parse(std::string_view datagram) noexcept;

} // namespace sipward::sip
