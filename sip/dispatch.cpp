// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/index.h"
#include "sip/simd.h"

// Which way a datagram is read: chosen once, when the program starts.
namespace sipward::sip {

#if defined(__x86_64__)
const bool kHasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                      __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");

void index(std::string_view datagram, Index& out) noexcept {
  return kHasAvx2 ? index_avx2(datagram, out) : index_plain(datagram, out);
}
#else
const bool kHasAvx2 = false;

void index(std::string_view datagram, Index& out) noexcept { index_plain(datagram, out); }
#endif

} // namespace sipward::sip
