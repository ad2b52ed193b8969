// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state.h"

#include <sys/stat.h>

#include <algorithm>

#include "tests/state_lab.h"

using namespace sipward;
using namespace sipward::state_lab;

namespace {

// Every member of a block, each with a value of its own.
policy::Block full_block() {
  policy::Block block;
  block.subject = {policy::SubjectKind::Endpoint, prefix("2001:db8::7"), 5062};
  block.reason = policy::Reason::Enumeration;
  block.since = policy::Time(100s);
  block.until = policy::Time(400s);
  block.step = 3;
  block.proven = true;
  block.dry_run = true;
  block.one_user = true;
  block.limit = policy::Rate{2.5, 7};
  block.packets_before = 17;
  block.packets_dropped = std::uint64_t{1} << 40;
  block.evidence.user_agent = policy::Excerpt(std::string("odd\0\xff\"\n", 7));
  block.evidence.mark = policy::Excerpt("mark");
  block.evidence.method = policy::Excerpt("REGISTER");
  block.evidence.rate_per_s = 104.25;
  block.evidence.limit_per_s = 5;
  block.evidence.users = 37;
  block.evidence.failures = 36;
  block.evidence.successes = 4'000'000'000;
  block.evidence.offenders = 9;
  block.evidence.registered = 11;
  block.evidence.tcp_peers = 12;
  block.evidence.share = 13;
  block.evidence.soft_marks = 2;
  block.evidence.trusted = true;
  block.note = "the night's one; \"quoted\" 'so'";
  return block;
}

void check_same(const policy::Block& a, const policy::Block& b) {
  CHECK(a.subject == b.subject);
  CHECK(a.reason == b.reason);
  CHECK(a.since == b.since);
  CHECK(a.until == b.until);
  CHECK(a.step == b.step);
  CHECK(a.proven == b.proven);
  CHECK(a.dry_run == b.dry_run);
  CHECK(a.one_user == b.one_user);
  CHECK(a.limit == b.limit);
  CHECK(a.packets_before == b.packets_before);
  CHECK(a.packets_dropped == b.packets_dropped);
  CHECK(a.evidence.user_agent.view() == b.evidence.user_agent.view());
  CHECK(a.evidence.mark.view() == b.evidence.mark.view());
  CHECK(a.evidence.method.view() == b.evidence.method.view());
  CHECK(a.evidence.rate_per_s == b.evidence.rate_per_s);
  CHECK(a.evidence.limit_per_s == b.evidence.limit_per_s);
  CHECK(a.evidence.users == b.evidence.users);
  CHECK(a.evidence.failures == b.evidence.failures);
  CHECK(a.evidence.successes == b.evidence.successes);
  CHECK(a.evidence.offenders == b.evidence.offenders);
  CHECK(a.evidence.registered == b.evidence.registered);
  CHECK(a.evidence.tcp_peers == b.evidence.tcp_peers);
  CHECK(a.evidence.share == b.evidence.share);
  CHECK(a.evidence.soft_marks == b.evidence.soft_marks);
  CHECK(a.evidence.trusted == b.evidence.trusted);
  CHECK(a.note == b.note);
}

} // namespace

TEST_CASE("a new file is made with its folder, for its owner only, and holds nothing but a secret") {
  const Folder folder;
  const auto state = must_open(folder.file());
  CHECK(state->trouble().empty());
  CHECK(state->take_news().empty());
  const auto contents = state->load();
  CHECK(contents.blocks.empty());
  CHECK_FALSE(contents.off.off);
  CHECK_FALSE(contents.learning.started);
  CHECK_FALSE(contents.saved_at);
  CHECK(std::ranges::any_of(contents.secret, [](auto octet) { return octet != 0; }));
  for (const char* suffix : {"", "-wal", "-shm"}) {
    struct stat there {};
    INFO(suffix);
    REQUIRE(stat((folder.file().string() + suffix).c_str(), &there) == 0);
    CHECK((there.st_mode & 0777) == 0600);
  }
}

TEST_CASE("a file that others could read is closed to them") {
  const Folder folder;
  put(folder.file(), {});
  std::filesystem::permissions(folder.file(), std::filesystem::perms(0644));
  must_open(folder.file());
  CHECK(std::filesystem::status(folder.file()).permissions() == std::filesystem::perms(0600));
}

TEST_CASE("a block comes back whole after a boot, with the time that is left") {
  const Folder folder;
  const WallClock before{kNow.time_since_epoch() - 120s}; // the monotonic clock stood at two minutes
  put(folder.file(), {to_record(full_block(), before)});
  const auto read = contents(folder.file());
  REQUIRE(read.blocks.size() == 1);
  check_same(from_record(read.blocks[0], before), full_block());
  // Booted a minute later: the clock begins anew.
  const WallClock after{kNow.time_since_epoch() + 60s};
  const auto restored = from_record(read.blocks[0], after);
  CHECK(restored.until - policy::Time() == 400s - 120s - 60s);
  CHECK(restored.until - restored.since == 300s);
}

TEST_CASE("every reason of a block is remembered") {
  const Folder folder;
  StateChanges changes;
  for (auto reason = policy::Reason::Scanner; reason <= policy::Reason::Manual;
       reason = static_cast<policy::Reason>(static_cast<int>(reason) + 1)) {
    auto record = blocked(numbered(static_cast<unsigned>(reason)));
    record.block.reason = reason;
    changes.emplace_back(record);
  }
  const auto count = changes.size();
  put(folder.file(), std::move(changes));
  const auto read = contents(folder.file());
  CHECK(read.blocks.size() == count);
  for (const auto& record : read.blocks)
    CHECK(record.block.subject == numbered(static_cast<unsigned>(record.block.reason)));
}

TEST_CASE("ladder, trust, users, exemptions, the off switch and learning come back as they were") {
  const Folder folder;
  auto trust = trusted("198.51.100.7/32", kNow - 1h, 4'000'000'000);
  trust.answered_per_s = 12.5;
  const std::uint8_t sketch[] = {1, 0, 255};
  trust.sketch = Sketch(sketch);
  put(folder.file(), {LadderRecord{host("203.0.113.9"), 4, kNow - 2h}, trust, UserRecord{~std::uint64_t{5}, kNow - 3h},
                      Exemption{ExemptionKind::Allowed, prefix("203.0.113.0/24"), kNow + 168h},
                      Exemption{ExemptionKind::Immune, prefix("203.0.113.0/24"), std::nullopt},
                      OffSwitch{true, kNow, kNow + 1h, "3 a.m."}, Learning{kNow - 24h, true}});
  const auto read = contents(folder.file());
  REQUIRE(read.ladder.size() == 1);
  CHECK(read.ladder[0].subject == host("203.0.113.9"));
  CHECK(read.ladder[0].step == 4);
  CHECK(read.ladder[0].last == kNow - 2h);
  REQUIRE(read.trust.size() == 1);
  CHECK(read.trust[0].source == prefix("198.51.100.7"));
  CHECK(read.trust[0].last_success == kNow - 1h);
  CHECK(read.trust[0].users == 4'000'000'000);
  CHECK(read.trust[0].answered_per_s == 12.5);
  CHECK(std::ranges::equal(read.trust[0].sketch.view(), sketch));
  REQUIRE(read.users.size() == 1);
  CHECK(read.users[0].hash == ~std::uint64_t{5});
  CHECK(read.users[0].last_success == kNow - 3h);
  REQUIRE(read.exemptions.size() == 2);
  CHECK(read.exemptions[0].kind == ExemptionKind::Allowed);
  CHECK(read.exemptions[0].until == kNow + 168h);
  CHECK(read.exemptions[1].kind == ExemptionKind::Immune);
  CHECK_FALSE(read.exemptions[1].until);
  CHECK(read.off.off);
  CHECK(read.off.since == kNow);
  CHECK(read.off.until == kNow + 1h);
  CHECK(read.off.reason == "3 a.m.");
  CHECK(read.learning.started == kNow - 24h);
  CHECK(read.learning.armed);
  CHECK(read.saved_at == kNow);
  CHECK(read.unreadable == 0);
}

TEST_CASE("what ended is gone, and the secret stays") {
  const Folder folder;
  const auto secret = must_open(folder.file())->load().secret;
  put(folder.file(),
      {blocked(host("198.51.100.1")), blocked(host("198.51.100.2")), LadderRecord{host("198.51.100.1"), 2, kNow},
       trusted("198.51.100.3/32"), UserRecord{7, kNow}, Exemption{ExemptionKind::Allowed, prefix("203.0.113.9"), kNow},
       OffSwitch{true, kNow, kNow, "x"}});
  put(folder.file(),
      {Gone<BlockRecord>{{host("198.51.100.1")}}, Gone<LadderRecord>{host("198.51.100.1")},
       Gone<TrustRecord>{prefix("198.51.100.3")}, Gone<UserRecord>{7},
       Gone<Exemption>{{ExemptionKind::Allowed, prefix("203.0.113.9")}}, OffSwitch{}, Gone<UserRecord>{8}});
  const auto read = contents(folder.file());
  REQUIRE(read.blocks.size() == 1);
  CHECK(read.blocks[0].block.subject == host("198.51.100.2"));
  CHECK(read.ladder.empty());
  CHECK(read.trust.empty());
  CHECK(read.users.empty());
  CHECK(read.exemptions.empty());
  CHECK_FALSE(read.off.off);
  CHECK_FALSE(read.off.until);
  CHECK(read.secret == secret);
}

TEST_CASE("of one key the latest word counts, within a batch and over batches") {
  const Folder folder;
  const auto subject = host("198.51.100.1");
  const auto state = must_open(folder.file());
  state->write({blocked(subject), Gone<BlockRecord>{{subject}}, blocked(subject, kNow + 1h)}, kNow);
  state->write({blocked(host("198.51.100.2")), AllGone<BlockRecord>{}, blocked(subject, kNow + 2h)}, kNow);
  REQUIRE(state->flush(10s));
  const auto read = contents(folder.file());
  REQUIRE(read.blocks.size() == 1);
  CHECK(read.blocks[0].until == kNow + 2h);
}

TEST_CASE("a host, a prefix and an endpoint of one address are three subjects") {
  const Folder folder;
  const auto address = prefix("198.51.100.1");
  put(folder.file(),
      {blocked({policy::SubjectKind::Host, address, 0}), blocked({policy::SubjectKind::Prefix, address, 0}),
       blocked({policy::SubjectKind::Endpoint, address, 5060}),
       blocked({policy::SubjectKind::Endpoint, address, 5061})});
  CHECK(contents(folder.file()).blocks.size() == 4);
}

TEST_CASE("a change of the block list becomes a record and, if there is something to tell, a line of history") {
  using Kind = policy::BlockChange::Kind;
  const Folder folder;
  const WallClock clock{kNow.time_since_epoch() - 120s};
  const auto state = must_open(folder.file());
  const auto change = [&](Kind kind, policy::Time at, policy::Ending ending = {}) {
    StateChanges changes;
    append(changes, {.kind = kind, .block = full_block(), .ending = ending}, at, clock);
    state->write(std::move(changes), kNow);
    REQUIRE(state->flush(10s));
    return contents(folder.file()).blocks.size();
  };
  CHECK(change(Kind::Added, policy::Time(100s)) == 1);
  CHECK(change(Kind::Renewed, policy::Time(200s)) == 1);
  CHECK(change(Kind::Extended, policy::Time(250s)) == 1);
  CHECK(change(Kind::Removed, policy::Time(300s), policy::Ending::Unblocked) == 0);
  const auto lines = history(folder.file());
  REQUIRE(lines.size() == 3);
  CHECK(lines[0].event == "would_limit"); // the words of the block log
  CHECK(lines[0].at == clock.at(policy::Time(100s)));
  REQUIRE(lines[0].block);
  check_same(from_record(*lines[0].block, clock), full_block());
  CHECK(lines[1].event == "would_renew");
  CHECK(lines[1].at == clock.at(policy::Time(200s)));
  CHECK(lines[2].event == "unlimit");
  CHECK(lines[2].ending == policy::Ending::Unblocked);
  check_same(from_record(*lines[2].block, clock), full_block());
}

TEST_CASE("a host that is blocked and limited at once is remembered as both") {
  const Folder folder;
  auto limited = blocked(host("198.51.100.1"));
  limited.block.limit = policy::Rate{5, 10};
  put(folder.file(), {blocked(host("198.51.100.1")), limited});
  CHECK(contents(folder.file()).blocks.size() == 2);
  put(folder.file(), {Gone<BlockRecord>{{host("198.51.100.1"), false}}});
  const auto read = contents(folder.file());
  REQUIRE(read.blocks.size() == 1);
  CHECK(read.blocks[0].block.limit == policy::Rate{5, 10});
}

TEST_CASE("rows that make no sense are left out and told") {
  const Folder folder;
  put(folder.file(), {blocked(host("198.51.100.1")), blocked(host("198.51.100.2")), trusted("198.51.100.3/32")});
  Outsider outsider(folder.file());
  outsider.run("UPDATE block SET reason = 'astrology' WHERE address = x'c6336401'");
  outsider.run("UPDATE trust SET length = 33");
  const auto state = must_open(folder.file());
  const auto read = state->load();
  CHECK(read.blocks.size() == 1);
  CHECK(read.trust.empty());
  CHECK(read.unreadable == 2);
  const auto news = state->take_news();
  REQUIRE(news.size() == 1);
  CHECK(news[0] == "state.path: " + folder.file().string() + " has 2 rows that make no sense; they are left out");
}
