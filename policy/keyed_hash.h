// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

// Two multiplications of 64 x 64 -> 128 bits, each folded, each with a key of its own before it and in it. Whoever does
// not know the secret cannot choose words whose hashes meet. He might watch which do, by their timing; but that two
// words meet in the low k bits tells something of other pairs only where their difference vanishes in both halves of a
// product, which is so for one pair in 2^k of those that meet: at a million lines he would have to tell 2^40 pairs
// apart, by the time of a cache line each, to aim at one window. SipHash-1-3 would need no such argument, and takes
// five times as long.
namespace sipward::policy {

struct Secret {
  std::uint64_t a, b, c, d;
};

constexpr std::uint64_t fold(std::uint64_t x, std::uint64_t y) noexcept {
  __extension__ using Wide = unsigned __int128; // no ISO type, but both compilers have it
  const auto product = static_cast<Wide>(x) * y;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

constexpr std::uint64_t keyed_hash(std::uint64_t word, const Secret& secret) noexcept {
  return fold(fold(word ^ secret.a, secret.b | 1) ^ secret.c, secret.d | 1);
}

// The same of a text, eight octets at a time, and of a number with it.
inline std::uint64_t text_hash(std::string_view text, std::uint64_t with, const Secret& secret) noexcept {
  std::uint64_t hash = with ^ (std::uint64_t{text.size()} << 48);
  for (; text.size() >= 8; text.remove_prefix(8)) {
    std::uint64_t word;
    std::memcpy(&word, text.data(), sizeof word);
    hash = fold(hash ^ word ^ secret.a, secret.b | 1);
  }
  std::uint64_t rest = 0;
  if (!text.empty()) std::memcpy(&rest, text.data(), text.size());
  return keyed_hash(hash ^ rest, secret);
}

} // namespace sipward::policy
