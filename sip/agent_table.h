// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Name patterns (User-Agent, Server): exact, prefix, suffix and contained, looked up at a cost that does not depend on
// how many there are. Every pattern is reached by a few keys, hashes of up to eight octets of it; a filter of one bit
// per hash turns nearly every other name away:
//   exact      three words and the length of the whole value: one probe
//   prefix     the first 8, 4 or 3 octets: one probe for each length in use
//   contained  groups of three octets; of each pattern as many consecutive ones as the stride is long, so that looking
//   at every
//              stride-th group of a value is enough. The stride is set by the shortest such pattern.
namespace sipward::sip {

inline constexpr std::size_t kMaxAgentOctets = 256; // of a value, looked at; a longer one is no product's name

class AgentTable {
public:
  static constexpr std::uint32_t kNone = 0xffff'ffff;

  // `pattern` as Marks::valid_pattern has it; `id` is what find() answers. Patterns added first win. Call build() after
  // the last.
  void add(std::string_view pattern, std::uint32_t id);
  void build();

  // The id of a pattern that this value matches, or kNone. Any thread.
  std::uint32_t find(std::string_view value) const noexcept;

private:
  static constexpr unsigned kFilterBits = 17;
  enum class Anchor : std::uint8_t { Exact, Prefix, Suffix, Contained };
  struct Pattern {
    std::string text; // in lower case
    Anchor anchor;
    std::uint32_t id;
  };
  struct Entry {
    std::uint64_t key;     // 0: free
    std::uint32_t pattern; // into patterns_
    std::uint32_t offset;  // of the key's octets within the pattern
  };

  void insert(std::uint64_t key, std::uint32_t pattern, std::uint32_t offset);
  std::size_t load_of(std::uint64_t key) const noexcept;
  void insert_contained(std::uint32_t pattern);
  bool maybe(std::uint64_t key) const noexcept {
    return filter_[key >> (64 - kFilterBits + 6)] >> (key >> 41 & 63) & 1;
  }
  std::uint32_t verify(std::uint64_t key, std::string_view value, std::size_t at) const noexcept;
  std::uint32_t find_short(std::string_view value) const noexcept;

  std::vector<Pattern> patterns_;
  std::vector<Entry> entries_; // open addressing, a power of two, at most half full
  std::vector<std::uint64_t> filter_ = std::vector<std::uint64_t>(std::size_t{1} << (kFilterBits - 6));
  std::array<std::uint8_t, 3> prefix_lengths_{};
  std::size_t prefix_classes_ = 0;
  std::size_t stride_ = 4;
  bool contained_ = false;
};

} // namespace sipward::sip
