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

World::Phone phone(int i, std::string_view method = "REGISTER") {
  return {.address = kOffice,
          .user = "user" + std::to_string(i),
          .port = static_cast<std::uint16_t>(20000 + i),
          .method = method};
}

// An office whose phones all register, and are known and trusted.
void settle_in(World& world, int phones) {
  for (int i = 0; i < phones; ++i) {
    world.good_users.insert(phone(i).user);
    world.at(world.clock + i * 100ms, [&world, i] { world.call_in(phone(i)); });
  }
  world.run();
  nobody_suffers(world, phones);
  world.finished = 0;
}

TEST_CASE("an office whose first phone has a wrong password, and whose others come later") {
  World world;
  for (int k = 0; k < 5; ++k)
    world.at(world.clock + k * 30s, [&] {
      auto bad = phone(999);
      bad.response = "wrong";
      world.call_in(bad);
    });
  for (int i = 0; i < 100; ++i) {
    world.good_users.insert(phone(i).user);
    world.at(world.clock + 200s + i * 4ms, [&world, i] {
      auto good = phone(i);
      good.round_trip = 400ms;
      world.call_in(good);
    });
  }
  world.run();
  CHECK(world.failed == 5);
  world.failed = 0;
  nobody_suffers(world, 100);
}

TEST_CASE("while the registrar is silent, phones that retransmit as they should are no flood") {
  for (const int phones : {50, 200, 500})
    for (const Duration within : {Duration(0s), Duration(1s), Duration(10s)}) {
      INFO(phones << " phones within " << within / 1s << " s");
      World world;
      world.judges_request = [](const Request&) { return 0u; };
      for (int i = 0; i < phones; ++i)
        world.at(world.clock + i * within / phones, [&world, i] { world.call_in(phone(i)); });
      world.run();
      CHECK(world.count(Why::Clean) == 11 * phones);
      nobody_suffers(world, 0);
    }
}

TEST_CASE("when the registrar is back, all its phones come with a second try") {
  World world;
  world.judges_request = [](const Request&) { return 503u; };
  for (int round = 0; round < 10; ++round) // every 30 s or so, for five minutes
    for (int i = 0; i < 200; ++i)
      world.at(world.clock + round * 30s + i * 5ms, [&world, i] { world.call_in(phone(i)); });
  world.run();
  nobody_suffers(world, 0);
  world.judges_request = nullptr;
  settle_in(world, 200);
}

TEST_CASE("an office that is known comes back with a new address: two hundred REGISTERs before any answer") {
  World world;
  settle_in(world, 200);
  world.latency = 3s;
  world.clock += 3600s;
  for (int i = 0; i < 200; ++i) {
    auto moved = phone(i);
    moved.address = "203.0.113.200";
    world.at(world.clock + i * 2ms, [&world, moved] { world.call_in(moved); });
  }
  world.run();
  nobody_suffers(world, 200);
}

TEST_CASE("after an upgrade two hundred phones subscribe to forty others each") {
  World world;
  settle_in(world, 200);
  world.judges_request = [](const Request&) { return 200u; };
  for (int i = 0; i < 200; ++i)
    for (int key = 0; key < 40; ++key)
      world.at(world.clock + (i * 40 + key) * 3750us, [&world, i] { world.call_in(phone(i, "SUBSCRIBE")); });
  world.run();
  nobody_suffers(world, 200 * 40);
}

TEST_CASE("a monitor's OPTIONS are answered 404 for ever") {
  World world;
  world.judges_request = [](const Request&) { return 404u; };
  for (int i = 0; i < 10'000; ++i) world.at(world.clock + i * 60s, [&] { world.call_in(phone(1, "OPTIONS")); });
  world.run();
  CHECK(world.offences == 0);
  CHECK(world.source(kOffice).failures == 0);
}

// --- carriers and PBXes, which register nobody ---

// So many calls a second, each rung, perhaps answered, acknowledged and ended.
void dials(World& world, const std::string& from, int per_second, int calls, unsigned status) {
  for (int i = 0; i < calls; ++i)
    world.at(world.clock + i * Duration(1s) / per_second, [&world, from, i, status] {
      const std::string tag = "c" + std::to_string(++world.number);
      const auto request = [=, number = world.number](std::string_view method, unsigned cseq) {
        return Request{.method = method,
                       .user = std::to_string(4000 + i),
                       .cseq = number + cseq,
                       .to_tag = method == "INVITE" ? "" : tag};
      };
      const auto invite = request("INVITE", 0);
      world.hears(from, invite);
      world.after(200ms, [=, &world] { world.answers(from, answer_to(invite, 180, {}, tag)); });
      world.after(4s, [=, &world] { world.answers(from, answer_to(invite, status, {}, tag)); });
      world.after(4020ms, [=, &world] { world.hears(from, request("ACK", 0)); });
      if (status != 200) return;
      world.after(30s, [=, &world] { world.hears(from, request("BYE", 1)); });
      world.after(30s + 5ms, [=, &world] { world.answers(from, answer_to(request("BYE", 1), 200)); });
    });
  world.run();
}

TEST_CASE("a carrier brings fifty calls a second: as a peer from the first, or once its calls have made it trusted") {
  World peer;
  const auto carrier = prefixes({"203.0.113.64/26"});
  peer.rules.peers = PrefixSet(carrier);
  dials(peer, "203.0.113.70", 50, 6000, 200);
  nobody_suffers(peer, 0);

  World known;
  dials(known, "203.0.113.70", 2, 200, 200);
  CHECK(known.source("203.0.113.70").level() >= 1);
  dials(known, "203.0.113.70", 50, 6000, 200);
  nobody_suffers(known, 0);
  CHECK(known.source("203.0.113.70").level() >= 3);
}

TEST_CASE("a dialler of dead numbers that are rung or busy, and a peer's whatever comes of them") {
  for (const unsigned status : {486u, 487u, 480u}) {
    World world;
    dials(world, "203.0.113.70", 5, 2000, status);
    nobody_suffers(world, 0);
  }
  for (const unsigned status : {404u, 403u, 604u}) {
    World world;
    world.calls("203.0.113.70", "4000"); // one call that was answered
    dials(world, "203.0.113.70", 5, 2000, status);
    nobody_suffers(world, 0);
  }
}

TEST_CASE("our own server registers with a carrier, or calls there: the carrier is trusted") {
  for (const std::string_view method : {"REGISTER", "INVITE"}) {
    World world;
    const Request ours{.method = method, .user = "our account", .branch = "ours"};
    world.hears("203.0.113.70", Request{.method = "OPTIONS"});
    world.answers("203.0.113.70", text_of(ours));
    CHECK(world.hears("203.0.113.70", answer_to(ours, 200)).why == Why::Response);
    REQUIRE(world.trustee("203.0.113.70") != nullptr);
    // What was forged in its name: an answer to nothing.
    world.hears("203.0.113.71", Request{.method = "OPTIONS"});
    world.hears("203.0.113.71", answer_to(ours, 200));
    CHECK(world.trustee("203.0.113.71") == nullptr);
  }
}

TEST_CASE("two workers whose clocks are slightly apart judge an office as one would") {
  World world;
  for (int i = 0; i < 300; ++i) {
    world.good_users.insert(phone(i).user);
    world.at(world.clock + i * 3ms, [&world, i] { world.call_in(phone(i)); });
  }
  world.slip = 40ms;
  world.run();
  nobody_suffers(world, 300);
}

} // namespace
} // namespace sipward::test
