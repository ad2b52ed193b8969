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
  const Mark* find(const Marks& marks, std::string_view datagram, Span value) noexcept {
    return entry(marks, datagram, value).mark;
  }
  // The same, if it is a hard mark; nullptr otherwise.
  const Mark* find_hard(const Marks& marks, std::string_view datagram, Span value) noexcept {
    return entry(marks, datagram, value).hard;
  }

private:
  static constexpr std::size_t kOctets = 32; // of a name that is remembered; longer ones are looked up each time
  static constexpr unsigned kBits = 7;
  struct alignas(64) Entry {
    std::array<char, kOctets> name{}; // and zeroes behind it
    const Mark* mark = nullptr;
    const Mark* hard = nullptr; // the same, or nullptr
    std::uint64_t marks = 0;    // Marks::id() of who said so; 0: nobody
  };

  // What is known of this name. How it is compared depends on the processor (dispatch.cpp).
  const Entry& entry(const Marks& marks, std::string_view datagram, Span value) noexcept;
  const Entry& entry_plain(const Marks& marks, std::string_view datagram, Span value) noexcept;
  const Entry& entry_avx2(const Marks& marks, std::string_view datagram, Span value) noexcept;
  const Entry& entry_avx512(const Marks& marks, std::string_view datagram, Span value) noexcept;
  friend class AgentCacheSimd;

  // Where the name that ends here is remembered, sixteen octets or more behind the datagram's beginning. Its last
  // sixteen tell; what stands before a shorter one, usually the header's name, makes no difference but in place.
  Entry& slot(const char* end) noexcept {
    std::uint64_t a, b;
    std::memcpy(&a, end - 16, sizeof a);
    std::memcpy(&b, end - 8, sizeof b);
    return entries_[((a << 5) + b) * 0x9e37'79b9'7f4a'7c15 >> (64 - kBits)];
  }
  // Looks the name up and returns `entry`, which then remembers it.
  static const Entry& learn(Entry& entry, const Marks& marks, std::string_view name) noexcept;
  // For names that are not remembered.
  const Entry& look_up(const Marks& marks, std::string_view name) noexcept;

  std::array<Entry, std::size_t{1} << kBits> entries_{};
  Entry other_; // the last name that was not remembered
};

} // namespace sipward::sip
