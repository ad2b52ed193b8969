// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "config/config.h"
#include "daemon/state_records.h"
#include "policy/keyed_hash.h"

// Users' names as they may be written down (log.users): in full; as a keyed hash, by which the operator can tell that
// it is the same user again, and, if he knows a name, which; or not at all. Any thread.
namespace sipward::daemon {

// SipHash-2-4, as its authors published it: without the key nobody can try names against a hash, nor find the key from
// names and hashes that he knows.
std::uint64_t siphash(std::string_view text, const StateSecret& key) noexcept;

// The secret of users' hashes in the ledger: the same in every run that has this key.
policy::Secret ledger_secret(const StateSecret& key) noexcept;

class UserNames {
public:
  // `secret`: this host's own, as long as the hashes are to mean the same.
  UserNames(config::LogUsers how, const StateSecret& secret) : how_(how), secret_(secret) {}

  std::string shown(std::string_view name) const; // "\"alice\"", "hash:0123456789abcdef", "-": one word of a line
  std::uint64_t hash(std::string_view name) const noexcept { return siphash(name, secret_); }
  void set(config::LogUsers how) noexcept { how_ = how; }

private:
  config::LogUsers how_;
  StateSecret secret_;
};

} // namespace sipward::daemon
