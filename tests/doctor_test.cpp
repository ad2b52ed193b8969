// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/doctor.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>
#include <set>

namespace sipward::daemon {
namespace {

namespace fs = std::filesystem;

config::Settings settings() {
  config::Settings settings;
  settings.ports.outside = {"eth1"};
  return settings;
}

HostSigns healthy() {
  HostSigns signs;
  signs.listeners = {{false, 5060}, {false, 53}, {true, 22}, {true, 5061}};
  signs.interfaces["eth1"] = {};
  signs.kernel_major = 6;
  signs.kernel_minor = 1;
  signs.traffic = TrafficSigns{.received = 100'000, .registered_users = 300, .most_registered = 20, .registrar = "a"};
  return signs;
}

std::set<std::string> checks(const HostSigns& signs, const config::Settings& by = settings()) {
  std::set<std::string> names;
  for (const auto& finding : diagnose(signs, by)) {
    CHECK_FALSE(finding.what.empty());
    CHECK_FALSE(finding.remedy.empty());
    names.insert(finding.check);
  }
  return names;
}

TEST_CASE("a healthy host has nothing to say, with or without a daemon") {
  auto signs = healthy();
  CHECK(checks(signs).empty());
  signs.traffic.reset();
  CHECK(checks(signs).empty());
}

TEST_CASE("each thing that blinds or disarms is named, and nothing else") {
  struct Row {
    const char* check;
    std::function<void(HostSigns&, config::Settings&)> ail;
  };
  const Row kRows[] = {
      {"sip_ports",
       [](auto& s, auto&) {
         s.listeners.push_back({false, 5062});
       }},
      {"sip_ports",
       [](auto& s, auto&) {
         s.listeners.push_back({true, 5080});
       }},
      {"sip_over_tcp",
       [](auto& s, auto&) {
         s.listeners.push_back({true, 5060});
       }},
      {"sip_ports",
       [](auto& s, auto&) {
         s.listeners.push_back({false, 5160});
       }},
      {"redirect",
       [](auto& s, auto&) {
         s.redirects = {{5080, 5060, "ip nat"}};
       }},
      {"interface", [](auto& s, auto&) { s.interfaces["eth1"].exists = false; }},
      {"interface_down", [](auto& s, auto&) { s.interfaces["eth1"].up = false; }},
      {"interface_down", [](auto& s, auto&) { s.interfaces["eth1"].carrier = false; }},
      {"offloads",
       [](auto& s, auto&) {
         s.interfaces["eth1"].joining = {"rx-gro", "rx-udp-gro-forwarding"};
       }},
      {"offloads",
       [](auto& s, auto& c) {
         s.interfaces["eth1"].joining = {"rx-gro"};
         s.traffic->hugepages = true;
         c.mode = config::Mode::Inline;
       }},
      {"servers", [](auto& s, auto&) { s.interfaces["eth1"].addressed = false; }},
      {"files", [](auto& s, auto&) { s.unwritable = {"the disk is full"}; }},
      {"dry_run", [](auto&, auto& c) { c.block.dry_run = true; }},
      {"off", [](auto& s, auto&) { s.traffic->off = true; }},
      {"learning", [](auto& s, auto&) { s.traffic->learning = true; }},
      {"interface_gone", [](auto& s, auto&) { s.traffic->gone = "eth1"; }},
      {"state", [](auto& s, auto&) { s.traffic->state_trouble = "No space left on device"; }},
      {"too_long", [](auto& s, auto&) { s.traffic->too_long = 1; }},
      {"nothing_seen", [](auto& s, auto&) { s.traffic = TrafficSigns{.running_s = 300}; }},
      {"bond", [](auto& s, auto&) { s.interfaces["eth1"].bond = "bond0"; }},
      {"xdp", [](auto& s, auto&) { s.interfaces["eth1"].xdp = true; }},
      {"tc", [](auto& s, auto&) { s.interfaces["eth1"].tc = true; }},
      {"cilium", [](auto& s, auto&) { s.cilium = true; }},
      {"fail2ban",
       [](auto& s, auto&) {
         s.fail2ban = true;
         s.sip_jails = {"asterisk"};
       }},
      {"apparmor", [](auto& s, auto&) { s.apparmor_denials = 3; }},
      {"ingress_hook",
       [](auto& s, auto&) {
         s.kernel_major = 5;
         s.kernel_minor = 4;
       }},
      {"clock", [](auto& s, auto&) { s.clock_synchronised = false; }},
      {"hugepages", [](auto&, auto& c) { c.memory.hugepages = config::Hugepages::On; }},
      {"bridge",
       [](auto& s, auto& c) {
         s.interfaces["eth1"].bridge = "br0";
         c.nftables.hook = config::Hook::Prerouting;
       }},
      {"one_direction", [](auto& s, auto&) { s.traffic->answers_unseen = true; }},
      {"nftables", [](auto& s, auto&) { s.traffic->in_sync = false; }},
      {"checksums", [](auto& s, auto&) { s.traffic->bad_checksum = 5'000; }},
      {"lost_packets", [](auto& s, auto&) { s.traffic->lost = 5'000; }},
      {"in_front", [](auto& s, auto&) { s.traffic->most_registered = 200; }},
  };
  for (const auto& row : kRows) {
    INFO(row.check);
    auto signs = healthy();
    auto by = settings();
    row.ail(signs, by);
    CHECK(checks(signs, by) == std::set<std::string>{row.check});
  }
}

TEST_CASE("what only looks like an ailment is none") {
  struct Row {
    const char* name;
    std::function<void(HostSigns&, config::Settings&)> change;
  };
  const Row kRows[] = {
      {"a port that the settings name",
       [](auto& s, auto& c) {
         s.listeners.push_back({false, 5080});
         c.sip.ports = {5060, 5080};
       }},
      {"jails of a fail2ban that does not run", [](auto& s, auto&) { s.sip_jails = {"asterisk"}; }},
      {"a fail2ban that guards SSH alone", [](auto& s, auto&) { s.fail2ban = true; }},
      {"an old kernel, with prerouting",
       [](auto& s, auto& c) {
         s.kernel_major = 5;
         s.kernel_minor = 4;
         c.nftables.hook = config::Hook::Prerouting;
       }},
      {"a bridge port, with ingress", [](auto& s, auto&) { s.interfaces["eth1"].bridge = "br0"; }},
      {"a redirect to or from a port that the settings name, and one that is no SIP",
       [](auto& s, auto& c) {
         s.redirects = {{5080, 5060, "ip nat"}, {80, 8080, "ip nat"}};
         c.sip.ports = {5060, 5080};
       }},
      {"GRO, which joins no UDP",
       [](auto& s, auto&) {
         s.interfaces["eth1"].joining = {"rx-gro", "rx-lro"};
       }},
      {"GRO inline, without a daemon that would have switched it off",
       [](auto& s, auto& c) {
         s.interfaces["eth1"].joining = {"rx-gro"};
         s.free_hugepages_octets = std::uint64_t{1} << 40;
         s.traffic.reset();
         c.mode = config::Mode::Inline;
       }},
      {"an interface without an address, and servers that are named",
       [](auto& s, auto& c) {
         s.interfaces["eth1"].addressed = false;
         c.sip.servers = {*policy::Address::parse("192.0.2.10")};
       }},
      {"hugepages that the daemon took",
       [](auto& s, auto& c) {
         s.traffic->hugepages = true;
         c.memory.hugepages = config::Hugepages::On;
       }},
      {"the first quiet minutes", [](auto& s, auto&) { s.traffic = TrafficSigns{.running_s = 200}; }},
      {"a host with three phones, all in one office",
       [](auto& s, auto&) { s.traffic = TrafficSigns{.registered_users = 3, .most_registered = 3}; }},
      {"a few bad packets among few",
       [](auto& s, auto&) { s.traffic = TrafficSigns{.received = 50, .bad_checksum = 5, .lost = 5}; }},
  };
  for (const auto& row : kRows) {
    INFO(row.name);
    auto signs = healthy();
    auto by = settings();
    row.change(signs, by);
    CHECK(checks(signs, by).empty());
  }
}

TEST_CASE("troubles come before hints") {
  auto signs = healthy();
  signs.listeners.push_back({true, 5060});
  signs.clock_synchronised = false;
  signs.traffic->in_sync = false;
  const auto found = diagnose(signs, settings());
  REQUIRE(found.size() == 3);
  CHECK(found[0].weight == Finding::Weight::Trouble);
  CHECK(found[1].weight == Finding::Weight::Hint);
}

TEST_CASE("listening ports are read from the kernel's tables") {
  const std::string head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
  CHECK(listeners_in(head +
                         "   0: 00000000:13C4 00000000:0000 07 00000000:00000000\n"
                         "   1: 0100007F:13C6 00000000:0000 07 00000000:00000000\n"  // loopback: nobody's from outside
                         "   2: 0A0200C0:13C8 0A0200C0:13C4 01 00000000:00000000\n", // connected
                     false) == std::vector<Listener>{{false, 5060}});
  CHECK(listeners_in(head + "   0: 00000000000000000000000000000000:13D8 00000000000000000000000000000000:0000 0A\n"
                            "   1: 00000000:13C4 0A0200C0:9999 01\n",
                     true) == std::vector<Listener>{{true, 5080}});
  CHECK(listeners_in("", true).empty());
  CHECK(listeners_in("no table\nat all", true).empty());
}

TEST_CASE("fail2ban's SIP jails are found where they are enabled") {
  CHECK(sip_jails_in("[DEFAULT]\nenabled = false\n[sshd]\nenabled = true\n").empty());
  CHECK(sip_jails_in(
            "[asterisk]\nport = 5060\nenabled = true\n[freeswitch]\nenabled = false\n[kamailio-auth]\nEnabled=yes\n") ==
        std::vector<std::string>{"asterisk", "kamailio-auth"});
  CHECK(sip_jails_in("[asterisk]\nenabled = true\n[asterisk]\nenabled = false\n").empty()); // jail.local's word
  CHECK(sip_jails_in("[asterisk]\nport = 5060\n[sshd]\n[DEFAULT]\nenabled = true\n") ==
        std::vector<std::string>{"asterisk"});
  CHECK(sip_jails_in("").empty());
}

TEST_CASE("a folder can stand for the host") {
  const auto root = fs::temp_directory_path() / ("doctor_test-" + std::to_string(getpid()));
  const auto write = [&](const fs::path& file, const std::string& text) {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text;
  };
  write("proc/self/net/udp", "head\n 0: 00000000:13C6 00000000:0000 07\n");
  write("proc/7/comm", "fail2ban-server\n");
  write("etc/fail2ban/jail.d/sip.conf", "[asterisk]\nenabled = true\n[kamailio]\nenabled = true\n");
  write("etc/fail2ban/jail.local", "[kamailio]\nenabled = false\n");
  write("etc/fail2ban/jail.d/old.conf.dpkg-old", "[yate]\nenabled = true\n");
  write("sys/class/net/bond0/bonding/mode", "802.3ad\n");
  write("sys/class/net/slave0/flags", "0x1002\n");
  write("sys/class/net/slave0/carrier", "0\n");
  write("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "3\n");
  fs::create_directories(root / "proc/6/comm"); // cannot be read, as of a process that has just ended
  fs::create_directory_symlink("../bond0", root / "sys/class/net/slave0/master");
  auto by = settings();
  by.ports.outside = {"slave0", "absent0", "vdev:net_null0"};
  const auto signs = look_at_host(by, root);
  fs::remove_all(root);
  CHECK(signs.listeners == std::vector<Listener>{{false, 5062}});
  CHECK(signs.fail2ban);
  CHECK(signs.sip_jails == std::vector<std::string>{"asterisk"});
  REQUIRE(signs.interfaces.size() == 2);
  CHECK(signs.interfaces.at("slave0").bond == "bond0");
  CHECK_FALSE(signs.interfaces.at("slave0").up);
  CHECK_FALSE(signs.interfaces.at("slave0").carrier);
  CHECK_FALSE(signs.interfaces.at("absent0").exists);
  CHECK(signs.free_hugepages_octets == std::uint64_t{6} << 20);
  CHECK(signs.kernel_major > 3);
}

} // namespace
} // namespace sipward::daemon
