// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/capture.h"

#include <catch2/catch.hpp>

#include <memory>

#include "captures.h"

using namespace sipward;
using namespace sipward::captures;
using namespace sipward::daemon;
using dataplane::FrameKind;

namespace {

const Octets kV4 = udp({"198.51.100.66", 5062}, {"192.0.2.10", 5060}, "hello, sip");
const Octets kV6 = udp({"2001:db8:1::66", 5062}, {"2001:db8::10", 5060}, "hello, sip");

// What a capture holds, read to its end.
struct Contents {
  std::size_t packets = 0;
  std::vector<std::int64_t> stamps_ns;
  std::vector<FrameKind> kinds;
  std::vector<policy::Datagram> datagrams; // without their payloads: those die with the packet
  std::string payload;                     // of the last one
  std::string error;
};

Contents read(const std::filesystem::path& file) {
  Contents contents;
  auto capture = Capture::open(file);
  if (!capture) {
    contents.error = capture.error();
    return contents;
  }
  Packet packet;
  for (;;) {
    const auto more = capture->next(packet);
    if (!more) contents.error = more.error();
    if (!more || !*more) return contents;
    ++contents.packets;
    policy::Datagram datagram;
    contents.kinds.push_back(parse_packet(capture->link(), packet, datagram));
    contents.stamps_ns.push_back(packet.at.time_since_epoch().count());
    contents.payload = datagram.payload;
    datagram.payload = {};
    contents.datagrams.push_back(datagram);
  }
}

} // namespace

TEST_CASE("every supported link type leads to the datagram inside") {
  struct Row {
    const char* name;
    std::uint32_t link_type;
    Octets packet;
    FrameKind kind = FrameKind::Udp;
  };
  const std::vector<Row> rows = {
      {"Ethernet, IPv4", 1, ethernet(typed(kV4))},
      {"Ethernet, IPv6", 1, ethernet(typed(kV6))},
      {"Ethernet, one VLAN tag", 1, ethernet(tag(0x8100, typed(kV4)))},
      {"Ethernet, QinQ", 1, ethernet(tag(0x88a8, tag(0x8100, typed(kV6))))},
      {"Ethernet, three tags", 1, ethernet(tag(0x8100, tag(0x8100, tag(0x8100, typed(kV4))))), FrameKind::NotIp},
      {"Ethernet, padded", 1, ethernet(typed(kV4)) + Octets(10, '\0')},
      {"Linux cooked, IPv4", 113, cooked(0x0800, kV4)},
      {"Linux cooked, IPv6", 113, cooked(0x86dd, kV6)},
      {"Linux cooked, a VLAN tag", 113, cooked(0x8100, big16(7) + typed(kV4))},
      {"Linux cooked, ARP", 113, cooked(0x0806, Octets(28, '\0')), FrameKind::NotIp},
      {"Linux cooked v2, IPv4", 276, cooked2(0x0800, kV4)},
      {"Linux cooked v2, IPv6", 276, cooked2(0x86dd, kV6)},
      {"Linux cooked v2, two VLAN tags", 276, cooked2(0x88a8, big16(7) + tag(0x8100, typed(kV6)))},
      {"Linux cooked v2, cut in its header", 276, cooked2(0x0800, "").substr(0, 19), FrameKind::Bad},
      {"raw IP, as files number it, IPv4", 101, kV4},
      {"raw IP, as files number it, IPv6", 101, kV6},
      {"raw IP, as Linux numbers it", 12, kV4},
      {"raw IP, as OpenBSD numbers it", 14, kV4},
      {"IPv4 alone", 228, kV4},
      {"IPv6 alone", 229, kV6},
      {"BSD loopback, little-endian", 0, little32(2) + kV4},
      {"BSD loopback, big-endian", 0, big32(2) + kV4},
      {"BSD loopback, IPv6 of macOS", 0, little32(30) + kV6},
      {"OpenBSD loopback", 108, big32(24) + kV6},
      {"BSD loopback, AppleTalk", 0, little32(16) + kV4, FrameKind::NotIp},
      {"an empty packet", 101, "", FrameKind::Bad},
  };
  Folder folder;
  for (const auto& row : rows) {
    INFO(row.name);
    const auto contents = read(folder.file("a.pcap", Pcap(row.link_type).add(1000, 0, row.packet).octets));
    REQUIRE(contents.error == "");
    REQUIRE(contents.kinds == std::vector{row.kind});
    if (row.kind != FrameKind::Udp) continue;
    const bool v6 = contents.datagrams[0].source.family == policy::Family::V6;
    CHECK(to_string(contents.datagrams[0].source) == (v6 ? "2001:db8:1::66" : "198.51.100.66"));
    CHECK(to_string(contents.datagrams[0].destination) == (v6 ? "2001:db8::10" : "192.0.2.10"));
    CHECK(contents.datagrams[0].source_port == 5062);
    CHECK(contents.datagrams[0].destination_port == 5060);
    CHECK(contents.payload == "hello, sip");
  }
}

TEST_CASE("no packet of any link type is read past its end") {
  const std::pair<Link, Octets> rows[] = {{Link::Ethernet, ethernet(tag(0x8100, typed(kV6)))},
                                          {Link::Cooked, cooked(0x8100, big16(7) + typed(kV4))},
                                          {Link::Cooked2, cooked2(0x88a8, big16(7) + tag(0x8100, typed(kV6)))},
                                          {Link::Ip, kV4},
                                          {Link::Family, little32(2) + kV4}};
  for (const auto& [link, whole] : rows)
    for (std::size_t length = 0; length < whole.size(); ++length) {
      // A buffer of exactly this size: the address sanitizer sees one octet too many.
      const auto cut = std::make_unique<std::uint8_t[]>(length);
      std::copy_n(whole.begin(), length, cut.get());
      policy::Datagram datagram;
      const auto kind = parse_packet(link, {policy::Time(), {cut.get(), length}, whole.size()}, datagram);
      INFO("link " << static_cast<int>(link) << ", " << length << " of " << whole.size() << " octets");
      CHECK((kind == FrameKind::Bad || (kind == FrameKind::Udp && datagram.truncated)));
    }
}

TEST_CASE("stamps are Unix time in nanoseconds, whatever the file counts in") {
  Folder folder;
  CHECK(read(folder.file("us.pcap", Pcap(101).add(1700000000, 123456, kV4).octets)).stamps_ns ==
        std::vector{1700000000'123456000});
  CHECK(read(folder.file("ns.pcap", Pcap(101, 0xa1b23c4d).add(1700000000, 123456789, kV4).octets)).stamps_ns ==
        std::vector{1700000000'123456789});
  CHECK(read(folder.file("a.pcapng", Pcapng(101).add(1700000000'123456, kV4).octets)).stamps_ns ==
        std::vector{1700000000'123456000});
  // Nonsense stays within what 64 bits of nanoseconds hold.
  for (const auto stamp :
       read(folder.file("odd.pcap", Pcap(101, 0xa1b23c4d).add(0xffffffff, 0xffffffff, kV4).octets)).stamps_ns)
    CHECK(stamp / 1'000'000'000 == 0xffffffff);
  for (const auto stamp : read(folder.file("odd.pcapng", Pcapng(101).add(~std::uint64_t{0}, kV4).octets)).stamps_ns)
    CHECK(stamp >= 0);
}

TEST_CASE("a big-endian machine's capture is read as well") {
  const Octets file = big32(0xa1b2c3d4) + big16(2) + big16(4) + big32(0) + big32(0) + big32(65535) + big32(101) +
                      big32(1000) + big32(5) + big32(static_cast<std::uint32_t>(kV4.size())) +
                      big32(static_cast<std::uint32_t>(kV4.size())) + kV4;
  Folder folder;
  const auto contents = read(folder.file("a.pcap", file));
  CHECK(contents.error == "");
  CHECK(contents.payload == "hello, sip");
}

TEST_CASE("a packet that the capture cut is told from a short one") {
  Folder folder;
  const auto size = static_cast<std::uint32_t>(kV4.size());
  const auto cut = read(folder.file("cut.pcap", Pcap(101).add(1000, 0, kV4.substr(0, kV4.size() - 4), size).octets));
  REQUIRE(cut.kinds == std::vector{FrameKind::Udp});
  CHECK(cut.datagrams[0].truncated);
  CHECK(cut.payload == "hello,");
  // A file that claims fewer octets on the wire than it holds is not believed.
  CHECK(read(folder.file("odd.pcap", Pcap(101).add(1000, 0, kV4, 3).octets)).kinds == std::vector{FrameKind::Udp});
}

TEST_CASE("a truncated capture is an error that names the file, or a shorter capture where a packet ends") {
  const std::pair<const char*, Octets> files[] = {
      {"small.pcap", Pcap(1).add(1000, 0, ethernet(typed(kV4))).add(1001, 0, ethernet(typed(kV6))).octets},
      {"small.pcapng", Pcapng(1).add(1000000, ethernet(typed(kV4))).add(1001000, ethernet(typed(kV6))).octets}};
  Folder folder;
  for (const auto& [name, whole] : files) {
    REQUIRE(read(folder.file(name, whole)).packets == 2);
    std::size_t clean_ends = 0;
    for (std::size_t length = 0; length < whole.size(); ++length) {
      INFO(name << " cut to " << length << " of " << whole.size() << " octets");
      const auto contents = read(folder.file(name, whole.substr(0, length)));
      CHECK(contents.packets < 2);
      if (contents.error.empty())
        ++clean_ends;
      else
        CHECK(contents.error.find(name) != std::string::npos);
    }
    CHECK(clean_ends == 2); // before the first packet and between the two
  }
}

TEST_CASE("what is no capture is refused in a sentence that says why") {
  Folder folder;
  const std::pair<std::filesystem::path, const char*> rows[] = {
      {folder.path() / "missing.pcap", "No such file"},
      {folder.path(), "a directory"},
      {folder.file("empty.pcap", ""), "truncated"},
      {folder.file("junk.pcap", "this is no capture at all, just some words in a file"), "neither a pcap nor a pcapng"},
      {folder.file("gzip.pcap", "\x1f\x8b\x08" + Octets(60, '\1')), "compressed"},
      {folder.file("usb.pcap", Pcap(189).octets), "link type USB_LINUX is not supported"},
      {folder.file("wlan.pcap", Pcap(105).octets), "link type IEEE802_11 is not supported"}};
  for (const auto& [file, why] : rows) {
    INFO(file);
    const auto error = read(file).error;
    CHECK(error.find(file.filename()) != std::string::npos);
    CHECK_THAT(error, Catch::Contains(why));
  }
}

TEST_CASE("random octets after a capture's header crash nothing") {
  Folder folder;
  std::uint64_t state = 0x9e3779b97f4a7c15; // xorshift64: the same files every time
  for (int i = 0; i < 300; ++i) {
    Octets file =
        i % 2 == 0 ? Pcap(1).add(1000, 0, ethernet(typed(kV4))).octets : Pcapng(113).add(1, cooked(0x0800, kV4)).octets;
    for (int flips = 0; flips < 8; ++flips) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      file[state % file.size()] = static_cast<char>(state >> 32);
    }
    CHECK_NOTHROW(read(folder.file("random.pcap", file)));
  }
}
