// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "bench/messages.h"
#include "tests/captures.h"

// Captures for net_pcap to play over and over. Senders are rewritten on the way (sources.h); the server is 10.66.0.1.
namespace sipward::bench {

inline constexpr const char* kServer = "10.66.0.1";
inline constexpr std::size_t kFrames = 512; // of a capture: they stay in the core's cache, as those of a NIC do

enum class Traffic { Registers, Scanners, Credentials, Invites, Mix, Everything };
inline constexpr std::size_t kTraffics = 5; // that are measured
inline constexpr const char* kTrafficNames[] = {"registers", "scanners", "credentials", "invites", "mix", "everything"};

constexpr std::size_t kRegister = 401 - 14 - 20 - 8; // what all is measured by: REGISTERs in frames of 401 octets

// As phones send it first.
inline Shape first_register() {
  return {"REGISTER", "sip:lab.example.net", "", {"Expires: 120"}, phone_agents(), kRegister};
}
inline Shape friendly_register() {
  Shape shape = scanner_register();
  shape.agents = {"friendly-scanner"};
  shape.size = kRegister;
  return shape;
}

inline captures::Octets frame(const captures::Endpoint& from, const captures::Endpoint& to, std::string_view payload) {
  return captures::ethernet(captures::typed(captures::udp(from, to, payload)));
}

// The i-th frame of honest traffic: of ten, four REGISTERs with credentials and their answers, one keepalive, one
// INVITE.
inline captures::Octets honest(std::size_t i, const Sample& registers, const Sample& invite) {
  const captures::Endpoint phone{"10.0.0.1"}, server{kServer};
  switch (i % 10) {
  case 0: return frame(phone, server, "\r\n\r\n");
  case 1: return frame(phone, server, invite.octets);
  case 2:
  case 4:
  case 6:
  case 8: return frame(server, phone, captures::response(200, "REGISTER", registers.user));
  default: return frame(phone, server, registers.octets);
  }
}

// The i-th frame of a bad day: of sixteen, one scanner, one that is no SIP, one fragment whose others come in another's
// name, and honest traffic.
inline captures::Octets bad_day(std::size_t i, const Sample& registers, const Sample& scanner, const Sample& invite) {
  const captures::Endpoint stranger{"10.0.0.1"}, server{kServer};
  switch (i % 16) {
  case 3: return frame(stranger, server, scanner.octets);
  case 7: return frame(stranger, server, "GET / HTTP/1.1\r\n\r\n");
  case 11: {
    const auto [first, last] = captures::in_two(captures::udp(stranger, server, invite.octets), 512, i & 0xffff);
    return captures::ethernet(captures::typed(i % 32 < 16 ? first : last));
  }
  default: return honest(i, registers, invite);
  }
}

// Writes the capture of one kind of traffic; returns its path.
inline std::filesystem::path write_capture(const std::filesystem::path& folder, Traffic traffic) {
  const auto seed = static_cast<std::uint64_t>(traffic);
  const auto samples = [seed](const Shape& shape) { return make_many(shape, kFrames, seed); };
  const auto first = samples(first_register()), scanners = samples(friendly_register()),
             registers = samples(phone_register()), invites = samples(invite());
  const auto at = [&](std::size_t i) {
    const captures::Endpoint phone{"10.0.0.1"}, server{kServer};
    switch (traffic) {
    case Traffic::Registers: return frame(phone, server, first[i].octets);
    case Traffic::Scanners: return frame(phone, server, scanners[i].octets);
    case Traffic::Credentials: return frame(phone, server, registers[i].octets);
    case Traffic::Invites: return frame(phone, server, invites[i].octets);
    case Traffic::Mix: return honest(i, registers[i], invites[i]);
    case Traffic::Everything: break;
    }
    return bad_day(i, registers[i], scanners[i], invites[i]);
  };
  captures::Pcap file(1); // Ethernet
  for (std::size_t i = 0; i < kFrames; ++i) file.add(1, 0, at(i));
  const auto path = folder / (std::string(kTrafficNames[static_cast<std::size_t>(traffic)]) + ".pcap");
  std::ofstream(path, std::ios::binary) << file.octets;
  return path;
}

} // namespace sipward::bench
