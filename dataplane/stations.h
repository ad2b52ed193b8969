// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sipward::dataplane {

class Port;

// Behind which outside port a station was last heard, as a switch remembers it. Fixed size: of two stations whose
// addresses meet in a slot the later one stays, and frames for the other leave by every port. Worker thread only.
class Stations {
public:
  // `frame`: an Ethernet frame; its source is behind `port`.
  void learn(const std::uint8_t* frame, const Port* port) noexcept {
    const std::uint64_t address = address_at(frame + 6);
    slots_[slot(address)] = {address, port};
  }
  // The port behind which the frame's destination is; none if it was not heard, or if it is a group (IEEE 802).
  const Port* find(const std::uint8_t* frame) const noexcept {
    const std::uint64_t address = address_at(frame);
    const Slot& found = slots_[slot(address)];
    return (frame[0] & 1) == 0 && found.address == address ? found.port : nullptr;
  }

private:
  static constexpr unsigned kBits = 12;
  struct Slot {
    std::uint64_t address = ~std::uint64_t{0}; // nobody's: addresses have 48 bits
    const Port* port = nullptr;
  };
  static std::uint64_t address_at(const std::uint8_t* octets) noexcept {
    std::uint64_t address = 0;
    for (int i = 0; i < 6; ++i) address = address << 8 | octets[i];
    return address;
  }
  static std::size_t slot(std::uint64_t address) noexcept { return address * 0x9e3779b97f4a7c15 >> (64 - kBits); }
  std::array<Slot, std::size_t{1} << kBits> slots_{};
};

} // namespace sipward::dataplane
