// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/nft_lab.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <thread>

#include "tests/run_tests.h"

using namespace std::chrono_literals;
using nlohmann::json;
using sipward::daemon::nft::Layout;
using sipward::daemon::nft::Nft;

namespace sipward::test {
namespace {

void put16(std::vector<std::uint8_t>& octets, unsigned value) {
  octets.push_back(static_cast<std::uint8_t>(value >> 8));
  octets.push_back(static_cast<std::uint8_t>(value));
}

std::vector<std::uint8_t> octets_of(const Frame& frame, const std::array<std::uint8_t, 6>& to) {
  const auto from = policy::Address::parse(frame.from).value();
  const bool v4 = from.family == policy::Family::V4;
  const auto target = policy::Address::parse(v4 ? "192.0.2.10" : "2001:db8::10").value();
  std::vector<std::uint8_t> out(to.begin(), to.end());
  out.insert(out.end(), {2, 0, 0, 0, 0, 1});
  put16(out, v4 ? ETHERTYPE_IP : ETHERTYPE_IPV6);

  std::vector<std::uint8_t> payload;
  put16(payload, frame.from_port);
  put16(payload, frame.port);
  payload.resize(40, 0x20); // a UDP or TCP header and a little more; nobody here looks at the rest
  payload[4] = 0, payload[5] = 40;

  const auto begin = out.size();
  if (v4) {
    out.insert(out.end(), {0x45, 0});
    put16(out, 20 + static_cast<unsigned>(payload.size()));
    put16(out, 0);
    put16(out, frame.fragment);
    out.insert(out.end(), {64, frame.protocol, 0, 0});
  } else {
    out.insert(out.end(), {0x60, 0, 0, 0});
    put16(out, static_cast<unsigned>(payload.size()));
    out.insert(out.end(), {frame.protocol, 64});
  }
  out.insert(out.end(), from.wire().begin(), from.wire().end());
  out.insert(out.end(), target.wire().begin(), target.wire().end());
  if (v4) {
    unsigned sum = 0;
    for (std::size_t i = begin; i < out.size(); i += 2) sum += static_cast<unsigned>(out[i] << 8 | out[i + 1]);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    out[begin + 10] = static_cast<std::uint8_t>(~sum >> 8);
    out[begin + 11] = static_cast<std::uint8_t>(~sum);
  }
  out.insert(out.end(), payload.begin(), payload.end());
  return out;
}

} // namespace

std::string output_of(const std::string& command) {
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen((command + " 2>&1").c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> part{};
  while (const auto size = fread(part.data(), 1, part.size(), pipe.get())) text.append(part.data(), size);
  return text;
}
void run(const std::string& command) {
  INFO(command);
  REQUIRE(std::system(command.c_str()) == 0);
}

policy::Subject numbered(int number) {
  return {.kind = policy::SubjectKind::Host,
          .prefix = policy::Prefix::host(policy::Address::v4(10, static_cast<std::uint8_t>(number >> 16),
                                                             static_cast<std::uint8_t>(number >> 8),
                                                             static_cast<std::uint8_t>(number)))};
}
Layout layout_on(std::initializer_list<const char*> interfaces, config::Scope scope) {
  Layout layout;
  layout.interfaces.assign(interfaces.begin(), interfaces.end());
  layout.scope = scope;
  layout.ports = {5060};
  return layout;
}

Nft fresh() {
  run("nft flush ruleset");
  auto nft = Nft::open();
  REQUIRE(nft);
  return std::move(*nft);
}

json listed(const std::string& what) {
  const auto text = output_of("nft -j list " + what);
  INFO(text);
  return json::parse(text).at("nftables");
}

std::map<std::string, json> elements(const std::string& set) {
  std::map<std::string, json> result;
  for (const auto& item : listed("set inet sipward " + set)) {
    if (!item.contains("set") || !item["set"].contains("elem")) continue;
    for (const auto& elem : item["set"]["elem"]) {
      const bool dressed = elem.is_object() && elem.contains("elem");
      const json& value = dressed ? elem["elem"]["val"] : elem;
      result[value.is_string() ? value.get<std::string>() : value.dump()] = dressed ? elem["elem"] : json::object();
    }
  }
  return result;
}
Texts values(const std::string& set) {
  Texts result;
  for (const auto& [value, _] : elements(set)) result.push_back(value);
  return result;
}

Wire::Wire() : socket_(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL))) {
  REQUIRE(socket_ >= 0);
  unsigned part[6];
  const auto link = output_of("ip -o link show swn-b");
  const auto at = link.find("link/ether ");
  REQUIRE(at != link.npos);
  REQUIRE(std::sscanf(link.c_str() + at + 11, "%x:%x:%x:%x:%x:%x", part, part + 1, part + 2, part + 3, part + 4,
                      part + 5) == 6);
  std::ranges::transform(part, to_.begin(), [](unsigned octet) { return static_cast<std::uint8_t>(octet); });
}
Wire::~Wire() { close(socket_); }

void Wire::send(const Frame& frame) const {
  const auto octets = octets_of(frame, to_);
  sockaddr_ll where{};
  where.sll_family = AF_PACKET;
  where.sll_ifindex = static_cast<int>(if_nametoindex("swn-a"));
  where.sll_halen = 6;
  const auto sent =
      sendto(socket_, octets.data(), octets.size(), 0, reinterpret_cast<const sockaddr*>(&where), sizeof where);
  REQUIRE(sent == static_cast<ssize_t>(octets.size()));
}

std::uint64_t dropped(Nft& nft) {
  const auto all = nft.read_all();
  must(all);
  std::uint64_t sum = 0;
  for (const auto& element : *all)
    if (element.effect != daemon::nft::Effect::Spare) sum += element.packets; // those count what passes
  return sum;
}
void make_probe() {
  run("nft add table inet probe");
  run("nft 'add chain inet probe pre { type filter hook prerouting priority 0 ; }'");
  run("nft 'add rule inet probe pre meta iifname swn-b ether saddr 02:00:00:00:00:01 counter'");
}
std::uint64_t passed() {
  for (const auto& item : listed("chain inet probe pre"))
    if (item.contains("rule"))
      for (const auto& expr : item["rule"]["expr"])
        if (expr.contains("counter")) return expr["counter"]["packets"].get<std::uint64_t>();
  FAIL("the probe has no counter");
  return 0;
}

Fate fate_of(const Frame& frame, const Wire& wire, Nft& nft) {
  const auto dropped_before = dropped(nft);
  const auto passed_before = passed();
  wire.send(frame);
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (dropped(nft) == dropped_before + 1) return Fate::Dropped;
    if (passed() == passed_before + 1) return Fate::Passed;
    std::this_thread::sleep_for(5ms);
  }
  return Fate::Lost;
}

int error_of_sending(std::uint16_t port, const std::string& to, std::uint16_t to_port) {
  const bool v4 = policy::Address::parse(to).value().family == policy::Family::V4;
  const auto at = [&](const std::string& text, std::uint16_t number) {
    sockaddr_in6 place{};
    if (v4) {
      sockaddr_in four{};
      four.sin_family = AF_INET;
      four.sin_port = htons(number);
      inet_pton(AF_INET, text.c_str(), &four.sin_addr);
      std::memcpy(&place, &four, sizeof four);
    } else {
      place.sin6_family = AF_INET6;
      place.sin6_port = htons(number);
      inet_pton(AF_INET6, text.c_str(), &place.sin6_addr);
    }
    return place;
  };
  const auto here = at(v4 ? "192.0.2.10" : "2001:db8::10", port);
  const auto there = at(to, to_port);
  const socklen_t size = v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  const int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  REQUIRE(bind(fd, reinterpret_cast<const sockaddr*>(&here), size) == 0);
  const auto sent = sendto(fd, "x", 1, 0, reinterpret_cast<const sockaddr*>(&there), size);
  const int error = sent < 0 ? errno : 0;
  close(fd);
  return error;
}

} // namespace sipward::test

int main(int argc, char** argv) {
  const auto skip = [](const char* reason) {
    std::cerr << "skipped: " << reason << "\n";
    return 77;
  };
  if (geteuid() != 0) return skip("needs root, for a network namespace of its own");
  if (std::system("nft --version >/dev/null 2>&1 && ip -V >/dev/null 2>&1") != 0) return skip("needs nft and ip");
  if (unshare(CLONE_NEWNET) != 0) return skip("cannot make a network namespace here");
  const char* wire = "set -e; ip link set lo up; ip link add swn-a type veth peer name swn-b;"
                     "ip link set swn-a up; ip link set swn-b up;"
                     "ip addr add 192.0.2.10/24 dev swn-b; ip addr add 2001:db8::10/64 dev swn-b nodad;"
                     "ip route add default dev swn-b; ip -6 route add default dev swn-b";
  if (std::system(wire) != 0) return skip("cannot make veth interfaces here");
  return sipward::test::run_tests(argc, argv);
}
