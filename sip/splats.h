// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>

// Each octet 64 times over, to be compared with 64 octets at once. In memory that is filled elsewhere, because a
// constant that the compiler can see is made anew at each use. Private to sip/.
namespace sipward::sip {

struct alignas(64) Splat {
  char octets[64];
};
extern const std::array<Splat, 128> kSplats;

} // namespace sipward::sip
