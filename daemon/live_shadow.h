// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.h"
#include "daemon/shadow.h"
#include "daemon/shadow_line.h"
#include "policy/block_list.h"
#include "policy/judge.h"

// What a second settings file would do to the live traffic (`shadow:`), and how that differs from what the present ones
// do. Its offences come from a second judge (dataplane/second_judge.h); here is what the control thread makes of them:
// a block list of its own, lines of the log, differences. Nothing of it reaches kernel, state or history.
namespace sipward::daemon {

// Control thread only. Time is an argument.
class LiveShadow {
public:
  // What it asks the daemon for.
  struct Desk {
    std::function<void(const ShadowLine& line, policy::Time at)> write;
    std::function<std::string_view(const policy::Subject&)> now; // as in ShadowLine
  };

  // `settings`: as they are tried, in every key. `ledger`: the second judge's, kept by the caller for as long as this
  // lives. `present`: the block list that stands: whom it has on its ladder is known here as well, and whoever is
  // blocked already is no difference.
  LiveShadow(config::Settings settings, policy::Ledger& ledger, const policy::BlockList& present, Desk desk,
             policy::Time now);

  const config::Settings& settings() const noexcept { return settings_; }
  policy::BlockList& blocks() noexcept { return blocks_; }
  void set_never_blocked(policy::PrefixSet never, policy::Time now);

  // What the second judge reports.
  void hear(const policy::Offence& offence);
  // What the present settings have decided. `is_judgement`: although its block is a dry run, for it would have been
  // blocked but for learning, `block.dry_run` or `off`.
  void note_present(const policy::BlockChange& change, bool is_judgement);
  // What is due: blocks that end, and who has been let go on for long enough to say so.
  void tend(policy::Time now);
  // Our servers are not well: who was blocked since then did perhaps nothing wrong.
  void lift_since(policy::Time since, policy::Time now);
  // True once after each change of the prefixes that it would have blocked: its rules are to be made anew.
  bool take_prefixes_changed() noexcept { return std::exchange(prefixes_changed_, false); }

  struct Counts { // decisions since it began
    std::uint64_t would_block = 0, would_limit = 0, would_renew = 0;
    std::uint64_t more = 0, less = 0; // of the blocks: only it; only the present settings
    std::uint64_t more_known = 0;     // of the former, whom our servers know
    std::uint64_t left_out = 0;       // blocks that difference() does not know, being too many
  };
  const Counts& counts() const noexcept { return counts_; }
  policy::Time since() const noexcept { return since_; }
  // Valid until the next call of anything that is not const.
  ShadowDifference difference() const { return compare(present_.blocks, tried_.blocks); }

private:
  static constexpr std::size_t kMostCompared = 16384; // blocks on each side

  void settle(policy::BlockList::Changes changes, policy::Time now);
  void count(const policy::BlockChange& change, std::string_view now);
  // Blocks of one side, the first of each subject.
  struct Side {
    std::vector<policy::Block> blocks;
    std::set<policy::Subject> subjects;
  };
  bool compare_later(Side& side, const policy::Block& block);
  std::uint32_t packets_of(const policy::Subject& subject) const;
  std::uint64_t dropped(const policy::Subject& subject) const;

  config::Settings settings_;
  policy::Ledger& ledger_;
  policy::BlockList blocks_;
  Desk desk_;
  policy::Time since_, now_; // begun; of the latest call
  bool prefixes_changed_ = false;
  std::map<policy::Subject, std::uint32_t>
      counted_from_;                 // of who stands: its packets when it was last added or renewed
  std::set<policy::Subject> before_; // blocked by the present settings since before this began
  struct Doubt {
    policy::Time at;
    policy::Block block;
  };
  std::deque<Doubt> doubts_; // blocks of the present settings that may turn out to be theirs alone
  Side present_, tried_;     // to be compared
  Counts counts_;
};

} // namespace sipward::daemon
