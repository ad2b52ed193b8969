// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace sipward::policy {
namespace {

// The address after this one, or nothing after the family's last.
std::optional<Address> successor(Address address) {
  for (std::size_t i = address.wire().size(); i-- > 0;)
    if (++address.octets[i] != 0) return address;
  return std::nullopt;
}

} // namespace

std::optional<Address> Address::parse(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.empty() || text.size() >= terminated.size() || text.find('\0') != text.npos) return std::nullopt;
  std::copy(text.begin(), text.end(), terminated.begin());
  std::array<std::uint8_t, 16> wire{};
  if (inet_pton(AF_INET, terminated.data(), wire.data()) == 1) return from_wire(std::span(wire).first(4));
  if (inet_pton(AF_INET6, terminated.data(), wire.data()) == 1) return from_wire(wire);
  return std::nullopt;
}

Address Address::masked(std::uint8_t length) const noexcept {
  Address result = *this;
  for (std::size_t i = 0; i < result.octets.size(); ++i) {
    const int keep = std::clamp(static_cast<int>(length) - static_cast<int>(i) * 8, 0, 8);
    result.octets[i] = static_cast<std::uint8_t>(result.octets[i] & (0xff00 >> keep));
  }
  return result;
}

std::string to_string(const Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(address.family == Family::V4 ? AF_INET : AF_INET6, address.octets.data(), text.data(), text.size());
  return text.data();
}

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const auto slash = text.find('/');
  const auto address = Address::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  if (slash == text.npos) return host(*address);
  const std::string_view digits = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  // An IPv4-mapped prefix was turned into IPv4; its length counts from the mapped form.
  if (address->family == Family::V4 && text.substr(0, slash).find(':') != text.npos) {
    if (length < 96) return std::nullopt;
    length -= 96;
  }
  if (length > bits(address->family)) return std::nullopt;
  const auto prefix = of(*address, static_cast<std::uint8_t>(length));
  if (prefix.base != *address) return std::nullopt;
  return prefix;
}

bool Prefix::holds(const Address& address) const noexcept {
  return address.family == base.family && address.masked(length) == base;
}

bool Prefix::holds(const Prefix& other) const noexcept { return length <= other.length && holds(other.base); }

Address Prefix::last() const noexcept {
  Address result = base;
  for (std::size_t i = 0; i < base.wire().size(); ++i) {
    const int keep = std::clamp(static_cast<int>(length) - static_cast<int>(i) * 8, 0, 8);
    result.octets[i] = static_cast<std::uint8_t>(result.octets[i] | (0xff >> keep));
  }
  return result;
}

std::string to_string(const Prefix& prefix) { return to_string(prefix.base) + "/" + std::to_string(prefix.length); }

PrefixSet::PrefixSet(std::span<const Prefix> prefixes) {
  std::vector<Range> sorted;
  sorted.reserve(prefixes.size());
  for (const auto& prefix : prefixes) sorted.push_back({prefix.base, prefix.last()});
  std::ranges::sort(sorted, {}, &Range::first);
  for (const auto& range : sorted) {
    if (!ranges_.empty() && ranges_.back().first.family == range.first.family) {
      auto& previous = ranges_.back().last;
      const auto next = successor(previous);
      if (!next || range.first <= *next) {
        previous = std::max(previous, range.last);
        continue;
      }
    }
    ranges_.push_back(range);
  }
}

bool PrefixSet::holds(const Address& address) const noexcept {
  const Range* range = before(address);
  return range != nullptr && range->last >= address;
}

// The last range that begins at or before the address, or nullptr.
const PrefixSet::Range* PrefixSet::before(const Address& address) const noexcept {
  const auto after = std::ranges::upper_bound(ranges_, address, {}, &Range::first);
  return after == ranges_.begin() || std::prev(after)->first.family != address.family ? nullptr : &*std::prev(after);
}

bool PrefixSet::overlaps(const Prefix& prefix) const noexcept {
  const Range* range = before(prefix.last()); // the only one that can reach into the prefix
  return range != nullptr && range->last >= prefix.base;
}

bool PrefixSet::covers(const Prefix& prefix) const noexcept {
  const Range* range = before(prefix.base); // ranges neither overlap nor touch: one holds it all, or none
  return range != nullptr && range->last >= prefix.last();
}

} // namespace sipward::policy
