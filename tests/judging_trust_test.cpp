// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "tests/office.h"

// Customers: what is sent by them, in their name, and beside them.
namespace sipward::test {
namespace {

const std::string kCustomer = "203.0.113.7";
constexpr std::uint16_t kElsewhere = 40'000; // a port that nobody is known at

// One wrong password after another from one port, each as another user if there are many.
void guesses(World& world, int times, Duration pace, std::uint16_t port, bool many_users = false) {
  for (int i = 0; i < times; ++i, world.clock += pace)
    world.registers(kCustomer, many_users ? "user" + std::to_string(i) : "bad", 401, port);
}

void office(World& world, int phones) {
  for (int i = 0; i < phones; ++i)
    world.registers(kCustomer, "ann" + std::to_string(i), 200, static_cast<std::uint16_t>(20'000 + i));
}

TEST_CASE("a flood in a customer's name is limited, and his own port goes on") {
  World world;
  world.registers(kCustomer, "ann");
  for (int i = 0; i < 20'000; ++i, world.clock += 100us) {
    world.hears(kCustomer, Request{.user = "ann", .cseq = ++world.number, .branch = "f" + std::to_string(i)},
                static_cast<std::uint16_t>(kElsewhere + i % 1000));
    if (i % 2000 != 0) continue;
    const Request own{.method = "INVITE", .user = "bob", .cseq = ++world.number};
    const Request again{.user = "ann", .cseq = ++world.number};
    CHECK(world.hears(kCustomer, own).why == Why::Clean);
    CHECK(world.hears(kCustomer, again).why == Why::Clean);
  }
  REQUIRE(world.offences > 0);
  for (const auto& offence : world.told) {
    CHECK(offence.action == Action::Limit);
    CHECK(offence.kind == SubjectKind::Host);
    CHECK_FALSE(offence.proven);
    CHECK(offence.evidence.trusted);
    CHECK(offence.evidence.registered == 1);
    CHECK(offence.limit == Rate{40, 300});
  }
  CHECK(world.dropped > 19'000);
}

TEST_CASE("a scanner's packet in a customer's name blocks nobody at home, whatever port it names") {
  World world;
  world.rules.drop_convicting = true;
  world.registers(kCustomer, "ann");
  const Request forged{.method = "OPTIONS", .user_agent = "friendly-scanner"};
  CHECK(world.hears(kCustomer, forged).drop); // this very packet
  CHECK(world.offence.action == Action::Log);
  world.clock += 2s;
  world.hears(kCustomer, forged, kElsewhere);
  CHECK(world.offence.action == Action::Block);
  CHECK(world.offence.kind == SubjectKind::Endpoint);
  CHECK(world.offence.source_port == kElsewhere);
  CHECK_FALSE(world.offence.proven);
  CHECK(world.trustee(kCustomer) != nullptr);
}

TEST_CASE("four forged packets from a carrier's neighbours, every four minutes: whoever is trusted is not blocked") {
  World world;
  for (int host = 0; host < 4; ++host) world.calls("203.0.113." + std::to_string(host), "100");
  for (int round = 0; round < 100; ++round, world.clock += 240s)
    for (int host = 0; host < 4; ++host)
      world.hears("203.0.113." + std::to_string(host), Request{.method = "OPTIONS", .user_agent = "friendly-scanner"},
                  kElsewhere);
  REQUIRE(world.offences == 400);
  for (const auto& offence : world.told) {
    CHECK(offence.kind == SubjectKind::Endpoint);
    CHECK_FALSE(offence.proven);
  }
}

TEST_CASE("one bad phone behind a shared address answers by its port; its neighbours register on") {
  World world;
  office(world, 100);
  guesses(world, 30, 5s, kElsewhere);
  REQUIRE(world.offences >= 1);
  const Offence offence = world.told.front();
  CHECK(offence.reason == Reason::AuthFailure);
  CHECK(offence.kind == SubjectKind::Endpoint);
  CHECK(offence.action == Action::Block);
  CHECK(offence.source_port == kElsewhere);
  CHECK(offence.proven);
  CHECK(offence.one_user);
  CHECK(offence.evidence.trusted);
  CHECK(offence.evidence.registered > 80);
  CHECK(offence.evidence.failures <= 25);
  CHECK(world.trustee(kCustomer) != nullptr);

  const auto source = source_key(address(kCustomer), 64);
  world.ledger.endpoints.block(world.ledger.endpoint_key(source, kElsewhere), Now(Time(world.clock)).s + 300,
                               Now(Time(world.clock)));
  CHECK(world.hears(kCustomer, Request{.user = "bad"}, kElsewhere).why == Why::BlockedEndpoint);
  CHECK(world.hears(kCustomer, Request{.user = "ann1"}, 20'001).why == Why::Clean);
}

TEST_CASE("a phone with an old password that tries once a minute is nobody's offender") {
  World world;
  office(world, 3);
  guesses(world, 500, 60s, kElsewhere);
  CHECK(world.offences == 0);
}

TEST_CASE("a provisioning password changed: forty phones fail as forty known users all day") {
  World world;
  office(world, 40);
  for (int round = 0; round < 200; ++round, world.clock += 60s)
    for (int i = 0; i < 40; ++i)
      world.registers(kCustomer, "ann" + std::to_string(i), 401, static_cast<std::uint16_t>(20'000 + i));
  CHECK(world.offences == 0);
  for (int round = 0; round < 40; ++round, world.clock += 10s)
    for (int i = 0; i < 40; ++i)
      world.registers(kCustomer, "ann" + std::to_string(i), 401, static_cast<std::uint16_t>(20'000 + i));
  CHECK(world.offences > 0);
  for (const auto& offence : world.told) {
    CHECK(offence.kind == SubjectKind::Endpoint);
    CHECK(offence.reason == Reason::AuthFailure);
    CHECK(offence.one_user);
  }
  CHECK(world.trustee(kCustomer) != nullptr);
}

TEST_CASE("one customer who guesses as many users loses our trust, and answers as any stranger then") {
  World world;
  world.registers(kCustomer, "trial");
  guesses(world, 60, 1s, kElsewhere, true);
  CHECK(world.told.front().kind == SubjectKind::Endpoint);
  CHECK(world.trustee(kCustomer) == nullptr);
  CHECK(world.told.back().kind == SubjectKind::Host);
  CHECK(world.told.back().proven);
}

TEST_CASE("a building with a guesser in it keeps our trust") {
  World world;
  office(world, 10);
  guesses(world, 60, 1s, kElsewhere, true);
  for (const auto& offence : world.told) CHECK(offence.kind == SubjectKind::Endpoint);
  CHECK(world.trustee(kCustomer) != nullptr);
}

TEST_CASE("whoever tries strangers' names from a customer's address answers by the port") {
  World world;
  office(world, 10);
  world.judges_request = [](const Request&) { return 401u; };
  for (int i = 0; i < 40; ++i)
    world.at(world.clock + i * 5s, [&world, i] {
      world.call_in({.address = kCustomer,
                     .user = "x" + std::to_string(i),
                     .port = kElsewhere,
                     .response = "",
                     .retransmits = false});
    });
  world.run();
  REQUIRE(world.offences > 0);
  CHECK(world.told.front().reason == Reason::Enumeration);
  CHECK(world.told.front().kind == SubjectKind::Endpoint);
}

TEST_CASE("rejections that anybody could have provoked in a customer's name do not count against his port") {
  World world;
  world.registers(kCustomer, "ann");
  for (int i = 0; i < 200; ++i, world.clock += 1s) {
    const Request forged{.user = "nobody" + std::to_string(i), .cseq = ++world.number};
    world.hears(kCustomer, forged), world.answers(kCustomer, answer_to(forged, 404));
  }
  CHECK(world.offences == 0);
}

TEST_CASE("trust lasts for so long after the last success, and is looked at again while a source goes on") {
  World world;
  world.rules.remember_s = 3600;
  world.registers(kCustomer, "ann");
  CHECK(world.source(kCustomer).level() == 1);
  for (int i = 0; i < 400; ++i, world.clock += 30s) world.hears(kCustomer, "\r\n\r\n");
  CHECK(world.source(kCustomer).level() == 0);
  CHECK(world.trustee(kCustomer) == nullptr);
  const auto peers = prefixes({"203.0.113.0/24"});
  world.rules.peers = PrefixSet(peers); // by a new settings file
  for (int i = 0; i < 64; ++i, world.clock += 30s) world.hears(kCustomer, "\r\n\r\n");
  CHECK(world.source(kCustomer).level() == 3);

  World forgetful;
  forgetful.rules.remember_s = 0;
  forgetful.registers(kCustomer, "ann");
  CHECK(forgetful.trustee(kCustomer) == nullptr);
  CHECK(forgetful.source(kCustomer).level() == 0);
}

TEST_CASE("a trusted host in a blocked prefix is let through, and a stranger is not") {
  World world;
  world.registers(kCustomer, "ann");
  world.rules.blocked = prefixes({"203.0.113.0/24"});
  CHECK(world.hears(kCustomer, Request{.user = "ann", .cseq = 7}).why == Why::Clean);
  CHECK(world.hears("203.0.113.8", Request{.user = "ann", .cseq = 7}).why == Why::BlockedPrefix);
}

TEST_CASE("while our server is unwell nothing is judged but hard marks; while we learn, the rest is only logged") {
  World world;
  world.rules.drop_convicting = true;
  world.rules.soft = Rules::Soft::Suspended;
  for (int i = 0; i < 300; ++i, world.clock += 1ms) world.hears(kCustomer, Request{.cseq = ++world.number});
  for (int i = 0; i < 60; ++i, world.clock += 1s) world.registers(kCustomer, "bad", 401);
  for (int i = 0; i < 3000; ++i) world.hears(kCustomer, "\r\n\r\n");
  CHECK(world.offences == 0);
  CHECK(world.dropped == 0);
  CHECK(world.count(Why::Suspended) > 0);
  world.hears(kCustomer, Request{.method = "OPTIONS", .user_agent = "friendly-scanner"});
  CHECK(world.offence.reason == Reason::Scanner);
  CHECK(world.offence.action == Action::Block);

  World learning;
  learning.rules.drop_convicting = true;
  learning.rules.soft = Rules::Soft::Logged;
  for (int i = 0; i < 300; ++i, learning.clock += 1ms) learning.hears(kCustomer, Request{.cseq = ++learning.number});
  for (int i = 0; i < 60; ++i, learning.clock += 1s) learning.registers(kCustomer, "bad", 401);
  CHECK(learning.dropped == 0);
  REQUIRE(learning.offences > 0);
  for (const auto& offence : learning.told) CHECK(offence.action == Action::Log);
}

TEST_CASE("a guesser beside his own good account does not launder his failures") {
  World world;
  for (int i = 0; i < 100; ++i, world.clock += 1s) {
    world.registers(kCustomer, "mine", 200);
    world.registers(kCustomer, "yours", 401, kElsewhere);
  }
  REQUIRE(world.offences > 0);
  CHECK(world.told.front().reason == Reason::AuthFailure);
  CHECK(world.told.front().source_port == kElsewhere);
}

TEST_CASE("the pulse tells how the trusted fare: challenges are no trouble, rejections and 5xx are") {
  World world;
  const auto taken = [&] {
    auto& pulse = world.ledger.pulse;
    return std::array{pulse.asking.take().count() > 0, pulse.answered.take().count() > 0,
                      pulse.served.take().count() > 0, pulse.failed.take().count() > 0};
  };
  world.registers(kCustomer, "ann");
  taken();
  const Request first{.user = "ann", .cseq = ++world.number};
  world.hears(kCustomer, first), world.answers(kCustomer, answer_to(first, 401, "n9"));
  CHECK(taken() == std::array{true, true, false, false});
  world.registers(kCustomer, "ann");
  CHECK(taken() == std::array{true, true, true, false});
  world.registers(kCustomer, "ann", 401);
  CHECK(taken() == std::array{true, true, false, true});
  world.registers(kCustomer, "ann", 503);
  CHECK(taken() == std::array{true, true, false, true});
}

TEST_CASE("a known user who shows a nonce at a new address is no stranger there, until our server answers him") {
  constexpr auto* kNew = "198.51.100.77";
  World world;
  for (int i = 0; i < 20; ++i) world.registers(kCustomer, "ann" + std::to_string(i));
  const auto comes = [&](const std::string& user) { // as far as his credentials
    const Request first{.user = user, .cseq = ++world.number};
    world.hears(kNew, first), world.answers(kNew, answer_to(first, 401, "nonce-" + user));
    const Request second{.user = user, .cseq = world.number, .nonce = "nonce-" + user};
    world.hears(kNew, second);
    return second;
  };
  SECTION("and is trusted for good by its success") {
    const auto asked = comes("ann1");
    REQUIRE(world.trustee(kNew) != nullptr);
    CHECK(world.source(kNew).level() == 1);
    world.answers(kNew, answer_to(asked, 200));
    world.clock += 2min;
    CHECK(world.trustee(kNew) != nullptr);
  }
  SECTION("an office more than a home") {
    for (int i = 0; i < 20; ++i) comes("ann" + std::to_string(i));
    CHECK(world.source(kNew).level() == 2);
  }
  SECTION("for a minute at most") {
    comes("ann1");
    world.clock += 61s;
    CHECK(world.trustee(kNew) == nullptr);
  }
  SECTION("and not any more once credentials were rejected") {
    const auto asked = comes("ann1");
    world.answers(kNew, answer_to(asked, 401, "another"));
    CHECK(world.trustee(kNew) == nullptr);
    CHECK(world.source(kNew).level() == 0);
    comes("ann2");
    CHECK(world.trustee(kNew) == nullptr);
  }
  SECTION("an unknown user, or one without a nonce of ours, is a stranger") {
    comes("mallory");
    world.hears(kNew, Request{.user = "ann1", .cseq = ++world.number, .nonce = "made up"});
    CHECK(world.trustee(kNew) == nullptr);
  }
}

} // namespace
} // namespace sipward::test
