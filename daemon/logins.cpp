// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/logins.h"

#include <signal.h>
#include <systemd/sd-login.h>
#include <utmp.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

namespace sipward::daemon {
namespace {

using policy::Address;

constexpr int kMostRecords = 65536; // of utmp; more is no utmp

struct Free {
  void operator()(void* text) const noexcept { std::free(text); }
};
using Text = std::unique_ptr<char, Free>;

// A session of logind that is not about to end.
std::optional<Address> remote_of(const char* session) {
  char* text = nullptr;
  if (sd_session_get_state(session, &text) < 0) return std::nullopt;
  const Text state(text);
  if (std::string_view(state.get()) == "closing") return std::nullopt;
  text = nullptr;
  if (sd_session_get_remote_host(session, &text) < 0) return std::nullopt;
  const Text host(text);
  return Address::parse(host.get());
}

void add_sessions(std::vector<Address>& to) {
  char** sessions = nullptr;
  const int count = sd_get_sessions(&sessions);
  for (int i = 0; i < count; ++i) {
    const Text session(sessions[i]);
    if (const auto remote = remote_of(session.get())) to.push_back(*remote);
  }
  std::free(sessions);
}

// A crash leaves records of whoever was there: his login process tells whether he still is.
bool is_alive(pid_t process) noexcept { return process > 0 && (kill(process, 0) == 0 || errno == EPERM); }

std::optional<Address> remote_of(const utmp& record) {
  if (record.ut_type != USER_PROCESS || !is_alive(record.ut_pid)) return std::nullopt;
  std::array<std::uint8_t, 16> wire{};
  static_assert(sizeof record.ut_addr_v6 == wire.size());
  std::memcpy(wire.data(), record.ut_addr_v6, wire.size()); // in wire order; of IPv4 the first four octets
  const auto is_zero = [](std::uint8_t octet) { return octet == 0; };
  const bool v4 = std::all_of(wire.begin() + 4, wire.end(), is_zero);
  if (v4 && std::all_of(wire.begin(), wire.begin() + 4, is_zero)) {
    const std::string_view host(record.ut_host, strnlen(record.ut_host, sizeof record.ut_host));
    return Address::parse(host);
  }
  return Address::from_wire(std::span<const std::uint8_t>(wire).first(v4 ? 4 : 16));
}

void add_terminals(const std::filesystem::path& file, std::vector<Address>& to) {
  std::ifstream stream(file, std::ios::binary);
  utmp record{};
  for (int i = 0; i < kMostRecords && stream.read(reinterpret_cast<char*>(&record), sizeof record); ++i)
    if (const auto remote = remote_of(record)) to.push_back(*remote);
}

} // namespace

std::vector<Address> Logins::now() const {
  std::vector<Address> found;
  add_sessions(found);
  add_terminals(utmp_, found);
  std::ranges::sort(found);
  const auto rest = std::ranges::unique(found);
  found.erase(rest.begin(), rest.end());
  return found;
}

} // namespace sipward::daemon
