// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sip/agent_cache.h"
#include "sip/agent_table.h"
#include "sip/first_look.h"
#include "sip/message.h"

// Scanner marks: what betrays an attack tool in the message itself, as data.
namespace sipward::sip {

// How much a mark says. A hard mark convicts at once, a soft one is evidence to be added up.
enum class Weight : std::uint8_t { Soft, Hard };

struct Mark {
  std::string_view name; // as it stands in the evidence; for a User-Agent pattern, the pattern as written
  Weight weight;
};

// The marks of one message, the weightier first. A few are enough: further ones are left out.
struct MarkSet {
  std::array<const Mark*, 8> marks{};
  std::size_t count = 0;
  const Mark* const* begin() const noexcept { return marks.data(); }
  const Mark* const* end() const noexcept { return marks.data() + count; }
};

// What a SIPVicious From tag gives away: whom its user tries to be. Empty if the tag is none of its. `user:password`
// guesses are shown as `user:***`.
struct Target {
  std::array<char, 64> text{};
  std::size_t size = 0;
  std::string_view view() const noexcept { return {text.data(), size}; }
};
Target sipvicious_target(std::string_view from_tag) noexcept;

// Built once from the shipped list (mark_list.h) and the operator's own patterns, then immutable.
class Marks {
public:
  // `user_agents`: further hard patterns for User-Agent and Server, case-insensitive: `text` (the whole value), `text*`
  // (a prefix),
  // `*text*` (contained), `*text` (a suffix). Patterns that are not valid are left out.
  explicit Marks(std::span<const std::string> user_agents = {});
  Marks(const Marks&) = delete;
  Marks& operator=(const Marks&) = delete;

  // Any thread may call these, with a cache of its own or none; the pointers live as long as this object, or longer.

  // The weightiest mark of this message, or nullptr.
  const Mark* find(const Message& message, std::string_view datagram, AgentCache* cache = nullptr) const noexcept;

  // All of them, for adding up. A response has a name (User-Agent, Server) only: its shape was given by its request.
  MarkSet find_all(const Message& message, std::string_view datagram, AgentCache* cache = nullptr) const noexcept;

  // The hard mark that a first look can show: that of the name.
  const Mark* find(const FirstLook& look, std::string_view datagram, AgentCache* cache = nullptr) const noexcept;

  // The mark of a User-Agent or Server value alone, or nullptr. Any thread.
  const Mark* user_agent(std::string_view value) const noexcept;

  // Tells these marks from all others that this process ever made. Never 0.
  std::uint64_t id() const noexcept { return id_; }

  // Is this pattern well-formed? (At least three characters beside the stars, stars only at the ends.)
  static bool valid_pattern(std::string_view pattern) noexcept;

private:
  const Mark* user_agent(std::string_view datagram, Span value, AgentCache* cache) const noexcept {
    return cache ? cache->find(*this, datagram, value) : user_agent(value.in(datagram));
  }

  std::uint64_t id_;
  std::vector<std::string> written_; // the operator's
  std::vector<Mark> agents_;         // by id in table_
  AgentTable table_;
};

} // namespace sipward::sip
