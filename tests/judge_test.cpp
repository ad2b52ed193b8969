// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/judge.h"

#include <catch2/catch.hpp>
#include <set>

#include "sip/parser.h"
#include "tests/story.h"

namespace sipward::policy {
namespace {

using namespace test;

constexpr std::string_view kScanner = "friendly-scanner";
const std::string kRegister = test::request("REGISTER", kPhone);

TEST_CASE_METHOD(Story, "a scanner is convicted by his first packet, and the evidence says by what") {
  const auto verdict = hears("198.51.100.66", test::request("OPTIONS", kScanner, "100"));
  CHECK(verdict.why == Why::Scanner);
  REQUIRE(verdict.offence);
  CHECK(offence.source == address("198.51.100.66"));
  CHECK(offence.source_port == 5062);
  CHECK(offence.reason == Reason::Scanner);
  CHECK_FALSE(offence.proven);
  CHECK(offence.packets_before == 1);
  CHECK(offence.at == Time(1000s));
  CHECK(offence.evidence.user_agent.view() == kScanner);
  CHECK(offence.evidence.method.view() == "OPTIONS");
  CHECK_FALSE(offence.evidence.mark.view().empty());
  CHECK(offence.evidence.users == 1);
  CHECK(offence.evidence.limit_per_s == 0);
}

TEST_CASE_METHOD(Story, "the operator's own pattern convicts as a shipped one does") {
  const std::vector<std::string> patterns = {"*warvox*"};
  rules.marks = std::make_shared<const sip::Marks>(patterns);
  CHECK(hears("198.51.100.66", test::request("INVITE", "The WarVOX dialer")).why == Why::Scanner);
  CHECK(offence.evidence.mark.view() == "*warvox*");
  CHECK(hears("198.51.100.67", test::request("INVITE", kPhone)).why == Why::Clean);
}

TEST_CASE_METHOD(Story, "a REGISTER flood is convicted by the first request over its burst") {
  int convicted_by = 0;
  for (int i = 1; convicted_by == 0 && i < 1000; ++i, clock += 5ms) // 200 a second
    if (hears("198.51.100.66", Request{.user = "user" + std::to_string(i % 2), .cseq = static_cast<unsigned>(i)})
            .offence)
      convicted_by = i;
  CHECK(convicted_by == 81); // 75 at once, 10 a second in the 0.4 s that passed, and the first two weigh little
  CHECK(offence.reason == Reason::RegisterFlood);
  CHECK(offence.packets_before == 81);
  CHECK(offence.evidence.rate_per_s == Approx(200));
  CHECK(offence.evidence.limit_per_s == 10);
  CHECK(offence.evidence.users == 2);
  CHECK(offence.evidence.method.view() == "REGISTER");
  CHECK(offence.evidence.mark.view().empty());
}

TEST_CASE_METHOD(Story, "an honest phone is clean for days") {
  for (int i = 0; i < 5000; ++i, clock += 50s) {
    registers("198.51.100.20", "ann");
  }
  CHECK(verdicts == std::map<Why, int>{{Why::Clean, 10000}, {Why::Answer, 10000}});
  CHECK(offences == 0);
  CHECK(dropped == 0);
  CHECK(source("198.51.100.20").users_tried() == 0);
}

TEST_CASE_METHOD(Story, "a phone whose keepalives go on for hours may register after all") {
  for (int i = 0; i < 1200; ++i, clock += 30s) { // 10 h
    CHECK(hears("198.51.100.20", Request{.method = "OPTIONS", .cseq = ++number}).why == Why::Clean);
    if (i % 270 == 0) CHECK(hears("198.51.100.20", Request{.cseq = ++number}).why == Why::Clean);
  }
  CHECK(offences == 0);
}

TEST_CASE_METHOD(Story, "a burst of phones behind one address is as good as its size allows") {
  // Of each user the first REGISTER weighs an eighth.
  for (unsigned i = 0; i < 74 * 8; ++i)
    CHECK(hears("198.51.100.20", Request{.user = std::to_string(i)}).why == Why::Clean);
  CHECK(hears("198.51.100.20", Request{.method = "INVITE"}).why == Why::Clean); // another class has its own meter
  CHECK(hears("198.51.100.20", Request{.user = "one more", .cseq = 2}).why == Why::RegisterFlood);
}

TEST_CASE_METHOD(Story, "each datagram that is no request has its own verdict") {
  struct Row {
    const char* name;
    std::string payload;
    Why why;
  };
  const Row rows[] = {
      {"a double CRLF", "\r\n\r\n", Why::Keepalive},
      {"a STUN binding request",
       std::string("\x00\x01\x00\x00\x21\x12\xa4\x42"
                   "abcdefghijkl",
                   20),
       Why::Keepalive},
      {"nothing at all", "", Why::Malformed},
      {"noise", "\x80\x81\x82 hello", Why::Malformed},
      {"a web request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", Why::Malformed},
      {"a start line alone", "REGISTER sip:x SIP/2.0\r\n", Why::Malformed},
      {"an answer to our request", test::answer(200, "OPTIONS"), Why::Response},
      {"a request", test::request("MESSAGE", kPhone), Why::Clean},
      {"a method that nobody knows", test::request("FROB", kPhone), Why::Clean},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    CHECK(hears("198.51.100.20", row.payload).why == row.why);
  }
  CHECK(offences == 0);
  CHECK(source("198.51.100.20").packets == std::size(rows));
}

TEST_CASE_METHOD(Story, "a scanner does not hide behind a broken message") {
  auto text = test::request("REGISTER", kScanner);
  text.replace(text.find("Content-Length: 0"), 17, "Content-Length: 9");
  REQUIRE(sip::parse(text).kind == sip::Kind::Malformed);
  CHECK(hears("198.51.100.66", text).why == Why::Scanner);
  CHECK(offences == 1);
}

TEST_CASE_METHOD(Story, "what is left of a cut datagram is judged by its parts, not by its shape") {
  auto text = test::request("REGISTER", kPhone);
  text.replace(text.find("Content-Length: 0"), 17, "Content-Length: 9000");
  REQUIRE(sip::parse(text).kind == sip::Kind::Malformed);
  CHECK(hears("198.51.100.20", text, true).why == Why::Clean);
  CHECK(hears("198.51.100.20", text, false).why == Why::Malformed);
  for (int i = 0; i < 74 + 11; ++i) hears("198.51.100.20", text, true); // eleven may be retransmissions
  CHECK(verdicts[Why::RegisterFlood] == 1);
  auto answered = test::answer(200, "OPTIONS");
  answered.replace(answered.find("Content-Length: 0"), 17, "Content-Length: 9000");
  CHECK(hears("198.51.100.20", answered, true).why == Why::Response);
  CHECK(hears("198.51.100.20", "\x01\x02\x03", true).why == Why::Malformed);
}

TEST_CASE_METHOD(Story, "a flood of mangled REGISTERs is a flood") {
  auto text = test::request("REGISTER", kPhone);
  text.erase(text.find("Via:"), text.find("\r\n", text.find("Via:")) + 2 - text.find("Via:"));
  REQUIRE(sip::parse(text).kind == sip::Kind::Malformed);
  rules.set(Class::Malformed, {{1, 1}, Action::Off});
  for (int i = 0; i < 75; ++i) CHECK(hears("198.51.100.66", text).why == Why::Malformed);
  CHECK(offences == 0);
  CHECK(hears("198.51.100.66", text).why == Why::RegisterFlood);
  CHECK(offences == 1);
  CHECK(offence.action == Action::Limit); // it may be a router's doing
}

TEST_CASE_METHOD(Story, "answers from outside try no users of ours") {
  for (int i = 0; i < 20; ++i) {
    auto text = test::answer(200, "OPTIONS");
    text.replace(text.find("To: <sip:100@"), 13, "To: <sip:" + std::to_string(200 + i) + "@");
    CHECK(hears("203.0.113.5", text).why == Why::Response);
  }
  CHECK(source("203.0.113.5").users_tried() == 0);
}

TEST_CASE_METHOD(Story, "a blocked source is dropped until its block ends") {
  hears("198.51.100.66", test::request("OPTIONS", kScanner));
  source("198.51.100.66").blocked_until_s = 1300;
  clock = 1299s;
  const auto verdict = hears("198.51.100.66", test::request("OPTIONS", kScanner));
  CHECK(verdict.why == Why::Blocked);
  CHECK(verdict.drop);
  CHECK_FALSE(verdict.offence);
  CHECK(hears("198.51.100.66", "\r\n\r\n").why == Why::Blocked);
  CHECK(source("198.51.100.66").packets == 3);
  clock = 1300s;
  CHECK(hears("198.51.100.66", test::request("OPTIONS", kScanner)).why == Why::Scanner);
}

TEST_CASE_METHOD(Story, "everybody in a blocked prefix is dropped but those who are never blocked") {
  rules.blocked = prefixes({"198.51.100.0/24", "2001:db8:66::/48"});
  const auto allowed = prefixes({"198.51.100.20"});
  rules.never_blocked = PrefixSet(allowed);
  CHECK(hears("198.51.100.7", test::request("REGISTER", kPhone)).why == Why::BlockedPrefix);
  CHECK(hears("2001:db8:66:9::1", test::request("REGISTER", kPhone)).why == Why::BlockedPrefix);
  CHECK(dropped == 2);
  CHECK(hears("198.51.100.20", test::request("REGISTER", kPhone)).why == Why::Clean);
  CHECK(hears("198.51.101.7", test::request("REGISTER", kPhone)).why == Why::Clean);
  CHECK(hears("2001:db8:67::1", test::request("REGISTER", kPhone)).why == Why::Clean);
  CHECK(dropped == 2);
}

TEST_CASE_METHOD(Story, "who is never blocked is never an offender, whatever he sends") {
  const auto allowed = prefixes({"203.0.113.0/24"});
  rules.never_blocked = PrefixSet(allowed);
  CHECK(hears("203.0.113.10", test::request("OPTIONS", kScanner)).why == Why::NeverBlocked);
  for (int i = 0; i < 200; ++i) hears("203.0.113.10", Request{.cseq = ++number});
  CHECK(verdicts[Why::NeverBlocked] == 1 + 125);
  CHECK(offences == 0);
  CHECK(dropped == 0);
}

TEST_CASE_METHOD(Story, "our server's answers are counted to whom they go, and nothing else is") {
  const auto answered = [&](unsigned status, std::string_view method = "REGISTER") {
    const Request request{.method = method, .cseq = ++number};
    hears("198.51.100.66", request);
    CHECK(answers("198.51.100.66", answer_to(request, status)).why == Why::Answer);
  };
  for (const unsigned status : {100u, 401u, 407u, 403u, 404u, 404u, 200u, 500u, 503u, 302u, 486u}) answered(status);
  CHECK(source("198.51.100.66").failures == 2); // 403, 404, 404, less one: a challenge is none, nor a 5xx
  CHECK(source("198.51.100.66").successes == 1);
  answered(404, "INVITE"); // a number that does not exist
  answers("198.51.100.66", test::request("OPTIONS", "our server"));
  CHECK(source("198.51.100.66").failures == 2);
  CHECK(source("198.51.100.66").packets == 12);            // packets from it, not to it
  answers("198.51.100.99", test::answer(404, "REGISTER")); // whom we never heard of: no line is spent on him
  CHECK(ledger.sources.find(source_key(address("198.51.100.99"), 64)) == nullptr);

  source("198.51.100.66").failures = 255;
  answered(404);
  CHECK(source("198.51.100.66").failures == 255);

  clock += 1s;
  source("198.51.100.66").set_level(0);
  hears("198.51.100.66", test::request("REGISTER", kScanner));
  CHECK(offence.evidence.failures == 255);
  CHECK(offence.evidence.successes == 1);
}

TEST_CASE_METHOD(Story, "an answer that is repeated counts once") {
  const Request request{.cseq = 1};
  hears("198.51.100.66", request);
  for (int i = 0; i < 5; ++i) answers("198.51.100.66", answer_to(request, 404));
  CHECK(source("198.51.100.66").failures == 1);
}

TEST_CASE("with a full table a newcomer is judged by his packet alone") {
  Story story(SourceTable::kWays);
  for (unsigned i = 0; i < SourceTable::kWays; ++i) {
    const auto from = "198.51.100." + std::to_string(i);
    story.hears(from, test::request("OPTIONS", kScanner));
    story.source(from).blocked_until_s = 2000;
  }
  CHECK(story.hears("203.0.113.1", test::request("REGISTER", kPhone)).why == Why::Unmetered);
  CHECK(story.hears("203.0.113.1", "\r\n\r\n").why == Why::Keepalive);
  const auto verdict = story.hears("203.0.113.2", test::request("OPTIONS", kScanner));
  CHECK(verdict.why == Why::Scanner);
  CHECK(verdict.offence);
  CHECK(story.offence.packets_before == 1);
  CHECK(story.offence.evidence.rate_per_s == 0);
  CHECK(story.ledger.sources.occupancy().pinned == 3);
}

TEST_CASE_METHOD(Story, "a policy that is off sees nothing; one that only logs blocks nobody") {
  rules.scanner.action = Action::Off;
  limit(10, 5, Action::Off);
  for (int i = 0; i < 50; ++i) CHECK(hears("198.51.100.66", test::request("REGISTER", kScanner)).why == Why::Clean);
  rules.scanner.action = Action::Log;
  limit(10, 5, Action::Log);
  CHECK(hears("198.51.100.66", test::request("REGISTER", kScanner)).why == Why::Scanner);
  for (int i = 0; i < 50; ++i) hears("198.51.100.67", Request{.cseq = ++number});
  CHECK(verdicts[Why::RegisterFlood] == 45);
  CHECK(offences == 2); // once each: the log is to say so
  CHECK(offence.action == Action::Log);
  CHECK(dropped == 0);
}

TEST_CASE_METHOD(Story, "an offender who goes on is reported once a second") {
  for (int i = 0; i < 5000; ++i, clock += 1ms) hears("198.51.100.66", test::request("OPTIONS", kScanner));
  CHECK(verdicts[Why::Scanner] == 5000);
  CHECK(offences == 5);
}

TEST_CASE_METHOD(Story, "an IPv6 /64 is one source") {
  for (int i = 0; i < 76; ++i) hears("2001:db8:66:1::" + std::to_string(i), Request{.cseq = ++number});
  CHECK(verdicts[Why::RegisterFlood] == 1);
  CHECK(offence.source == address("2001:db8:66:1::75"));
  CHECK(hears("2001:db8:66:2::1", test::request("REGISTER", kPhone)).why == Why::Clean);
}

TEST_CASE_METHOD(Story, "only what goes between the outside and a server's SIP port concerns us") {
  const auto way = [&](std::string_view from, std::uint16_t from_port, std::string_view to, std::uint16_t to_port) {
    return way_of(rules, {address(from), address(to), from_port, to_port, "", false});
  };
  CHECK(way("198.51.100.66", 40000, kServer, 5060) == Way::In);
  CHECK(way("198.51.100.66", 40000, kServer, 5080) == Way::In);
  CHECK(way(kServer, 5060, "198.51.100.66", 40000) == Way::Out);
  CHECK(way("2001:db8:66::1", 5060, kServer6, 5060) == Way::In);
  CHECK(way("198.51.100.66", 5060, kServer, 53) == Way::Aside);
  CHECK(way("198.51.100.66", 40000, "192.0.2.11", 5060) == Way::Aside); // somebody else's server
  CHECK(way(kServer, 53, "198.51.100.66", 5060) == Way::Aside);
  CHECK(way(kServer, 40000, kServer, 5060) == Way::Out); // our servers among themselves
}

TEST_CASE_METHOD(Story,
                 "on a bump in the wire a server's address from outside is forged, and its answer comes from inside") {
  const auto from = [&](Side side, std::string_view source, std::string_view destination) {
    return Datagram{address(source), address(destination), 5060, 5060, kRegister, false, side};
  };
  CHECK(judge(from(Side::Inside, kServer, "198.51.100.66")).why == Why::Answer);
  CHECK(judge(from(Side::Outside, kServer, kServer)).why == Why::Clean);
  CHECK(way_of(rules, from(Side::Inside, "192.0.2.11", "198.51.100.66")) == Way::Aside);
  CHECK(way_of(rules, from(Side::Outside, "198.51.100.66", "192.0.2.11")) == Way::Aside);
}

TEST_CASE_METHOD(Story, "without named servers all inside are protected, where a side is known") {
  rules.servers.clear();
  const auto from = [&](Side side) {
    return Datagram{address("198.51.100.66"), address("203.0.113.5"), 5060, 5060, kRegister, false, side};
  };
  CHECK(judge(from(Side::Outside)).why == Why::Clean);
  CHECK(judge(from(Side::Inside)).why == Why::Answer);
  CHECK(way_of(rules, from(Side::Unknown)) == Way::Aside);
}

TEST_CASE_METHOD(Story, "inline the packet that convicts is dropped itself, unless the policy only logs") {
  rules.drop_convicting = true;
  CHECK(hears("198.51.100.66", test::request("OPTIONS", kScanner)).drop);
  for (int i = 0; i < 100; ++i) hears("198.51.100.67", Request{.cseq = ++number});
  CHECK(dropped == 1 + 25);
  rules.scanner.action = Action::Log;
  CHECK_FALSE(hears("198.51.100.68", test::request("OPTIONS", kScanner)).drop);
  rules.scanner.action = Action::Block;
  rules.never_blocked = PrefixSet(prefixes({"198.51.100.69"}));
  CHECK_FALSE(hears("198.51.100.69", test::request("OPTIONS", kScanner)).drop);
}

TEST_CASE_METHOD(Story,
                 "what is not judged is dropped inline if its sender stands blocked, within the scope of blocks") {
  hears("198.51.100.66", kRegister);
  source("198.51.100.66").blocked_until_s = Now(Time(clock + 60s)).s;
  rules.blocked = prefixes({"203.0.113.0/24"});
  const auto fate = [&](std::string_view from, std::uint16_t port, Side side = Side::Outside) {
    const Datagram packet{address(from), address(kServer), 40000, port, {}, false, side};
    const auto verdict = let_by(rules, ledger, open(rules, ledger, packet), Why::NotUdp, Now(Time(clock)));
    CHECK(verdict.drop == (verdict.why != Why::NotUdp));
    return verdict.why;
  };
  CHECK(fate("198.51.100.66", 5060) == Why::Blocked);
  CHECK(fate("198.51.100.66", 5061) == Why::Blocked);
  CHECK(fate("203.0.113.9", 5061) == Why::BlockedPrefix);
  CHECK(fate("198.51.100.66", 22) == Why::NotUdp);
  CHECK(fate("198.51.100.77", 5060) == Why::NotUdp);
  CHECK(fate("198.51.100.66", 5060, Side::Inside) == Why::NotUdp);
  CHECK(fate("198.51.100.66", 5060, Side::Unknown) == Why::NotUdp); // monitor: the kernel's to drop
  rules.blocked_wholly = prefixes({"198.51.100.66"});               // he alone, by hand
  CHECK(fate("198.51.100.66", 22) == Why::Blocked);
  CHECK(fate("203.0.113.9", 22) == Why::NotUdp);
  rules.block_everything = true;
  CHECK(fate("198.51.100.66", 22) == Why::Blocked);
  CHECK(fate("203.0.113.9", 22) == Why::BlockedPrefix);
  rules.never_blocked = PrefixSet(prefixes({"203.0.113.9"}));
  CHECK(fate("203.0.113.9", 22) == Why::NotUdp);
}

TEST_CASE("a blocked prefix is found whatever lengths stand beside it") {
  Rules rules;
  rules.blocked = prefixes(
      {"203.0.113.0/24", "198.51.100.0/24", "2001:d00::/24", "2001:db8:1::/48", "2001:db8:3::/48", "192.0.2.8/30"});
  std::ranges::sort(rules.blocked, {}, [](const Prefix& p) { return std::pair(p.length, p.base); });
  for (const auto* inside :
       {"203.0.113.9", "198.51.100.255", "2001:db8:1::1", "2001:db8:3:ffff::", "2001:dff::", "192.0.2.11"})
    CHECK(rules.is_blocked(address(inside)));
  for (const auto* outside : {"203.0.114.9", "198.51.99.255", "2002:db8::1", "192.0.2.12", "32.1.13.184"})
    CHECK_FALSE(rules.is_blocked(address(outside)));
  CHECK_FALSE(Rules{}.is_blocked(address("198.51.100.1")));
}

TEST_CASE("verdicts print as status --json shows them") {
  CHECK(to_string(Why::NotIp) == "not_ip");
  CHECK(to_string(Why::Unmetered) == "unmetered");
  CHECK(to_string(Why::BlockedPrefix) == "blocked_prefix");
  CHECK(to_string(Why::RegisterFlood) == "register_flood");
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kWhys; ++i) names.insert(to_string(static_cast<Why>(i)));
  CHECK(names.size() == kWhys);
}

} // namespace
} // namespace sipward::policy
