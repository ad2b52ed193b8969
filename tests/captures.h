// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "policy/address.h"

// Packets and capture files made in memory, octet by octet, so that the tests of replay do not rest on the library that
// replay reads with.
namespace sipward::captures {

using Octets = std::string; // as they stand on the wire or in the file

inline Octets big16(unsigned value) { return {static_cast<char>(value >> 8), static_cast<char>(value)}; }
inline Octets big32(std::uint32_t value) { return big16(value >> 16) + big16(value & 0xffff); }
inline Octets little16(unsigned value) { return {static_cast<char>(value), static_cast<char>(value >> 8)}; }
inline Octets little32(std::uint32_t value) { return little16(value & 0xffff) + little16(value >> 16); }

struct Endpoint {
  std::string address;
  std::uint16_t port = 5060;
};

inline Octets wire(const std::string& address) {
  const auto parsed = policy::Address::parse(address);
  if (!parsed) throw std::invalid_argument(address);
  const auto octets = parsed->wire();
  return {octets.begin(), octets.end()};
}

// An IPv4 or IPv6 packet with a UDP datagram. Checksums are zero: nothing here looks at them.
inline Octets udp(const Endpoint& from, const Endpoint& to, std::string_view payload) {
  const Octets datagram =
      big16(from.port) + big16(to.port) + big16(static_cast<unsigned>(8 + payload.size())) + big16(0) + Octets(payload);
  const Octets source = wire(from.address), destination = wire(to.address);
  const auto size = static_cast<unsigned>(datagram.size());
  if (source.size() == 4)
    return Octets("\x45\0", 2) + big16(20 + size) + Octets("\0\0\0\0\x40\x11\0\0", 8) + source + destination + datagram;
  return Octets("\x60\0\0\0", 4) + big16(size) + Octets("\x11\x40", 2) + source + destination + datagram;
}

// A packet of udp() in two fragments, the second from `offset` octets behind the IP header on (a multiple of 8).
inline std::pair<Octets, Octets> in_two(const Octets& packet, unsigned offset, unsigned number) {
  const bool v6 = (static_cast<unsigned char>(packet[0]) >> 4) == 6;
  const std::size_t header = v6 ? 40 : 20;
  const auto fragment = [&](const Octets& data, unsigned at, bool more) {
    Octets ip = packet.substr(0, header);
    if (v6) {
      ip.replace(4, 3, big16(static_cast<unsigned>(8 + data.size())) + '\x2c');
      return ip + Octets("\x11\0", 2) + big16(at | (more ? 1u : 0u)) + big32(number) + data;
    }
    ip.replace(2, 6,
               big16(static_cast<unsigned>(20 + data.size())) + big16(number) + big16((more ? 0x2000u : 0u) | at / 8));
    unsigned sum = 0;
    for (std::size_t i = 0; i < header; i += 2)
      sum += static_cast<unsigned char>(ip[i]) * 256u + static_cast<unsigned char>(ip[i + 1]);
    while (sum > 0xffff) sum = (sum >> 16) + (sum & 0xffff);
    return ip.replace(10, 2, big16(~sum & 0xffff)) + data;
  };
  return {fragment(packet.substr(header, offset), 0, true), fragment(packet.substr(header + offset), offset, false)};
}

inline bool is_v6(const Octets& ip) { return (static_cast<unsigned char>(ip[0]) >> 4) == 6; }
inline unsigned ethertype(const Octets& ip) { return is_v6(ip) ? 0x86dd : 0x0800; }
inline Octets tag(unsigned type, const Octets& inner) {
  return big16(type) + big16(42) + inner;
} // a VLAN tag; `inner`: type and rest
inline Octets typed(const Octets& ip) { return big16(ethertype(ip)) + ip; }
inline Octets ethernet(const Octets& rest) { return Octets(12, '\x02') + rest; }
inline Octets cooked(unsigned protocol, const Octets& rest) { return Octets(14, '\0') + big16(protocol) + rest; }
inline Octets cooked2(unsigned protocol, const Octets& rest) { return big16(protocol) + Octets(18, '\0') + rest; }

// A pcap file of the older format.
struct Pcap {
  Octets octets;

  explicit Pcap(std::uint32_t link_type, std::uint32_t magic = 0xa1b2c3d4)
      : octets(little32(magic) + little16(2) + little16(4) + little32(0) + little32(0) + little32(262144) +
               little32(link_type)) {}
  // `fraction`: microseconds, or nanoseconds with the magic number 0xa1b23c4d.
  Pcap& add(std::uint32_t s, std::uint32_t fraction, const Octets& packet, std::uint32_t wire_length = 0) {
    const auto size = static_cast<std::uint32_t>(packet.size());
    octets +=
        little32(s) + little32(fraction) + little32(size) + little32(wire_length == 0 ? size : wire_length) + packet;
    return *this;
  }
};

// A pcapng file: one section, one interface, stamps in microseconds.
struct Pcapng {
  Octets octets;

  explicit Pcapng(unsigned link_type) {
    block(0x0a0d0d0a, little32(0x1a2b3c4d) + little16(1) + little16(0) + Octets(8, '\xff'));
    block(1, little16(link_type) + little16(0) + little32(0));
  }
  Pcapng& add(std::uint64_t us, const Octets& packet) {
    const auto size = static_cast<std::uint32_t>(packet.size());
    block(6, little32(0) + little32(static_cast<std::uint32_t>(us >> 32)) + little32(static_cast<std::uint32_t>(us)) +
                 little32(size) + little32(size) + packet + Octets((4 - size % 4) % 4, '\0'));
    return *this;
  }

private:
  void block(std::uint32_t type, const Octets& body) {
    const auto length = little32(static_cast<std::uint32_t>(12 + body.size()));
    octets += little32(type) + length + body + length;
  }
};

// A folder of its own for one test's files, gone with it.
class Folder {
public:
  Folder() : path_(std::filesystem::temp_directory_path() / ("sipward-test-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::filesystem::path file(const std::string& name, std::string_view octets) const {
    std::ofstream(path_ / name, std::ios::binary) << octets;
    return path_ / name;
  }
  const std::filesystem::path& path() const noexcept { return path_; }

private:
  std::filesystem::path path_;
};

// A request as a phone sends it.
inline std::string request(const std::string& method, const std::string& user = "alice",
                           const std::string& user_agent = "Snom/8.7", unsigned cseq = 1) {
  return method + " sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK" + std::to_string(cseq) +
         "\r\nMax-Forwards: 70\r\nFrom: <sip:" + user + "@example.com>;tag=a1\r\nTo: <sip:" + user +
         "@example.com>\r\nCall-ID: c" + user + "@192.0.2.1\r\nCSeq: " + std::to_string(cseq) + " " + method +
         "\r\nUser-Agent: " + user_agent + "\r\nContent-Length: 0\r\n\r\n";
}

inline std::string response(unsigned status, const std::string& method, const std::string& user = "alice",
                            unsigned cseq = 1) {
  return "SIP/2.0 " + std::to_string(status) + " Whatever\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK" +
         std::to_string(cseq) + "\r\nFrom: <sip:" + user + "@example.com>;tag=a1\r\nTo: <sip:" + user +
         "@example.com>;tag=b2\r\nCall-ID: c" + user + "@192.0.2.1\r\nCSeq: " + std::to_string(cseq) + " " + method +
         "\r\nContent-Length: 0\r\n\r\n";
}

} // namespace sipward::captures
