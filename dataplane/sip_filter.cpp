// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/sip_filter.h"

#include <cstddef>

#include "dataplane/bpf_program.h"

namespace sipward::dataplane {
namespace {

enum Label : std::size_t { kIp, kIpv4, kIpv4Udp, kIpv6, kIpv6Udp, kPorts, kSecondTag, kThirdType, kAccept, kReject };

} // namespace

std::vector<sock_filter> sip_filter(std::span<const std::uint16_t> ports) {
  BpfProgram p; // kMaxSipPorts keeps its jumps short enough
  // A: ethertype; X: where the header after it begins.
  p.add(BPF_LDX | BPF_W | BPF_IMM, 14);
  p.add(BPF_LD | BPF_H | BPF_ABS, 12);
  p.jump_if_vlan(kSecondTag);
  p.jump(kIp);
  p.place(kSecondTag);
  p.add(BPF_LDX | BPF_W | BPF_IMM, 18);
  p.add(BPF_LD | BPF_H | BPF_ABS, 16);
  p.jump_if_vlan(kThirdType);
  p.jump(kIp);
  p.place(kThirdType);
  p.add(BPF_LDX | BPF_W | BPF_IMM, 22);
  p.add(BPF_LD | BPF_H | BPF_ABS, 20);

  p.place(kIp);
  p.jump_if_equal(0x0800, kIpv4);
  p.jump_if_equal(0x86dd, kIpv6);
  p.jump(kReject);

  p.place(kIpv4);
  p.add(BPF_LD | BPF_B | BPF_IND, 9);
  p.jump_if_equal(17, kIpv4Udp);
  p.jump(kReject);
  p.place(kIpv4Udp);
  p.add(BPF_LD | BPF_H | BPF_IND, 6);
  p.jump_if_any_bit(0x3fff, kAccept); // a fragment
  p.add(BPF_LD | BPF_B | BPF_IND, 0);
  p.add(BPF_ALU | BPF_AND | BPF_K, 0x0f);
  p.add(BPF_ALU | BPF_LSH | BPF_K, 2);
  p.jump(kPorts);

  p.place(kIpv6);
  p.add(BPF_LD | BPF_B | BPF_IND, 6);
  p.jump_if_equal(17, kIpv6Udp);
  for (const std::uint32_t extension : {0u, 43u, 44u, 51u, 60u, 135u})
    p.jump_if_equal(extension, kAccept); // rare: as it is
  p.jump(kReject);
  p.place(kIpv6Udp);
  p.add(BPF_LD | BPF_W | BPF_IMM, 40);

  p.place(kPorts); // A: length of the IP header
  p.add(BPF_ALU | BPF_ADD | BPF_X);
  p.add(BPF_MISC | BPF_TAX);
  for (const std::uint32_t offset : {0u, 2u}) {
    p.add(BPF_LD | BPF_H | BPF_IND, offset);
    for (const std::uint32_t port : ports) p.jump_if_equal(port, kAccept);
  }
  p.place(kReject);
  p.add(BPF_RET | BPF_K, 0);
  p.place(kAccept);
  p.add(BPF_RET | BPF_K, 0x40000); // more octets than any frame has: all of it
  return p.finish();
}

} // namespace sipward::dataplane
