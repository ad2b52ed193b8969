// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

#include "sip/message.h"

// The first tier of inspection: what most packets need, and all that most scanners' packets need. It finds one header,
// not all.
namespace sipward::sip {

struct FirstLook {
  Kind kind = Kind::Malformed; // as the start line tells; neither the URI nor values are judged
  Method method = Method::Other;
  Keepalive keepalive = Keepalive::None;
  std::uint8_t unused = 0; // with these it is two words, returned in two registers
  std::uint16_t status = 0;
  std::uint16_t unused_too = 0;
  Span user_agent; // of the first User-Agent header
  std::uint32_t unused_as_well = 0;
  friend bool operator==(const FirstLook&, const FirstLook&) = default;
};

// Any thread; total, allocates nothing. Answers as index() does, only sooner.
FirstLook first_look(std::string_view datagram) noexcept;

// The same without SIMD.
FirstLook first_look_plain(std::string_view datagram) noexcept;

} // namespace sipward::sip
