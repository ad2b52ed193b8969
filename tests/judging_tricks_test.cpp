// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "tests/story.h"

// Whoever knows how we judge tries to use it: to be trusted, to have it for nothing, to have others blocked, or to
// blind us. And those who suffer from what others do near them.
namespace sipward::test {
namespace {

const std::string kStranger = "198.51.100.9", kCustomer = "203.0.113.7";
const Request kScan{.method = "OPTIONS", .user_agent = "friendly-scanner"};

std::string reply(std::string_view branch, std::string_view method) {
  return "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=" + std::string(branch) +
         "\r\nFrom: <sip:a@x>;tag=f1\r\nTo: <sip:b@x>;tag=t1\r\nCall-ID: c1\r\nCSeq: 1 " + std::string(method) +
         "\r\nContent-Length: 0\r\n\r\n";
}
std::string asked_by_us(std::string_view branch, std::string_view method) {
  return std::string(method) +
         " sip:b@198.51.100.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=" + std::string(branch) +
         "\r\nMax-Forwards: 70\r\nFrom: <sip:a@x>;tag=f1\r\nTo: <sip:b@x>\r\nCall-ID: c1\r\nCSeq: 1 " +
         std::string(method) + "\r\nContent-Length: 0\r\n\r\n";
}

TEST_CASE("nobody is trusted for an answer whose branch is a tag or a nonce of ours") {
  Story story;
  const Request asks{.user = "bob", .cseq = 1};
  story.hears(kStranger, asks), story.answers(kStranger, answer_to(asks, 401, "nonce-1", "tag-1"));
  for (const auto* branch : {"tag-1", "nonce-1"}) story.hears(kStranger, reply(branch, "INVITE"));
  CHECK(story.trustee(kStranger) == nullptr);
}

TEST_CASE("our own call makes trust, our own OPTIONS does not, whatever the answer says it answers") {
  Story story;
  story.hears(kStranger, Request{.method = "OPTIONS"});
  story.answers(kStranger, asked_by_us("z9hG4bKo1", "OPTIONS"));
  story.hears(kStranger, reply("z9hG4bKo1", "INVITE"));
  CHECK(story.trustee(kStranger) == nullptr);
  story.answers(kStranger, asked_by_us("z9hG4bKi1", "INVITE"));
  story.hears(kStranger, reply("z9hG4bKi1", "INVITE"));
  CHECK(story.trustee(kStranger) != nullptr);
}

TEST_CASE("a tag is no nonce, and a nonce gives back one request, not one each time") {
  for (const auto* nonce : {"tag-1", "nonce-1"}) {
    INFO(nonce);
    Story story;
    const Request first{.method = "OPTIONS", .cseq = 1};
    story.hears(kStranger, first), story.answers(kStranger, answer_to(first, 401, "nonce-1", "tag-1"));
    int clean = 0;
    for (unsigned i = 2; i < 4000; ++i, story.clock += 100us) {
      const Request free{.method = "OPTIONS", .cseq = i, .nonce = nonce};
      clean += story.hears(kStranger, free).why == Why::Clean;
      story.answers(kStranger, answer_to(free, 200, {}, "t" + std::to_string(i)));
    }
    CHECK(clean < 1000); // each weighs an eighth in the end, and they drain by ten a second
    CHECK(story.offences > 0);
  }
}

TEST_CASE("answered OPTIONS whitewash no guesser: his hit makes no trust, and the user is told") {
  Story story;
  story.rules.set_auth_failure({20, 10min, Action::Log}); // or he were stopped long before
  for (unsigned i = 0; i < 300; ++i, story.clock += 1s) {
    const Request ping{.method = "OPTIONS", .cseq = ++story.number};
    story.hears(kStranger, ping), story.answers(kStranger, answer_to(ping, 200));
  }
  for (int i = 0; i < 237; ++i, story.clock += 1s) story.registers(kStranger, "ann", 401);
  story.registers(kStranger, "ann", 200);
  CHECK(story.offence.notice == Notice::UserBurnt);
  CHECK(story.offence.user.view() == "ann");
  CHECK(story.trustee(kStranger) == nullptr);
}

TEST_CASE("one forged datagram cuts off no carrier, and no customer whose ports we do not know yet") {
  Story story;
  story.rules.peers = PrefixSet(prefixes({"203.0.113.7"}));
  story.hears(kCustomer, kScan);
  CHECK(story.offence.action == Action::Log);

  Story after_restart;
  Trustee* trustee = after_restart.ledger.trust.find_or_insert(source_key(address(kCustomer), 64), 1000);
  trustee->until_s = 1'000'000;
  after_restart.hears(kCustomer, kScan);
  CHECK(after_restart.offence.action == Action::Log);
  after_restart.clock += 2s;
  after_restart.registers(kCustomer, "ann", 200, 5099); // now we do
  after_restart.hears(kCustomer, kScan);
  CHECK(after_restart.offence.action == Action::Block);
  CHECK(after_restart.offence.kind == SubjectKind::Endpoint);
}

TEST_CASE("a customer who guesses at many users from port after port loses our trust, and one user is told of") {
  Story story;
  story.registers(kCustomer, "trial");
  std::uint16_t port = 10'000;
  for (int i = 0; i < 60 && story.source(kCustomer).level() > 0; ++i, story.clock += 1s)
    story.registers(kCustomer, "victim" + std::to_string(i % 20), 401, ++port);
  CHECK(story.trustee(kCustomer) == nullptr);
  CHECK(story.offence.reason == Reason::AuthFailure);
  CHECK(story.offence.kind == SubjectKind::Host);
  CHECK(story.offence.action == Action::Block);

  Story one_user;
  one_user.registers(kCustomer, "trial");
  for (int i = 0; i < 60; ++i, one_user.clock += 1s) one_user.registers(kCustomer, "victim", 401, ++port);
  REQUIRE(one_user.told.size() == 1); // perhaps a phone with an old password behind a restless router
  CHECK(one_user.offence.notice == Notice::UserUnderAttack);
  CHECK(one_user.trustee(kCustomer) != nullptr);
}

TEST_CASE("what anybody can send in customers' names does not ask, so its silence says nothing of our server") {
  Story story;
  story.registers(kCustomer, "ann");
  story.ledger.take_second(0, 0);
  story.hears(kCustomer, Request{.method = "ACK", .cseq = 900});
  story.hears(kCustomer, Request{.method = "OPTIONS", .cseq = 901}, 40'000);
  CHECK(story.ledger.take_second(0, 0).asking.count() == 0);
  story.hears(kCustomer, Request{.method = "OPTIONS", .cseq = 902});
  CHECK(story.ledger.take_second(0, 0).asking.count() > 0);
}

TEST_CASE("two phones that keep one router's bindings open with empty datagrams are no port scanner") {
  Story story;
  story.hears(kStranger, "", false, 40'001);
  story.clock += 5s;
  story.hears(kStranger, "", false, 40'002);
  CHECK(story.offences == 0);

  Story nmap;
  nmap.hears(kStranger, "", false, 48'704);
  nmap.clock += 100ms;
  CHECK(nmap.hears(kStranger, "", false, 48'706).why == Why::Scanner);
  Story learning; // no hard mark
  learning.rules.soft = Rules::Soft::Logged;
  learning.hears(kStranger, "", false, 48'704), learning.hears(kStranger, "", false, 48'706);
  CHECK(learning.offence.action == Action::Log);
}

TEST_CASE("inline, the trusted in a blocked prefix keep what is not judged, too") {
  Story story;
  story.registers(kCustomer, "ann");
  story.rules.blocked = prefixes({"203.0.113.0/24"});
  story.rules.peers = PrefixSet(prefixes({"203.0.113.99"}));
  const auto tls = [&](std::string_view from) {
    const Datagram packet{address(from), address(kServer), 40'000, 5061, {}, false, Side::Outside};
    const Case c = open(story.rules, story.ledger, packet);
    return let_by(story.rules, story.ledger, c, Why::NotUdp, Now(Time(story.clock))).drop;
  };
  CHECK_FALSE(tls(kCustomer));
  CHECK_FALSE(tls("203.0.113.99"));
  CHECK(tls("203.0.113.8"));
}

TEST_CASE("who is never blocked passes although his IPv6 neighbour, and so their /64, stands blocked") {
  Story story;
  story.rules.never_blocked = PrefixSet(prefixes({"2001:db8:66::1"}));
  story.hears("2001:db8:66::bad", Request{});
  story.source("2001:db8:66::bad").blocked_until_s = 2000;
  CHECK(story.hears("2001:db8:66::bad", Request{.cseq = 2}).why == Why::Blocked);
  CHECK(story.hears("2001:db8:66::1", Request{.cseq = 3}).why == Why::Clean);
}

TEST_CASE("who is allowed, and has a limit, is dropped above it whatever he sends, and never blocked") {
  Story story;
  story.rules.never_blocked = PrefixSet(prefixes({"198.51.100.0/24"}));
  const Rate limit{100, 1000};
  story.rules.ceilings = {{Prefix::parse("198.51.100.0/25").value(), limit, Meter(limit)}};
  story.rules.drop_convicting = true;
  int kind = 0, dropped = 0;
  for (int i = 0; i < 5000; ++i, story.clock += 100us) // ten thousand a second
    switch (kind++ % 4) {
    case 0: dropped += story.hears(kStranger, "\r\n\r\n").drop; break;
    case 1: dropped += story.hears(kStranger, kScan).drop; break;
    case 2: dropped += story.hears(kStranger, Request{.method = "BYE", .cseq = static_cast<unsigned>(i)}).drop; break;
    default: dropped += story.hears(kStranger, "nonsense\r\n\r\n").drop;
    }
  CHECK(dropped > 3900); // a thousand at once, and fifty in this half second
  CHECK(dropped < 3960);
  CHECK(story.count(Why::Excess) == dropped);
  REQUIRE_FALSE(story.told.empty());
  CHECK(story.told[0].action == Action::Limit);
  CHECK(story.told[0].limit.per_second == 100);
  CHECK(story.told[0].evidence.limit_per_s == 100);
  story.clock += 20s;
  CHECK_FALSE(story.hears(kStranger, kScan).drop);
  int others = 0; // the same range, no limit
  for (int i = 0; i < 5000; ++i, story.clock += 100us) others += story.hears("198.51.100.200", kScan).drop;
  CHECK(others == 0);
}

} // namespace
} // namespace sipward::test
