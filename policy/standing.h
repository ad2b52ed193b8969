// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <set>
#include <utility>

#include "policy/block.h"

// Blocks that stand, in the order of their subjects and of their ends. A container: it decides nothing.
namespace sipward::policy {

class Standing {
public:
  using Blocks = std::map<Subject, Block>;
  using End = std::pair<Time, Subject>;

  const Block* find(const Subject& subject) const;
  std::size_t count(SubjectKind kind) const noexcept { return ends(kind).size(); }
  // Who ends first, of one kind or of all; nullptr: nobody.
  const End* soonest(SubjectKind kind) const noexcept;
  const End* soonest() const noexcept;
  // In the order of their ends, of one kind.
  const std::set<End>& ends(SubjectKind kind) const noexcept { return ends_[static_cast<std::size_t>(kind)]; }

  // Puts a block in the place of its subject's earlier one, if there is one.
  const Block& put(Block block);
  Block take(Subject subject); // which stands

  std::size_t size() const noexcept { return blocks_.size(); }
  bool empty() const noexcept { return blocks_.empty(); }
  Blocks::const_iterator begin() const noexcept { return blocks_.begin(); }
  Blocks::const_iterator end() const noexcept { return blocks_.end(); }
  Blocks::const_iterator lower_bound(const Subject& subject) const { return blocks_.lower_bound(subject); }

private:
  Blocks blocks_;
  std::array<std::set<End>, kSubjectKinds> ends_;
};

} // namespace sipward::policy
