// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <expected>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "policy/block.h"
#include "policy/meter.h"

// The block list: offences in, changes out. It alone decides who stands blocked and for how long; the kernel's set, the
// log and the workers' snapshot only follow its changes.
namespace sipward::policy {

// Why a block ended.
enum class Ending : std::uint8_t { Expired, Unblocked, Flushed, Displaced, NeverBlocked, Stopped };
std::string_view to_string(Ending ending) noexcept; // "expired"

// One change to the list. The block is whole in both cases.
struct BlockChange {
  enum class Kind : std::uint8_t { Added, Removed } kind = Kind::Added;
  Block block;
  Ending ending = Ending::Expired; // of a removal
};

struct BlockOptions {
  std::vector<Duration> ladder = {std::chrono::minutes(5)}; // unproven offenders stand on its first step
  std::uint8_t prefix_v4 = 24;
  std::uint8_t prefix_v6 = 48;
  std::uint8_t source_v6 = 64;              // an IPv6 host is this much
  std::uint32_t offenders = 4;              // distinct blocked hosts that block their prefix ...
  Duration within = std::chrono::hours(24); // ... in this time
  std::uint32_t fuse = 12; // new prefix blocks a minute; past that, forged offenders may be at work and none is made
  std::uint32_t max_hosts = 131072;
  bool dry_run = false;
};
inline constexpr std::size_t kMaxPrefixBlocks = 8192;

// Control thread only (or replay's only thread). Time is an argument.
class BlockList {
public:
  using Changes = std::vector<BlockChange>;

  explicit BlockList(BlockOptions options);

  // Addresses that no automatic block may touch; blocks of exactly such hosts are lifted.
  Changes set_never_blocked(PrefixSet never);

  Changes convict(const Offence& offence);
  Changes expire(Time now);

  // By hand. The error is a sentence for the operator.
  std::expected<Changes, std::string> block(const Prefix& prefix, Duration length, std::string note, Time now);
  std::expected<Changes, std::string> unblock(const Prefix& prefix);
  Changes flush(Ending ending = Ending::Flushed);

  const Block* find(const Subject& subject) const;
  // The block that covers an address: its host's or its prefix's.
  const Block* covering(const Address& address) const;
  std::optional<Time> next_expiry() const;
  std::size_t size() const noexcept { return blocks_.size(); }
  auto begin() const noexcept { return blocks_.begin(); }
  auto end() const noexcept { return blocks_.end(); }
  std::vector<Prefix> prefixes() const; // blocked and enforced; sorted by (length, base)

  // Prefix blocks that the fuse held back, and blocks that a full list pushed out, since the start.
  std::uint64_t withheld() const noexcept { return withheld_; }
  std::uint64_t displaced() const noexcept { return displaced_; }

  Subject host_subject(const Address& address) const noexcept;

private:
  // The hosts of one prefix that were blocked lately: at most `offenders` of them, the oldest first.
  struct Neighbours {
    std::deque<std::pair<Time, Subject>> hosts;
  };

  void add(Block block, Changes& changes);
  void remove(std::map<Subject, Block>::iterator at, Ending ending, Changes& changes);
  void count_in_prefix(const Offence& offence, const Subject& host, Changes& changes);
  void make_room(SubjectKind kind, Changes& changes);
  void forget_neighbours(const Prefix& newcomer, Time now);

  BlockOptions options_;
  PrefixSet never_;
  std::map<Subject, Block> blocks_;
  std::set<std::pair<Time, Subject>> by_end_; // the same blocks, soonest end first
  std::size_t prefix_blocks_ = 0;
  std::map<Prefix, Neighbours> neighbours_;
  std::optional<Time> swept_; // when the outdated ones were last looked for
  Meter fuse_;
  Ticks fuse_tat_ = 0;
  std::optional<Time> fuse_seen_;
  std::uint64_t withheld_ = 0;
  std::uint64_t displaced_ = 0;
};

} // namespace sipward::policy
