// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/capture.h"

#include <pcap/pcap.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>

#include "daemon/text.h"

namespace sipward::daemon {
namespace {

using dataplane::FrameKind;
using Octets = std::span<const std::uint8_t>;

constexpr std::size_t kVlanTag = 4;
constexpr std::int64_t kLastSecond = std::int64_t{1} << 33; // the year 2242: later stamps do not fit into nanoseconds

std::uint16_t u16(Octets octets, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(octets[at] << 8 | octets[at + 1]);
}

// `at`: where the header ends and what `protocol` names begins; VLAN tags first, where the kernel left them in.
FrameKind parse_cooked(const Packet& packet, std::uint16_t protocol, std::size_t at,
                       policy::Datagram& datagram) noexcept {
  for (int tag = 0; tag < dataplane::kMaxVlanTags && (protocol == 0x8100 || protocol == 0x88a8 || protocol == 0x9100);
       ++tag) {
    if (packet.octets.size() < at + kVlanTag) return FrameKind::Bad;
    protocol = u16(packet.octets, at + 2);
    at += kVlanTag;
  }
  if (protocol != 0x0800 && protocol != 0x86dd) return FrameKind::NotIp;
  return dataplane::parse_ip(packet.octets.subspan(at), packet.wire_length - at, datagram);
}

// The family is a number of the capturing system, in its own order of octets (DLT_NULL) or in the network's (DLT_LOOP).
bool is_internet_family(Octets octets) noexcept {
  const auto is_zero = [&](std::size_t at) { return octets[at] == 0 && octets[at + 1] == 0; };
  std::uint8_t family = 0;
  if (is_zero(0) && octets[2] == 0)
    family = octets[3];
  else if (is_zero(2) && octets[1] == 0)
    family = octets[0];
  // AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
  return family == 2 || family == 10 || family == 24 || family == 28 || family == 30;
}

std::optional<Link> link_of(int datalink) noexcept {
  switch (datalink) {
  case DLT_EN10MB: return Link::Ethernet;
  case DLT_LINUX_SLL: return Link::Cooked;
  case DLT_LINUX_SLL2: return Link::Cooked2;
  case 12:  // DLT_RAW has a number of its own on every system: Linux,
  case 14:  // OpenBSD,
  case 101: // and in files
  case DLT_IPV4:
  case DLT_IPV6: return Link::Ip;
  case DLT_NULL:
  case DLT_LOOP: return Link::Family;
  default: return std::nullopt;
  }
}

policy::Time time_of(const timeval& stamp) noexcept { // tv_usec holds nanoseconds: open() asks for them
  // libpcap reads the 32 bits of a pcap file as signed, the format has them unsigned: negative is 2038 and later.
  const std::int64_t seconds = stamp.tv_sec < 0 ? static_cast<std::uint32_t>(stamp.tv_sec) : stamp.tv_sec;
  const auto s = std::min(seconds, kLastSecond);
  const auto ns = std::clamp<std::int64_t>(stamp.tv_usec, 0, 999'999'999);
  return policy::Time(std::chrono::seconds(s) + std::chrono::nanoseconds(ns));
}

// libpcap's words for a file that is no capture at all.
std::string why_unreadable(std::string_view error) {
  if (error.find("unknown file format") != error.npos || error.find("bad dump file format") != error.npos)
    return "neither a pcap nor a pcapng file (a compressed one must be unpacked first)";
  return std::string(error);
}

} // namespace

FrameKind parse_packet(Link link, const Packet& packet, policy::Datagram& datagram) noexcept {
  const Octets octets = packet.octets;
  switch (link) {
  case Link::Ethernet: return dataplane::parse_frame(octets, packet.wire_length, datagram);
  case Link::Cooked: return octets.size() < 16 ? FrameKind::Bad : parse_cooked(packet, u16(octets, 14), 16, datagram);
  case Link::Cooked2: return octets.size() < 20 ? FrameKind::Bad : parse_cooked(packet, u16(octets, 0), 20, datagram);
  case Link::Ip: return dataplane::parse_ip(octets, packet.wire_length, datagram);
  case Link::Family:
    if (octets.size() < 4) return FrameKind::Bad;
    if (!is_internet_family(octets)) return FrameKind::NotIp;
    return dataplane::parse_ip(octets.subspan(4), packet.wire_length - 4, datagram);
  }
  return FrameKind::Bad;
}

void Capture::Close::operator()(pcap* handle) const noexcept { pcap_close(handle); }

Capture::Capture(const std::filesystem::path& file, pcap* handle, Link link)
    : name_(word(file.string())), handle_(handle), link_(link) {}

std::expected<Capture, std::string> Capture::open(const std::filesystem::path& file) {
  const auto refuse = [&](std::string_view why) {
    return std::unexpected(word(file.string()) + ": " + std::string(why));
  };
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) return refuse("a directory, not a capture");
  std::FILE* stream = std::fopen(file.c_str(), "rbe");
  if (stream == nullptr) return refuse(std::strerror(errno));
  std::array<char, PCAP_ERRBUF_SIZE> why{};
  pcap* handle = pcap_fopen_offline_with_tstamp_precision(stream, PCAP_TSTAMP_PRECISION_NANO, why.data());
  if (handle == nullptr) {
    std::fclose(stream); // it passes to libpcap only with success
    return refuse(why_unreadable(why.data()));
  }
  const int datalink = pcap_datalink(handle);
  const auto link = link_of(datalink);
  Capture capture(file, handle, link.value_or(Link::Ethernet));
  if (link) return capture;
  const char* name = pcap_datalink_val_to_name(datalink);
  return refuse("its link type " + (name != nullptr ? std::string(name) : std::to_string(datalink)) +
                " is not supported; Ethernet, Linux cooked, raw IP and loopback are");
}

std::expected<bool, std::string> Capture::next(Packet& packet) {
  pcap_pkthdr* header = nullptr;
  const u_char* octets = nullptr;
  const int result = pcap_next_ex(handle_.get(), &header, &octets);
  if (result == PCAP_ERROR_BREAK) return false; // the end of the file
  if (result != 1)
    return std::unexpected(name_ + ": broken at packet " + std::to_string(packets_ + 1) + ": " +
                           pcap_geterr(handle_.get()));
  ++packets_;
  packet.at = time_of(header->ts);
  packet.octets = {octets, header->caplen};
  packet.wire_length = std::max(header->len, header->caplen); // a file may claim anything
  return true;
}

std::uint64_t Capture::octets_read() const {
  const auto at = std::ftell(pcap_file(handle_.get()));
  return at < 0 ? 0 : static_cast<std::uint64_t>(at);
}

} // namespace sipward::daemon
