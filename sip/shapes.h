// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <string_view>

#include "sip/mark_list.h"
#include "sip/message.h"

// Which shapes a message has, as a bitmap: bit i is Shape i, and hard ones are the lower. Private to sip/.
namespace sipward::sip {

using Shapes = std::uint32_t;
static_assert(kShapeMarks.size() <= 32);

constexpr Shapes shape_bit(Shape shape) noexcept { return Shapes{1} << static_cast<unsigned>(shape); }

// A response carries its request's shape, whoever sent that: it has none.
Shapes shapes_of(const Message& message, std::string_view datagram) noexcept;

// The same without SIMD: what the other way is held against.
Shapes shapes_plain(const Message& message, std::string_view datagram) noexcept;

// Those of a request of the usual kind; kUnknownShapes of any other.
inline constexpr Shapes kUnknownShapes = ~Shapes{0};
Shapes usual_shapes_avx512(const Message& message, std::string_view datagram) noexcept;

inline bool may_have_shapes(const Message& message) noexcept {
  return message.kind == Kind::Request || (message.kind == Kind::Malformed && message.method_token.present());
}

// Where the 0x01 stands in a SIPVicious tag (an even offset), or 0.
std::size_t sipvicious_mark(std::string_view tag) noexcept;

constexpr int nibble(char c) noexcept { return c <= '9' ? c - '0' : c - 'a' + 10; } // of a lower-case hexadecimal digit

} // namespace sipward::sip
