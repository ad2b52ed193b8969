// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/agent_cache_simd.h"
#include "sip/first_look_simd.h"
#include "sip/index_simd.h"
#include "sip/parser_simd.h"
#include "sip/shapes_simd.h"
#include "sip/simd.h"

// The SIMD ways as compiled for AVX-512.
namespace sipward::sip {

void index_avx512(std::string_view datagram, Index& out) noexcept { index_simd(datagram, out); }
FirstLook first_look_avx512(std::string_view datagram) noexcept { return first_look_simd(datagram); }
Message parse_avx512(std::string_view datagram) noexcept {
  Message message;
  parse_simd(datagram, message);
  return message;
}
Shapes usual_shapes_avx512(const Message& message, std::string_view datagram) noexcept {
  return UsualShapes(message, datagram).find();
}
const AgentCache::Entry& AgentCache::entry_avx512(const Marks& marks, std::string_view datagram, Span value) noexcept {
  return AgentCacheSimd::entry(*this, marks, datagram, value);
}

} // namespace sipward::sip
