// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/interface.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <string_view>

namespace sipward::dataplane {
namespace {

struct Descriptor {
  explicit Descriptor(int opened) : fd(opened) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
  int fd;
};

ifreq request_for(const std::string& interface) {
  ifreq request{};
  std::copy_n(interface.begin(), std::min(interface.size(), sizeof request.ifr_name - 1), request.ifr_name);
  return request;
}

std::string interfaces_here() {
  std::string list;
  if (auto* all = if_nameindex()) {
    for (auto* i = all; i->if_name != nullptr; ++i) list += (list.empty() ? "" : ", ") + std::string(i->if_name);
    if_freenameindex(all);
  }
  return list;
}

// --- offloads, by the names that ethtool(8) gives them

bool joins(std::string_view name) {
  return name.starts_with("rx-gro") || name == "rx-lro" || name == "rx-udp-gro-forwarding";
}
bool is_unwanted(std::string_view name) {
  const bool splits = name.starts_with("tx-tcp") || name.starts_with("tx-udp-s") || name.starts_with("tx-generic");
  return joins(name) || (splits && name.ends_with("segmentation"));
}
// Without these off, long transfers stall; the others only matter to the kernel's own traffic.
constexpr std::string_view kUnbearable[] = {"rx-gro", "rx-lro", "rx-gro-hw"};

// The kernel's commands: each is a structure with an array behind it, which C++ has no type for; so, 32-bit words.
class Ethtool {
public:
  explicit Ethtool(const std::string& interface)
      : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), request_(request_for(interface)) {}

  // The features that can be named, in the kernel's order; empty if it does not say.
  std::vector<std::string> names() {
    std::vector<std::uint32_t> count = {ETHTOOL_GSSET_INFO, 0, 1u << ETH_SS_FEATURES, 0, 0};
    if (!ask(count)) return {};
    std::vector<std::uint32_t> strings(3 + count[4] * ETH_GSTRING_LEN / 4);
    std::copy_n(std::array<std::uint32_t, 3>{ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count[4]}.begin(), 3, strings.begin());
    if (!ask(strings)) return {};
    const auto* text = reinterpret_cast<const char*>(strings.data() + 3);
    std::vector<std::string> result;
    for (std::size_t i = 0; i < count[4]; ++i)
      result.emplace_back(text + i * ETH_GSTRING_LEN, strnlen(text + i * ETH_GSTRING_LEN, ETH_GSTRING_LEN));
    return result;
  }
  // One flag for each name.
  std::vector<bool> active(std::size_t count) {
    const std::size_t blocks = (count + 31) / 32;
    std::vector<std::uint32_t> words(2 + blocks * 4); // available, requested, active, never_changed
    words[0] = ETHTOOL_GFEATURES;
    words[1] = static_cast<std::uint32_t>(blocks);
    std::vector<bool> result(count);
    if (!ask(words)) return result;
    for (std::size_t i = 0; i < count; ++i) result[i] = (words[2 + i / 32 * 4 + 2] >> i % 32 & 1) != 0;
    return result;
  }
  void set(const std::vector<bool>& which, bool on) {
    const std::size_t blocks = (which.size() + 31) / 32;
    std::vector<std::uint32_t> words(2 + blocks * 2); // valid, requested
    words[0] = ETHTOOL_SFEATURES;
    words[1] = static_cast<std::uint32_t>(blocks);
    for (std::size_t i = 0; i < which.size(); ++i) {
      if (!which[i]) continue;
      words[2 + i / 32 * 2] |= 1u << i % 32;
      if (on) words[2 + i / 32 * 2 + 1] |= 1u << i % 32;
    }
    ask(words); // what it could not do is seen by looking again
  }

private:
  bool ask(std::vector<std::uint32_t>& words) {
    request_.ifr_data = reinterpret_cast<char*>(words.data());
    return ioctl(socket_.fd, SIOCETHTOOL, &request_) >= 0;
  }
  Descriptor socket_;
  ifreq request_;
};

bool is_in(const auto& list, std::string_view name) { return std::ranges::find(list, name) != std::end(list); }

// One note for each interface of each network namespace.
std::filesystem::path note_for(const std::string& interface, const std::filesystem::path& folder) {
  struct stat space {};
  if (folder.empty() || stat("/proc/self/ns/net", &space) != 0) return {};
  return folder / ("offloads-" + std::to_string(space.st_ino) + "-" + interface);
}

} // namespace

std::expected<Interface, std::string> look_at(const std::string& name) {
  if (name.size() >= IFNAMSIZ || if_nametoindex(name.c_str()) == 0)
    return std::unexpected("there is no interface " + name + " here (there are: " + interfaces_here() + ")");
  const Descriptor socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (socket.fd < 0)
    return std::unexpected(
        "cannot listen on " + name + ": " + std::strerror(errno) +
        (errno == EPERM ? "; sipward needs the capability CAP_NET_RAW (run it as root, or as its systemd unit does)"
                        : ""));
  ifreq request = request_for(name);
  Interface found;
  const auto ask = [&](unsigned long what) { return ioctl(socket.fd, what, &request) == 0; };
  const auto failed = [&] { return std::unexpected(name + ": " + std::strerror(errno)); };
  if (!ask(SIOCGIFHWADDR)) return failed();
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER && request.ifr_hwaddr.sa_family != ARPHRD_LOOPBACK)
    return std::unexpected(name + " carries no Ethernet frames (a tunnel or PPP?): name the interface below it");
  std::memcpy(found.mac.data(), request.ifr_hwaddr.sa_data, found.mac.size());
  if (!ask(SIOCGIFFLAGS)) return failed();
  found.promiscuous = (request.ifr_flags & IFF_PROMISC) != 0;
  found.running = (request.ifr_flags & IFF_RUNNING) != 0;
  if (!ask(SIOCGIFMTU)) return failed();
  found.mtu = static_cast<std::uint16_t>(std::clamp(request.ifr_mtu, 68, 65535));
  return found;
}

std::string set_mtu(const std::string& name, std::uint16_t mtu) {
  const Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = request_for(name);
  request.ifr_mtu = mtu;
  if (ioctl(socket.fd, SIOCSIFMTU, &request) == 0) return {};
  return name + " takes no MTU of " + std::to_string(mtu) + ": " + std::strerror(errno);
}

std::uint64_t undelivered(const std::string& name) {
  std::ifstream table("/proc/thread-self/net/dev");
  for (std::string line; std::getline(table, line);) {
    const auto colon = line.find(':');
    const auto begin = line.find_first_not_of(' ');
    if (colon == line.npos || line.substr(begin, colon - begin) != name) continue;
    std::istringstream numbers(line.substr(colon + 1));
    std::uint64_t value = 0;
    for (int column = 0; column < 12; ++column)
      numbers >> value; // receive: 8 columns; transmit: bytes packets errs drop
    return value;
  }
  return 0;
}

int node_of(const std::string& name) {
  int node = -1;
  std::ifstream("/sys/class/net/" + name + "/device/numa_node") >> node;
  return std::max(node, -1);
}

std::vector<std::string> joining_offloads(const std::string& interface) {
  Ethtool ethtool(interface);
  const auto names = ethtool.names();
  const auto active = ethtool.active(names.size());
  std::vector<std::string> found;
  for (std::size_t i = 0; i < names.size(); ++i)
    if (active[i] && joins(names[i])) found.push_back(names[i]);
  if (!is_in(found, "rx-gro")) // its kinds do nothing without it
    std::erase_if(found,
                  [](std::string_view name) { return name == "rx-gro-list" || name == "rx-udp-gro-forwarding"; });
  return found;
}

Offloads::Offloads(const std::string& interface, const std::filesystem::path& memory)
    : interface_(interface), note_(note_for(interface, memory)) {
  std::ifstream earlier(note_); // of a run that ended without switching them on again
  were_on_.assign(std::istream_iterator<std::string>(earlier), {});
}

std::expected<std::unique_ptr<Offloads>, std::string> Offloads::switch_off(const std::string& interface,
                                                                           const std::filesystem::path& memory) {
  std::unique_ptr<Offloads> offloads(new Offloads(interface, memory));
  Ethtool ethtool(interface);
  const auto names = ethtool.names();
  auto off = ethtool.active(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    off[i] = off[i] && is_unwanted(names[i]);
    if (off[i]) offloads->were_on_.push_back(names[i]);
  }
  if (!offloads->note_.empty() && !offloads->were_on_.empty()) {
    std::ofstream note(offloads->note_);
    for (const auto& name : offloads->were_on_) note << name << '\n';
  }
  ethtool.set(off, false);
  const auto left = ethtool.active(names.size());
  for (std::size_t i = 0; i < names.size(); ++i)
    if (left[i] && is_in(kUnbearable, names[i]))
      return std::unexpected(interface + " joins the frames that it receives, which makes long transfers stall, and " +
                             "cannot be stopped from it: try ethtool -K " + interface + " " + names[i] + " off");
  return offloads;
}

void Offloads::restore(const std::string& interface, const std::filesystem::path& memory) {
  const Offloads left_behind(interface, memory);
}

Offloads::~Offloads() {
  if (were_on_.empty()) return;
  Ethtool ethtool(interface_);
  std::vector<bool> on;
  for (const auto& name : ethtool.names()) on.push_back(is_in(were_on_, name));
  ethtool.set(on, true);
  std::error_code error;
  if (!note_.empty()) std::filesystem::remove(note_, error);
}

} // namespace sipward::dataplane
