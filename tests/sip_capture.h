// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

// The recorded traffic that tests read where it is: SIPWARD_DATA, or ../shared/data beside the project.
namespace sipward::test {

inline std::filesystem::path data_folder() {
  const char* named = std::getenv("SIPWARD_DATA");
  return named ? std::filesystem::path(named) : std::filesystem::path(SIPWARD_SOURCE_DIR) / ".." / "shared" / "data";
}

inline std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<std::filesystem::path> files(const std::filesystem::path& folder, std::string_view extension) {
  std::vector<std::filesystem::path> out;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none))
    if (entry.path().extension() == extension) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

struct Packet {
  std::size_t frame; // its number in the capture, from 1
  std::string source;
  std::uint16_t source_port, port;
  std::string payload;
};

// The whole UDP datagrams of a classic pcap file (Ethernet with or without VLAN tags or PPPoE, Linux cooked, raw IP).
// Fragments are left out.
inline std::vector<Packet> udp_packets(const std::filesystem::path& path) {
  const std::string file = contents(path);
  std::vector<Packet> out;
  if (file.size() < 24) return out;
  const auto octet = [&](std::size_t i) { return static_cast<std::uint8_t>(i < file.size() ? file[i] : 0); };
  const bool little = octet(0) == 0xd4 || octet(0) == 0x4d;
  const auto word = [&](std::size_t i) {
    std::uint32_t value = 0;
    for (std::size_t k = 0; k < 4; ++k) value |= static_cast<std::uint32_t>(octet(i + k)) << 8 * (little ? k : 3 - k);
    return value;
  };
  const auto network = [&](std::size_t i) { return static_cast<std::uint16_t>(octet(i) << 8 | octet(i + 1)); };
  const std::uint32_t link = word(20);
  std::size_t number = 0;
  for (std::size_t at = 24; at + 16 <= file.size();) {
    const std::size_t end = at + 16 + word(at + 8);
    std::size_t ip = at + 16 + (link == 1 ? 14 : link == 113 ? 16 : link == 276 ? 20 : 0);
    at = end;
    ++number;
    while (link == 1 && (network(ip - 2) == 0x8100 || network(ip - 2) == 0x88a8)) ip += 4;
    if (link == 1 && network(ip - 2) == 0x8864) ip += 8;
    std::size_t udp = 0;
    std::string source;
    if (octet(ip) >> 4 == 4 && octet(ip + 9) == 17 && (network(ip + 6) & 0x3fff) == 0) {
      udp = ip + (octet(ip) & 15u) * 4u;
      for (std::size_t k = 12; k < 16; ++k) source += (k > 12 ? "." : "") + std::to_string(octet(ip + k));
    } else if (octet(ip) >> 4 == 6 && octet(ip + 6) == 17) {
      udp = ip + 40;
      source = "ipv6";
    } else {
      continue;
    }
    const std::size_t size = network(udp + 4);
    if (size < 8 || udp + size > end || end > file.size()) continue;
    out.push_back({number, source, network(udp), network(udp + 2), file.substr(udp + 8, size - 8)});
  }
  return out;
}

} // namespace sipward::test
