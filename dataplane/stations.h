// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace sipward::dataplane {

// Behind which outside port a station was last heard, as a switch remembers it; one memory for all workers, since a
// station is often heard by one and spoken to by another. Fixed size: of two stations whose addresses meet in a slot
// the later one stays, and frames for the other leave by every port. Ports go by their number. Any worker.
class Stations {
public:
  // `frame`: an Ethernet frame; its source is behind `port`.
  void learn(const std::uint8_t* frame, std::uint16_t port) noexcept {
    const std::uint64_t address = address_at(frame + 6);
    auto& slot = slots_[place(address)];
    const std::uint64_t heard = address << 16 | port;
    // Relaxed: a slot is one word that stands for itself. Written only if it changes: all workers read it.
    if (slot.load(std::memory_order_relaxed) != heard) slot.store(heard, std::memory_order_relaxed);
  }
  // The port behind which the frame's destination is; none if it was not heard, or if it is a group (IEEE 802).
  std::optional<std::uint16_t> find(const std::uint8_t* frame) const noexcept {
    const std::uint64_t address = address_at(frame);
    const std::uint64_t heard = slots_[place(address)].load(std::memory_order_relaxed);
    if ((frame[0] & 1) != 0 || heard >> 16 != address || address == 0) return std::nullopt;
    return static_cast<std::uint16_t>(heard);
  }

private:
  static constexpr unsigned kBits = 12;
  static std::uint64_t address_at(const std::uint8_t* octets) noexcept {
    std::uint64_t address = 0;
    for (int i = 0; i < 6; ++i) address = address << 8 | octets[i];
    return address;
  }
  static std::size_t place(std::uint64_t address) noexcept { return address * 0x9e3779b97f4a7c15 >> (64 - kBits); }
  // The address, and the port in the lower 16 bits; 0: nothing, for nobody has that address.
  std::array<std::atomic<std::uint64_t>, std::size_t{1} << kBits> slots_{};
};

} // namespace sipward::dataplane
