// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

// An interface as the kernel has it: what is asked of it, and what inline mode changes on it (netdevice(7), the
// kernel's SIOCETHTOOL). Control thread only.
namespace sipward::dataplane {

struct Interface {
  std::uint16_t mtu = 0; // octets
  bool promiscuous = false;
  bool running = false; // up, and somebody at the other end
  std::array<std::uint8_t, 6> mac{};
};

// Is there such an interface, does it carry Ethernet, and may we listen on it? The error says which not.
std::expected<Interface, std::string> look_at(const std::string& name);

// Empty, or why not.
std::string set_mtu(const std::string& name, std::uint16_t mtu);

// Of a TAP: frames that the kernel could not hand to its reader, by its table of devices (proc(5)).
std::uint64_t undelivered(const std::string& name);

// The NUMA node of the device behind an interface (sysfs); -1: there is none, or it is not known.
int node_of(const std::string& name);

// The offloads of an interface that are on and join what it receives, by the names that ethtool(8) gives them.
std::vector<std::string> joining_offloads(const std::string& interface);

// The offloads that join received frames or leave the splitting of sent ones to hardware, switched off for as long as
// this lives: a packet socket would be handed segments of up to 64 KiB, which no wire ever carried and none can take.
class Offloads {
public:
  // `memory`: a folder where what has been switched off is written down, so that whoever starts after a crash knows
  // what to switch on again; empty: nowhere. The error names what the interface keeps on.
  static std::expected<std::unique_ptr<Offloads>, std::string> switch_off(const std::string& interface,
                                                                          const std::filesystem::path& memory);
  // Switches on again what a run that was killed left off; nothing, if there was none.
  static void restore(const std::string& interface, const std::filesystem::path& memory);
  Offloads(const Offloads&) = delete;
  Offloads& operator=(const Offloads&) = delete;
  ~Offloads(); // switches on again what was on

private:
  Offloads(const std::string& interface, const std::filesystem::path& memory);
  std::string interface_;
  std::filesystem::path note_;
  std::vector<std::string> were_on_;
};

} // namespace sipward::dataplane
