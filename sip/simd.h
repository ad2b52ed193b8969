// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

#include "sip/index.h"
#include "sip/message.h"

// What runs on x86-64 with AVX2 and BMI only. Private to sip/.
namespace sipward::sip {

// Known once this library's static objects are made; false before, and on other processors. The plain ways answer then.
extern const bool kHasAvx2;

void index_avx2(std::string_view datagram, Index& out) noexcept;

} // namespace sipward::sip
