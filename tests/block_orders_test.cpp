// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "policy/rules.h"
#include "tests/block_list_lab.h"

// What an operator orders beyond a host and the usual prefix.
namespace sipward::policy {
namespace {

BlockList::Changes must(std::expected<BlockList::Changes, std::string> changes) {
  if (!changes) FAIL(changes.error());
  return std::move(*changes);
}

} // namespace

TEST_CASE("a prefix of any length is blocked, found around its addresses, and unblocked") {
  BlockList list({});
  for (const char* text : {"198.51.96.0/20", "10.0.0.0/8", "198.51.100.64/31", "2001:db8::/33", "2001:db8:1:2::/63"}) {
    INFO(text);
    CHECK(told(must(list.block(prefix(text), 1h, "", at(0s)))) == "+" + std::string(text) + " manual");
  }
  CHECK(list.covering(address("198.51.100.64"))->subject.prefix == prefix("198.51.100.64/31"));
  CHECK(list.covering(address("198.51.100.66"))->subject.prefix == prefix("198.51.96.0/20"));
  CHECK(list.covering(address("2001:db8:1:3::1"))->subject.prefix == prefix("2001:db8:1:2::/63"));
  CHECK(list.covering(address("203.0.113.1")) == nullptr);
  CHECK(told(must(list.unblock(prefix("198.51.96.0/20")))) == "-198.51.96.0/20 unblocked");
  CHECK(list.covering(address("198.51.100.66")) == nullptr);
}

TEST_CASE("a prefix of any length comes back after a restart if it was made by hand") {
  BlockList before({});
  must(before.block(prefix("198.51.96.0/20"), 1h, "", at(0s)));
  auto snapshot = before.snapshot();
  auto automatic = snapshot.blocks.front();
  automatic.subject.prefix = prefix("203.0.112.0/22");
  automatic.reason = Reason::Prefix; // of other settings
  snapshot.blocks.push_back(automatic);
  BlockList after({});
  CHECK(told(after.restore(std::move(snapshot), at(1s))) == "+198.51.96.0/20 manual");
}

TEST_CASE("a block of everything and one of the service stand in different places: the newer word moves it") {
  BlockList list({});
  must(list.block(prefix("198.51.100.66"), 1h, "", at(0s)));
  CHECK(list.wholly().empty());
  const auto changes = must(list.block(prefix("198.51.100.66"), 1h, "", at(1s), true));
  CHECK(told(changes) == "-198.51.100.66/32 superseded, +198.51.100.66/32 manual");
  CHECK_FALSE(changes[0].block.wholly);
  CHECK(changes[1].block.wholly);
  must(list.block(prefix("198.51.96.0/20"), 1h, "", at(1s), true));
  CHECK(list.wholly() == std::vector{prefix("198.51.96.0/20"), prefix("198.51.100.66")});
  CHECK(list.size() == 2);
  list.expire(at(2h));
  CHECK(list.wholly().empty());
}

TEST_CASE("whom two overlapping prefixes let through goes on until the last of them ends") {
  const auto trusted = prefix("198.51.100.7");
  BlockList list({});
  list.set_trusted_within([&](const Prefix&) { return std::vector{trusted}; });
  must(list.block(prefix("198.51.100.0/24"), 1h, "", at(0s)));
  must(list.block(prefix("198.51.96.0/20"), 2h, "", at(0s)));
  const auto first = must(list.unblock(prefix("198.51.100.0/24")));
  REQUIRE(first.size() == 1);
  CHECK(first[0].taken_back.empty());
  CHECK(list.let_through() == std::vector{trusted});
  const auto second = must(list.unblock(prefix("198.51.96.0/20")));
  CHECK(second[0].taken_back == std::vector{trusted});
}

TEST_CASE("whoever is blocked by himself passes none of the prefixes around him") {
  const auto trusted = prefix("198.51.100.7");
  BlockList list({});
  list.set_trusted_within([&](const Prefix&) { return std::vector{trusted}; });
  must(list.block(prefix("198.51.100.0/24"), 1h, "", at(0s)));
  must(list.block(prefix("198.51.96.0/20"), 1h, "", at(0s)));
  const auto changes = must(list.block(trusted, 1h, "", at(1s)));
  CHECK(changes.back().taken_back == std::vector{trusted});
  CHECK(list.let_through().empty());
}

TEST_CASE("a block is prolonged as a whole, with what it had dropped") {
  BlockList list({});
  must(list.block(prefix("198.51.100.66"), 1min, "night", at(0s)));
  const auto changes = list.prolong({SubjectKind::Host, prefix("198.51.100.66"), 0}, at(1h), 77);
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].kind == Kind::Renewed);
  CHECK(changes[0].block.packets_dropped == 77);
  CHECK(list.expire(at(2min)).empty());
  CHECK(told(list.expire(at(1h))) == "-198.51.100.66/32 expired");
  CHECK(list.prolong({SubjectKind::Host, prefix("198.51.100.66"), 0}, at(2h), 0).empty());
}

TEST_CASE("who is forgotten begins on the first step again") {
  BlockList list({.ladder = {5min, 30min}});
  list.convict(offence("198.51.100.66", 0s, kProven));
  list.expire(at(5min));
  CHECK(list.climb_of({SubjectKind::Host, prefix("198.51.100.66"), 0}).has_value());
  CHECK(list.forget(prefix("203.0.113.0/24")) == 0);
  CHECK(list.forget(prefix("198.51.100.0/24")) == 1);
  list.convict(offence("198.51.100.66", 6min, kProven));
  CHECK(list.find({SubjectKind::Host, prefix("198.51.100.66"), 0})->step == 1);
}

} // namespace sipward::policy
