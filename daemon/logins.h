// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <vector>

#include "policy/address.h"

// Where people are logged in to this host from: a block must not lock them out while they are at work.
//
// Who is logged in is asked of those who know it: systemd-logind (every session that passed PAM, a terminal or not) and
// utmp(5) (terminals; on hosts without logind, and where sshd hands logind a name instead of an address). Not of the
// kernel: a connection to port 22 that is established need not be an administrator's. Whoever tries passwords there
// has one too, and must not be safe from blocks for it.
namespace sipward::daemon {

class Logins {
public:
  explicit Logins(std::filesystem::path utmp = "/run/utmp") : utmp_(std::move(utmp)) {}
  std::vector<policy::Address> now() const; // sorted, each once; a few files are read

private:
  std::filesystem::path utmp_;
};

} // namespace sipward::daemon
