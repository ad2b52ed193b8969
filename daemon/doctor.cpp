// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/doctor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace sipward::daemon {
namespace {

using Weight = Finding::Weight;
using Findings = std::vector<Finding>;

// Where SIP servers are usually found beside 5060.
constexpr std::uint16_t kFirstSipPort = 5060, kLastSipPort = 5099, kTlsPort = 5061;
constexpr std::uint64_t kEnoughPackets = 1000;
constexpr double kManyBad = 0.01;       // of the packets
constexpr std::uint64_t kFewUsers = 20; // say nothing of shares
constexpr double kLargeShare = 0.5;     // of all users behind one address

void look_at_ports(const HostSigns& signs, const config::Settings& settings, Findings& found) {
  std::vector<std::uint16_t> udp, tcp;
  for (const auto& [is_tcp, port] : signs.listeners) {
    if (port < kFirstSipPort || port > kLastSipPort) continue;
    if (std::ranges::find(settings.sip.ports, port) != settings.sip.ports.end()) continue;
    if (is_tcp && port == kTlsPort) continue; // blocked with the others, and nobody can read it
    (is_tcp ? tcp : udp).push_back(port);
  }
  if (!udp.empty())
    found.push_back({Weight::Trouble, "sip_ports",
                     fmt::format("something listens on UDP port {}, which sip.ports does not name: its traffic is "
                                 "neither judged nor blocked",
                                 fmt::join(udp, ", ")),
                     "if it is a SIP server, add the port to sip.ports"});
  if (!tcp.empty())
    found.push_back({Weight::Trouble, "sip_ports",
                     fmt::format("something listens on TCP port {}, which sip.ports does not name: blocked sources "
                                 "still reach it",
                                 fmt::join(tcp, ", ")),
                     "if it is a SIP server, add the port to sip.ports"});
  const bool over_tcp = std::ranges::any_of(signs.listeners, [&](const Listener& listener) {
    return listener.tcp && std::ranges::find(settings.sip.ports, listener.port) != settings.sip.ports.end();
  });
  if (over_tcp)
    found.push_back({Weight::Hint, "sip_over_tcp",
                     "a server takes SIP over TCP: blocks hold there, but what is sent over TCP is not read",
                     "limit it in the server (Kamailio: pike, htable; Asterisk: fail2ban on its security log)"});
}

void look_at_interface(const std::string& name, const InterfaceSigns& signs, const config::Settings& settings,
                       Findings& found) {
  if (!signs.exists)
    found.push_back({Weight::Trouble, "interface", "ports.outside names " + name + ", and there is no such interface",
                     "name one of those that `ip -br link` lists"});
  if (!signs.bond.empty())
    found.push_back({Weight::Trouble, "bond",
                     name + " is a slave of " + signs.bond +
                         ": the other slaves' traffic is not seen, and the "
                         "kernel's ingress hook of a slave does not see all of its own",
                     "name " + signs.bond + " in ports.outside"});
  if (!signs.bridge.empty() && settings.nftables.hook == config::Hook::Prerouting)
    found.push_back(
        {Weight::Trouble, "bridge",
         name + " is a port of the bridge " + signs.bridge + ": what is bridged to guests passes prerouting",
         "set nftables.hook: ingress"});
  if (signs.xdp)
    found.push_back({Weight::Trouble, "xdp",
                     "an XDP program is attached to " + name + ": what it drops or redirects is never seen",
                     "look at it with `ip link show " + name + "`; detach it, or let SIP pass it"});
  if (signs.tc)
    found.push_back({Weight::Trouble, "tc",
                     "a tc or tcx program filters the ingress of " + name +
                         ": what it redirects is judged, but does "
                         "not reach nftables' ingress and is not blocked",
                     "look at it with `tc filter show dev " + name + " ingress` and `bpftool net`; let SIP pass it"});
}

void look_at_neighbours(const HostSigns& signs, Findings& found) {
  if (signs.cilium)
    found.push_back({Weight::Trouble, "cilium",
                     "Cilium runs here: it redirects pods' traffic before nftables sees it, and hides sources behind "
                     "the node's address where it masquerades",
                     "run sipward on the host in front, or give the SIP service externalTrafficPolicy: Local and "
                     "host networking"});
  if (signs.fail2ban && !signs.sip_jails.empty())
    found.push_back({Weight::Trouble, "fail2ban",
                     fmt::format("fail2ban bans SIP clients too (jail {}): whom sipward trusts or unblocks may stay "
                                 "banned there",
                                 fmt::join(signs.sip_jails, ", ")),
                     "disable these jails, or give them the addresses of allow and trust.peers as ignoreip"});
  if (signs.apparmor_denials > 0)
    found.push_back({Weight::Trouble, "apparmor",
                     fmt::format("AppArmor denied sipward something {} times since boot", signs.apparmor_denials),
                     "look for apparmor=\"DENIED\" in `journalctl -k`, and allow it in the profile"});
}

void look_at_kernel(const HostSigns& signs, const config::Settings& settings, Findings& found) {
  const auto older_than = [&](unsigned major, unsigned minor) {
    return signs.kernel_major < major || (signs.kernel_major == major && signs.kernel_minor < minor);
  };
  if (signs.kernel_major != 0 && older_than(5, 10) && settings.nftables.hook == config::Hook::Ingress)
    found.push_back(
        {Weight::Trouble, "ingress_hook",
         fmt::format("Linux {}.{} has no ingress hook in inet tables", signs.kernel_major, signs.kernel_minor),
         "use Linux 5.10 or later, or set nftables.hook: prerouting"});
  if (!signs.clock_synchronised)
    found.push_back({Weight::Hint, "clock",
                     "the clock is not synchronised: times in logs are off, and a jump shortens or prolongs what is "
                     "restored at start",
                     "run an NTP client (systemd-timesyncd, chrony)"});
  const auto wanted = settings.memory.size_bytes;
  const bool helps = settings.mode == config::Mode::Inline || settings.memory.hugepages == config::Hugepages::On;
  if (helps && settings.memory.hugepages != config::Hugepages::Off && signs.free_hugepages_octets < wanted)
    found.push_back(
        {settings.memory.hugepages == config::Hugepages::On ? Weight::Trouble : Weight::Hint, "hugepages",
         fmt::format("{} MiB of hugepages are free, and memory.size is {} MiB (a running sipward has its own already)",
                     signs.free_hugepages_octets >> 20, wanted >> 20),
         fmt::format("reserve them: sysctl vm.nr_hugepages={}", (wanted >> 21) + 1)});
}

void look_at_traffic(const TrafficSigns& traffic, Findings& found) {
  if (traffic.answers_unseen)
    found.push_back({Weight::Trouble, "one_direction",
                     "requests are seen, but no answers of the servers: only scanners are blocked",
                     "let answers leave through an outside port of this host (routing, a mirror of both directions), "
                     "or name the servers in sip.servers"});
  if (!traffic.in_sync)
    found.push_back({Weight::Trouble, "nftables", "the kernel does not hold what sipward decided",
                     "see `journalctl -u sipward -p err`"});
  if (traffic.received >= kEnoughPackets &&
      static_cast<double>(traffic.bad_checksum) > kManyBad * static_cast<double>(traffic.received))
    found.push_back({Weight::Trouble, "checksums",
                     fmt::format("{} of {} packets have wrong checksums and are not judged: another interface of this "
                                 "host, or a guest, leaves them to hardware",
                                 traffic.bad_checksum, traffic.received),
                     "switch the sender's offload off: ethtool -K INTERFACE tx off"});
  if (traffic.received >= kEnoughPackets &&
      static_cast<double>(traffic.lost) > kManyBad * static_cast<double>(traffic.received))
    found.push_back(
        {Weight::Trouble, "lost_packets",
         fmt::format("{} packets came too fast to be read, beside {} that were", traffic.lost, traffic.received),
         "give it more CPUs (cores), or idle: busy"});
  if (traffic.registered_users >= kFewUsers &&
      static_cast<double>(traffic.most_registered) >= kLargeShare * static_cast<double>(traffic.registered_users))
    found.push_back({Weight::Trouble, "in_front",
                     fmt::format("{} of {} registered users come from {}: a load balancer, a proxy or a NAT in front "
                                 "hides who they are, and nobody behind it can be blocked by address",
                                 traffic.most_registered, traffic.registered_users, traffic.registrar),
                     "run sipward in front of it, or let it keep the sources' addresses"});
}

} // namespace

Findings diagnose(const HostSigns& signs, const config::Settings& settings) {
  Findings found;
  look_at_ports(signs, settings, found);
  for (const auto& [name, interface] : signs.interfaces) look_at_interface(name, interface, settings, found);
  look_at_neighbours(signs, found);
  if (signs.traffic) look_at_traffic(*signs.traffic, found);
  look_at_kernel(signs, settings, found);
  std::ranges::stable_sort(found, {}, &Finding::weight);
  return found;
}

} // namespace sipward::daemon
