// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <linux/filter.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sipward::dataplane {

// A little assembler for classic BPF (the kernel's networking/filter documentation): instructions in order, jumps to
// places further down that have a number.
class BpfProgram {
public:
  void add(int code, std::uint32_t k = 0) { code_.push_back({static_cast<std::uint16_t>(code), 0, 0, k}); }
  void jump(std::size_t to) { refer(BPF_JMP | BPF_JA, 0, to); }
  void jump_if_equal(std::uint32_t k, std::size_t to) { refer(BPF_JMP | BPF_JEQ | BPF_K, k, to); }
  void jump_if_any_bit(std::uint32_t k, std::size_t to) { refer(BPF_JMP | BPF_JSET | BPF_K, k, to); }
  void jump_if_vlan(std::size_t to) {
    for (const std::uint32_t tag : {0x8100u, 0x88a8u, 0x9100u}) jump_if_equal(tag, to);
  }
  void place(std::size_t label) {
    if (places_.size() <= label) places_.resize(label + 1);
    places_[label] = code_.size();
  }

  // A conditional jump reaches 255 instructions far.
  std::vector<sock_filter> finish() {
    for (const auto& [at, to] : references_) {
      const std::size_t distance = places_[to] - at - 1;
      if (code_[at].code == (BPF_JMP | BPF_JA))
        code_[at].k = static_cast<std::uint32_t>(distance);
      else
        code_[at].jt = static_cast<std::uint8_t>(distance);
    }
    return std::move(code_);
  }

private:
  void refer(int code, std::uint32_t k, std::size_t to) {
    references_.emplace_back(code_.size(), to);
    add(code, k);
  }
  std::vector<sock_filter> code_;
  std::vector<std::pair<std::size_t, std::size_t>> references_;
  std::vector<std::size_t> places_;
};

} // namespace sipward::dataplane
