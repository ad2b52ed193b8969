// SPDX-License-Identifier: GPL-2.0-or-later
#include "block_list_lab.h"

// Who comes back, and who does not stop: how long blocks last.
namespace sipward::policy {
namespace {

const std::vector<Duration> kLadder = {5min, 30min, 2h, 24h};
constexpr auto* kScanner = "198.51.100.66";
const Subject kHost{SubjectKind::Host, Prefix{Address::v4(198, 51, 100, 66), 32}, 0};

// A kernel that counts; the control thread's round, once a second.
struct Kernel {
  BlockList& list;
  std::map<Subject, std::uint64_t> counters = {};

  BlockList::Changes round(Time now) {
    for (const auto& subject : list.count_due(now)) list.note_dropped(subject, counters[subject], now);
    auto changes = list.expire(now);
    for (const auto& change : changes) counters[change.block.subject] = 0; // its element was made anew, or is gone
    return changes;
  }
  // Goes on to `until`; `sends` says for each second whether the subject's packets arrive in it.
  template<typename Sends>
  std::string run(const Subject& subject, Duration from, Duration until, Sends sends) {
    BlockList::Changes all;
    for (Duration now = from; now <= until; now += 1s) {
      if (list.find(subject) != nullptr && sends(now)) counters[subject] += 7;
      for (auto& change : round(at(now))) all.push_back(std::move(change));
    }
    return told(all);
  }
};
constexpr auto kAlways = [](Duration) { return true; };

// Lets a block run out, unnoticed, and says when.
Duration run_out(BlockList& list) {
  const Time end = list.next_expiry().value();
  list.expire(end);
  return end.time_since_epoch();
}

// --- coming back

TEST_CASE("a proven offender who comes back climbs one step each time, up to the top") {
  BlockList list({.ladder = kLadder});
  Duration now = 10s;
  static constexpr std::uint32_t kSteps[] = {1, 2, 3, 4, 4, 4};
  for (const auto step : kSteps) {
    const auto changes = list.convict(offence(kScanner, now, kProven));
    REQUIRE(told(changes) == "+198.51.100.66/32 scanner");
    CHECK(changes[0].block.step == step);
    CHECK(changes[0].block.until == at(now + kLadder[step - 1]));
    now = run_out(list) + 1min;
  }
}

TEST_CASE("an unproven offender stays on the first step however often he comes: he may be forged") {
  BlockList list({.ladder = kLadder});
  Duration now = 10s;
  for (int i = 0; i < 5; ++i) {
    CHECK(list.convict(offence(kScanner, now))[0].block.step == 1);
    now = run_out(list) + 1s;
  }
  CHECK(list.convict(offence(kScanner, now, kProven))[0].block.step == 1); // what was not sure does not count
}

TEST_CASE("forged packets in a climber's name neither raise nor refresh what is remembered of him") {
  BlockList list({.ladder = kLadder});
  list.convict(offence(kScanner, 0s, kProven));
  const Duration ended = run_out(list);
  for (Duration now = ended + 1h; now < ended + 24h; now += 1h) {
    CHECK(list.convict(offence(kScanner, now))[0].block.step == 1);
    run_out(list);
  }
  SECTION("he is known a day after his own block") {
    CHECK(list.convict(offence(kScanner, ended + 24h, kProven))[0].block.step == 2);
  }
  SECTION("and no longer") { CHECK(list.convict(offence(kScanner, ended + 24h + 1s, kProven))[0].block.step == 1); }
}

TEST_CASE("a long step is remembered four times as long") {
  BlockList two({.ladder = {5min, 10h}});
  two.convict(offence(kScanner, 0s, kProven));
  two.convict(offence(kScanner, run_out(two) + 1min, kProven));
  const Duration ended = run_out(two);
  SECTION("within 40 hours of ten") { CHECK(two.convict(offence(kScanner, ended + 40h, kProven))[0].block.step == 2); }
  SECTION("after them he begins anew") {
    CHECK(two.convict(offence(kScanner, ended + 40h + 1s, kProven))[0].block.step == 1);
  }
}

TEST_CASE("one user's failures climb no higher than the second step: perhaps it is a phone with an old password") {
  BlockList list({.ladder = kLadder});
  Duration now = 0s;
  for (const std::uint32_t step : {1u, 2u, 2u, 2u}) {
    CHECK(list.convict(of_one_user(offence(kScanner, now, kProven)))[0].block.step == step);
    now = run_out(list) + 1min;
  }
  // Then he tries other users, too.
  CHECK(list.convict(offence(kScanner, now, kProven))[0].block.step == 3);
}

TEST_CASE("an endpoint at a crowd's address stays on the first step: the port will be another subscriber's") {
  BlockList list({.ladder = kLadder});
  Duration now = 0s;
  for (int i = 0; i < 4; ++i) {
    const auto changes = list.convict(by_endpoint(of_trusted(offence(kScanner, now, kProven), 3), 5070));
    REQUIRE(told(changes) == "+198.51.100.66:5070 scanner");
    CHECK(changes[0].block.step == 1);
    now = run_out(list) + 1min;
  }
}

TEST_CASE("an endpoint of a small office climbs by itself") {
  BlockList list({.ladder = kLadder});
  Duration now = 0s;
  for (const std::uint32_t step : {1u, 2u, 3u}) {
    CHECK(list.convict(by_endpoint(of_trusted(offence(kScanner, now, kProven), 2), 5070))[0].block.step == step);
    now = run_out(list) + 1min;
  }
  CHECK(list.convict(by_endpoint(offence(kScanner, now, kProven), 5071))[0].block.step == 1);
}

TEST_CASE("whom the operator unblocks, or a flush, is forgiven") {
  BlockList list({.ladder = kLadder});
  list.convict(offence(kScanner, 0s, kProven));
  run_out(list);
  list.convict(offence(kScanner, 10min, kProven));
  SECTION("unblock") { REQUIRE(list.unblock(prefix(kScanner))); }
  SECTION("flush") { list.flush(); }
  CHECK(list.convict(offence(kScanner, 20min, kProven))[0].block.step == 1);
}

TEST_CASE("a flush forgets the climbers who are not blocked at the moment, too") {
  BlockList list({.ladder = kLadder});
  list.convict(offence(kScanner, 0s, kProven));
  run_out(list);
  list.flush();
  CHECK(list.convict(offence(kScanner, 10min, kProven))[0].block.step == 1);
}

TEST_CASE("as many climbers are remembered as hosts can be blocked; whose block ended longest ago is forgotten") {
  BlockList list({.ladder = {1s, 30min}, .offenders = 100, .max_hosts = 3});
  for (unsigned n = 1; n <= 4; ++n) {
    list.convict(offence(host(0, n), n * 10s, kProven));
    run_out(list);
  }
  CHECK(list.snapshot().climbs.size() == 3);
  CHECK(list.convict(offence(host(0, 2), 60s, kProven))[0].block.step == 2);
  CHECK(list.convict(offence(host(0, 1), 60s, kProven))[0].block.step == 1);
}

TEST_CASE("a proven prefix that comes back climbs, an unproven one does not") {
  BlockList list({.ladder = kLadder, .offenders = 2});
  const bool proven = GENERATE(true, false);
  Duration now = 0s;
  for (const std::uint32_t step : {1u, 2u, 3u}) {
    list.convict(offence("203.0.113.1", now, proven));
    const auto changes = list.convict(offence("203.0.113.2", now, proven));
    REQUIRE(told(changes) ==
            (step == 1 ? "+203.0.113.2/32 scanner, +203.0.113.0/24 prefix" : "+203.0.113.2/32 scanner"));
    CHECK(list.covering(address("203.0.113.77"))->step == (proven ? step : 1));
    CHECK(list.covering(address("203.0.113.77"))->proven == proven);
    while (list.next_expiry()) now = run_out(list);
    now += 1min;
  }
}

TEST_CASE("a single forged neighbour makes a prefix unproven") {
  BlockList list({.ladder = kLadder, .offenders = 3});
  list.convict(offence("203.0.113.1", 0s, kProven));
  list.convict(offence("203.0.113.2", 0s, kProven));
  const auto forged = list.convict(offence("203.0.113.3", 1s));
  REQUIRE(forged.size() == 2);
  CHECK_FALSE(forged[1].block.proven);
  while (list.next_expiry()) run_out(list);
  // The forged one is the first to give up his place: three proven ones are proof.
  const auto sure = list.convict(offence("203.0.113.4", 20min, kProven));
  REQUIRE(sure.size() == 2);
  CHECK(sure[1].block.proven);
  while (list.next_expiry()) run_out(list);
  const auto again = list.convict(offence("203.0.113.5", 3h));
  REQUIRE(again.size() == 2); // one packet is enough to bring it back, but a forged one lets nothing climb
  CHECK_FALSE(again[1].block.proven);
  CHECK(again[1].block.step == 1);
}

// --- not stopping

TEST_CASE("a proven offender who still sends as his block ends goes on to the next step") {
  BlockList list({.ladder = kLadder});
  Kernel kernel{list};
  list.convict(offence(kScanner, 0s, kProven));
  CHECK(kernel.run(kHost, 1s, 5min, kAlways) == "^198.51.100.66/32 step 2");
  const Block& renewed = *list.find(kHost);
  CHECK(renewed.since == at(0s)); // it is the same block
  CHECK(renewed.until == at(5min + 30min));
  CHECK(renewed.packets_dropped == 7 * 300); // what the kernel counted before its element was made anew
  CHECK(kernel.run(kHost, 5min + 1s, 35min, kAlways) == "^198.51.100.66/32 step 3");
  CHECK(list.find(kHost)->packets_dropped == 7 * 2100);
  CHECK(kernel.run(kHost, 35min + 1s, 51h, kAlways) == "^198.51.100.66/32 step 4, ^198.51.100.66/32 step 4, "
                                                       "^198.51.100.66/32 step 4");
}

TEST_CASE("whoever falls silent a minute before his block ends is free, and known when he comes back") {
  BlockList list({.ladder = kLadder});
  Kernel kernel{list};
  list.convict(offence(kScanner, 0s, kProven));
  CHECK(kernel.run(kHost, 1s, 5min, [](Duration now) { return now < 4min; }) == "-198.51.100.66/32 expired");
  CHECK(list.convict(offence(kScanner, 10min, kProven))[0].block.step == 2);
}

TEST_CASE("one packet in the last minute is enough") {
  BlockList list({.ladder = kLadder});
  Kernel kernel{list};
  list.convict(offence(kScanner, 0s, kProven));
  CHECK(kernel.run(kHost, 1s, 5min, [](Duration now) { return now == 4min + 30s; }) == "^198.51.100.66/32 step 2");
}

TEST_CASE("an unproven block ends although its subject still sends: anybody could keep it alive") {
  BlockList list({.ladder = kLadder});
  Kernel kernel{list};
  list.convict(offence(kScanner, 0s));
  CHECK(kernel.run(kHost, 1s, 6min, kAlways) == "-198.51.100.66/32 expired");
}

TEST_CASE("a block by hand lasts as long as the operator said") {
  BlockList list({.ladder = kLadder});
  Kernel kernel{list};
  REQUIRE(list.block(prefix(kScanner), 10min, "", at(0s)));
  CHECK(kernel.run(kHost, 1s, 20min, kAlways) == "-198.51.100.66/32 expired");
  CHECK(list.convict(offence(kScanner, 21min, kProven))[0].block.step == 1); // nor does it count as a step
}

TEST_CASE("a phone with an old password is let try again after the second step, though it never stopped") {
  BlockList list({.ladder = kLadder});
  Kernel kernel{list};
  list.convict(of_one_user(offence(kScanner, 0s, kProven)));
  CHECK(kernel.run(kHost, 1s, 1h, kAlways) == "^198.51.100.66/32 step 2, -198.51.100.66/32 expired");
}

TEST_CASE("an endpoint at a crowd's address is not renewed: others send from that port now") {
  BlockList list({.ladder = kLadder});
  Kernel kernel{list};
  list.convict(by_endpoint(of_trusted(offence(kScanner, 0s, kProven), 40), 5070));
  const Subject endpoint{SubjectKind::Endpoint, kHost.prefix, 5070};
  CHECK(kernel.run(endpoint, 1s, 6min, kAlways) == "-198.51.100.66:5070 expired");
}

TEST_CASE(
    "a proven prefix ends although somebody in it still sends, and the next proven offender brings it back higher") {
  BlockList list({.ladder = kLadder, .offenders = 1});
  Kernel kernel{list};
  list.convict(offence(kScanner, 0s, kProven));
  const Subject net{SubjectKind::Prefix, prefix("198.51.100.0/24"), 0};
  CHECK(kernel.run(net, 1s, 5min, kAlways) == "-198.51.100.66/32 expired, -198.51.100.0/24 expired");
  CHECK(list.prefixes().empty());
  list.convict(offence(kScanner, 10min, kProven));
  REQUIRE(list.find(net) != nullptr);
  CHECK(list.find(net)->step == 2);
}

TEST_CASE("steps shorter than a minute are renewed as well") {
  BlockList list({.ladder = {10s, 20s}});
  Kernel kernel{list};
  list.convict(offence(kScanner, 0s, kProven));
  CHECK(kernel.run(kHost, 1s, 50s, [](Duration now) { return now < 25s; }) ==
        "^198.51.100.66/32 step 2, ^198.51.100.66/32 step 2, -198.51.100.66/32 expired");
}

TEST_CASE("a subject whose counter nobody could read is not renewed") {
  BlockList list({.ladder = kLadder});
  list.convict(offence(kScanner, 0s, kProven));
  CHECK(list.count_due(at(4min)) == std::vector{kHost});
  CHECK(told(list.expire(at(5min))) == "-198.51.100.66/32 expired");
}

TEST_CASE("the list asks for a counter twice, and only for one that matters") {
  BlockList list({.ladder = {5min}, .offenders = 100});
  list.convict(offence(kScanner, 0s, kProven));
  list.convict(offence("198.51.100.67", 0s));
  CHECK(list.count_due(at(239s)).empty());
  CHECK(list.count_due(at(4min)) == std::vector{kHost});
  list.note_dropped(kHost, 1000, at(4min));
  CHECK(list.count_due(at(4min)).empty());
  CHECK(list.count_due(at(299s)).empty());
  CHECK(list.count_due(at(5min)) == std::vector{kHost});
}

TEST_CASE("what was sent before the last minute began is not taken for what was sent in it") {
  BlockList list({.ladder = kLadder});
  list.convict(offence(kScanner, 0s, kProven));
  list.note_dropped(kHost, 10, at(1min)); // an operator looks
  list.note_dropped(kHost, 20, at(2min));
  list.note_dropped(kHost, 30, at(4min)); // grew some time between these two
  list.note_dropped(kHost, 30, at(5min));
  CHECK(told(list.expire(at(5min))) == "-198.51.100.66/32 expired");
}

TEST_CASE("in a dry run whoever goes on offending is renewed: nothing keeps his packets from the judge") {
  BlockList list({.ladder = kLadder, .dry_run = true});
  list.convict(offence(kScanner, 0s, kProven));
  for (Duration now = 1s; now < 5min; now += 1s) CHECK(list.convict(offence(kScanner, now, kProven)).empty());
  CHECK(told(list.expire(at(5min))) == "^198.51.100.66/32 step 2");
  CHECK(list.find(kHost)->dry_run);
  CHECK(told(list.expire(at(35min))) == "-198.51.100.66/32 expired");
}

TEST_CASE("in a dry run, too, only what is proven renews") {
  BlockList list({.ladder = kLadder, .dry_run = true});
  list.convict(offence(kScanner, 0s, kProven));
  for (Duration now = 1s; now < 5min; now += 1s) CHECK(list.convict(offence(kScanner, now)).empty());
  CHECK(told(list.expire(at(5min))) == "-198.51.100.66/32 expired");
}

} // namespace
} // namespace sipward::policy
