// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Internet addresses and prefixes as values. Octets are in wire (network) order throughout.
namespace sipward::policy {

enum class Family : std::uint8_t { V4 = 4, V6 = 6 };
constexpr std::uint8_t bits(Family family) noexcept { return family == Family::V4 ? 32 : 128; }

struct Address {
  Family family = Family::V4;
  // IPv4 uses the first four; the rest stay zero. Two words: they are written, read and compared as such.
  alignas(8) std::array<std::uint8_t, 16> octets{};

  static constexpr Address v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) noexcept {
    return {Family::V4, {a, b, c, d}};
  }
  // `wire`: 4 or 16 octets; IPv4-mapped IPv6 (::ffff:a.b.c.d) becomes IPv4, so that one host has one form.
  static Address from_wire(std::span<const std::uint8_t> wire) noexcept;
  // Dotted quad or RFC 4291 text, nothing else: no port, no brackets, no zone.
  static std::optional<Address> parse(std::string_view text);

  std::span<const std::uint8_t> wire() const noexcept { return {octets.data(), std::size_t{bits(family)} / 8}; }
  Address masked(std::uint8_t length) const noexcept; // the first `length` bits, the rest zero

  // The first eight octets as a number, whose order is that of the octets.
  std::uint64_t first_half() const noexcept { return half(0); }

  friend bool operator==(const Address& a, const Address& b) noexcept {
    return a.family == b.family && a.half(0) == b.half(0) && a.half(1) == b.half(1);
  }
  friend std::strong_ordering operator<=>(const Address& a, const Address& b) noexcept {
    if (a.family != b.family) return a.family <=> b.family;
    const std::size_t i = a.half(0) == b.half(0);
    return a.half(i) <=> b.half(i);
  }

private:
  std::uint64_t half(std::size_t i) const noexcept {
    std::uint64_t half;
    std::memcpy(&half, &octets[8 * i], sizeof half);
    return std::endian::native == std::endian::little ? std::byteswap(half) : half;
  }
};
std::string to_string(const Address& address); // RFC 5952

inline Address Address::from_wire(std::span<const std::uint8_t> wire) noexcept {
  constexpr std::array<std::uint8_t, 12> kMappedV4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (wire.size() == 16 && std::equal(kMappedV4.begin(), kMappedV4.end(), wire.begin())) wire = wire.subspan(12);
  Address address;
  address.family = wire.size() == 4 ? Family::V4 : Family::V6;
  std::memcpy(address.octets.data(), wire.data(), wire.size());
  return address;
}

// A range of addresses that share their first `length` bits; the bits after that are zero.
struct Prefix {
  Address base;
  std::uint8_t length = 32;

  static Prefix of(const Address& address, std::uint8_t length) noexcept { return {address.masked(length), length}; }
  static Prefix host(const Address& address) noexcept { return {address, bits(address.family)}; }
  // "198.51.100.0/24", or an address alone for the host. Nothing if the text is wrong or bits are set after the length.
  static std::optional<Prefix> parse(std::string_view text);

  bool is_host() const noexcept { return length == bits(base.family); }
  bool holds(const Address& address) const noexcept;
  bool holds(const Prefix& other) const noexcept;
  bool overlaps(const Prefix& other) const noexcept { return holds(other) || other.holds(*this); }
  Address last() const noexcept;

  friend auto operator<=>(const Prefix&, const Prefix&) = default;
};
std::string to_string(const Prefix& prefix); // "198.51.100.0/24", "2001:db8::/64"; the length is always there

// A set of addresses made from prefixes: sorted ranges that neither overlap nor touch. Immutable once made.
class PrefixSet {
public:
  struct Range {
    Address first, last; // both inside
    friend bool operator==(const Range&, const Range&) = default;
  };
  PrefixSet() = default;
  explicit PrefixSet(std::span<const Prefix> prefixes);

  bool holds(const Address& address) const noexcept;
  bool overlaps(const Prefix& prefix) const noexcept;                // any of its addresses
  bool covers(const Prefix& prefix) const noexcept;                  // all of them
  std::span<const Range> ranges() const noexcept { return ranges_; } // IPv4 before IPv6, each ascending
  friend bool operator==(const PrefixSet&, const PrefixSet&) = default;

private:
  const Range* before(const Address& address) const noexcept;
  std::vector<Range> ranges_;
};

} // namespace sipward::policy
