// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

// How many distinct sources there were, about, in 32 octets: linear counting. Sketches of one secret's hashes can be
// taken together, and apart.
namespace sipward::policy {

struct SourceSketch {
  static constexpr std::size_t kBits = 256;
  std::array<std::uint64_t, kBits / 64> words{}; // one bit for each hash

  void add(std::uint64_t hash) noexcept { words[hash >> 62] |= std::uint64_t{1} << (hash >> 56 & 63); }

  // Within a tenth up to some 300; saturates at 1,420.
  double count() const noexcept {
    int empty = kBits;
    for (const auto word : words) empty -= std::popcount(word);
    return -static_cast<double>(kBits) * std::log((empty > 0 ? empty : 1) / static_cast<double>(kBits));
  }

  friend SourceSketch operator|(SourceSketch a, const SourceSketch& b) noexcept {
    for (std::size_t i = 0; i < a.words.size(); ++i) a.words[i] |= b.words[i];
    return a;
  }
  // Those of `a` who are not in `b`; too few rather than too many.
  friend SourceSketch operator-(SourceSketch a, const SourceSketch& b) noexcept {
    for (std::size_t i = 0; i < a.words.size(); ++i) a.words[i] &= ~b.words[i];
    return a;
  }
};

} // namespace sipward::policy
