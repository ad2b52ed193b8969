// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/allow.h"

#include <catch2/catch.hpp>

using namespace sipward::config;
using sipward::policy::Prefix;

namespace {

AllowList expected() {
  return {{*Prefix::parse("203.0.113.10"), *Prefix::parse("2001:db8::/48")},
          {"sip.example.net", "_sip._udp.example.org"}};
}

void refused(const std::expected<AllowList, Error>& list, int line, int column, const std::string& what) {
  REQUIRE_FALSE(list);
  INFO(to_string(list.error()));
  CHECK(list.error().line == line);
  CHECK(list.error().column == column);
  CHECK(list.error().message.find(what) != std::string::npos);
}

} // namespace

TEST_CASE("a list has one entry a line, and comments") {
  const auto list = parse_allow_lines("# carriers\n203.0.113.10   # trunk\r\n\n  2001:db8::/48\nSIP.example.net\n"
                                      "_sip._udp.example.org",
                                      "carriers.list");
  REQUIRE(list);
  CHECK(*list == expected());
  CHECK(parse_allow_lines("", "x")->ranges.empty());
}

TEST_CASE("the same in YAML, by itself or under its key") {
  for (const char* text : {"[203.0.113.10, '2001:db8::/48', sip.example.net, _sip._udp.example.org]",
                           "allow:\n- 203.0.113.10\n- 2001:db8::/48\n- sip.example.net\n- _sip._udp.example.org\n"}) {
    const auto list = parse_allow_yaml(text, "x.yaml");
    REQUIRE(list);
    CHECK(*list == expected());
  }
  CHECK(parse_allow_yaml("", "x.yaml")->names.empty());
  CHECK(parse_allow_yaml("allow:\n", "x.yaml")->names.empty());
}

TEST_CASE("what makes no sense is named with its place") {
  refused(parse_allow_lines("203.0.113.10\n  203.0.113.300\n", "x"), 2, 3, "\"203.0.113.300\" is not an address");
  refused(parse_allow_lines("203.0.113.10/24\n", "x"), 1, 1, "bits set after its length");
  refused(parse_allow_lines("file:/etc/more.list\n", "x"), 1, 1, "names no further lists");
  refused(parse_allow_yaml("allow: [203.0.113.10, -x-.org]", "x"), 1, 23, "is not an address");
  refused(parse_allow_yaml("deny: [203.0.113.10]", "x"), 1, 1, "only the key allow");
  refused(parse_allow_yaml("allow: yes", "x"), 1, 8, "not a list");
  refused(parse_allow_yaml("[", "x"), 1, 1, "not YAML");
}
