// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/standing.h"

namespace sipward::policy {

const Block* Standing::find(const Subject& subject) const {
  const auto at = blocks_.find(subject);
  return at == blocks_.end() ? nullptr : &at->second;
}

const Standing::End* Standing::soonest(SubjectKind kind) const noexcept {
  const auto& of_kind = ends(kind);
  return of_kind.empty() ? nullptr : &*of_kind.begin();
}

const Standing::End* Standing::soonest() const noexcept {
  const End* first = nullptr;
  for (const auto& of_kind : ends_)
    if (!of_kind.empty() && (first == nullptr || *of_kind.begin() < *first)) first = &*of_kind.begin();
  return first;
}

const Block& Standing::put(Block block) {
  auto& ends = ends_[static_cast<std::size_t>(block.subject.kind)];
  const auto [at, is_new] = blocks_.try_emplace(block.subject);
  if (!is_new) ends.erase({at->second.until, at->first});
  ends.emplace(block.until, at->first);
  at->second = std::move(block);
  return at->second;
}

Block Standing::take(Subject subject) {
  auto node = blocks_.extract(subject);
  ends_[static_cast<std::size_t>(subject.kind)].erase({node.mapped().until, subject});
  return std::move(node.mapped());
}

} // namespace sipward::policy
