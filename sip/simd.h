// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <string_view>

#include "sip/first_look.h"
#include "sip/index.h"
#include "sip/message.h"

// What runs on some processors of the x86-64 family only. Private to sip/.
namespace sipward::sip {

enum class Isa : std::uint8_t { Plain, Avx2, Avx512 };

// The best that this processor has, and that this build knows. AVX-512 means BW, VL and VBMI2 (Ice Lake, Zen 4 and
// later).
Isa best_isa() noexcept;

void index_avx2(std::string_view datagram, Index& out) noexcept;
void index_avx512(std::string_view datagram, Index& out) noexcept;
Message parse_avx2(std::string_view datagram) noexcept;
Message parse_avx512(std::string_view datagram) noexcept;
FirstLook first_look_avx2(std::string_view datagram) noexcept;
FirstLook first_look_avx512(std::string_view datagram) noexcept;

// What a first look answers, taken from an index.
FirstLook first_look_by_index(std::string_view datagram, const Index& index) noexcept;

} // namespace sipward::sip
