// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <vector>

#include "dataplane/frame.h"
#include "tests/frames.h"

// Frames with what is to be read from them, for the two that must agree: the parser and the socket filter.
namespace sipward::test {

struct FrameCase {
  std::string name;
  Octets octets;
  dataplane::FrameKind kind;
  // Of a datagram from port 40000 to 5060:
  std::string payload = {};
  bool truncated = false;
  std::size_t cut = 0;       // octets that the capture lacks
  bool by_extension = false; // IPv6 with extension headers: the filter does not look behind them
};

inline std::vector<FrameCase> frame_cases() {
  using enum dataplane::FrameKind;
  const std::string hi = "hi there";
  const Octets sip = udp(40000, 5060, hi);
  const auto e4 = [](const Octets& packet) { return ethernet(kEtherIpv4, packet); };
  const auto e6 = [](const Octets& packet) { return ethernet(kEtherIpv6, packet); };
  const auto cut = [](Octets octets, std::size_t n) {
    octets.resize(octets.size() - n);
    return octets;
  };
  const auto padded = [](Octets octets, std::size_t n) {
    octets.resize(octets.size() + n, 0xee);
    return octets;
  };
  const Octets empty_udp = udp(40000, 5060, "");
  std::vector<FrameCase> cases = {
      {"IPv4", e4(ipv4({}, sip)), Udp, hi},
      {"IPv4, an empty datagram", e4(ipv4({}, empty_udp)), Udp, ""},
      {"IPv6", e6(ipv6({}, sip)), Udp, hi},
      {"one 802.1Q tag", ethernet(kEtherIpv4, ipv4({}, sip), {0x8100}), Udp, hi},
      {"802.1ad and 802.1Q tags", ethernet(kEtherIpv4, ipv4({}, sip), {0x88a8, 0x8100}), Udp, hi},
      {"the old QinQ tag, IPv6 inside", ethernet(kEtherIpv6, ipv6({}, sip), {0x9100, 0x8100}), Udp, hi},
      {"three tags", ethernet(kEtherIpv4, ipv4({}, sip), {0x88a8, 0x8100, 0x8100}), NotIp},
      {"ARP", ethernet(0x0806, Octets(28, 0)), NotIp},
      {"ARP behind a tag", ethernet(0x0806, Octets(28, 0), {0x8100}), NotIp},
      {"an 802.3 length", ethernet(46, Octets(46, 0)), NotIp},
      {"Ethernet padding", padded(e4(ipv4({}, sip)), 18), Udp, hi},
      {"IPv6 with padding", padded(e6(ipv6({}, sip)), 6), Udp, hi},

      {"IPv4 with one word of options", e4(ipv4({.options = 4}, sip)), Udp, hi},
      {"IPv4 with all the options there may be", e4(ipv4({.options = 40}, sip)), Udp, hi},
      {"TCP", e4(ipv4({.protocol = 6}, sip)), NotUdp},
      {"ICMP", e4(ipv4({.protocol = 1}, sip)), NotUdp},
      {"a fragment of TCP", e4(ipv4({.protocol = 6, .fragment = 0x2000}, sip)), NotUdp},
      {"do not fragment", e4(ipv4({.fragment = 0x4000}, sip)), Udp, hi},
      {"the evil bit", e4(ipv4({.fragment = 0x8000}, sip)), Udp, hi},
      {"the first fragment", e4(ipv4({.fragment = 0x2000}, sip)), Fragment},
      {"a middle fragment", e4(ipv4({.fragment = 0x2001}, sip)), Fragment},
      {"the last fragment", e4(ipv4({.fragment = 0x1fff}, sip)), Fragment},

      {"version 5 as IPv4",
       [&] {
         auto o = e4(ipv4({}, sip));
         o[14] = 0x55;
         return o;
       }(),
       Bad},
      {"IPv6 in an IPv4 frame", ethernet(kEtherIpv4, ipv6({}, sip)), Udp, hi},
      {"IHL 4", e4(ipv4({.ihl = 4}, sip)), Bad},
      {"IHL 0", e4(ipv4({.ihl = 0}, sip)), Bad},
      {"IHL beyond the packet", e4(ipv4({.ihl = 15}, sip)), Bad},
      {"a total length beyond the frame", e4(ipv4({.total = 37}, sip)), Bad},
      {"a total length inside the IP header", e4(ipv4({.total = 19}, sip)), Bad},
      {"a total length inside the UDP header", e4(ipv4({.total = 27}, sip)), Bad},
      {"a total length of 0: offloaded segments", e4(ipv4({.total = 0}, sip)), Udp, hi},
      {"a total length inside the payload", e4(ipv4({.total = 30}, sip)), Bad},
      {"a UDP length of 0", e4(ipv4({}, udp(40000, 5060, hi, 0))), Bad},
      {"a UDP length of 7", e4(ipv4({}, udp(40000, 5060, hi, 7))), Bad},
      {"a UDP length beyond the packet", e4(ipv4({}, udp(40000, 5060, hi, 17))), Bad},
      {"a UDP length short of the packet's end", e4(ipv4({}, udp(40000, 5060, hi, 10))), Udp, "hi"},
      {"a UDP length that reaches into the padding", padded(e4(ipv4({}, udp(40000, 5060, hi, 20))), 20), Bad},

      {"a capture that ends in the payload", cut(e4(ipv4({}, sip)), 5), Udp, "hi ", true, 5},
      {"a capture that ends with the UDP header", cut(e4(ipv4({}, sip)), 8), Udp, "", true, 8},
      {"a capture that ends in the UDP header", cut(e4(ipv4({}, sip)), 9), Bad, "", false, 9},
      {"a capture that ends in the IPv4 header", cut(e4(ipv4({}, sip)), 17), Bad, "", false, 17},
      {"a capture that ends in the padding", padded(e4(ipv4({}, sip)), 2), Udp, hi, false, 16},
      {"an IPv6 capture that ends in the payload", cut(e6(ipv6({}, sip)), 5), Udp, "hi ", true, 5},

      {"hop-by-hop options", e6(ipv6({.next = 0}, extension(17, 0, 8, sip))), Udp, hi, false, 0, true},
      {"long destination options", e6(ipv6({.next = 60}, extension(17, 2, 24, sip))), Udp, hi, false, 0, true},
      {"a routing header", e6(ipv6({.next = 43}, extension(17, 1, 16, sip))), Udp, hi, false, 0, true},
      {"a mobility header", e6(ipv6({.next = 135}, extension(17, 0, 8, sip))), Udp, hi, false, 0, true},
      {"an authentication header counts words of four", e6(ipv6({.next = 51}, extension(17, 4, 24, sip))), Udp, hi,
       false, 0, true},
      {"an atomic fragment", e6(ipv6({.next = 44}, ipv6_fragment(17, 0, sip))), Udp, hi, false, 0, true},
      {"an atomic fragment with reserved bits", e6(ipv6({.next = 44}, ipv6_fragment(17, 6, sip))), Udp, hi, false, 0,
       true},
      {"the first IPv6 fragment", e6(ipv6({.next = 44}, ipv6_fragment(17, 1, sip))), Fragment, "", false, 0, true},
      {"the last IPv6 fragment", e6(ipv6({.next = 44}, ipv6_fragment(17, 8, sip))), Fragment, "", false, 0, true},
      {"a fragment behind options", e6(ipv6({.next = 0}, extension(44, 0, 8, ipv6_fragment(17, 9, sip)))), Fragment, "",
       false, 0, true},
      {"TCP behind options", e6(ipv6({.next = 0}, extension(6, 0, 8, sip))), NotUdp, "", false, 0, true},
      {"ESP", e6(ipv6({.next = 50}, sip)), NotUdp},
      {"no next header", e6(ipv6({.next = 59}, sip)), NotUdp},
      {"ICMPv6", e6(ipv6({.next = 58}, sip)), NotUdp},
      {"an extension header beyond the packet", e6(ipv6({.next = 0}, extension(17, 9, 8, sip))), Bad, "", false, 0,
       true},
      {"an extension header cut off", e6(ipv6({.next = 0}, Octets(7, 0))), Bad, "", false, 0, true},
      {"an IPv6 length beyond the frame", e6(ipv6({.length = 17}, sip)), Bad},
      {"an IPv6 length inside the UDP header", e6(ipv6({.length = 7}, sip)), Bad},
      {"an IPv6 length of 0: a jumbogram or offloaded segments", e6(ipv6({.length = 0}, sip)), Udp, hi},
  };
  Octets chain = sip;
  for (int i = 0; i < dataplane::kMaxExtensionHeaders; ++i) chain = extension(i == 0 ? 17 : 60, 0, 8, chain);
  cases.push_back(
      {"as many extension headers as are followed", e6(ipv6({.next = 60}, chain)), Udp, hi, false, 0, true});
  cases.push_back(
      {"one extension header too many", e6(ipv6({.next = 60}, extension(60, 0, 8, chain))), Bad, "", false, 0, true});
  return cases;
}

} // namespace sipward::test
