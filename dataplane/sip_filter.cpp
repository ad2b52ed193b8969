// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/sip_filter.h"

#include <array>
#include <cstddef>

namespace sipward::dataplane {
namespace {

// A little assembler: instructions in order, jumps to named places further down.
enum Label { kIp, kIpv4, kIpv4Udp, kIpv6, kIpv6Udp, kPorts, kSecondTag, kThirdType, kAccept, kReject, kLabels };

class Program {
public:
  void add(int code, std::uint32_t k = 0) { code_.push_back({static_cast<std::uint16_t>(code), 0, 0, k}); }
  void jump(Label to) { refer(BPF_JMP | BPF_JA, 0, to); }
  void jump_if_equal(std::uint32_t k, Label to) { refer(BPF_JMP | BPF_JEQ | BPF_K, k, to); }
  void jump_if_any_bit(std::uint32_t k, Label to) { refer(BPF_JMP | BPF_JSET | BPF_K, k, to); }
  void place(Label label) { places_[label] = code_.size(); }

  std::vector<sock_filter> finish() {
    for (const auto& [at, to] : references_) {
      const std::size_t distance = places_[to] - at - 1;
      if (code_[at].code == (BPF_JMP | BPF_JA))
        code_[at].k = static_cast<std::uint32_t>(distance);
      else
        code_[at].jt = static_cast<std::uint8_t>(distance); // kMaxSipPorts keeps it below 256
    }
    return std::move(code_);
  }

private:
  void refer(int code, std::uint32_t k, Label to) {
    references_.emplace_back(code_.size(), to);
    add(code, k);
  }
  std::vector<sock_filter> code_;
  std::vector<std::pair<std::size_t, Label>> references_;
  std::array<std::size_t, kLabels> places_{};
};

void jump_if_vlan(Program& program, Label to) {
  for (const std::uint32_t tag : {0x8100u, 0x88a8u, 0x9100u}) program.jump_if_equal(tag, to);
}

} // namespace

std::vector<sock_filter> sip_filter(std::span<const std::uint16_t> ports) {
  Program p;
  // A: ethertype; X: where the header after it begins.
  p.add(BPF_LDX | BPF_W | BPF_IMM, 14);
  p.add(BPF_LD | BPF_H | BPF_ABS, 12);
  jump_if_vlan(p, kSecondTag);
  p.jump(kIp);
  p.place(kSecondTag);
  p.add(BPF_LDX | BPF_W | BPF_IMM, 18);
  p.add(BPF_LD | BPF_H | BPF_ABS, 16);
  jump_if_vlan(p, kThirdType);
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
