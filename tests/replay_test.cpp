// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/replay.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <functional>
#include <numeric>
#include <sstream>

#include "captures.h"
#include "daemon/replay_report.h"

using namespace sipward;
using namespace sipward::captures;
using namespace sipward::daemon;
using policy::Address, policy::Reason, policy::SubjectKind, policy::Why;

namespace {

const Endpoint kServer{"192.0.2.10", 5060};
const Endpoint kScanner{"198.51.100.66", 5060};
const Endpoint kPhone{"203.0.113.1", 5062};

// Each datagram one millisecond after the one before, from second `from_s` on.
struct Talk {
  std::uint32_t s, us = 0;
  Pcap pcap{101};

  explicit Talk(std::uint32_t from_s = 1'700'000'000) : s(from_s) {}
  Talk& say(const Endpoint& from, const Endpoint& to, std::string_view payload) {
    pcap.add(s, us, udp(from, to, payload));
    us += 1000;
    if (us == 1'000'000) us = 0, ++s;
    return *this;
  }
  Talk& wait(std::uint32_t seconds) {
    s += seconds;
    return *this;
  }
};

std::string scan() { return request("REGISTER", "100", "friendly-scanner"); }

ReplayOptions options_for(std::vector<std::filesystem::path> files) {
  ReplayOptions options;
  options.captures = std::move(files);
  options.servers = {*Address::parse(kServer.address)};
  return options;
}

// The report, after its counters have been held to their algebra.
ReplayReport judged(const ReplayOptions& options) {
  auto report = judge_captures(options);
  INFO((report ? std::string() : report.error()));
  REQUIRE(report);
  const auto& counters = report->counters;
  CHECK(counters.received == counters.passed + counters.dropped);
  CHECK(counters.received == std::accumulate(counters.verdicts.begin(), counters.verdicts.end(), std::uint64_t{0}));
  std::uint64_t dropped = 0, to_servers = 0;
  for (const Talker* talker : report->talkers.sorted(SortKey::Requests)) {
    dropped += talker->dropped;
    to_servers += talker->packets;
  }
  CHECK(dropped == counters.dropped);
  std::uint64_t concerning = to_servers + counters.verdicts[static_cast<std::size_t>(Why::Answer)];
  const auto& sip = report->sip;
  CHECK(sip.requests + sip.responses + sip.malformed + sip.keepalives == concerning);
  return std::move(*report);
}

ReplayReport judged(const Talk& talk) {
  Folder folder;
  return judged(options_for({folder.file("a.pcap", talk.pcap.octets)}));
}

std::uint64_t count(const ReplayReport& report, Why why) {
  return report.counters.verdicts[static_cast<std::size_t>(why)];
}

} // namespace

TEST_CASE("a scanner is convicted by its first packet, and every later one would have been dropped") {
  Talk talk;
  for (int i = 0; i < 10; ++i)
    talk.say(kScanner, kServer, scan()).say(kServer, kScanner, response(401, "REGISTER", "100"));
  talk.say(kPhone, kServer, request("REGISTER"));
  const auto report = judged(talk);

  CHECK(report.counters.received == 21);
  CHECK(count(report, Why::Scanner) == 1);
  CHECK(count(report, Why::Blocked) == 9);
  CHECK(count(report, Why::Answer) == 10);
  CHECK(count(report, Why::Clean) == 1);
  CHECK(report.sip.requests == 11); // a blocked source's requests are requests
  CHECK(report.sip.responses == 10);
  REQUIRE(report.blocks.size() == 1);
  const auto& block = report.blocks[0];
  CHECK(to_string(block.subject) == "198.51.100.66/32");
  CHECK(block.reason == Reason::Scanner);
  CHECK(block.dry_run); // replay blocks nobody
  CHECK(block.packets_before == 1);
  CHECK(block.packets_dropped == 9);
  CHECK(block.since.time_since_epoch() == std::chrono::seconds(1'700'000'000)); // the capture's time
  const Talker& first = *report.talkers.sorted(SortKey::Requests)[0];
  CHECK(to_string(first.address) == "198.51.100.66");
  CHECK(first.dropped == 9);
}

TEST_CASE("a block ends by the capture's clock, and whoever comes back is convicted anew") {
  Talk talk;
  for (int i = 0; i < 3; ++i) talk.say(kScanner, kServer, scan());
  talk.wait(299); // 5 min is the ladder's first step
  talk.say(kScanner, kServer, scan());
  talk.wait(2);
  talk.say(kScanner, kServer, request("REGISTER", "100")).say(kScanner, kServer, scan()).say(kScanner, kServer, scan());
  const auto report = judged(talk);
  REQUIRE(report.blocks.size() == 2);
  CHECK(report.blocks[0].packets_dropped == 3);
  CHECK(report.blocks[1].packets_before == 6); // all of its packets so far
  CHECK(report.blocks[1].packets_dropped == 1);
  CHECK(count(report, Why::Clean) == 1);
}

TEST_CASE("enough offenders block their /24, and its silent hosts with it") {
  Talk talk;
  for (int host = 1; host <= 4; ++host) {
    const Endpoint scanner{"198.51.100." + std::to_string(host), 5060};
    talk.say(scanner, kServer, request("REGISTER", "100")).say(scanner, kServer, scan());
  }
  const Endpoint neighbour{"198.51.100.200", 5060}, stranger{"198.51.101.1", 5060};
  talk.say(neighbour, kServer, request("REGISTER", "200")).say(stranger, kServer, request("REGISTER", "201"));
  talk.wait(301).say(neighbour, kServer, request("REGISTER", "200"));
  const auto report = judged(talk);
  REQUIRE(report.blocks.size() == 5);
  const auto& prefix = report.blocks[4];
  CHECK(to_string(prefix.subject) == "198.51.100.0/24");
  CHECK(prefix.subject.kind == SubjectKind::Prefix);
  CHECK(prefix.packets_before == 8); // of all its hosts
  CHECK(prefix.packets_dropped == 1);
  CHECK(count(report, Why::BlockedPrefix) == 1);
  CHECK(count(report, Why::Clean) == 4 + 1 + 1); // before; the stranger; the neighbour, once the block had ended
}

TEST_CASE("an IPv6 host is its /64: packets from all of it count, and all of it is blocked") {
  Talk talk;
  const Endpoint server{"2001:db8::10", 5060};
  talk.say({"2001:db8:1:2::1", 5060}, server, request("OPTIONS")).say({"2001:db8:1:2::2", 5060}, server, scan());
  talk.say({"2001:db8:1:2:3::3", 5060}, server, request("OPTIONS"))
      .say({"2001:db8:1:3::1", 5060}, server, request("OPTIONS"));
  Folder folder;
  auto options = options_for({folder.file("a.pcap", talk.pcap.octets)});
  options.servers = {*Address::parse("2001:db8::10")};
  const auto report = judged(options);
  REQUIRE(report.blocks.size() == 1);
  CHECK(to_string(report.blocks[0].subject) == "2001:db8:1:2::/64");
  CHECK(report.blocks[0].packets_before == 2);
  CHECK(report.blocks[0].packets_dropped == 1);
  CHECK(report.talkers.size() == 4); // the addresses themselves are listed
}

TEST_CASE("a REGISTER flood without a scanner's name is convicted by its rate alone") {
  Talk talk;
  for (unsigned i = 0; i < 500; ++i) talk.say(kScanner, kServer, request("REGISTER", "alice", "Snom/8.7", i));
  const auto report = judged(talk);
  REQUIRE(report.blocks.size() == 1);
  CHECK(report.blocks[0].reason == Reason::RegisterFlood);
  CHECK(report.blocks[0].packets_before > 75); // the default burst
  CHECK(report.blocks[0].packets_before < 85);
  CHECK(report.blocks[0].packets_before + report.blocks[0].packets_dropped == 500);
  CHECK(report.blocks[0].evidence.rate_per_s == Approx(1000).epsilon(0.05));
}

TEST_CASE("several captures are one stream") {
  Folder folder;
  const auto first = folder.file("1.pcap", Talk(1000).say(kScanner, kServer, scan()).pcap.octets);
  Pcapng later(101);
  for (std::uint64_t s = 1001; s < 1004; ++s) later.add(s * 1'000'000, udp(kScanner, kServer, request("REGISTER")));
  const auto second = folder.file("2.pcapng", later.octets);
  const auto report = judged(options_for({first, second}));
  CHECK(report.counters.received == 4);
  REQUIRE(report.blocks.size() == 1);
  CHECK(report.blocks[0].packets_dropped == 3);
}

TEST_CASE("stamps that run backwards do not turn the clock back") {
  Folder folder;
  const auto late = folder.file("late.pcap", Talk(2000).say(kScanner, kServer, scan()).pcap.octets);
  const auto early =
      folder.file("early.pcap", Talk(1000).say(kScanner, kServer, scan()).say(kPhone, kServer, scan()).pcap.octets);
  const auto report = judged(options_for({late, early}));
  REQUIRE(report.blocks.size() == 2);
  CHECK(report.blocks[1].since == report.blocks[0].since);
  CHECK(report.backwards == 2);
  CHECK(report.farthest_backwards == std::chrono::seconds(1000));
  CHECK(report.first == report.last);
  std::ostringstream text;
  write_text(report, SortKey::Requests, text);
  CHECK_THAT(text.str(), Catch::Contains("2 time stamps ran backwards, by up to 16m40s"));
}

TEST_CASE("the settings' allow list is never blocked, and dry_run changes nothing") {
  Folder folder;
  auto options = options_for({folder.file(
      "a.pcap",
      Talk().say(kScanner, kServer, scan()).say(kPhone, kServer, scan()).say(kPhone, kServer, scan()).pcap.octets)});
  options.settings = config::Settings{};
  options.settings->allow = {*policy::Prefix::parse("198.51.100.0/24")};
  options.settings->block.dry_run = true;
  const auto report = judged(options);
  REQUIRE(report.blocks.size() == 1);
  CHECK(to_string(report.blocks[0].subject) == "203.0.113.1/32");
  CHECK(report.blocks[0].packets_dropped == 1);
  CHECK(count(report, Why::NeverBlocked) == 1);
}

TEST_CASE("keepalives, junk and answers are told apart, in both directions, and other traffic is only counted") {
  Talk talk;
  talk.say(kPhone, kServer, "\r\n\r\n").say(kServer, kPhone, "\r\n").say(kPhone, kServer, "GET / HTTP/1.1\r\n\r\n");
  talk.say(kServer, kPhone, request("OPTIONS")).say(kPhone, kServer, response(200, "OPTIONS"));
  talk.say(kPhone, {kServer.address, 53}, "dns").say(kPhone, {"192.0.2.99", 5060}, request("OPTIONS"));
  talk.pcap.add(talk.s, talk.us, Octets("\x45\0\0\x28", 4) + Octets(5, '\0') + "\x06" + Octets(30, '\0')); // TCP
  const auto report = judged(talk);
  CHECK(report.counters.received == 8);
  CHECK(report.sip.keepalives == 2);
  CHECK(report.sip.malformed == 1);
  CHECK(report.sip.requests == 1);
  CHECK(report.sip.responses == 1);
  CHECK(count(report, Why::Unrelated) == 2);
  CHECK(count(report, Why::NotUdp) == 1);
  REQUIRE(report.talkers.size() == 1);
  CHECK(report.talkers.sorted(SortKey::Packets)[0]->packets == 3);
  CHECK(report.talkers.sorted(SortKey::Packets)[0]->requests == 0);
}

TEST_CASE("talkers are told by requests, flows, octets, packets and duration") {
  Talk talk;
  const Endpoint one_port{"203.0.113.1", 5060}; // few flows, many requests
  for (unsigned i = 0; i < 20; ++i)
    talk.say(one_port, kServer, request("OPTIONS", "a", "Agent " + std::to_string(i % 10), i));
  for (std::uint16_t port = 6000; port < 6010; ++port)
    talk.say({"203.0.113.2", port}, kServer, request("INVITE", "b", "x"));
  for (int i = 0; i < 30; ++i) talk.say({"203.0.113.3", 5060}, kServer, "\r\n\r\n");
  talk.say({"203.0.113.4", 5060}, kServer, request("OPTIONS", "d", std::string(9000, 'x'))).wait(60);
  talk.say({"203.0.113.5", 5060}, kServer, request("OPTIONS"))
      .wait(100)
      .say({"203.0.113.5", 5060}, kServer, request("REGISTER"));
  const auto report = judged(talk);

  const std::pair<SortKey, const char*> rows[] = {{SortKey::Requests, "203.0.113.1"},
                                                  {SortKey::Flows, "203.0.113.2"},
                                                  {SortKey::Packets, "203.0.113.3"},
                                                  {SortKey::Octets, "203.0.113.4"},
                                                  {SortKey::Duration, "203.0.113.5"}};
  for (const auto& [key, address] : rows) {
    INFO(address);
    CHECK(to_string(report.talkers.sorted(key)[0]->address) == address);
  }
  const auto by_requests = report.talkers.sorted(SortKey::Requests);
  const Talker& first = *by_requests[0];
  CHECK(first.flows.size() == 1);
  CHECK(first.user_agents.size() == Talker::kMaxUserAgents);
  CHECK(first.user_agents[0] == "Agent 0");
  CHECK(first.methods == std::vector{std::pair(sip::Method::Options, std::uint64_t{20})});
  CHECK(first.octets == 20 * udp(one_port, kServer, request("OPTIONS", "a", "Agent 0", 0)).size() +
                            20); // ten CSeqs and branches of two digits
  CHECK(by_requests[1]->flows.size() == 10);
  CHECK(by_requests[2]->methods.size() == 2);
  CHECK(by_requests[2]->duration() == std::chrono::seconds(100) + std::chrono::milliseconds(1));
}

TEST_CASE("who is protected is read from the capture, if nobody says it") {
  const Endpoint server{"192.0.2.10", 5060}, server2{"192.0.2.11", 5060}, phone1{"203.0.113.1", 5060},
      phone2{"203.0.113.2", 5060}, carrier{"198.51.100.1", 5060};
  const auto asks = [](Talk& talk, const Endpoint& from, const Endpoint& to, const char* method) {
    talk.say(from, to, request(method)).say(to, from, response(200, method));
  };
  struct Row {
    const char* name;
    std::function<void(Talk&)> talk;
    std::string servers;
    ServerSearch::Evidence evidence;
  };
  using enum ServerSearch::Evidence;
  const std::vector<Row> rows = {
      {"a registrar and its phones",
       [&](Talk& t) { asks(t, phone1, server, "REGISTER"), asks(t, phone2, server, "REGISTER"); }, "192.0.2.10 ",
       Answers},
      {"a registrar that asks its phones after their health",
       [&](Talk& t) {
         asks(t, phone1, server, "REGISTER"), asks(t, server, phone1, "OPTIONS"), asks(t, server, phone2, "OPTIONS");
       },
       "192.0.2.10 ", Answers},
      {"a PBX that registers with its carrier",
       [&](Talk& t) { asks(t, phone1, server, "REGISTER"), asks(t, server, carrier, "REGISTER"); }, "192.0.2.10 ",
       Answers},
      {"a registrar, and a second server that takes calls only",
       [&](Talk& t) { asks(t, phone1, server, "REGISTER"), asks(t, carrier, server2, "INVITE"); },
       "192.0.2.10 192.0.2.11 ", Answers},
      {"a proxy between two phones that answer it",
       [&](Talk& t) {
         asks(t, phone1, server, "INVITE"), asks(t, server, phone2, "INVITE"), asks(t, phone2, server, "BYE"),
             asks(t, server, phone1, "BYE");
       },
       "192.0.2.10 ", Answers},
      {"only the way in",
       [&](Talk& t) { t.say(phone1, server, request("OPTIONS")).say(phone2, server2, request("OPTIONS")); },
       "192.0.2.10 192.0.2.11 ", Requests},
      {"no SIP at all", [&](Talk& t) { t.say(phone1, server, "\r\n\r\n"); }, "", None}};
  Folder folder;
  for (const auto& row : rows) {
    INFO(row.name);
    Talk talk;
    row.talk(talk);
    auto options = options_for({folder.file("a.pcap", talk.pcap.octets)});
    options.servers.clear();
    const auto report = judged(options);
    std::string servers;
    for (const auto& address : report.servers) servers += to_string(address) + " ";
    CHECK(servers == row.servers);
    CHECK(report.assumed == row.evidence);
  }
}

TEST_CASE("named servers are believed: first the command line's, then the settings'") {
  Folder folder;
  auto options = options_for({folder.file("a.pcap", Talk().say(kPhone, kServer, request("OPTIONS")).pcap.octets)});
  options.settings = config::Settings{};
  options.settings->sip.servers = {*Address::parse("192.0.2.77")};
  CHECK(to_string(judged(options).servers[0]) == "192.0.2.10");
  options.servers.clear();
  const auto report = judged(options);
  CHECK(to_string(report.servers[0]) == "192.0.2.77");
  CHECK_FALSE(report.assumed);
  CHECK(report.talkers.size() == 0);
}

TEST_CASE("the JSON report has the agreed keys, and is valid whatever was sent") {
  Folder folder;
  auto options = options_for(
      {folder.file("a.pcap", Talk()
                                 .say(kPhone, kServer, request("REGISTER", "alice", "Ev\xffil\x1b[2J\xc2\x9b"))
                                 .say(kScanner, kServer, scan())
                                 .pcap.octets)});
  options.json = true;
  std::ostringstream out;
  REQUIRE(replay(options, out));
  for (const char* part : {R"("captures": [)",
                           R"("packets": 2)",
                           R"("sip": {)",
                           R"("requests": 2)",
                           R"("sources": [)",
                           R"("address": "198.51.100.66")",
                           R"("flows": 1)",
                           R"("octets": )",
                           R"("dropped": 0)",
                           R"("first": "2023-11-14T22:13:20.000000Z")",
                           R"("last": )",
                           R"("methods": {)",
                           R"("REGISTER": 1)",
                           R"("user_agents": [)",
                           R"("verdicts": {)",
                           R"("scanner": 1)",
                           R"("blocks": [)",
                           R"("packets_before": 1)",
                           R"("action": "would_block")",
                           R"("alerts": [])",
                           "Ev\xef\xbf\xbdil\\u001b[2J\xef\xbf\xbd"}) {
    INFO(part);
    CHECK_THAT(out.str(), Catch::Contains(part));
  }
  CHECK(std::ranges::none_of(out.str(), [](char c) { return c == '\x1b' || c == '\x9b'; }));
}

TEST_CASE("the text report tells totals, talkers and who would have been blocked, and carries no terminal escape") {
  Folder folder;
  auto options = options_for({folder.file(
      "a.pcap", Talk().say(kPhone, kServer, request("REGISTER", "alice", "Ev\xffil\x1b[2J")).pcap.octets)});
  std::ostringstream honest;
  REQUIRE(replay(options, honest));
  CHECK_THAT(honest.str(), Catch::Contains("1 request, 0 responses, 0 malformed, 0 keepalives") &&
                               Catch::Contains(R"("Ev\xffil\x1b[2J")") &&
                               Catch::Contains("nobody would have been blocked"));
  CHECK(honest.str().find('\x1b') == std::string::npos);

  Talk many;
  for (int i = 0; i < 25; ++i) many.say({"203.0.113." + std::to_string(i), 5060}, kServer, request("OPTIONS"));
  options.captures = {folder.file("b.pcap", many.say(kScanner, kServer, scan()).pcap.octets)};
  std::ostringstream attacked;
  REQUIRE(replay(options, attacked));
  CHECK_THAT(
      attacked.str(),
      Catch::Contains("and 6 more") &&
          Catch::Contains("Z would_block 198.51.100.66/32 reason=scanner for=5m step=1 ua=\"friendly-scanner\"") &&
          Catch::Contains("dropped=0\n"));
}

TEST_CASE("what cannot be read is one sentence, and nothing of a report") {
  Folder folder;
  const auto good = folder.file("good.pcap", Talk().say(kScanner, kServer, scan()).pcap.octets);
  const auto cut = folder.file("cut.pcap", Talk().say(kScanner, kServer, scan()).pcap.octets + "x");
  for (const bool servers_named : {true, false}) {
    auto options = options_for({good, cut});
    if (!servers_named) options.servers.clear();
    std::ostringstream out;
    const auto done = replay(options, out);
    REQUIRE_FALSE(done);
    CHECK_THAT(done.error(), Catch::Contains("cut.pcap: broken at packet 2"));
    CHECK(out.str() == "");
  }
  auto options = options_for({good});
  options.sort = "size";
  std::ostringstream out;
  CHECK_THAT(replay(options, out).error(), Catch::Contains("--sort size"));
}

TEST_CASE("fragments are put together, whatever their order, and counted each") {
  const Endpoint server6{"2001:db8:10::5", 5060};
  Talk talk;
  unsigned number = 0;
  const auto say = [&](const Endpoint& from, const Endpoint& to, const std::string& text, bool reversed) {
    auto [first, second] = in_two(udp(from, to, text), 128, ++number);
    if (reversed) std::swap(first, second);
    for (const auto& packet : {first, second}) talk.pcap.add(talk.s, ++talk.us, packet);
  };
  say(kPhone, kServer, request("REGISTER"), false);
  say(kScanner, kServer, scan(), true);
  say(kScanner, kServer, scan(), false);
  say({"2001:db8:66::1", 5060}, server6, scan(), true);
  say({"203.0.113.9", 10000}, {kServer.address, 10002}, std::string(500, 'm'), false);
  const auto lost = in_two(udp(kPhone, kServer, request("REGISTER")), 128, ++number);
  talk.pcap.add(talk.s, ++talk.us, lost.second);
  talk.wait(2).say(kPhone, kServer, request("OPTIONS"));
  talk.pcap.add(talk.s, ++talk.us, in_two(udp(kPhone, kServer, request("REGISTER")), 128, ++number).first);

  Folder folder;
  auto options = options_for({folder.file("a.pcap", talk.pcap.octets)});
  options.servers.push_back(*Address::parse(server6.address));
  const auto report = judge_captures(options);
  REQUIRE(report);
  const auto& counters = report->counters;
  CHECK(counters.received == 13);
  CHECK(counters.received == std::accumulate(counters.verdicts.begin(), counters.verdicts.end(), std::uint64_t{0}));
  CHECK(count(*report, Why::Clean) == 3);
  CHECK(count(*report, Why::Scanner) == 4);
  CHECK(count(*report, Why::Blocked) == 2);
  CHECK(count(*report, Why::Fragment) == 2);
  CHECK(count(*report, Why::FragmentOverdue) == 2);
  CHECK(report->sip.requests == 5);
  REQUIRE(report->blocks.size() == 2);
  CHECK(to_string(report->blocks[0].subject) == "198.51.100.66/32");
  CHECK(report->blocks[0].packets_before == 1);
  CHECK(report->blocks[0].packets_dropped == 1);
  CHECK(to_string(report->blocks[1].subject) == "2001:db8:66::/64");
}

TEST_CASE("real captures with fragments: each INVITE is one request, and what is not SIP is none of ours") {
  const char* named = std::getenv("SIPWARD_DATA");
  const std::filesystem::path data = named != nullptr ? named : SIPWARD_SOURCE_DIR "/../shared/data";
  if (!std::filesystem::exists(data / "captures")) {
    WARN("skipped: no captures in " << data << "; SIPWARD_DATA names another place");
    return;
  }
  ReplayOptions options;
  options.captures = {data / "captures" / "honest_sipp_calls_fragmented_invite.pcap"};
  options.servers = {*Address::parse("10.66.0.2")};
  const auto calls = judge_captures(options);
  REQUIRE(calls);
  CHECK(calls->blocks.empty());
  CHECK(calls->sip.malformed == 0);
  CHECK(count(*calls, Why::Fragment) == 0);
  CHECK(count(*calls, Why::FragmentOverdue) == 0);
  const auto talkers = calls->talkers.sorted(SortKey::Requests);
  REQUIRE(!talkers.empty());
  const auto invites = std::ranges::find(talkers[0]->methods, sip::Method::Invite, [](auto& m) { return m.first; });
  REQUIRE(invites != talkers[0]->methods.end());
  CHECK(invites->second == 60);

  for (const char* name : {"IPv4Frag", "frag_with_padding", "ip4_fragments", "ip6_fragments", "ipv6_opt_fragments"}) {
    INFO(name);
    options.captures = {data / "others" / ("pcapplusplus_" + std::string(name) + ".pcap")};
    options.servers = {*Address::parse("10.66.0.2")};
    const auto others = judge_captures(options);
    REQUIRE(others);
    CHECK(count(*others, Why::Fragment) > 2);
    CHECK(others->counters.received == others->counters.passed);
  }
}

TEST_CASE("real captures: the scanner is convicted within two packets, honest phones never") {
  const char* named = std::getenv("SIPWARD_DATA");
  const std::filesystem::path data = named != nullptr ? named : SIPWARD_SOURCE_DIR "/../shared/data";
  if (!std::filesystem::exists(data / "first-light")) {
    WARN("skipped: no captures in " << data << "; SIPWARD_DATA names another place");
    return;
  }
  for (const bool servers_named : {true, false}) {
    auto options = options_for({data / "first-light" / "svwar_register.pcap"});
    options.servers.clear();
    if (servers_named)
      for (const char* server : {"10.66.0.1", "10.66.0.2", "10.66.0.3"})
        options.servers.push_back(*Address::parse(server));
    const auto attacked = judged(options);
    REQUIRE(attacked.blocks.size() == 1);
    CHECK(to_string(attacked.blocks[0].subject) == "10.66.9.2/32");
    CHECK(attacked.blocks[0].reason == Reason::Scanner);
    CHECK(attacked.blocks[0].packets_before <= 2);

    options.captures = {data / "first-light" / "honest_register.pcap"};
    const auto honest = judged(options);
    CHECK(honest.blocks.empty());
    CHECK(honest.counters.dropped == 0);
    CHECK(honest.talkers.size() == 50);
  }
}
