// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "tests/office.h"

// Attackers, fast and slow, and after how many tries each is convicted; and what no flood may be free of.
namespace sipward::test {
namespace {

const std::string kAttacker = "198.51.100.66";

// The first offence of this source, and after how many of its packets it came.
struct Conviction {
  int tries = 0;
  Offence offence;
};

// One request at a time, each after so long, its challenge answered where there is a password; until the first offence.
Conviction attacked(World& world, Duration pace, const std::function<World::Phone(int)>& tries, int most = 400) {
  Conviction found;
  for (int i = 1; i <= most; ++i)
    world.at(world.clock + i * pace, [&world, &found, i, tries] {
      if (world.told.empty()) {
        world.call_in(tries(i));
        found.tries = i;
      }
    });
  world.run();
  REQUIRE_FALSE(world.told.empty());
  found.offence = world.told.front();
  CHECK(found.offence.source == address(kAttacker));
  CHECK(found.offence.kind == SubjectKind::Host);
  CHECK(found.offence.action == Action::Block);
  CHECK(world.dropped == 0);
  return found;
}

World::Phone guess(int i) {
  return {.address = kAttacker, .user = "1001", .response = "guess" + std::to_string(i), .retransmits = false};
}

TEST_CASE("a wrong password now and then is convicted by its thirtieth, and the evidence says so") {
  struct Row {
    const char* name;
    Duration pace;
    int most;
  };
  for (const auto& row :
       {Row{"as fast as it goes", 10ms, 20}, Row{"hydra", 700ms, 21}, Row{"slow", 5s, 25}, Row{"patient", 10s, 30}}) {
    INFO(row.name);
    World world;
    const auto found = attacked(world, row.pace, guess);
    CHECK(found.tries <= row.most);
    CHECK(found.offence.reason == Reason::AuthFailure);
    CHECK(found.offence.proven);
    CHECK(found.offence.one_user);
    CHECK(found.offence.evidence.failures == static_cast<unsigned>(found.tries));
    CHECK(found.offence.evidence.successes == 0);
    CHECK_FALSE(found.offence.evidence.trusted);
  }
}

TEST_CASE("one new user now and then is convicted by the thirtieth, whatever the answer and the method") {
  struct Row {
    const char* name;
    std::string_view method;
    unsigned status;
  };
  for (const auto& row : {Row{"REGISTER, 404", "REGISTER", 404}, Row{"REGISTER, challenged", "REGISTER", 401},
                          Row{"REGISTER, 403", "REGISTER", 403}, Row{"INVITE, challenged", "INVITE", 407},
                          Row{"INVITE, 404", "INVITE", 404}, Row{"SUBSCRIBE, 404", "SUBSCRIBE", 404},
                          Row{"SUBSCRIBE, challenged", "SUBSCRIBE", 401}, Row{"OPTIONS, 404", "OPTIONS", 404}})
    for (const Duration pace : {Duration(100ms), Duration(1s), Duration(5s), Duration(10s)}) {
      INFO(row.name << " every " << pace / 1ms << " ms");
      World world;
      world.judges_request = [&](const Request&) { return row.status; };
      const auto found = attacked(world, pace, [&](int i) {
        return World::Phone{.address = kAttacker,
                            .user = std::to_string(1000 + i),
                            .method = row.method,
                            .response = "",
                            .retransmits = false};
      });
      CHECK(found.tries <= 30);
      CHECK((found.offence.reason == Reason::Enumeration || found.offence.reason == Reason::AuthFailure));
      CHECK(found.offence.evidence.users >= 14);
    }
}

TEST_CASE(
    "who guesses many passwords in one transaction, one after another or all at once, is convicted all the same") {
  for (const std::size_t at_once : {1u, 4u, 15u}) {
    INFO(at_once << " at once");
    World world;
    const auto guessing = [](int i) { // like hydra: no branch of its own, one Call-ID, one CSeq
      return Request{.user = "1010", .nonce = "n1", .response = "guess" + std::to_string(i), .branch = "x"};
    };
    const Request first{.user = "1010", .branch = "x"};
    world.hears(kAttacker, first), world.answers(kAttacker, answer_to(first, 401, "n1"));
    int tries = 0;
    while (world.told.empty() && tries < 100) {
      std::vector<Request> sent;
      for (std::size_t k = 0; k < at_once; ++k) world.hears(kAttacker, sent.emplace_back(guessing(++tries)));
      for (const auto& request : sent) world.answers(kAttacker, answer_to(request, 401, "n1"));
      world.clock += 700ms;
    }
    CHECK(tries <= 32);
    REQUIRE(world.offences == 1);
    CHECK(world.offence.reason == Reason::AuthFailure);
    CHECK(world.offence.proven);
  }
}

TEST_CASE("a stale nonce, and one that is not ours, is no wrong password") {
  World world;
  for (int i = 0; i < 100; ++i, world.clock += 1s) {
    const Request old{.user = "ann", .cseq = ++world.number, .nonce = "of yesterday"};
    world.hears(kAttacker, old), world.answers(kAttacker, answer_to(old, 401, "n1"));
    const Request stale{.user = "ann", .cseq = ++world.number, .nonce = "n1"};
    world.hears(kAttacker, stale), world.answers(kAttacker, answer_to(stale, 401, "n2", "b2", true));
  }
  CHECK(world.source(kAttacker).failures == 0);
  CHECK(world.offences == 0);
}

TEST_CASE("a flood is convicted within its burst and 32 packets, whatever its class, pace and answers") {
  struct Row {
    const char* name;
    std::string_view method;
    Reason reason;
    int most;
    unsigned status = 0;
  };
  for (const auto& row :
       {Row{"REGISTER", "REGISTER", Reason::RegisterFlood, 107},
        Row{"REGISTER, challenged", "REGISTER", Reason::RegisterFlood, 107, 401},
        Row{"INVITE", "INVITE", Reason::InviteFlood, 132},
        Row{"INVITE, challenged", "INVITE", Reason::InviteFlood, 132, 407},
        Row{"OPTIONS", "OPTIONS", Reason::OptionsFlood, 132}, Row{"SUBSCRIBE", "SUBSCRIBE", Reason::RequestFlood, 232},
        Row{"MESSAGE, unavailable", "MESSAGE", Reason::RequestFlood, 232, 503},
        Row{"a method that nobody knows", "FROB", Reason::RequestFlood, 232}})
    for (const Duration pace : {Duration(20ms), Duration(5ms), Duration(1ms), Duration(20us)}) {
      if (pace == 20ms && row.reason == Reason::RequestFlood) continue; // 50/s drain as fast as they come, nearly
      INFO(row.name << " every " << pace / 1us << " us");
      World world;
      world.judges_request = [&](const Request&) { return row.status; };
      const auto found = attacked(world, pace, [&](int) {
        return World::Phone{.address = kAttacker,
                            .user = "100",
                            .round_trip = 0ms,
                            .method = row.method,
                            .response = "",
                            .retransmits = false};
      });
      CHECK(found.tries <= row.most);
      CHECK(found.offence.reason == row.reason);
      CHECK(found.offence.packets_before == static_cast<unsigned>(found.tries));
      if (pace >= 1ms) CHECK(found.offence.evidence.rate_per_s == Approx(1s / pace).epsilon(0.03));
      CHECK(found.offence.evidence.limit_per_s > 0);
    }
}

TEST_CASE(
    "the hosts of a network that flood together are convicted long before each would be, and no stranger among them") {
  struct Row {
    const char* name;
    std::string_view method;
    Reason reason;
    double per_s; // of each host: above the limit, or below it
    bool v6 = false;
  };
  for (const auto& row :
       {Row{"REGISTER, a little above the limit", "REGISTER", Reason::RegisterFlood, 12},
        Row{"REGISTER, below it", "REGISTER", Reason::RegisterFlood, 4},
        Row{"INVITE", "INVITE", Reason::InviteFlood, 8}, Row{"OPTIONS", "OPTIONS", Reason::OptionsFlood, 8},
        Row{"REGISTER, IPv6", "REGISTER", Reason::RegisterFlood, 12, true}}) {
    INFO(row.name);
    World world;
    world.good_users = {"ann"};
    const auto host = [&row](int i) {
      return row.v6 ? "2001:db8:0:" + std::to_string(i) + "::1" : "198.51.100." + std::to_string(i);
    };
    int packets = 0; // until four hosts are convicted: enough for their network
    std::set<std::string> convicted;
    const auto pace = std::chrono::duration_cast<Duration>(1s / row.per_s);
    for (int turn = 0; turn < 40; ++turn)
      for (int i = 1; i <= 200; ++i)
        world.at(turn * pace + i * pace / 200, [&, i] {
          packets += convicted.size() < 4;
          world.call_in({.address = host(i),
                         .user = "100",
                         .round_trip = 0ms,
                         .method = row.method,
                         .response = "",
                         .retransmits = false});
          for (const Offence& offence : world.told) convicted.insert(to_string(offence.source));
        });
    // A stranger who makes himself known, one who only asks, and one who calls.
    for (int i = 1; i <= 4; ++i) {
      world.at(i * 200ms, [&world, host] { world.call_in({.address = host(201), .user = "ann", .round_trip = 5ms}); });
      world.at(i * 900ms, [&world, host] {
        world.call_in({.address = host(202), .user = "bob", .method = "OPTIONS", .response = ""});
      });
      world.at(i * 900ms, [&world, host] { world.call_in({.address = host(203), .user = "ann", .method = "INVITE"}); });
    }
    world.run(4s);
    for (const Offence& offence : world.told) {
      CHECK(offence.reason == row.reason);
      CHECK(offence.kind == SubjectKind::Host);
    }
    CHECK(convicted.size() >= 4);
    CHECK(packets < 2000); // the burst of their network, and eight of each at most
    CHECK_FALSE(convicted.contains(host(201)));
    CHECK_FALSE(convicted.contains(host(202)));
    CHECK_FALSE(convicted.contains(host(203)));
    CHECK(world.told.front().evidence.limit_per_s == Approx(10.0 / 16));
  }
}

TEST_CASE("a network of strangers, all of whom register, is no flood") {
  World world;
  for (int i = 0; i < 250; ++i) world.good_users.insert("user" + std::to_string(i));
  for (int i = 0; i < 1000; ++i) // four phones behind each address, back at once after an outage
    world.at(i * 2ms, [&world, i] {
      world.call_in({.address = "198.51.100." + std::to_string(1 + i % 250),
                     .user = "user" + std::to_string(i % 250),
                     .round_trip = 40ms,
                     .port = static_cast<std::uint16_t>(5060 + i / 250)});
    });
  world.run(60s);
  CHECK(world.offences == 0);
  CHECK(world.dropped == 0);
  CHECK(world.failed == 0);
  CHECK(world.finished == 1000);
}

TEST_CASE("a flood of new users is convicted by its answers, or for want of its own") {
  struct Row {
    unsigned status;
    Duration pace;
    int most;
  };
  for (const auto& row : {Row{404, 20ms, 21}, Row{404, 1ms, 23}, Row{401, 20ms, 50}, Row{401, 10ms, 80},
                          Row{401, 1ms, 660}, Row{0, 1ms, 660}}) {
    INFO(row.status << " every " << row.pace / 1ms << " ms");
    World world;
    world.judges_request = [&](const Request&) { return row.status; };
    const auto found = attacked(
        world, row.pace,
        [&](int i) {
          return World::Phone{.address = kAttacker, .user = std::to_string(i), .response = "", .retransmits = false};
        },
        1000);
    CHECK(found.tries <= row.most);
  }
}

TEST_CASE("a guesser who hits on the 238th try makes no trust, and the user is told to be burnt") {
  World world;
  world.good_users = {"1001"};
  for (int i = 1; i <= 238; ++i)
    world.at(world.clock + i * 100ms, [&world, i] {
      auto phone = guess(i);
      if (i == 238) phone.response = "right";
      world.call_in(phone);
    });
  world.run();
  CHECK(world.finished == 1);
  CHECK(world.trustee(kAttacker) == nullptr);
  CHECK(world.source(kAttacker).level() == 0);
  const Offence& last = world.told.back();
  CHECK(last.notice == Notice::UserBurnt);
  CHECK(last.user.view() == "1001");
  CHECK(last.evidence.failures >= 200);
  CHECK(std::ranges::count(world.told, Notice::UserBurnt, &Offence::notice) == 1);
}

TEST_CASE("many hosts that each try one user's password now and then: one alert, and nobody is blocked") {
  World world;
  for (int i = 0; i < 3 * 500; ++i) // three a day each
    world.at(world.clock + i * 57s, [&world, i] {
      auto phone = guess(i);
      phone.address = "198.51." + std::to_string(100 + i % 500 / 250) + "." + std::to_string(i % 250);
      world.call_in(phone);
    });
  world.run();
  CHECK(world.failed == 1500);
  REQUIRE(world.told.size() == 1);
  CHECK(world.offence.notice == Notice::UserUnderAttack);
  CHECK(world.offence.user.view() == "1001");
  CHECK(world.failed == 1500);
}

TEST_CASE("an attacker who hops within his IPv6 /64 is one") {
  World world;
  world.judges_request = [&](const Request&) { return 404u; };
  int tries = 0;
  while (world.told.empty() && ++tries < 100) {
    world.call_in(
        {.address = "2001:db8:66:1::" + std::to_string(tries), .user = std::to_string(tries), .retransmits = false});
    world.run();
    world.clock += 5s;
  }
  CHECK(tries <= 30);
  CHECK(world.offence.kind == SubjectKind::Host);
}

// --- what is exempt has a ceiling ---

struct Exempt {
  const char* name;
  std::string payload;
  Why why;
};
const std::string kStun("\x00\x01\x00\x00\x21\x12\xa4\x42"
                        "abcdefghijkl",
                        20);

TEST_CASE("no class of messages is a free flood: above the ceiling the excess goes, and nobody is blocked") {
  for (const auto& row : {Exempt{"CRLF", "\r\n\r\n", Why::Keepalive}, Exempt{"STUN", kStun, Why::Keepalive},
                          Exempt{"NUL", std::string(4, '\0'), Why::Keepalive},
                          Exempt{"answers to nothing", test::answer(200, "OPTIONS"), Why::Response},
                          Exempt{"one request again and again", "", Why::Clean}}) {
    INFO(row.name);
    World world;
    world.rules.set(Class::Malformed, {{1, 20}, Action::Limit});
    for (int i = 0; i < 50'000; ++i, world.clock += 20us) // for a second
      world.hears(kAttacker, row.payload.empty() ? text_of({.method = "MESSAGE"}) : row.payload);
    CHECK(world.count(row.why) < 1800);
    if (!row.payload.empty()) CHECK(world.dropped > 48'000);
    REQUIRE(world.offences >= 1);
    for (const auto& offence : world.told) {
      if (row.payload.empty()) continue; // that is a flood like any other
      CHECK(offence.action == Action::Limit);
      CHECK(offence.reason == Reason::RequestFlood);
      CHECK(offence.limit == Rate{20, 200});
    }
    if (!row.payload.empty()) CHECK(world.hears(kAttacker, Request{.method = "SUBSCRIBE"}).why == Why::Clean);
  }
}

TEST_CASE("a call's own messages are exempt, but a flood in it is one, and invented tags are floods from the start") {
  World world;
  world.calls(kAttacker, "200");
  const std::string tag = "tag" + std::to_string(world.number);
  for (int i = 0; i < 1000; ++i, world.clock += 20ms)
    CHECK(world.hears(kAttacker, Request{.method = "INFO", .cseq = ++world.number, .to_tag = tag}).why == Why::Clean);
  for (int i = 0; i < 50'000; ++i, world.clock += 20us)
    world.hears(kAttacker, Request{.method = "INFO", .cseq = ++world.number, .to_tag = tag});
  CHECK(world.offence.action == Action::Limit);
  CHECK(world.dropped > 43'000);
  CHECK(world.source(kAttacker).level() == 1); // one call is one call, however much is said in it

  World other;
  other.registers(kAttacker, "trial");
  for (int i = 0; i < 50'000; ++i, other.clock += 20us)
    other.hears(kAttacker, Request{.method = "BYE", .cseq = ++other.number, .to_tag = "made up " + std::to_string(i)});
  CHECK(other.count(Why::Clean) < 1900); // his source's and his known port's
  CHECK(other.offence.reason == Reason::RequestFlood);
  CHECK(other.dropped > 48'000);
}

TEST_CASE("a router that mangles for ever is limited at most, and its phone never blocked") {
  World world;
  for (int i = 0; i < 5000; ++i, world.clock += 5s) {
    auto text = text_of({.cseq = ++world.number});
    text.replace(text.find("Content-Length: 0"), 17, "Content-Length: 9");
    CHECK(world.hears(kAttacker, text).why == Why::Malformed);
  }
  CHECK(world.offences == 0);
  for (int i = 0; i < 5000; ++i, world.clock += 5ms) {
    auto text = text_of({.user = std::to_string(i), .cseq = ++world.number});
    text.replace(text.find("Content-Length: 0"), 17, "Content-Length: 9");
    world.hears(kAttacker, text);
  }
  CHECK(world.offences > 0);
  for (const auto& offence : world.told) CHECK(offence.action == Action::Limit);
}

TEST_CASE("junk without end is limited, and convicts only where the operator says so") {
  for (const Action action : {Action::Limit, Action::Block}) {
    World world;
    world.rules.set(Class::Malformed, {{1, 20}, action});
    for (int i = 0; i < 100; ++i, world.clock += 10ms) world.hears(kAttacker, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(world.told.front().reason == Reason::Malformed);
    CHECK(world.told.front().action == action);
    CHECK(world.told.front().packets_before == 21);
  }
}

} // namespace
} // namespace sipward::test
