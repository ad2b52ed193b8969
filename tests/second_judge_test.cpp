// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>
#include <set>

#include "tests/dataplane_lab.h"

// A second judge beside the workers' own, through the dataplane's face. DPDK can be started once in a process: CTest
// gives each case its own.
namespace sipward::test {
namespace {

using namespace std::chrono_literals;
using policy::Why;

Octets from(std::string_view source, std::string_view payload) {
  return ethernet(kEtherIpv4, ipv4({.source = source}, udp(5062, 5060, payload)));
}

// A capture that is played over and over.
std::string again_and_again(Capture& capture) { return capture.port() + ",infinite_rx=1"; }

std::unique_ptr<policy::Rules> stricter() {
  auto made = rules();
  made->set(policy::Class::Register, {{1, 2}, policy::Action::Block});
  return made;
}

TEST_CASE("a second judge convicts by rules of its own, and the first one's verdicts stay what they are") {
  Capture capture;
  for (int i = 0; i < 8; ++i)
    capture.add(from("198.51.100.20", request("OPTIONS", "a phone"))); // not metered by either
  capture.add(from("198.51.100.66", request("OPTIONS", "friendly-scanner")));
  const auto plane = started(options(again_and_again(capture)));
  CHECK_FALSE(plane->has_second());
  auto lax = rules();
  lax->scanner.action = policy::Action::Off;
  REQUIRE(plane->begin_second(std::move(lax)));
  CHECK(plane->has_second());
  REQUIRE(within(5s, [&] { return plane->second_counters().judged > 1000; }));
  int offences = 0;
  plane->drain_second([&](const policy::Offence&) { ++offences; });
  CHECK(offences == 0); // it lets scanners be

  plane->publish_second(rules());
  std::set<policy::Address> who;
  REQUIRE(within(5s, [&] {
    plane->drain_second([&](const policy::Offence& offence) { who.insert(offence.source); });
    return !who.empty();
  }));
  CHECK(who == std::set{policy::Address::v4(198, 51, 100, 66)});
  plane->stop();
  const auto counters = plane->counters();
  CHECK(counters.received == counters.passed + counters.dropped);
  CHECK(counters.verdicts[static_cast<std::size_t>(Why::Scanner)] > 0);
  CHECK(counters.dropped == 0);
}

TEST_CASE("whom the second judge has blocked is dropped in its own figures only") {
  Capture capture;
  capture.add(from("198.51.100.66", request("OPTIONS", "friendly-scanner")));
  const auto plane = started(options(again_and_again(capture)));
  REQUIRE(plane->begin_second(stricter()));
  policy::Block block;
  block.subject = {policy::SubjectKind::Host, policy::Prefix::host(policy::Address::v4(198, 51, 100, 66)), 0};
  const policy::Now now(policy::Time(std::chrono::steady_clock::now().time_since_epoch()));
  block.until = now.time + 60s;
  policy::enact(plane->second_ledger(), block, true, 64, now);
  REQUIRE(within(5s, [&] { return plane->second_counters().more > 100; }));
  plane->stop();
  const auto second = plane->second_counters();
  CHECK(second.dropped == second.more);
  CHECK(second.less == 0);
  CHECK(plane->counters().dropped == 0);
}

TEST_CASE("a second judge knows from the first packet on whom the first one trusts, and comes and goes under load") {
  Capture capture;
  for (int i = 0; i < 16; ++i) capture.add(from("198.51.100." + std::to_string(i), request("REGISTER", "a phone")));
  const auto plane = started(options(again_and_again(capture)));
  REQUIRE(within(5s, [&] { return plane->counters().received > 0; }));
  const auto key = policy::source_key(policy::Address::v4(198, 51, 100, 3), 64);
  const auto now_s = policy::Now(policy::Time(std::chrono::steady_clock::now().time_since_epoch())).s;
  policy::Trustee* trustee = plane->ledger().trust.find_or_insert(key, now_s);
  trustee->until_s = now_s + 3600;
  trustee->count_user(0x1234567812345678);
  for (int round = 0; round < 20; ++round) {
    REQUIRE(plane->begin_second(stricter()));
    const policy::Trustee* known = plane->second_ledger().trust.find(key, now_s);
    REQUIRE(known != nullptr);
    CHECK(known->until_s == now_s + 3600);
    CHECK(known->registered() == 1);
    REQUIRE(within(5s, [&] {
      plane->publish_second(stricter());
      plane->drain_second([](const policy::Offence&) {});
      plane->drain([](const policy::Offence&) {});
      return plane->second_counters().judged > 100;
    }));
    if (round % 2 == 1) plane->end_second();
  }
  plane->stop();
}

} // namespace
} // namespace sipward::test
