// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "policy/block.h"
#include "policy/ladder.h"
#include "policy/meter.h"
#include "policy/neighbours.h"
#include "policy/standing.h"

// The block list: offences in, changes out. It alone decides who stands blocked and for how long; the kernel's sets,
// the log and the workers' snapshot only follow its changes.
//
// What an offence comes to:
//
//   log                           noted as would_block
//   limit                         its host is limited
//   block, by an endpoint         the endpoint is blocked
//   block, by a host of whom three or more users registered or hold TCP connections, or that carries a tenth of all
//   that is answered with success
//                                 the endpoint if it is proven, else a limit: too many others would lose their service
//   block, by a trusted host      a limit, unless it is proven: it may be forged
//   block, by another host        the host is blocked, and counts against its prefix
//
// Unproven blocks stand on the ladder's first step and end when their time is up. Proven ones climb: when they come
// back, and when they still send as their time ends.
namespace sipward::policy {

// Why a block ended.
enum class Ending : std::uint8_t {
  Expired,
  Unblocked,
  Flushed,
  Displaced,  // a full list needed its place
  Superseded, // its host was blocked as a whole
  NeverBlocked,
  Lifted, // it came while our own server was not well
  DryRun, // from now on nobody is to be blocked
  Stopped,
};
std::string_view to_string(Ending ending) noexcept; // "expired"

// One change to the list. The block is whole in every case.
struct BlockChange {
  enum class Kind : std::uint8_t {
    Added,
    Renewed,  // goes on, on the next step: a decision as an added one is
    Extended, // a limit goes on: the kernel's timeout follows, and there is nothing to tell
    Removed,
  } kind = Kind::Added;
  Block block;
  Ending ending = Ending::Expired; // of a removal
  // What no longer passes in spite of a prefix block, and what has to; in this order, and in the same batch.
  std::vector<Prefix> taken_back = {};
  std::vector<Prefix> let_through = {};
};

struct BlockOptions {
  std::vector<Duration> ladder = {std::chrono::minutes(5)};
  std::uint8_t prefix_v4 = 24;
  std::uint8_t prefix_v6 = 48;
  std::uint8_t source_v6 = 64;              // an IPv6 host is this much
  std::uint32_t offenders = 4;              // distinct blocked hosts that block their prefix ...
  Duration within = std::chrono::hours(24); // ... in this time
  std::uint32_t fuse = 12;  // new prefix blocks a minute; past that, forged offenders may be at work and none is made
  bool proven_only = false; // only proven hosts count against their prefix
  std::uint32_t max_hosts = 131072;    // and as many endpoints, limits, remembered offenders
  std::uint32_t new_hosts_per_s = 200; // blocked; past that, hosts are limited
  Rate limit{20, 200};                 // of those who are limited instead of being blocked
  bool dry_run = false;
};
inline constexpr std::size_t kMaxPrefixBlocks = 8192;

// What a block of an address would cut off, as far as only its server's host can tell.
struct Collateral {
  std::uint32_t tcp_peers = 0; // as in Evidence
  std::uint8_t share = 0;
};

// Control thread only (or replay's only thread). Time is an argument.
class BlockList {
public:
  using Changes = std::vector<BlockChange>;
  using TrustedWithin = std::function<std::vector<Prefix>(const Prefix&)>;
  using Behind = std::function<Collateral(const Address&)>;

  explicit BlockList(BlockOptions options);

  // Addresses that no automatic block may touch; blocks of exactly such hosts are lifted. In a blocked prefix they pass
  // all the same: they stand before it in the kernel.
  Changes set_never_blocked(PrefixSet never);
  // Of these, those who may be limited all the same: they have a ceiling (Rules::ceilings).
  void set_ceilings(PrefixSet ceilings) { ceilings_ = std::move(ceilings); }
  // This host's own networks: a prefix that reaches into them is not blocked for what its hosts did.
  void set_local(PrefixSet local) { local_ = std::move(local); }
  // Who is trusted in a prefix, each as a host's subject has it: asked when it is blocked, to let them through.
  void set_trusted_within(TrustedWithin trusted_within) { trusted_within_ = std::move(trusted_within); }
  // Who else is behind an address: asked before it is blocked.
  void set_behind(Behind behind) { behind_ = std::move(behind); }

  // Other options from now on (block_list_options.cpp); an IPv6 host stays what it was. What stands keeps its end. A
  // block that was only noted stays noted until its subject offends again.
  Changes set_options(BlockOptions options, Time now);
  // Who is trusted may be others than when the prefixes were blocked: asks again.
  Changes ask_who_passes();
  // While suspended, whoever is convicted would be blocked, as in a dry run. Those who stand blocked stay in the list;
  // that they are not enforced is the caller's doing.
  void suspend(bool suspended) noexcept { suspended_ = suspended; }

  Changes convict(const Offence& offence);

  // Whose counters the list wants to be told before the next expire(): those which go on if they still send, once as
  // their last minute begins, and as it ends.
  std::vector<Subject> count_due(Time now);
  // What the kernel has counted for a block that stands, since it was added or renewed.
  void note_dropped(const Subject& subject, std::uint64_t packets, Time now);
  Changes expire(Time now);
  // What the kernel had counted for a block, or for a limit, whose element is made anew: it counts from nothing again.
  void carry_over(const Subject& subject, bool limited, std::uint64_t packets);

  // By hand: a host, or a prefix of any length. `wholly`: it loses every packet. The error is a sentence for the
  // operator.
  std::expected<Changes, std::string> block(const Prefix& prefix, Duration length, std::string note, Time now,
                                            bool wholly = false);
  // One that stands is to last until then. `packets`: what the kernel has counted for it since it was added or renewed.
  Changes prolong(const Subject& subject, Time until, std::uint64_t packets);
  // Whom a block of this prefix by hand would be about.
  std::expected<Subject, std::string> subject_of(const Prefix& prefix) const;
  std::expected<Changes, std::string> unblock(const Prefix& prefix); // a host: with its endpoints, and its limit
  Changes flush(Ending ending = Ending::Flushed);

  // Nobody in there has climbed the ladder, or counts against his prefix. Blocks that stand go on. How many had
  // climbed.
  std::size_t forget(const Prefix& addresses);

  // Our server was not well: who was blocked or limited since then did perhaps nothing wrong. Scanners excepted.
  Changes lift_since(Time since);

  // What is to outlive this list.
  struct Snapshot {
    std::vector<Block> blocks; // limits among them
    std::vector<Climb> climbs;
  };
  Snapshot snapshot() const;
  std::optional<Climb> climb_of(const Subject& subject) const { return ladder_.find(subject); }
  // Into an empty list, which has been told who is never blocked. Blocks that have ended meanwhile are only remembered;
  // those that no longer fit the options are left out.
  Changes restore(Snapshot snapshot, Time now);
  // The same at a start, when nobody has to be told: of a hundred thousand blocks the changes alone would take a third
  // of a second. `blocks`, of which none is nullptr, are moved from.
  void resume(std::vector<Block*> blocks, std::vector<Climb> climbs, Time now);

  const Block* find(const Subject& subject) const { return blocks_.find(subject); }
  // The block that covers an address, or one port of it: the endpoint's, the host's or the prefix's.
  const Block* covering(const Address& address, std::uint16_t port = 0) const;
  // All that stands against an address: its endpoints, its host, a prefix around it, and its limit.
  std::vector<const Block*> about(const Address& address) const;
  // Hosts of its prefix that were blocked lately, and count against it.
  std::uint32_t offenders_near(const Address& address, Time now) const {
    return neighbours_.count(prefix_of(address), now);
  }
  const BlockOptions& options() const noexcept { return options_; }
  const Ladder& ladder() const noexcept { return ladder_; }
  const Block* limit_of(const Address& address) const { return limits_.find(host_subject(address)); }
  std::optional<Time> next_expiry() const;
  std::size_t size() const noexcept { return blocks_.size(); }
  auto begin() const noexcept { return blocks_.begin(); } // blocks only
  auto end() const noexcept { return blocks_.end(); }
  auto from(const Subject& subject) const { return blocks_.lower_bound(subject); }
  const Standing& limits() const noexcept { return limits_; }
  std::vector<Prefix> prefixes() const;    // blocked and enforced; sorted by (length, base)
  std::vector<Prefix> wholly() const;      // hosts and prefixes that lose every packet; sorted likewise
  std::vector<Prefix> let_through() const; // in spite of these

  // Since the start: prefix blocks that the fuse held back, blocks that a full list pushed out, and hosts that were
  // limited because too many were blocked in one second.
  std::uint64_t withheld() const noexcept { return withheld_; }
  std::uint64_t displaced() const noexcept { return displaced_; }
  std::uint64_t slowed() const noexcept { return slowed_; }

  Subject host_subject(const Address& address) const noexcept;

private:
  // Of a block in its last minute: does its subject still send?
  struct Watch {
    std::uint64_t packets = 0;        // the kernel's counter ...
    Time told;                        // ... as it was then
    std::optional<Time> sent_after{}; // there: it has sent since
  };

  Offence tempered(Offence offence) const;
  bool dry() const noexcept { return options_.dry_run || suspended_; }
  bool enforced(const Block& block) const noexcept { return !block.dry_run || dry(); }
  bool within_pace(Time at);
  bool fuse_holds(Time at);
  void limit(const Offence& offence, Changes& changes);
  void count_in_prefix(const Block& host, Changes& changes);
  bool counts_in_prefix(const Block& host) const noexcept;
  Prefix prefix_of(const Address& address) const noexcept;
  std::vector<Prefix> pass_through(const Prefix& prefix) const;
  void keep_passing(const Prefix& prefix, std::vector<Prefix>& hosts) const;

  bool climbs(const Block& block) const noexcept;
  std::uint32_t highest_step(const Block& block) const noexcept;
  void set_on_ladder(Block& block) const;
  bool goes_on(const Block& block) const;
  void renew(const Subject& subject, Time now, Changes& changes);

  void watch(const Block& block, Time now);
  void remember(const Block& block);

  void add(Block block, Time now, Changes& changes);
  void supersede(BlockChange& host, Changes& changes);
  void make_room(const Standing& standing, SubjectKind kind, Changes& changes);
  void remove(Subject subject, Ending ending, Changes& changes);
  void remove_limit(Subject host, Ending ending, Changes& changes);
  void stand_down(Time now, Changes& changes);
  void shrink(Changes& changes);
  void remove_endpoints(const Subject& host, Ending ending, Changes& changes);
  bool fits(const Block& block) const;
  template<class Told>
  void restore(std::vector<Block*> blocks, std::vector<Climb> climbs, Time now, Told told);

  std::uint8_t host_length(Family family) const noexcept {
    return family == Family::V4 ? std::uint8_t{32} : options_.source_v6;
  }

  BlockOptions options_;
  bool suspended_ = false;
  PrefixSet never_, ceilings_, local_;
  TrustedWithin trusted_within_;
  Behind behind_;
  Standing blocks_, limits_;
  std::set<Subject> wholly_; // of those that are enforced
  std::map<Subject, Watch> watches_;
  Time counted_until_; // the last minutes of blocks that end before this have begun
  Ladder ladder_;
  Neighbours neighbours_;
  std::map<Prefix, std::vector<Prefix>> let_through_; // of blocked prefixes; sorted
  Meter fuse_;
  Ticks fuse_tat_ = 0;
  std::optional<Time> fuse_seen_;
  std::int64_t pace_second_ = 0; // the latest in which hosts were blocked ...
  std::uint32_t pace_count_ = 0; // ... and how many
  std::uint64_t withheld_ = 0;
  std::uint64_t displaced_ = 0;
  std::uint64_t slowed_ = 0;
};

} // namespace sipward::policy
