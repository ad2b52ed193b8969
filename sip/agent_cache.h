// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
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

private:
  static constexpr std::size_t kOctets = 32; // of a name that is remembered; longer ones are looked up each time
  static constexpr unsigned kBits = 7;
  using Words = std::array<std::uint64_t, kOctets / 8>; // a name, and zeroes behind it
  struct alignas(64) Entry {
    Words name{};
    const Mark* mark = nullptr;
    std::uint64_t marks = 0; // Marks::id() of who said so; 0: nobody
  };
  // Apart from find(), so that that keeps a name in registers.
  [[gnu::noinline]] static void learn(Entry& entry, const Marks& marks, std::string_view name) noexcept;

  std::array<Entry, std::size_t{1} << kBits> entries_{};
};

} // namespace sipward::sip
