// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/nft.h"
#include "daemon/nft_sets.h"

// Whether the kernel still holds what we gave it. Three ways to know, from the quickest to the surest:
//
//   Watch      the kernel tells of every change that somebody else makes, as it happens
//   Frame      what our tables are made of, but for the subjects in their sets: read at once, compared as a whole
//   Survey     the subjects in the sets, read part by part between other work
//
// None of them changes anything. Control thread only; nothing waits.
namespace sipward::daemon::nft {

// What others did to our tables since it was last asked.
struct Disturbance {
  bool frame = false;                  // something that a Frame has
  bool lost = false;                   // more than could be told: anything may have happened
  std::vector<Element> deleted, added; // subjects; with what they had counted. At most kMost of both
  std::set<std::string> what; // of the frame, for people: "table inet sipward", "chain output", "set blocked_v4"
  std::string by;             // the program that did it, as the kernel names it: "nft"

  static constexpr std::size_t kMost = 4096; // beyond, it is lost
  bool any() const noexcept { return frame || lost || !deleted.empty() || !added.empty(); }
  void merge(Disturbance later);
  std::string text() const; // "table inet sipward", "3 elements"
};

// Follows the kernel's notifications about nf_tables (NFNLGRP_NFTABLES). Those about our own changes never get as far
// as the queue.
class Watch {
public:
  // `own_port`: of the socket that our changes come from (Nft::port()).
  static std::expected<Watch, Error> open(std::uint32_t own_port);
  Watch(Watch&&) noexcept;
  Watch& operator=(Watch&&) noexcept;
  ~Watch();

  int event() const noexcept; // readable when something was told
  // `layout`: of the table that was installed, to know whose element is whose.
  Disturbance take(const Layout& layout);
  // It hears no more, or takes somebody else's changes for its own: another one has to be opened.
  bool is_deaf(std::uint32_t own_port) const noexcept;

private:
  struct State;
  explicit Watch(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Both tables, their chains, rules, sets, and the elements of sets that hold no subjects: a line each, sorted. Whatever
// is made anew has another handle, so two of these are the same only if nothing was done in between. Interfaces that a
// chain hears are in it, too.
class Frame {
public:
  // Reads it; empty, if there is no table. EINTR: others keep changing tables.
  static std::expected<Frame, Error> read();
  // The same of the table `netdev sipward` alone.
  static std::expected<Frame, Error> of_taken();
  bool empty() const noexcept { return lines_.empty(); }
  friend bool operator==(const Frame&, const Frame&) = default;
  // What differs from an earlier one, for people.
  std::set<std::string> against(const Frame& earlier) const;

private:
  std::vector<std::string> lines_;
};

// One pass through the subjects in the kernel's sets.
class Survey {
public:
  explicit Survey(std::vector<SubjectSet> sets);
  ~Survey();

  // Hands over the elements of the next part; false: that was all. While sets change, an element may be told twice or
  // not at all: whoever acts on it looks again. ENOENT: a set is gone.
  std::expected<bool, Error> next(const std::function<void(const Element&)>& each);

private:
  struct Reading;
  std::vector<SubjectSet> sets_;
  std::size_t at_ = 0;
  std::unique_ptr<Reading> reading_;
};

} // namespace sipward::daemon::nft
