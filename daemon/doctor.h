// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

// What on this host would make sipward blind or toothless (`sipward doctor`). Gathering signs is apart from judging
// them: the first reads the kernel, the second is pure. One thread.
namespace sipward::daemon {

struct Listener {
  bool tcp = false;
  std::uint16_t port = 0;
  friend auto operator<=>(const Listener&, const Listener&) = default;
};

struct InterfaceSigns {
  bool exists = true;
  std::string bond;   // that it is a slave of
  std::string bridge; // that it is a port of
  bool xdp = false;   // a program of XDP is attached
  bool tc = false;    // a filter of tc at its ingress, or a program of tcx
};

// What the daemon has seen itself; without one nothing is known of it.
struct TrafficSigns {
  std::uint64_t received = 0, bad_checksum = 0, lost = 0;
  bool answers_unseen = false;
  bool in_sync = true;
  std::uint64_t registered_users = 0; // by all sources together
  std::uint64_t most_registered = 0;  // by one source ...
  std::string registrar{};            // ... this one
};

struct HostSigns {
  std::vector<Listener> listeners;
  std::map<std::string, InterfaceSigns> interfaces; // ports.outside that the kernel owns
  bool cilium = false;
  bool fail2ban = false;
  std::vector<std::string> sip_jails; // of fail2ban, enabled
  std::uint64_t apparmor_denials = 0; // of sipward, in the kernel's log
  unsigned kernel_major = 0, kernel_minor = 0;
  std::uint64_t free_hugepages_octets = 0;
  bool clock_synchronised = true;
  std::optional<TrafficSigns> traffic;
};

struct Finding {
  enum class Weight : std::uint8_t { Trouble, Hint } weight = Weight::Trouble;
  std::string check;  // a word to look for: "sip_ports"
  std::string what;   // is the matter
  std::string remedy; // what to do
};

// In the order of how much they matter.
std::vector<Finding> diagnose(const HostSigns& signs, const config::Settings& settings);

// Looks at this host, `traffic` left out. `root`: "/", or a folder that stands for it. Needs CAP_NET_ADMIN to see
// programs of tcx, and CAP_SYSLOG to see AppArmor's denials; without them they are not found.
HostSigns look_at_host(const config::Settings& settings, const std::filesystem::path& root = "/");

// Parts of it: the ports of a /proc/net/{udp,tcp,udp6,tcp6}, and the SIP jails that a file of fail2ban's enables.
std::vector<Listener> listeners_in(std::string_view proc_net, bool tcp);
std::vector<std::string> sip_jails_in(std::string_view jail_file);

} // namespace sipward::daemon
