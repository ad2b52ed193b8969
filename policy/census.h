// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "policy/source_table.h"

// Who sends most, by looking through the whole source table: what each source has sent since the last look. A round is
// made in slices, so that whoever asks never waits for long.
namespace sipward::policy {

class Census {
public:
  static constexpr std::size_t kMost = 1000;                     // senders that a round names
  static constexpr std::size_t kSlice = std::size_t{1} << 18;    // lines of the table that one look() goes through
  static constexpr std::size_t kCompared = std::size_t{1} << 22; // lines whose counts are kept for the next round

  // The table is to outlive the census.
  explicit Census(const SourceTable& sources) : sources_(sources) {}

  // One thread, which need not be a worker. Goes on with the round, or begins the next one; true: a round is complete.
  bool look(const Now& now);

  struct Sender {
    SourceKey key = 0;
    double rate_per_s = 0; // packets to our servers' SIP ports, the blocked ones among them
  };
  // Of the last complete round, the busiest first; those that sent nothing are left out.
  std::span<const Sender> busiest() const noexcept { return busiest_; }

private:
  // What a line showed when it was last looked at.
  struct Seen {
    std::uint32_t key = 0; // a part of it
    std::uint32_t packets = 0;
  };
  double rate(std::size_t line, SourceKey key, const Source& source, double elapsed_s, const Now& now);
  void keep(const Sender& sender);

  const SourceTable& sources_;
  std::vector<Seen> seen_;      // by line; empty for a table of more than kCompared
  std::vector<Time> looked_at_; // by slice; the epoch: never
  std::vector<Sender> round_;   // a heap: the least busy of the busiest on top
  std::vector<Sender> busiest_;
  std::size_t next_ = 0; // line
  Time finished_;
};

} // namespace sipward::policy
