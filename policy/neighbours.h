// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "policy/block.h"

// Which hosts of a prefix were blocked lately: together they convict it.
namespace sipward::policy {

class Neighbours {
public:
  // `enough`: so many hosts of a prefix are remembered, for so long. `capacity`: of so many prefixes.
  Neighbours(std::uint32_t enough, Duration within, std::size_t capacity)
      : enough_(enough), within_(within), capacity_(capacity) {}

  // The same from now on. `prefix_of`: where a host belongs now, if the prefixes are of another length.
  void set_terms(std::uint32_t enough, Duration within, std::size_t capacity,
                 const std::function<Prefix(const Address&)>& prefix_of);

  struct Count {
    std::uint32_t hosts = 0;
    bool proven = false; // every one of them, the newcomer too
  };
  // Counts one more host of a prefix: the same one counts once, with what was last known of it.
  Count add(const Prefix& prefix, const Subject& host, bool proven, Time at);

  std::uint32_t count(const Prefix& prefix, Time now) const; // those that would count now

  void forget(const Prefix& hosts);                       // those inside it; walks through all
  void forget(const Prefix& prefix, const Subject& host); // one of a prefix
  void clear() { prefixes_.clear(); }

private:
  struct Offender {
    Subject host;
    bool proven;
    Time at;
  };
  void make_room(const Prefix& newcomer, Time now);

  std::uint32_t enough_;
  Duration within_;
  std::size_t capacity_;
  std::map<Prefix, std::vector<Offender>> prefixes_; // at most `enough_` of each, the oldest first
  std::optional<Time> swept_;                        // when the outdated ones were last looked for
};

} // namespace sipward::policy
