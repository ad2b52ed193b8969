// SPDX-License-Identifier: GPL-2.0-or-later
#include <random>
#include <set>

#include "block_list_lab.h"

// Whoever follows the changes, as the kernel's sets, the log and the workers do, holds what the list says.
namespace sipward::policy {
namespace {

struct Follower {
  std::map<Subject, Time> blocked, limited; // and until when
  std::set<Prefix> let_through;

  void follow(const BlockList::Changes& changes) {
    for (const auto& change : changes) {
      const auto& block = change.block;
      INFO(told({change}));
      auto& held = block.limit ? limited : blocked;
      const auto at = held.find(block.subject);
      if (change.kind != Kind::Added) REQUIRE(at != held.end());
      if (change.kind == Kind::Removed || at != held.end()) held.erase(at);
      if (change.kind != Kind::Removed) held[block.subject] = block.until;
      for (const auto& prefix : change.taken_back) REQUIRE(let_through.erase(prefix) == 1);
      for (const auto& prefix : change.let_through) REQUIRE(let_through.insert(prefix).second);
    }
  }
  void compare(const BlockList& list) const {
    std::map<Subject, Time> blocks, limits;
    for (const auto& [subject, block] : list) blocks[subject] = block.until;
    for (const auto& [subject, block] : list.limits()) limits[subject] = block.until;
    REQUIRE(blocked == blocks);
    REQUIRE(limited == limits);
    const auto passing = list.let_through();
    REQUIRE(let_through == std::set(passing.begin(), passing.end()));
    for (const auto& host : passing) { // a trusted host passes only while nothing was proven against it
      const Block* block = list.find({SubjectKind::Host, host, 0});
      REQUIRE((block == nullptr || block->dry_run));
    }
    std::optional<Time> first;
    for (const auto& [subject, until] : blocks) first = std::min(first.value_or(until), until);
    for (const auto& [subject, until] : limits) first = std::min(first.value_or(until), until);
    REQUIRE(list.next_expiry() == first);
  }
};

// Few addresses and many events, so that everything meets everything.
class Life {
public:
  Life(unsigned seed, BlockOptions options) : random_(seed), list_(options), options_(std::move(options)) {
    trust(list_);
  }

  void live(int events) {
    for (int i = 0; i < events; ++i) {
      now_ += 1ms * below(4000);
      follower_.follow(event());
      follower_.compare(list_);
      bound();
    }
  }

private:
  void trust(BlockList& list) {
    list.set_trusted_within([this](const Prefix& prefix) {
      std::vector<Prefix> all;
      for (unsigned n = 0; n < 8; n += 2) all.push_back(Prefix::host(member(prefix, n)));
      return all;
    });
  }
  BlockList::Changes event() {
    switch (below(40)) {
    case 0: return list_.flush();
    case 1: return list_.lift_since(now_ - 1s * below(120));
    case 2: return list_.unblock(below(2) == 0 ? Prefix::host(someone()) : Prefix::of(someone(), 24)).value_or(none_);
    case 3: return list_.block(Prefix::host(someone()), 1s * (1 + below(300)), "", now_).value_or(none_);
    case 4: return list_.block(Prefix::of(someone(), 24), 1s * (1 + below(300)), "", now_).value_or(none_);
    case 5: {
      const auto never = Prefix::host(someone());
      return list_.set_never_blocked(below(4) == 0 ? PrefixSet() : PrefixSet({&never, 1}));
    }
    case 6: return restarted();
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
      for (const auto& subject : list_.count_due(now_)) list_.note_dropped(subject, below(3), now_);
      return list_.expire(now_);
    default: return list_.convict(some_offence());
    }
  }
  // The process ends, and another one makes the kernel's table anew.
  BlockList::Changes restarted() {
    const auto snapshot = list_.snapshot();
    list_ = BlockList(options_);
    trust(list_);
    follower_ = {};
    return list_.restore(snapshot, now_);
  }
  Offence some_offence() {
    Offence made;
    made.source = someone();
    made.source_port = static_cast<std::uint16_t>(5060 + below(3));
    made.at = now_;
    made.kind = below(3) == 0 ? SubjectKind::Endpoint : SubjectKind::Host;
    made.action = std::array{Action::Block, Action::Block, Action::Block, Action::Limit, Action::Log}[below(5)];
    made.limit = {10, 10};
    made.proven = below(2) == 0;
    made.one_user = below(8) == 0;
    made.reason = below(2) == 0 ? Reason::Scanner : Reason::AuthFailure;
    made.evidence.trusted = below(4) == 0;
    made.evidence.registered = below(6);
    return made;
  }
  void bound() const {
    std::map<SubjectKind, std::size_t> held;
    for (const auto& [subject, block] : list_) ++held[subject.kind];
    CHECK(held[SubjectKind::Host] <= options_.max_hosts);
    CHECK(held[SubjectKind::Endpoint] <= options_.max_hosts);
    CHECK(list_.limits().size() <= options_.max_hosts);
    CHECK(list_.snapshot().climbs.size() <= options_.max_hosts);
  }
  Address someone() {
    return member(Prefix::of(Address::v4(10, 0, static_cast<std::uint8_t>(below(3)), 0), 24), below(8));
  }
  static Address member(const Prefix& prefix, unsigned n) {
    Address address = prefix.base;
    address.octets[3] = static_cast<std::uint8_t>(n);
    return address;
  }
  unsigned below(unsigned bound) { return static_cast<unsigned>(random_() % bound); }

  std::mt19937 random_;
  BlockList list_;
  BlockOptions options_;
  Follower follower_;
  Time now_ = at(1000s);
  const BlockList::Changes none_;
};

TEST_CASE("a follower of the changes holds what the list says, whatever happens") {
  const bool dry_run = GENERATE(false, true);
  const std::uint32_t max_hosts = GENERATE(5u, 1000u);
  for (unsigned seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed << ", room for " << max_hosts << (dry_run ? ", dry run" : ""));
    Life life(seed, {.ladder = {10s, 30s, 90s, 270s},
                     .offenders = 3,
                     .max_hosts = max_hosts,
                     .new_hosts_per_s = 3,
                     .dry_run = dry_run});
    life.live(1500);
  }
}

} // namespace
} // namespace sipward::policy
