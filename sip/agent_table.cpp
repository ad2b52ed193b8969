// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/agent_table.h"

#include <algorithm>
#include <cstring>

#include "sip/text.h"

namespace sipward::sip {
namespace {

using namespace text;

// Setting bit 5 folds letters; what else it makes alike, verify() tells apart.
constexpr std::uint64_t kFold = 0x2020'2020'2020'2020;

std::uint64_t load(const char* at) noexcept {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word | kFold;
}
std::uint64_t load4(const char* at) noexcept {
  std::uint32_t word;
  std::memcpy(&word, at, sizeof word);
  return word | 0x2020'2020u;
}

// Never 0, which marks a free entry.
std::uint64_t mixed(std::uint64_t value, std::uint64_t salt) noexcept {
  return (value + salt) * 0x9e37'79b9'7f4a'7c15 | 1;
}

// Eight octets, capital letters made small and nothing else.
std::uint64_t lowered(const char* at) noexcept {
  constexpr std::uint64_t kOnes = 0x0101'0101'0101'0101;
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  const std::uint64_t low = word & (kOnes * 0x7f);
  const std::uint64_t capitals = ((low + kOnes * (0x80 - 'A')) ^ (low + kOnes * (0x7f - 'Z'))) & ~word & (kOnes * 0x80);
  return word | capitals >> 2;
}

// `text` is in lower case, and as long as the value.
bool same_text(const char* value, std::string_view text) noexcept {
  const std::size_t size = text.size();
  if (size < 8) return equals({value, size}, text);
  const auto differ = [&](std::size_t i) {
    std::uint64_t word;
    std::memcpy(&word, text.data() + i, sizeof word);
    return lowered(value + i) ^ word;
  };
  std::uint64_t wrong = differ(size - 8);
  for (std::size_t i = 0; i + 8 < size; i += 8) wrong |= differ(i);
  return wrong == 0;
}

constexpr std::uint64_t kGroupSalt = 0x7a00'0000'0000'0000;
constexpr std::uint64_t kPrefixSalt = 0x1357'0000'0000'0000;

std::uint64_t exact_key(std::string_view value) noexcept { // at least 8 octets
  const char* last = value.data() + value.size() - 8;
  const std::uint64_t middle = load(value.data() + (value.size() - 8) / 2);
  return mixed(load(value.data()) * 0xff51'afd7'ed55'8ccd ^ (load(last) + value.size()) * 0xc4ce'b9fe'1a85'ec53 ^
                   middle << 1,
               0);
}
std::uint64_t group_key(std::uint64_t octets) noexcept { return mixed(octets & 0xff'ffff, kGroupSalt); }
std::uint64_t prefix_key(std::uint64_t octets, std::size_t length) noexcept {
  return mixed(length == 8 ? octets : octets & ((std::uint64_t{1} << (8 * length)) - 1), kPrefixSalt * length);
}

// The text, padded to eight octets at least.
std::uint64_t head_of(const std::string& text) noexcept {
  char padded[8] = {};
  std::memcpy(padded, text.data(), std::min<std::size_t>(text.size(), sizeof padded));
  return load(padded);
}

} // namespace

void AgentTable::add(std::string_view pattern, std::uint32_t id) {
  const bool front = pattern.starts_with('*');
  if (front) pattern.remove_prefix(1);
  const bool back = pattern.ends_with('*');
  if (back) pattern.remove_suffix(1);
  std::string text(pattern);
  std::transform(text.begin(), text.end(), text.begin(), lower);
  const Anchor anchor = front ? (back ? Anchor::Contained : Anchor::Suffix) : (back ? Anchor::Prefix : Anchor::Exact);
  patterns_.push_back({std::move(text), anchor, id});
}

void AgentTable::insert(std::uint64_t key, std::uint32_t pattern, std::uint32_t offset) {
  std::size_t at = key >> 20;
  while (entries_[at & (entries_.size() - 1)].key != 0) ++at;
  entries_[at & (entries_.size() - 1)] = {key, pattern, offset};
  filter_[key >> (64 - kFilterBits + 6)] |= std::uint64_t{1} << (key >> 41 & 63);
}

std::size_t AgentTable::load_of(std::uint64_t key) const noexcept {
  std::size_t count = 0;
  for (std::size_t at = key >> 20; entries_[at & (entries_.size() - 1)].key != 0; ++at)
    count += entries_[at & (entries_.size() - 1)].key == key;
  return count;
}

// Of all runs of groups, the one whose groups are shared least, and of those the one with the rarest letters.
void AgentTable::insert_contained(std::uint32_t index) {
  const std::string& text = patterns_[index].text;
  const auto groups = [&](std::size_t at) {
    char padded[8] = {text[at], text[at + 1], text[at + 2]};
    return group_key(load(padded));
  };
  constexpr std::string_view kCommon = "etaoinsrhldcumpg -/.1";
  std::size_t best = 0, least = SIZE_MAX;
  for (std::size_t at = 0; at + stride_ + 2 <= text.size(); ++at) {
    std::size_t cost = 0;
    for (std::size_t k = 0; k < stride_; ++k) cost += 1000 * load_of(groups(at + k));
    for (std::size_t k = 0; k < stride_ + 2; ++k)
      cost += kCommon.find(text[at + k]) == std::string_view::npos ? 0u : 1u;
    if (cost < least) least = cost, best = at;
  }
  for (std::size_t k = 0; k < stride_; ++k) insert(groups(best + k), index, static_cast<std::uint32_t>(best + k));
}

void AgentTable::build() {
  std::size_t size = 64;
  while (size < patterns_.size() * 10) size *= 2;
  entries_.assign(size, {});
  for (const Pattern& pattern : patterns_)
    if (pattern.anchor == Anchor::Contained || pattern.anchor == Anchor::Suffix) {
      contained_ = true;
      stride_ = std::min(stride_, pattern.text.size() - 2);
    }
  for (std::uint32_t i = 0; i < patterns_.size(); ++i) {
    const Pattern& pattern = patterns_[i];
    const std::size_t length = pattern.text.size() >= 8 ? 8 : std::min<std::size_t>(pattern.text.size(), 4);
    switch (pattern.anchor) {
    case Anchor::Exact:
      if (pattern.text.size() >= 8) {
        insert(exact_key(pattern.text), i, 0);
        break;
      }
      [[fallthrough]]; // a short exact one is found by its head
    case Anchor::Prefix: {
      insert(prefix_key(head_of(pattern.text), length), i, 0);
      const auto end = prefix_lengths_.begin() + static_cast<std::ptrdiff_t>(prefix_classes_);
      if (std::find(prefix_lengths_.begin(), end, length) == end)
        prefix_lengths_[prefix_classes_++] = static_cast<std::uint8_t>(length);
      break;
    }
    case Anchor::Suffix:
    case Anchor::Contained:
      // The bare name, too, is one probe: that is how the tools call themselves.
      if (pattern.text.size() >= 8) insert(exact_key(pattern.text), i, 0);
      insert_contained(i);
      break;
    }
  }
}

std::uint32_t AgentTable::verify(std::uint64_t key, std::string_view value, std::size_t at) const noexcept {
  std::uint32_t found = kNone;
  for (std::size_t i = key >> 20; entries_[i & (entries_.size() - 1)].key != 0; ++i) {
    const Entry& entry = entries_[i & (entries_.size() - 1)];
    if (entry.key != key || entry.offset > at) continue;
    const Pattern& pattern = patterns_[entry.pattern];
    const std::size_t begin = at - entry.offset;
    const bool to_front = pattern.anchor == Anchor::Exact || pattern.anchor == Anchor::Prefix;
    const bool to_back = pattern.anchor == Anchor::Exact || pattern.anchor == Anchor::Suffix;
    if ((to_front && begin != 0) || begin + pattern.text.size() > value.size()) continue;
    if (to_back && begin + pattern.text.size() != value.size()) continue;
    if (same_text(value.data() + begin, pattern.text)) found = std::min(found, pattern.id);
  }
  return found;
}

std::uint32_t AgentTable::find_short(std::string_view value) const noexcept {
  char padded[8] = {};
  std::copy(value.begin(), value.end(), padded);
  const std::uint64_t head = load(padded);
  std::uint32_t found = kNone;
  for (std::size_t i = 0; i < prefix_classes_; ++i) {
    if (prefix_lengths_[i] > value.size()) continue;
    const std::uint64_t key = prefix_key(head, prefix_lengths_[i]);
    if (maybe(key)) found = std::min(found, verify(key, value, 0));
  }
  for (std::size_t at = 0; contained_ && at + 3 <= value.size(); ++at) {
    const std::uint64_t key = group_key(head >> (8 * at));
    if (maybe(key)) found = std::min(found, verify(key, value, at));
  }
  return found;
}

std::uint32_t AgentTable::find(std::string_view value) const noexcept {
  if (value.size() > kMaxAgentOctets) value = value.substr(0, kMaxAgentOctets);
  if (value.size() < 8) [[unlikely]]
    return find_short(value);
  const std::uint64_t whole = exact_key(value);
  if (maybe(whole)) {
    const std::uint32_t found = verify(whole, value, 0);
    if (found != kNone) return found;
  }
  const std::uint64_t head = load(value.data());
  for (std::size_t i = 0; i < prefix_classes_; ++i) {
    const std::uint64_t key = prefix_key(head, prefix_lengths_[i]);
    if (!maybe(key)) continue;
    const std::uint32_t found = verify(key, value, 0);
    if (found != kNone) return found;
  }
  if (!contained_) return kNone;
  for (std::size_t at = 0; at + 4 <= value.size(); at += stride_) {
    const std::uint64_t key = group_key(load4(value.data() + at));
    if (!maybe(key)) continue;
    const std::uint32_t found = verify(key, value, at);
    if (found != kNone) return found;
  }
  const std::uint64_t last = group_key(load4(value.data() + value.size() - 4) >> 8);
  return maybe(last) ? verify(last, value, value.size() - 3) : kNone;
}

} // namespace sipward::sip
