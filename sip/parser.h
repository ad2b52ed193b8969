// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

#include "sip/index.h"
#include "sip/message.h"

namespace sipward::sip {

// Reads one datagram, every part of it that judging needs. Total: every octet string has a defined result. Bounded,
// allocates nothing, throws nothing. Any thread. `datagram` is at most 65,535 octets; longer input is read as if it
// ended there.
Message parse(std::string_view datagram) noexcept;

// The same without SIMD.
Message parse_plain(std::string_view datagram) noexcept;

// Which SIMD way this processor gets: "AVX-512", "AVX2" or "none".
std::string_view simd_name() noexcept;

} // namespace sipward::sip
