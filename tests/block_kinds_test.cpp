// SPDX-License-Identifier: GPL-2.0-or-later
#include "block_list_lab.h"

// What else than a host can be blocked, and whose host is not: endpoints, limits, trusted and crowded addresses; and
// who passes a blocked prefix.
namespace sipward::policy {
namespace {

constexpr auto* kOffice = "198.51.100.66";
const auto kOfficeHost = prefix(kOffice);

// --- endpoints

TEST_CASE("a bad phone behind a shared address is blocked by address and port, its neighbours are not") {
  BlockList list({.ladder = {5min}, .offenders = 1});
  const auto changes = list.convict(by_endpoint(of_trusted(offence(kOffice, 10s, kProven)), 5070));
  REQUIRE(told(changes) == "+198.51.100.66:5070 scanner"); // and nothing against its prefix
  CHECK(changes[0].block.subject.kind == SubjectKind::Endpoint);
  CHECK(list.covering(address(kOffice), 5070) != nullptr);
  CHECK(list.covering(address(kOffice), 5071) == nullptr);
  CHECK(list.covering(address(kOffice)) == nullptr);
  CHECK(list.convict(by_endpoint(offence(kOffice, 11s, kProven), 5070)).empty());
  CHECK(told(list.convict(by_endpoint(offence(kOffice, 12s, kProven), 5071))) == "+198.51.100.66:5071 scanner");
  CHECK(told(list.expire(at(1h))) == "-198.51.100.66:5070 expired, -198.51.100.66:5071 expired");
}

TEST_CASE("an IPv6 endpoint is its whole address, not its /64") {
  BlockList list({});
  CHECK(told(list.convict(by_endpoint(offence("2001:db8:1:2::9", 10s), 5070))) == "+[2001:db8:1:2::9]:5070 scanner");
  CHECK(list.covering(address("2001:db8:1:2::a"), 5070) == nullptr);
}

TEST_CASE("who is never blocked is limited only if he has a ceiling, and stays so while he has one") {
  BlockList list({});
  list.set_never_blocked(PrefixSet(std::vector{prefix("198.51.100.0/24")}));
  CHECK(list.convict(limited(offence(kOffice, 10s))).empty());
  list.set_ceilings(PrefixSet(std::vector{prefix("198.51.100.64/26")}));
  CHECK(list.convict(offence(kOffice, 10s, kProven)).empty());
  CHECK(list.convict(limited(offence("198.51.100.9", 10s))).empty());
  CHECK(told(list.convict(limited(offence(kOffice, 10s)))) == "+%198.51.100.66/32 scanner");
  CHECK(list.set_never_blocked(PrefixSet(std::vector{prefix("198.51.100.0/24")})).empty());
  list.set_ceilings({});
  CHECK(told(list.set_never_blocked(PrefixSet(std::vector{prefix("198.51.100.0/24")}))) ==
        "-%198.51.100.66/32 never_blocked");
}

TEST_CASE("a host's block takes the place of its endpoints' and its limit, and of no other's") {
  BlockList list({.offenders = 100});
  for (const auto* text : {"198.51.100.65", "198.51.100.66", "198.51.100.67"}) {
    list.convict(by_endpoint(offence(text, 10s), 5070));
    list.convict(by_endpoint(offence(text, 10s), 5071));
    list.convict(limited(offence(text, 10s)));
  }
  CHECK(told(list.convict(offence(kOffice, 11s))) ==
        "-198.51.100.66:5070 superseded, -198.51.100.66:5071 superseded, -%198.51.100.66/32 superseded, "
        "+198.51.100.66/32 scanner");
  CHECK(list.size() == 5);
  CHECK(list.limits().size() == 2);
  CHECK(list.convict(by_endpoint(offence(kOffice, 12s), 5072)).empty()); // it is blocked already
  CHECK(list.convict(limited(offence(kOffice, 12s))).empty());
}

TEST_CASE("an IPv6 host's block takes the place of every endpoint in its /64") {
  BlockList list({.offenders = 100});
  list.convict(by_endpoint(offence("2001:db8:1:2::9", 10s), 5070));
  list.convict(by_endpoint(offence("2001:db8:1:2:ffff::", 10s), 5070));
  list.convict(by_endpoint(offence("2001:db8:1:3::", 10s), 5070));
  CHECK(told(list.convict(offence("2001:db8:1:2::1", 11s))) ==
        "-[2001:db8:1:2::9]:5070 superseded, -[2001:db8:1:2:ffff::]:5070 superseded, +2001:db8:1:2::/64 scanner");
}

TEST_CASE("a block by hand supersedes as any other does; one that is only noted supersedes nothing") {
  BlockList list({});
  list.convict(by_endpoint(offence(kOffice, 10s), 5070));
  auto noted = offence(kOffice, 11s);
  noted.action = Action::Log;
  CHECK(told(list.convict(noted)) == "+198.51.100.66/32 scanner");
  CHECK(told(list.convict(by_endpoint(offence(kOffice, 12s), 5071))) == "+198.51.100.66:5071 scanner");
  const auto by_hand = list.block(kOfficeHost, 1h, "", at(13s));
  REQUIRE(by_hand);
  CHECK(told(*by_hand) == "-198.51.100.66:5070 superseded, -198.51.100.66:5071 superseded, +198.51.100.66/32 manual");
}

TEST_CASE("unblocking a host frees its ports and its rate with it") {
  BlockList list({});
  list.convict(by_endpoint(offence(kOffice, 10s), 5070));
  list.convict(limited(offence(kOffice, 10s)));
  const auto changes = list.unblock(kOfficeHost);
  REQUIRE(changes);
  CHECK(told(*changes) == "-198.51.100.66:5070 unblocked, -%198.51.100.66/32 unblocked");
  CHECK_FALSE(list.unblock(kOfficeHost));
}

TEST_CASE("endpoints are bounded as hosts are, and take no host's room") {
  BlockList list({.offenders = 100, .max_hosts = 2});
  list.convict(offence("203.0.113.1", 10s));
  list.convict(offence("203.0.113.2", 10s));
  list.convict(by_endpoint(offence(kOffice, 10s), 5070));
  list.convict(by_endpoint(offence(kOffice, 11s), 5071));
  CHECK(told(list.convict(by_endpoint(offence(kOffice, 12s), 5072))) ==
        "-198.51.100.66:5070 displaced, +198.51.100.66:5072 scanner");
  CHECK(list.displaced() == 1);
}

// --- limits

TEST_CASE("a limited host is listed apart, with the rate that it keeps") {
  BlockList list({.ladder = {5min, 30min}, .offenders = 1});
  const auto changes = list.convict(limited(for_reason(offence(kOffice, 10s, kProven), Reason::Malformed), {1, 20}));
  REQUIRE(told(changes) == "+%198.51.100.66/32 malformed"); // and nothing against its prefix
  CHECK(changes[0].block.limit == Rate{1, 20});
  CHECK(changes[0].block.until == at(10s + 5min));
  CHECK(list.size() == 0);
  CHECK(list.limits().size() == 1);
  CHECK(list.covering(address(kOffice)) == nullptr);
  CHECK(list.limit_of(address(kOffice))->reason == Reason::Malformed);
  CHECK(list.next_expiry() == at(10s + 5min));
  CHECK(told(list.expire(at(10s + 5min))) == "-%198.51.100.66/32 expired");
  CHECK_FALSE(list.next_expiry());
}

TEST_CASE("a limit goes on silently while its excess goes on, and never climbs") {
  BlockList list({.ladder = {5min, 30min}});
  list.convict(limited(offence(kOffice, 0s, kProven)));
  unsigned extended = 0;
  for (Duration now = 1s; now <= 1h; now += 1s) {
    for (const auto& change : list.expire(at(now))) FAIL(told({change}));
    for (const auto& change : list.convict(limited(offence(kOffice, now, kProven)))) {
      REQUIRE(change.kind == Kind::Extended);
      REQUIRE(change.block.until == at(now + 5min));
      CHECK(change.block.step == 1);
      ++extended;
    }
  }
  CHECK(extended == 24); // the kernel hears of it every two and a half minutes
  CHECK(list.limit_of(address(kOffice))->since == at(0s));
  CHECK(told(list.expire(at(1h + 5min))) == "-%198.51.100.66/32 expired");
}

TEST_CASE("what a limit dropped is told whole at its end, though its counter began anew each time") {
  BlockList list({.ladder = {5min}});
  list.convict(limited(offence(kOffice, 0s)));
  REQUIRE(told(list.convict(limited(offence(kOffice, 3min)))) == "~%198.51.100.66/32 extended");
  list.carry_over(list.host_subject(address(kOffice)), true, 1000);
  list.convict(limited(offence(kOffice, 6min)));
  list.carry_over(list.host_subject(address(kOffice)), true, 500);
  list.carry_over(list.host_subject(address("203.0.113.1")), true, 1); // nobody's
  CHECK(list.expire(at(11min))[0].block.packets_dropped == 1500);
}

TEST_CASE("limits are bounded as hosts are") {
  BlockList list({.max_hosts = 2});
  list.convict(limited(offence("203.0.113.1", 12s)));
  list.convict(limited(offence("203.0.113.2", 11s)));
  list.convict(limited(offence("203.0.113.2", 12s)));
  CHECK(told(list.convict(limited(offence("203.0.113.3", 13s)))) ==
        "-%203.0.113.2/32 displaced, +%203.0.113.3/32 scanner");
}

TEST_CASE("who is never blocked is neither limited nor loses a port") {
  BlockList list({});
  list.convict(by_endpoint(offence(kOffice, 10s), 5070));
  list.convict(limited(offence(kOffice, 10s)));
  CHECK(told(list.set_never_blocked(PrefixSet({&kOfficeHost, 1}))) ==
        "-198.51.100.66:5070 never_blocked, -%198.51.100.66/32 never_blocked");
  CHECK(list.convict(by_endpoint(offence(kOffice, 11s), 5070)).empty());
  CHECK(list.convict(limited(offence(kOffice, 11s))).empty());
}

TEST_CASE("a notice convicts nobody") {
  BlockList list({});
  auto notice = offence(kOffice, 10s, kProven);
  notice.notice = Notice::UserUnderAttack;
  CHECK(list.convict(notice).empty());
}

// --- trust

TEST_CASE("what an offence comes to depends on who did it") {
  struct Row {
    const char* who;
    bool trusted;
    std::uint32_t registered;
    bool proven;
    const char* outcome;
    Collateral behind{};
  };
  static constexpr Row kRows[] = {
      {"a stranger", false, 0, false, "+198.51.100.66/32 scanner"},
      {"a stranger, proven", false, 0, true, "+198.51.100.66/32 scanner"},
      {"a trusted customer's address, forged perhaps", true, 1, false, "+%198.51.100.66/32 scanner"},
      {"a trusted customer, proven", true, 1, true, "+198.51.100.66/32 scanner"},
      {"a trusted customer with two phones, proven", true, 2, true, "+198.51.100.66/32 scanner"},
      {"an office, forged perhaps", true, 3, false, "+%198.51.100.66/32 scanner"},
      {"an office, proven", true, 3, true, "+198.51.100.66:5062 scanner"},
      {"a carrier-grade NAT that is trusted no more", false, 500, false, "+%198.51.100.66/32 scanner"},
      {"the same, proven", false, 500, true, "+198.51.100.66:5062 scanner"},
      {"two phones over TLS, proven", false, 0, true, "+198.51.100.66/32 scanner", {.tcp_peers = 2}},
      {"two hundred phones over TLS, forged perhaps",
       false,
       0,
       false,
       "+%198.51.100.66/32 scanner",
       {.tcp_peers = 200}},
      {"two hundred phones over TLS, proven", false, 0, true, "+198.51.100.66:5062 scanner", {.tcp_peers = 200}},
      {"two users, and one over TLS, proven", true, 2, true, "+198.51.100.66:5062 scanner", {.tcp_peers = 1}},
      {"a small part of what we serve, proven", true, 1, true, "+198.51.100.66/32 scanner", {.share = 9}},
      {"a proxy: a tenth of what we serve, proven", true, 1, true, "+198.51.100.66:5062 scanner", {.share = 10}},
  };
  for (const auto& row : kRows) {
    INFO(row.who);
    BlockList list({.offenders = 100, .limit = {30, 300}});
    list.set_behind([&](const Address& asked) {
      CHECK(asked == address(kOffice));
      return row.behind;
    });
    auto made = offence(kOffice, 10s, row.proven);
    made.evidence.trusted = row.trusted;
    made.evidence.registered = row.registered;
    const auto changes = list.convict(made);
    REQUIRE(told(changes) == row.outcome);
    CHECK(changes[0].block.evidence.tcp_peers == row.behind.tcp_peers);
    CHECK(changes[0].block.evidence.share == row.behind.share);
    if (changes[0].block.limit) CHECK(changes[0].block.limit == Rate{30, 300});
  }
}

TEST_CASE("a forged packet from each of a carrier's addresses, every four minutes: nobody is blocked, nor the /24") {
  BlockList list({});
  for (Duration now = 0s; now < 24h; now += 4min) {
    list.expire(at(now));
    for (unsigned n = 1; n <= 4; ++n) list.convict(of_trusted(offence(host(7, n), now)));
    CHECK(list.size() == 0);
  }
  CHECK(list.prefixes().empty());
  CHECK(list.withheld() == 0);
}

// --- prefixes

TEST_CASE("hosts that failed as one user do not count against their prefix") {
  BlockList list({.offenders = 2});
  for (unsigned n = 1; n <= 40; ++n) CHECK(list.convict(of_one_user(offence(host(7, n), n * 1s, kProven))).size() == 1);
}

TEST_CASE("with proven_only, forged hosts do not count against their prefix") {
  BlockList list({.offenders = 2, .proven_only = true});
  for (unsigned n = 1; n <= 9; ++n) CHECK(list.convict(offence(host(7, n), n * 1s)).size() == 1);
  CHECK(list.convict(offence(host(7, 10), 10s, kProven)).size() == 1);
  CHECK(list.convict(offence(host(7, 11), 11s, kProven)).size() == 2);
}

TEST_CASE("one offender is enough, if so set, even unproven: while the fuse holds") {
  BlockList list({.offenders = 1, .fuse = 1});
  CHECK(told(list.convict(offence("198.51.100.1", 10s))) == "+198.51.100.1/32 scanner, +198.51.100.0/24 prefix");
  CHECK(told(list.convict(offence("203.0.113.1", 11s))) == "+203.0.113.1/32 scanner");
  CHECK(list.withheld() == 1);
}

TEST_CASE("a prefix that reaches into this host's own networks is not blocked for what its hosts did") {
  BlockList list({.offenders = 1});
  const auto own = prefix("203.0.113.64/29");
  list.set_local(PrefixSet({&own, 1}));
  CHECK(told(list.convict(offence("203.0.113.1", 10s, kProven))) == "+203.0.113.1/32 scanner");
  CHECK(told(list.convict(offence("203.0.114.1", 10s, kProven))) == "+203.0.114.1/32 scanner, +203.0.114.0/24 prefix");
}

struct Trusting : BlockList {
  std::vector<Prefix> trusted;
  explicit Trusting(BlockOptions options) : BlockList(std::move(options)) {
    set_trusted_within([this](const Prefix&) { return trusted; });
  }
};

TEST_CASE("the trusted in a blocked prefix are let through in the same batch, and no longer once it ends") {
  Trusting list({.ladder = {5min}, .offenders = 1});
  // A trust table may answer for more than it was asked.
  list.trusted = {prefix("203.0.113.9"), prefix("203.0.113.7"), prefix("203.0.114.1"), prefix("203.0.113.9")};
  const std::vector<Prefix> both = {prefix("203.0.113.7"), prefix("203.0.113.9")};
  const auto changes = list.convict(offence("203.0.113.66", 10s));
  REQUIRE(told(changes) == "+203.0.113.66/32 scanner, +203.0.113.0/24 prefix");
  CHECK(changes[0].let_through.empty());
  CHECK(changes[1].let_through == both);
  CHECK(list.let_through() == both);
  const auto over = list.expire(at(6min));
  REQUIRE(over.size() == 2);
  CHECK(over[1].taken_back == both);
  CHECK(list.let_through().empty());
}

TEST_CASE("a trusted host that is blocked by itself is not let through; it loses that with its block") {
  Trusting list({.ladder = {5min}, .offenders = 1});
  list.trusted = {prefix("203.0.113.7"), prefix("203.0.113.9")};
  const auto changes = list.convict(of_trusted(offence("203.0.113.7", 10s, kProven)));
  REQUIRE(told(changes) == "+203.0.113.7/32 scanner, +203.0.113.0/24 prefix");
  CHECK(changes[1].let_through == std::vector{prefix("203.0.113.9")});
  const auto second = list.convict(of_trusted(offence("203.0.113.9", 11s, kProven)));
  REQUIRE(told(second) == "+203.0.113.9/32 scanner");
  CHECK(second[0].taken_back == std::vector{prefix("203.0.113.9")});
  CHECK(list.let_through().empty());
}

TEST_CASE("a prefix blocked by hand lets the trusted through, and asks anew who they are") {
  Trusting list({});
  list.trusted = {prefix("203.0.113.7")};
  REQUIRE(list.block(prefix("203.0.113.0/24"), 1h, "", at(0s)));
  list.trusted = {prefix("203.0.113.9")};
  const auto again = list.block(prefix("203.0.113.0/24"), 2h, "", at(1s));
  REQUIRE(again);
  CHECK((*again)[0].taken_back == std::vector{prefix("203.0.113.7")});
  CHECK((*again)[0].let_through == std::vector{prefix("203.0.113.9")});
  CHECK(list.let_through() == std::vector{prefix("203.0.113.9")});
}

TEST_CASE("a trusted IPv6 /64 passes its blocked /48") {
  Trusting list({.offenders = 1});
  list.trusted = {prefix("2001:db8:1:7::/64")};
  CHECK(list.convict(offence("2001:db8:1:1::1", 10s))[1].let_through == list.trusted);
}

// --- pace

TEST_CASE("of a storm of offenders so many hosts are blocked in a second, the others are limited and counted") {
  BlockList list({.offenders = 1000, .new_hosts_per_s = 200, .limit = {20, 200}});
  unsigned blocked = 0, limits = 0;
  for (unsigned i = 0; i < 1000; ++i) {
    const auto changes = list.convict(offence(host(i / 250, i % 250), 10s + i * 900us));
    REQUIRE(changes.size() == 1);
    ++(changes[0].block.limit ? limits : blocked);
  }
  CHECK(blocked == 200);
  CHECK(limits == 800);
  CHECK(list.slowed() == 800);
  // Who goes on is blocked when there is time for him.
  CHECK(told(list.convict(offence(host(3, 249), 11s))) == "-%10.0.3.249/32 superseded, +10.0.3.249/32 scanner");
}

TEST_CASE("an offence that comes late counts with those of the latest second") {
  BlockList list({.offenders = 1000, .new_hosts_per_s = 2});
  list.convict(offence(host(0, 1), 10s));
  list.convict(offence(host(0, 2), 11s));
  list.convict(offence(host(0, 3), 10999ms));
  CHECK(list.convict(offence(host(0, 4), 11s))[0].block.limit);
}

TEST_CASE("neither ports, nor limits, nor notes, nor the operator's blocks count towards the pace") {
  BlockList list({.offenders = 1000, .new_hosts_per_s = 1});
  auto noted = offence(host(0, 1), 10s);
  noted.action = Action::Log;
  list.convict(noted);
  list.convict(limited(offence(host(0, 2), 10s)));
  list.convict(by_endpoint(offence(host(0, 3), 10s), 5070));
  list.convict(by_endpoint(offence(host(0, 3), 10s), 5071));
  REQUIRE(list.block(prefix(host(0, 4)), 1h, "", at(10s)));
  CHECK_FALSE(list.convict(offence(host(0, 5), 10s))[0].block.limit);
  CHECK(list.slowed() == 0);
}

} // namespace
} // namespace sipward::policy
