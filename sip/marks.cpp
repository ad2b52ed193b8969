// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/marks.h"

#include <algorithm>
#include <atomic>
#include <bit>

#include "sip/mark_list.h"
#include "sip/shapes.h"

namespace sipward::sip {
namespace {

constexpr Shapes kHardShapes = shape_bit(Shape::LoopbackVia) - 1;

std::uint64_t next_id() noexcept {
  static std::atomic<std::uint64_t> last = 0;
  return last.fetch_add(1, std::memory_order_relaxed) + 1; // nothing but the number is shared
}

} // namespace

Target sipvicious_target(std::string_view from_tag) noexcept {
  Target out;
  const std::size_t end = sipvicious_mark(from_tag);
  const auto put = [&out](char c) {
    if (out.size < out.text.size()) out.text[out.size++] = c;
  };
  for (std::size_t i = 0; i < end; i += 2) {
    const auto octet = static_cast<char>(nibble(from_tag[i]) << 4 | nibble(from_tag[i + 1]));
    put(octet);
    if (octet != ':') continue;
    for (int k = 0; k < 3; ++k) put('*'); // a password, whoever's it may be
    break;
  }
  return out;
}

Marks::Marks(std::span<const std::string> user_agents) : id_(next_id()) {
  const auto add = [this](std::string_view pattern, Weight weight) {
    table_.add(pattern, static_cast<std::uint32_t>(agents_.size()));
    agents_.push_back({pattern, weight});
  };
  written_.reserve(user_agents.size()); // the marks' names point into it
  // Hard patterns first: of two that match, the first is found.
  for (const AgentMark& mark : kAgentMarks)
    if (mark.weight == Weight::Hard) add(mark.pattern, mark.weight);
  for (const std::string& own : user_agents)
    if (valid_pattern(own)) add(written_.emplace_back(own), Weight::Hard);
  for (const AgentMark& mark : kAgentMarks)
    if (mark.weight == Weight::Soft) add(mark.pattern, mark.weight);
  table_.build();
}

const Mark* Marks::user_agent(std::string_view value) const noexcept {
  const std::uint32_t id = table_.find(value);
  return id == AgentTable::kNone ? nullptr : &agents_[id];
}

const Mark* Marks::find(const FirstLook& look, std::string_view datagram, AgentCache* cache) const noexcept {
  if (cache) return cache->find_hard(*this, datagram, look.user_agent);
  const Mark* mark = user_agent(look.user_agent.in(datagram));
  return mark && mark->weight == Weight::Hard ? mark : nullptr;
}

const Mark* Marks::find(const Message& message, std::string_view datagram, AgentCache* cache) const noexcept {
  const Mark* agent = user_agent(datagram, message.user_agent, cache);
  if (agent && agent->weight == Weight::Hard) return agent;
  const Shapes shapes = shapes_of(message, datagram);
  if (shapes == 0 || (agent && (shapes & kHardShapes) == 0)) return agent;
  return &kShapeMarks[static_cast<std::size_t>(std::countr_zero(shapes))]; // hard ones come first
}

MarkSet Marks::find_all(const Message& message, std::string_view datagram, AgentCache* cache) const noexcept {
  MarkSet out;
  const auto add = [&out](const Mark& mark) {
    if (out.count < out.marks.size()) out.marks[out.count++] = &mark;
  };
  const auto add_shapes = [&](Shapes shapes) {
    for (; shapes != 0; shapes &= shapes - 1) add(kShapeMarks[static_cast<std::size_t>(std::countr_zero(shapes))]);
  };
  const Mark* agent = user_agent(datagram, message.user_agent, cache);
  const Shapes shapes = shapes_of(message, datagram);
  if (agent && agent->weight == Weight::Hard) add(*agent);
  add_shapes(shapes & kHardShapes);
  if (agent && agent->weight == Weight::Soft) add(*agent);
  add_shapes(shapes & ~kHardShapes);
  return out;
}

bool Marks::valid_pattern(std::string_view pattern) noexcept {
  if (pattern.starts_with('*')) pattern.remove_prefix(1);
  if (pattern.ends_with('*')) pattern.remove_suffix(1);
  if (pattern.size() < 3 || pattern.size() > 255) return false;
  return std::all_of(pattern.begin(), pattern.end(),
                     [](char c) { return c != '*' && static_cast<unsigned char>(c) >= ' ' && c != 0x7f; });
}

} // namespace sipward::sip
