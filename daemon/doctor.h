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
  bool up = true;
  bool carrier = true;                // somebody is at the other end
  bool addressed = true;              // it has an address of its own that others can reach
  std::string bond;                   // that it is a slave of
  std::string bridge;                 // that it is a port of
  bool xdp = false;                   // a program of XDP is attached
  bool tc = false;                    // a filter of tc at its ingress, or a program of tcx
  std::vector<std::string> joining{}; // offloads, switched on, that join what is received: ethtool's names
};

// A rule of nftables that sends what comes for one port on to another.
struct Redirect {
  std::uint16_t from = 0, to = 0;
  std::string table; // "ip nat"
  friend auto operator<=>(const Redirect&, const Redirect&) = default;
};

// What the daemon has seen itself; without one nothing is known of it.
struct TrafficSigns {
  std::uint64_t received = 0, bad_checksum = 0, lost = 0;
  bool answers_unseen = false;
  bool in_sync = true;
  std::uint64_t registered_users = 0; // by all sources together
  std::uint64_t most_registered = 0;  // by one source ...
  std::string registrar{};            // ... this one
  bool off = false;                   // `sipward off`
  bool learning = false;
  bool hugepages = false;      // it has some
  std::string state_trouble{}; // why the state is not written; empty: it is
  std::string gone{};          // an interface that was deleted under it
  std::uint64_t too_long = 0;  // inline: frames that no port could take
  std::uint64_t running_s = 0;
};

struct HostSigns {
  std::vector<Listener> listeners;
  std::vector<Redirect> redirects;
  std::map<std::string, InterfaceSigns> interfaces; // of ports, that the kernel owns
  std::vector<std::string> unwritable;              // sentences: what cannot be written, and why
  bool cilium = false;
  bool fail2ban = false;
  std::vector<std::string> sip_jails; // of fail2ban, enabled
  std::uint64_t apparmor_denials = 0; // of sipward, in the kernel's log
  unsigned kernel_major = 0, kernel_minor = 0;
  std::uint64_t free_hugepages_octets = 0;
  bool clock_synchronised = true;
  bool privileged = true; // enough to see all of this
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

// Parts of it: the ports of a /proc/net/{udp,tcp,udp6,tcp6}; the SIP jails that fail2ban's files enable, one file after
// the other in the order in which it reads them; the redirects of every table; empty, or why a file could not be made
// or written.
std::vector<Listener> listeners_in(std::string_view proc_net, bool tcp);
std::vector<std::string> sip_jails_in(std::string_view jail_files);
std::vector<Redirect> redirects_here();
std::string why_unwritable(const std::filesystem::path& file);

} // namespace sipward::daemon
