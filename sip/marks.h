// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sip/message.h"

// Scanner marks: what betrays an attack tool in the message itself, as data.
namespace sipward::sip {

// How much a mark says. A hard mark convicts at once, a soft one is evidence to be added up.
enum class Weight : std::uint8_t { Soft, Hard };

struct Mark {
  std::string_view name; // as it stands in the evidence; for a User-Agent pattern, the pattern as written
  Weight weight;
};

// The marks of one message, ready for the judge. Built once from the shipped list and the operator's own patterns, then
// immutable.
class Marks {
public:
  // `user_agents`: further hard patterns, case-insensitive: `text` (the whole value), `text*` (a prefix), `*text*`
  // (contained),
  // `*text` (a suffix). Patterns that are not valid are left out.
  explicit Marks(std::span<const std::string> user_agents = {});

  // The weightiest mark of this message, or nullptr. Any thread; the pointer lives as long as this object.
  const Mark* find(const Message& message, std::string_view datagram) const noexcept;

  // Is this pattern well-formed? (At least three characters beside the stars, stars only at the ends.)
  static bool valid_pattern(std::string_view pattern) noexcept;

private:
  struct Pattern {
    std::string written, text;
    bool leading_star, trailing_star;
  };
  std::vector<Pattern> patterns_;
  std::vector<Mark> marks_;
};

} // namespace sipward::sip
