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
constexpr std::uint16_t kFirstSipPort = 5060, kLastSipPort = 5099, kTlsPort = 5061, kSecondSipPort = 5160;
constexpr std::uint64_t kEnoughPackets = 1000;
constexpr double kManyBad = 0.01;       // of the packets
constexpr std::uint64_t kFewUsers = 20; // say nothing of shares
constexpr double kLargeShare = 0.5;     // of all users behind one address
constexpr std::uint64_t kLongSilenceS = 300;

bool is_named(const config::Settings& settings, std::uint16_t port) {
  return std::ranges::find(settings.sip.ports, port) != settings.sip.ports.end();
}

bool is_usual(std::uint16_t port) { return (port >= kFirstSipPort && port <= kLastSipPort) || port == kSecondSipPort; }

void look_at_ports(const HostSigns& signs, const config::Settings& settings, Findings& found) {
  std::vector<std::uint16_t> udp, tcp;
  for (const auto& [is_tcp, port] : signs.listeners) {
    if (!is_usual(port) || is_named(settings, port)) continue;
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
  for (const auto& [from, to, table] : signs.redirects)
    if (is_named(settings, to) && !is_named(settings, from))
      found.push_back({Weight::Trouble, "redirect",
                       fmt::format("the nftables table {} sends what comes for port {} on to port {}: it comes as port "
                                   "{}, which sip.ports does not name, and is neither judged nor blocked",
                                   table, from, to, from),
                       fmt::format("add {} to sip.ports", from)});
  const bool over_tcp = std::ranges::any_of(
      signs.listeners, [&](const Listener& listener) { return listener.tcp && is_named(settings, listener.port); });
  if (over_tcp)
    found.push_back({Weight::Hint, "sip_over_tcp",
                     "a server takes SIP over TCP: blocks hold there, but what is sent over TCP is not read",
                     "limit it in the server (Kamailio: pike, htable; Asterisk: fail2ban on its security log)"});
}

// Frames that were joined: a packet socket is handed many at once.
void look_at_offloads(const std::string& name, const InterfaceSigns& signs, const config::Settings& settings,
                      bool running, Findings& found) {
  std::string on;
  for (const auto& offload : signs.joining) {
    const bool joins_udp = offload == "rx-gro-list" || offload == "rx-udp-gro-forwarding";
    // Inline the daemon switches all of them off: what is on then, somebody has switched on again.
    if (settings.mode == config::Mode::Inline ? running : joins_udp) on += " " + offload + " off";
  }
  if (on.empty()) return;
  found.push_back({Weight::Trouble, "offloads",
                   settings.mode == config::Mode::Inline
                       ? name + " joins the frames that it receives: those too long to forward are dropped"
                       : name + " joins UDP datagrams that follow each other: of those only the first is judged",
                   "ethtool -K " + name + on});
}

void look_at_interface(const std::string& name, const InterfaceSigns& signs, const config::Settings& settings,
                       Findings& found) {
  if (!signs.exists)
    found.push_back({Weight::Trouble, "interface", "ports names " + name + ", and there is no such interface",
                     "name one of those that `ip -br link` lists"});
  else if (!signs.up)
    found.push_back({Weight::Trouble, "interface_down", name + " is down: nothing comes in by it",
                     "ip link set " + name + " up; or name another in ports"});
  else if (!signs.carrier)
    found.push_back({Weight::Trouble, "interface_down", name + " has no link: nobody is at the other end",
                     "look at the cable, the switch's port, or the guest's"});
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
  const bool has_some = signs.traffic && signs.traffic->hugepages;
  if (helps && !has_some && settings.memory.hugepages != config::Hugepages::Off && signs.free_hugepages_octets < wanted)
    found.push_back({settings.memory.hugepages == config::Hugepages::On ? Weight::Trouble : Weight::Hint, "hugepages",
                     fmt::format("{} MiB of hugepages are free, and memory.size is {} MiB",
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

// What the daemon is told to leave alone, and what keeps it from its work.
void look_at_daemon(const TrafficSigns& seen, Findings& found) {
  if (seen.off) found.push_back({Weight::Trouble, "off", "sipward is switched off: nobody is blocked", "sipward on"});
  if (!seen.gone.empty())
    found.push_back(
        {Weight::Trouble, "interface_gone",
         seen.gone + " was deleted while sipward ran: its packets are seen no more, even if it was made anew",
         "systemctl restart sipward"});
  if (!seen.state_trouble.empty())
    found.push_back({Weight::Trouble, "state", "the state is not written: " + seen.state_trouble,
                     "mend the disk or the folder; until then a restart forgets what is new"});
  if (seen.too_long > 0)
    found.push_back({Weight::Trouble, "too_long",
                     fmt::format("{} frames were too long to forward and were dropped", seen.too_long),
                     "compare the MTUs of both sides; a virtual other end (veth) must split its segments itself: "
                     "ethtool -K PEER tso off gso off"});
  if (seen.learning)
    found.push_back({Weight::Hint, "learning", "sipward is still learning: only scanners are blocked",
                     "let it learn; or, if its would_block lines are right, `sipward arm`"});
  if (seen.received == 0 && seen.running_s >= kLongSilenceS)
    found.push_back({Weight::Hint, "nothing_seen",
                     fmt::format("no SIP packet was seen in the {} minutes that sipward runs", seen.running_s / 60),
                     "if the servers have traffic, it comes another way: `tcpdump -ni any udp port 5060` tells which "
                     "interface, to be named in ports.outside"});
}

void look_at_settings(const HostSigns& signs, const config::Settings& settings, Findings& found) {
  const auto there = [](const auto& each) { return each.second.exists; };
  const auto addressed = [](const auto& each) { return each.second.exists && each.second.addressed; };
  const bool bare = std::ranges::any_of(signs.interfaces, there) && std::ranges::none_of(signs.interfaces, addressed);
  if (settings.mode == config::Mode::Monitor && settings.sip.servers.empty() && bare)
    found.push_back({Weight::Trouble, "servers",
                     "sip.servers is empty and no interface of ports.outside has an address: nobody is protected",
                     "name the servers' addresses in sip.servers"});
  for (const auto& sentence : signs.unwritable)
    found.push_back({Weight::Trouble, "files", sentence, "mend the disk or the folder, or name another file"});
  if (settings.block.dry_run)
    found.push_back({Weight::Hint, "dry_run", "block.dry_run is true: nobody is blocked",
                     "when you agree with the would_block lines, set it to false and `sipward reload`"});
}

} // namespace

Findings diagnose(const HostSigns& signs, const config::Settings& settings) {
  Findings found;
  look_at_ports(signs, settings, found);
  for (const auto& [name, interface] : signs.interfaces) {
    look_at_interface(name, interface, settings, found);
    look_at_offloads(name, interface, settings, signs.traffic.has_value(), found);
  }
  look_at_settings(signs, settings, found);
  look_at_neighbours(signs, found);
  if (signs.traffic) {
    look_at_daemon(*signs.traffic, found);
    look_at_traffic(*signs.traffic, found);
  }
  look_at_kernel(signs, settings, found);
  std::ranges::stable_sort(found, {}, &Finding::weight);
  return found;
}

} // namespace sipward::daemon
