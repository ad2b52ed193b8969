// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string_view>

namespace sipward::test {

// Room for one datagram between two pages that nobody may touch: who reads an octet past either end dies there, also by
// a SIMD load that the address sanitizer does not look at. Mapped once, then it costs a copy.
//
//   | PROT_NONE | at_start...                 ...at_end | PROT_NONE |
//               |start_                                 |end_
class Fenced {
public:
  static constexpr std::size_t kOctets = 1 << 17; // a datagram, and more than a datagram

  Fenced() {
    constexpr std::size_t kFence = 1 << 16; // a multiple of every page size
    void* const room = mmap(nullptr, kOctets + 2 * kFence, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    start_ = static_cast<char*>(room) + kFence;
    end_ = start_ + kOctets;
    if (room == MAP_FAILED || mprotect(start_, kOctets, PROT_READ | PROT_WRITE) != 0) {
      std::perror("mmap");
      std::abort();
    }
  }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;

  // Copies, good until the next one. `text` is at most kOctets long.
  std::string_view at_start(std::string_view text) noexcept { return put(start_, {text}); }
  std::string_view at_end(std::string_view text) noexcept { return put(end_ - text.size(), {text}); }
  std::string_view at_end(std::initializer_list<std::string_view> parts) noexcept {
    std::size_t size = 0;
    for (const std::string_view part : parts) size += part.size();
    return put(end_ - size, parts);
  }

private:
  static std::string_view put(char* begin, std::initializer_list<std::string_view> parts) noexcept {
    char* at = begin;
    for (const std::string_view part : parts) {
      if (!part.empty()) std::memcpy(at, part.data(), part.size());
      at += part.size();
    }
    return {begin, static_cast<std::size_t>(at - begin)};
  }

  char *start_, *end_;
};

} // namespace sipward::test
