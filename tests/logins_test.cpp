// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/logins.h"

#include <unistd.h>
#include <utmp.h>

#include <cstring>

#include "tests/state_lab.h"

using namespace sipward;
using namespace sipward::state_lab;
using policy::Address;

namespace {

utmp session(short type, pid_t process, const std::string& address, const char* host = "") {
  utmp record{};
  record.ut_type = type;
  record.ut_pid = process;
  std::strncpy(record.ut_host, host, sizeof record.ut_host - 1);
  if (!address.empty()) {
    const auto parsed = Address::parse(address).value();
    std::memcpy(record.ut_addr_v6, parsed.wire().data(), parsed.wire().size());
  }
  return record;
}

std::vector<Address> logged_in(const std::vector<utmp>& records) {
  const Folder folder;
  const auto file = folder.path() / "utmp";
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(records.data()),
             static_cast<std::streamsize>(records.size() * sizeof(utmp)));
  auto found = Logins(file).now();
  for (const auto& others : Logins(folder.path() / "none").now()) std::erase(found, others); // of this machine
  return found;
}

} // namespace

TEST_CASE("whoever is logged in from somewhere is known by the address, once") {
  const auto here = getpid();
  const auto found = logged_in({session(USER_PROCESS, here, "203.0.113.5"), session(USER_PROCESS, here, "2001:db8::5"),
                                session(USER_PROCESS, here, "203.0.113.5"), session(USER_PROCESS, here, "")});
  CHECK(found == std::vector{*Address::parse("203.0.113.5"), *Address::parse("2001:db8::5")});
}

TEST_CASE("a record without an address may have it as its host") {
  CHECK(logged_in({session(USER_PROCESS, getpid(), "", "203.0.113.6"),
                   session(USER_PROCESS, getpid(), "", "tmux(7)")}) == std::vector{*Address::parse("203.0.113.6")});
}

TEST_CASE("who has logged out, or left only a record behind, is not there") {
  constexpr pid_t kNobody = 0x3fffffff; // beyond every kernel's largest
  CHECK(logged_in({session(DEAD_PROCESS, getpid(), "203.0.113.7"), session(LOGIN_PROCESS, getpid(), "203.0.113.8"),
                   session(USER_PROCESS, kNobody, "203.0.113.9")})
            .empty());
}
