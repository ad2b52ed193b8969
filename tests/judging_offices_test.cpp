// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "tests/office.h"

// Honest crowds: whatever their number, their pace and their way to the server, nobody is limited and nobody convicted.
namespace sipward::test {
namespace {

const std::string kOffice = "203.0.113.7";

void nobody_suffers(World& world, int finished) {
  CHECK(world.finished == finished);
  CHECK(world.offences == 0);
  CHECK(world.dropped == 0);
  for (const auto& [why, count] : world.verdicts) {
    INFO(to_string(why) << " " << count);
    CHECK((why == Why::Clean || why == Why::Answer));
  }
}

TEST_CASE("an office of phones never seen before comes up at once: nobody is limited, nobody convicted") {
  for (const int phones : {100, 500})
    for (const int per_second : {200, 400})
      for (const Duration latency : {Duration(1ms), Duration(300ms), Duration(2s)})
        for (const Duration round_trip : {5ms, 150ms, 400ms}) {
          INFO(phones << " phones, " << per_second << "/s, server " << latency / 1ms << " ms, way "
                      << round_trip / 1ms);
          World world;
          world.latency = latency;
          for (int i = 0; i < phones; ++i) {
            const auto user = "user" + std::to_string(i);
            world.good_users.insert(user);
            world.at(world.clock + i * Duration(1s) / per_second, [&world, user, i, round_trip] {
              world.call_in({.address = kOffice,
                             .user = user,
                             .round_trip = round_trip,
                             .port = static_cast<std::uint16_t>(20000 + i)});
            });
          }
          world.run();
          nobody_suffers(world, phones);
          REQUIRE(world.trustee(kOffice) != nullptr);
          CHECK(world.trustee(kOffice)->registered() == Approx(phones).epsilon(0.25));
        }
}

} // namespace
} // namespace sipward::test
