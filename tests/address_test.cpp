// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/address.h"

#include <bitset>
#include <catch2/catch.hpp>
#include <random>

namespace sipward::policy {
namespace {

Address address(std::string_view text) { return Address::parse(text).value(); }
Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }

TEST_CASE("addresses print as RFC 5952 asks") {
  struct Row {
    const char *name, *written, *printed;
  };
  static constexpr Row kRows[] = {
      {"an IPv4 address", "198.51.100.66", "198.51.100.66"},
      {"leading zeros go", "2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"},
      {"one zero group stays", "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
      {"the longest run of zeros is shortened", "2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
      {"the first of two equal runs is shortened", "2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
      {"lower case", "2001:DB8::ABCD", "2001:db8::abcd"},
      {"all zero", "0:0:0:0:0:0:0:0", "::"},
      {"loopback", "0:0:0:0:0:0:0:1", "::1"},
      {"zeros at the end", "2001:db8:0:0:0:0:0:0", "2001:db8::"},
      {"IPv4-mapped becomes IPv4", "::ffff:198.51.100.66", "198.51.100.66"},
      {"IPv4-mapped in groups too", "::ffff:c633:6442", "198.51.100.66"},
  };
  for (const auto& row : kRows) {
    INFO(row.name);
    CHECK(to_string(address(row.written)) == row.printed);
    CHECK(address(row.printed) == address(row.written));
  }
}

TEST_CASE("what is no address is refused") {
  for (const std::string_view text : {"",
                                      " ",
                                      "198.51.100",
                                      "198.51.100.256",
                                      "198.51.100.66.",
                                      "198.51.100.066",
                                      "198.51.100.66:5060",
                                      " 198.51.100.66",
                                      "198.51.100.66 ",
                                      "[2001:db8::1]",
                                      "2001:db8::1%eth0",
                                      "2001:db8:::1",
                                      "2001::db8::1",
                                      "2001:db8:1",
                                      "1:2:3:4:5:6:7:8:9",
                                      "12345::",
                                      "g::1",
                                      "sip.example.com",
                                      "0x7f.0.0.1",
                                      "2130706433",
                                      "2001:db8:1111:2222:3333:4444:5555:6666:7777:8888:9999"}) {
    INFO(text);
    CHECK_FALSE(Address::parse(text));
  }
  using namespace std::string_view_literals;
  CHECK_FALSE(Address::parse("198.51.100.66\0"sv));
  CHECK_FALSE(Address::parse("198.51.100.66\0.example"sv));
}

TEST_CASE("an IPv4-mapped address on the wire is the IPv4 host") {
  const std::array<std::uint8_t, 16> mapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 66};
  CHECK(Address::from_wire(mapped) == Address::v4(198, 51, 100, 66));
  auto native = mapped;
  native[0] = 0x20;
  CHECK(Address::from_wire(native).family == Family::V6);
  CHECK(Address::from_wire(std::span(mapped).last(4)) == Address::v4(198, 51, 100, 66));
}

TEST_CASE("a mask keeps the first bits and clears the rest") {
  struct Row {
    const char* address;
    std::uint8_t length;
    const char *masked, *last;
  };
  static constexpr Row kRows[] = {
      {"198.51.100.255", 32, "198.51.100.255", "198.51.100.255"},
      {"198.51.100.255", 31, "198.51.100.254", "198.51.100.255"},
      {"198.51.100.66", 24, "198.51.100.0", "198.51.100.255"},
      {"198.51.100.66", 20, "198.51.96.0", "198.51.111.255"},
      {"198.51.100.66", 1, "128.0.0.0", "255.255.255.255"},
      {"198.51.100.66", 0, "0.0.0.0", "255.255.255.255"},
      {"2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"},
      {"2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::", "2001:db8:1:2:ffff:ffff:ffff:ffff"},
      {"2001:db8:1:2:3:4:5:6", 47, "2001:db8::", "2001:db8:1:ffff:ffff:ffff:ffff:ffff"},
      {"2001:db8:1:2:3:4:5:6", 0, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
  };
  for (const auto& row : kRows) {
    INFO(row.address << '/' << int{row.length});
    CHECK(to_string(address(row.address).masked(row.length)) == row.masked);
    const auto range = Prefix::of(address(row.address), row.length);
    CHECK(to_string(range.last()) == row.last);
    CHECK(range.holds(address(row.address)));
    CHECK(range.holds(range.last()));
  }
}

TEST_CASE("prefixes read what they print, and nothing with bits after the length") {
  struct Row {
    const char *written, *printed; // printed: nullptr if refused
  };
  static constexpr Row kRows[] = {
      {"198.51.100.0/24", "198.51.100.0/24"},
      {"198.51.100.66", "198.51.100.66/32"},
      {"0.0.0.0/0", "0.0.0.0/0"},
      {"2001:DB8::/32", "2001:db8::/32"},
      {"2001:db8::1", "2001:db8::1/128"},
      {"::/0", "::/0"},
      {"::ffff:198.51.100.0/120", "198.51.100.0/24"},
      {"::ffff:0:0/96", "0.0.0.0/0"},
      {"::ffff:0:0/95", nullptr},
      {"198.51.100.66/24", nullptr},
      {"2001:db8::1/64", nullptr},
      {"198.51.100.0/33", nullptr},
      {"198.51.100.0/120", nullptr},
      {"2001:db8::/129", nullptr},
      {"198.51.100.0/", nullptr},
      {"198.51.100.0/-1", nullptr},
      {"198.51.100.0/+24", nullptr},
      {"198.51.100.0/24 ", nullptr},
      {"198.51.100.0/24/24", nullptr},
      {"198.51.100.0/256", nullptr},
      {"198.51.100.0/4294967320", nullptr},
      {"/24", nullptr},
  };
  for (const auto& row : kRows) {
    INFO(row.written);
    const auto read = Prefix::parse(row.written);
    REQUIRE(read.has_value() == (row.printed != nullptr));
    if (read) CHECK(to_string(*read) == row.printed);
  }
}

TEST_CASE("a prefix holds what it should, in its own family only") {
  CHECK(prefix("198.51.100.0/24").holds(address("198.51.100.255")));
  CHECK_FALSE(prefix("198.51.100.0/24").holds(address("198.51.101.0")));
  CHECK_FALSE(prefix("0.0.0.0/0").holds(address("2001:db8::1")));
  CHECK_FALSE(prefix("::/0").holds(address("198.51.100.1")));
  CHECK(prefix("198.51.100.0/24").holds(prefix("198.51.100.128/25")));
  CHECK_FALSE(prefix("198.51.100.128/25").holds(prefix("198.51.100.0/24")));
  CHECK(prefix("198.51.100.128/25").overlaps(prefix("198.51.100.0/24")));
  CHECK_FALSE(prefix("198.51.100.128/25").overlaps(prefix("198.51.100.0/25")));
}

TEST_CASE("a prefix set merges what overlaps or touches") {
  struct Row {
    const char* name;
    std::vector<const char*> prefixes;
    std::vector<std::pair<const char*, const char*>> ranges;
  };
  const Row rows[] = {
      {"nothing", {}, {}},
      {"one host", {"198.51.100.66"}, {{"198.51.100.66", "198.51.100.66"}}},
      {"the same twice", {"198.51.100.0/24", "198.51.100.0/24"}, {{"198.51.100.0", "198.51.100.255"}}},
      {"one inside the other", {"198.51.100.64/26", "198.51.100.0/24"}, {{"198.51.100.0", "198.51.100.255"}}},
      {"an inner one does not shorten the outer",
       {"198.51.100.0/24", "198.51.100.0/30", "198.51.100.200"},
       {{"198.51.100.0", "198.51.100.255"}}},
      {"neighbours", {"198.51.101.0/24", "198.51.100.0/24"}, {{"198.51.100.0", "198.51.101.255"}}},
      {"a gap of one address",
       {"198.51.100.0/32", "198.51.100.2/32"},
       {{"198.51.100.0", "198.51.100.0"}, {"198.51.100.2", "198.51.100.2"}}},
      {"the end of IPv4 does not touch the beginning of IPv6",
       {"255.255.255.255", "::/128"},
       {{"255.255.255.255", "255.255.255.255"}, {"::", "::"}}},
      {"everything, and more",
       {"0.0.0.0/0", "255.255.255.255", "::/0", "ffff::/16"},
       {{"0.0.0.0", "255.255.255.255"}, {"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}}},
      {"a carry over several octets", {"198.51.255.255", "198.52.0.0"}, {{"198.51.255.255", "198.52.0.0"}}},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    std::vector<Prefix> prefixes;
    for (const auto* text : row.prefixes) prefixes.push_back(prefix(text));
    std::vector<PrefixSet::Range> expected;
    for (const auto& [first, last] : row.ranges) expected.push_back({address(first), address(last)});
    const PrefixSet set(prefixes);
    CHECK(std::ranges::equal(set.ranges(), expected));
  }
}

TEST_CASE("a prefix set answers as a bitmap of its addresses would") {
  // Prefixes inside one /16 of each family (for IPv6: its last 16 bits), against a bit for each address.
  std::mt19937 random(7);
  const auto nth = [](Family family, unsigned n) {
    Address result = family == Family::V4 ? Address::v4(198, 51, 0, 0) : address("2001:db8::");
    const std::size_t end = result.wire().size();
    result.octets[end - 2] = static_cast<std::uint8_t>(n >> 8);
    result.octets[end - 1] = static_cast<std::uint8_t>(n);
    return result;
  };
  for (int round = 0; round < 60; ++round) {
    const Family family = round % 2 == 0 ? Family::V4 : Family::V6;
    const auto random_prefix = [&] {
      const auto length = static_cast<std::uint8_t>(bits(family) - random() % 13);
      return Prefix::of(nth(family, random() & 0xffff), length);
    };
    std::vector<Prefix> prefixes;
    auto bitmap = std::make_unique<std::bitset<65536>>();
    for (unsigned i = 0; i < 1 + random() % 40; ++i) {
      const auto next = prefixes.emplace_back(random_prefix());
      const unsigned size = 1u << (bits(family) - next.length);
      const auto wire = next.base.wire();
      const unsigned base = wire[wire.size() - 2] * 256u + wire[wire.size() - 1];
      for (unsigned n = 0; n < size; ++n) bitmap->set(base + n);
    }
    const PrefixSet set(prefixes);
    bool same = true;
    for (unsigned n = 0; n < 65536; ++n) same = same && set.holds(nth(family, n)) == bitmap->test(n);
    CHECK(same);
    for (int i = 0; i < 200; ++i) {
      const auto asked = random_prefix();
      const auto wire = asked.base.wire();
      const unsigned base = wire[wire.size() - 2] * 256u + wire[wire.size() - 1];
      bool expected = false;
      for (unsigned n = 0; n < 1u << (bits(family) - asked.length); ++n) expected = expected || bitmap->test(base + n);
      INFO(to_string(asked));
      CHECK(set.overlaps(asked) == expected);
    }
    const auto ranges = set.ranges();
    for (std::size_t i = 1; i < ranges.size(); ++i) CHECK(ranges[i - 1].last < ranges[i].first);
    CHECK_FALSE(set.holds(family == Family::V4 ? address("2001:db8::1") : address("198.51.100.1")));
  }
}

} // namespace
} // namespace sipward::policy
