// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/agent_cache.h"
#include "sip/first_look.h"
#include "sip/index.h"
#include "sip/parser.h"
#include "sip/shapes.h"
#include "sip/simd.h"

// Which way a datagram is read: chosen once, when the program starts. Until this file's constant is set, the plain way
// is taken.
namespace sipward::sip {

#if defined(__x86_64__)
namespace {

const Isa kIsa = best_isa();

} // namespace

Isa best_isa() noexcept {
  __builtin_cpu_init(); // static objects of other files may come first
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2") ||
      !__builtin_cpu_supports("popcnt"))
    return Isa::Plain;
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                 __builtin_cpu_supports("avx512vbmi2")
             ? Isa::Avx512
             : Isa::Avx2;
}

void index(std::string_view datagram, Index& out) noexcept {
  if (kIsa == Isa::Avx512) return index_avx512(datagram, out);
  return kIsa == Isa::Avx2 ? index_avx2(datagram, out) : index_plain(datagram, out);
}
Message parse(std::string_view datagram) noexcept {
  if (kIsa == Isa::Avx512) return parse_avx512(datagram);
  return kIsa == Isa::Avx2 ? parse_avx2(datagram) : parse_plain(datagram);
}
FirstLook first_look(std::string_view datagram) noexcept {
  if (kIsa == Isa::Avx512) return first_look_avx512(datagram);
  return kIsa == Isa::Avx2 ? first_look_avx2(datagram) : first_look_plain(datagram);
}
Shapes shapes_of(const Message& message, std::string_view datagram) noexcept {
  if (kIsa != Isa::Avx512) return shapes_plain(message, datagram);
  if (!may_have_shapes(message)) return 0;
  const Shapes usual = usual_shapes_avx512(message, datagram);
  return usual != kUnknownShapes ? usual : shapes_plain(message, datagram);
}
const AgentCache::Entry& AgentCache::entry(const Marks& marks, std::string_view datagram, Span value) noexcept {
  if (kIsa == Isa::Avx512) return entry_avx512(marks, datagram, value);
  return kIsa == Isa::Avx2 ? entry_avx2(marks, datagram, value) : entry_plain(marks, datagram, value);
}
#else
Isa best_isa() noexcept { return Isa::Plain; }
Shapes shapes_of(const Message& message, std::string_view datagram) noexcept { return shapes_plain(message, datagram); }
const AgentCache::Entry& AgentCache::entry(const Marks& marks, std::string_view datagram, Span value) noexcept {
  return entry_plain(marks, datagram, value);
}
void index(std::string_view datagram, Index& out) noexcept { index_plain(datagram, out); }
Message parse(std::string_view datagram) noexcept { return parse_plain(datagram); }
FirstLook first_look(std::string_view datagram) noexcept { return first_look_plain(datagram); }
#endif

std::string_view simd_name() noexcept {
  constexpr std::string_view kNames[] = {"none", "AVX2", "AVX-512"};
  return kNames[static_cast<std::size_t>(best_isa())];
}

} // namespace sipward::sip
