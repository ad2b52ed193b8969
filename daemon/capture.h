// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "dataplane/frame.h"
#include "policy/judge.h"
#include "policy/time.h"

struct pcap; // libpcap's, known to capture.cpp only

// Capture files, pcap and pcapng, as a sequence of packets.
namespace sipward::daemon {

// What a packet of a capture begins with.
enum class Link : std::uint8_t {
  Ethernet,
  Cooked,  // Linux cooked capture: 16 octets, the protocol in the last two
  Cooked2, // version 2: 20 octets, the protocol in the first two
  Ip,      // an IPv4 or IPv6 header at once
  Family,  // BSD loopback: an address family of four octets, in whichever order
};

struct Packet {
  policy::Time at;                      // Unix time
  std::span<const std::uint8_t> octets; // as captured; valid until the capture's next packet is read
  std::size_t wire_length = 0;          // octets on the wire, never fewer than captured
};

// The datagram inside. `packet` is read as `link` says, never past its end. Any thread.
dataplane::FrameKind parse_packet(Link link, const Packet& packet, policy::Datagram& datagram) noexcept;

// An open capture file. One thread. Errors are sentences that begin with the file's name.
class Capture {
public:
  static std::expected<Capture, std::string> open(const std::filesystem::path& file);

  // The next packet; false at the end of the file. A file that ends in the middle of a packet is an error.
  std::expected<bool, std::string> next(Packet& packet);

  Link link() const noexcept { return link_; }
  std::uint64_t octets_read() const; // of the file

private:
  struct Close {
    void operator()(pcap* handle) const noexcept;
  };
  Capture(const std::filesystem::path& file, pcap* handle, Link link);

  std::string name_;
  std::unique_ptr<pcap, Close> handle_;
  Link link_;
  std::uint64_t packets_ = 0;
};

} // namespace sipward::daemon
