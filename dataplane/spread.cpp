// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/spread.h"

#include <rte_ethdev.h>

#include "dataplane/bpf_program.h"

namespace sipward::dataplane {
namespace {

enum Label : std::size_t { kIp, kIpv4, kIpv6, kInnerTag };
enum Memory : std::uint32_t { kHeader, kWord, kSum }; // where the IP header begins, and intermediate results

// Offsets that the kernel counts from the network header, wherever that is: frames on their way out begin elsewhere.
constexpr std::uint32_t network(std::uint32_t offset) { return static_cast<std::uint32_t>(SKF_NET_OFF) + offset; }

// A: a word of the address, or of both in one.
void load_word(BpfProgram& p, Spread spread, std::uint32_t source, std::uint32_t destination) {
  p.add(BPF_LDX | BPF_MEM, kHeader);
  p.add(BPF_LD | BPF_W | BPF_IND, network(spread == Spread::ByDestination ? destination : source));
  if (spread != Spread::ByBoth) return;
  p.add(BPF_ST, kWord);
  p.add(BPF_LD | BPF_W | BPF_IND, network(destination));
  p.add(BPF_LDX | BPF_MEM, kWord);
  p.add(BPF_ALU | BPF_XOR | BPF_X);
}

// Twice: multiply by a random odd number, and fold the well mixed upper half onto the lower (multiply-shift,
// Dietzfelbinger et al., "A reliable randomized algorithm for the closest-pair problem", 1997). Once is not enough:
// neighbouring addresses, an office's or a server farm's, would often share a queue, all of them, for what parts them
// is a small step.
void give_mixed(BpfProgram& p, std::uint32_t factor) {
  p.add(BPF_ST, kSum);
  p.add(BPF_ALU | BPF_RSH | BPF_K, 16);
  p.add(BPF_LDX | BPF_MEM, kSum);
  p.add(BPF_ALU | BPF_XOR | BPF_X);
  p.add(BPF_ALU | BPF_MUL | BPF_K, factor);
  p.add(BPF_ALU | BPF_RSH | BPF_K, 16);
  p.add(BPF_RET | BPF_A);
}

} // namespace

std::vector<sock_filter> fanout_program(Spread spread, std::uint64_t secret) {
  const std::uint32_t first = static_cast<std::uint32_t>(secret) | 1;
  const std::uint32_t second = static_cast<std::uint32_t>(secret >> 32) | 1;
  BpfProgram p;
  p.add(BPF_LD | BPF_W | BPF_IMM, 0);
  p.add(BPF_ST, kHeader);
  // The kernel has taken a first VLAN tag off.
  p.add(BPF_LD | BPF_H | BPF_ABS, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_PROTOCOL));
  p.jump_if_vlan(kInnerTag);
  p.jump(kIp);
  p.place(kInnerTag);
  p.add(BPF_LD | BPF_W | BPF_IMM, 4);
  p.add(BPF_ST, kHeader);
  p.add(BPF_LD | BPF_H | BPF_ABS, network(2));

  p.place(kIp);
  p.jump_if_equal(0x0800, kIpv4);
  p.jump_if_equal(0x86dd, kIpv6);
  p.add(BPF_RET | BPF_K, 0);

  p.place(kIpv4);
  load_word(p, spread, 12, 16);
  p.add(BPF_ALU | BPF_MUL | BPF_K, first);
  give_mixed(p, second);

  p.place(kIpv6); // the upper half of an address, which one source has for itself
  load_word(p, spread, 8, 24);
  p.add(BPF_ALU | BPF_MUL | BPF_K, first);
  p.add(BPF_ST, kSum);
  load_word(p, spread, 12, 28);
  p.add(BPF_ALU | BPF_MUL | BPF_K, second);
  p.add(BPF_LDX | BPF_MEM, kSum);
  p.add(BPF_ALU | BPF_ADD | BPF_X);
  give_mixed(p, first);
  return p.finish();
}

// The number that a NIC computes here is not used again for the source table: of most NICs it covers the destination
// and ports, and its key (Toeplitz) is known or read off the device, so that anybody could aim at one bucket.
std::uint64_t rss_fields(Spread spread, std::uint64_t offered) noexcept {
  const std::uint64_t all = offered & (RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP);
  const std::uint64_t only = spread == Spread::BySource        ? RTE_ETH_RSS_L3_SRC_ONLY
                             : spread == Spread::ByDestination ? RTE_ETH_RSS_L3_DST_ONLY
                                                               : 0;
  if (only != 0 && (offered & only) != 0) return all | only;
  // Without that: the addresses alone, if the NIC can hash them for every datagram, whatever it carries.
  const std::uint64_t addresses = offered & RTE_ETH_RSS_IP;
  return (addresses & (RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_IPV6)) == (RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_IPV6) ? addresses : all;
}

} // namespace sipward::dataplane
