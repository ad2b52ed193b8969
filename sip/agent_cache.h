// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "sip/message.h"

// What was found out about the names (User-Agent, Server) met last. Most traffic comes from few kinds of phones and
// tools, and to see a name again costs a fraction of looking it up. Exact: all octets of a name are compared.
namespace sipward::sip {

class Marks;
struct Mark;

// One for each thread that inspects. Its thread only; allocates nothing.
class AgentCache {
public:
  // As marks.user_agent(value.in(datagram)).
  const Mark* find(const Marks& marks, std::string_view datagram, Span value) noexcept;

  // The ways to do so; see simd.h.
  const Mark* find_plain(const Marks& marks, std::string_view datagram, Span value) noexcept;
  const Mark* find_avx2(const Marks& marks, std::string_view datagram, Span value) noexcept;
  const Mark* find_avx512(const Marks& marks, std::string_view datagram, Span value) noexcept;

private:
  static constexpr std::size_t kOctets = 32; // of a name that is remembered; longer ones are looked up each time
  static constexpr unsigned kBits = 7;
  using Words = std::array<std::uint64_t, kOctets / 8>; // a name, and zeroes behind it
  struct alignas(64) Entry {
    Words name{};
    const Mark* mark = nullptr;
    std::uint64_t marks = 0; // Marks::id() of who said so; 0: nobody
  };
  static bool is_kept(Span value) noexcept { return value.size() - 1 < kOctets && value.end >= 16; }
  // Where to look for the name that ends here: its last sixteen octets tell. What stands before a shorter one, usually
  // the header's name, makes no difference but in place.
  Entry& entry_of(const char* end) noexcept {
    std::uint64_t a, b;
    std::memcpy(&a, end - 16, sizeof a);
    std::memcpy(&b, end - 8, sizeof b);
    return entries_[((a << 5) + b) * 0x9e37'79b9'7f4a'7c15 >> (64 - kBits)];
  }
  // Apart from find(), so that that keeps a name in registers.
  [[gnu::noinline]] static void learn(Entry& entry, const Words& octets, const Marks& marks,
                                      std::string_view name) noexcept;
  friend class AgentCacheSimd;

  std::array<Entry, std::size_t{1} << kBits> entries_{};
};

} // namespace sipward::sip
