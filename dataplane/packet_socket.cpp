// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/packet_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

namespace sipward::dataplane {
namespace {

using Failed = std::optional<const char*>; // what could not be done; errno says why

constexpr std::uint32_t kAllOctets = 0x40000; // of a frame: more than any has
constexpr std::array kNothing = {sock_filter{BPF_RET | BPF_K, 0, 0, 0}};
// Not what this host sends. (PACKET_IGNORE_OUTGOING has no meaning in a group, and its flag none before Linux 5.11.)
constexpr std::array kArriving = {
    sock_filter{BPF_LD | BPF_B | BPF_ABS, 0, 0, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_PKTTYPE)},
    sock_filter{BPF_JMP | BPF_JEQ | BPF_K, 1, 0, PACKET_OUTGOING},
    sock_filter{BPF_RET | BPF_K, 0, 0, kAllOctets},
    sock_filter{BPF_RET | BPF_K, 0, 0, 0},
};

// Where a socket's rings are mapped (proc(5)); null if they are not.
void* mapping_of(int fd) {
  struct stat socket {};
  if (fstat(fd, &socket) != 0) return nullptr;
  std::ifstream maps("/proc/self/maps"); // 7f..-7f.. rw-s 00000000 00:08 12345  socket:[12345]
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string range, access, offset, device;
    ino_t inode = 0;
    words >> range >> access >> offset >> device >> inode;
    if (inode == socket.st_ino && line.ends_with("socket:[" + std::to_string(inode) + "]"))
      return reinterpret_cast<void*>(std::stoull(range, nullptr, 16));
  }
  return nullptr;
}

sock_fprog program(std::span<const sock_filter> code) {
  return {static_cast<unsigned short>(code.size()), const_cast<sock_filter*>(code.data())}; // the kernel only reads it
}

bool attach(int socket, std::span<const sock_filter> code) {
  const sock_fprog filter = program(code);
  return setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0;
}

template<typename T>
bool set(int socket, int option, const T& value) {
  return setsockopt(socket, SOL_PACKET, option, &value, sizeof value) == 0;
}

// A socket with its rings where those of the driver's are; deaf.
Failed set_up(int socket, int drivers, const SocketPlan& plan) {
  void* rings = mapping_of(drivers);
  if (rings == nullptr || socket < 0) return "open another packet socket on";
  const int version = TPACKET_V2;
  const int yes = 1; // PACKET_LOSS: a frame that the kernel refuses is skipped, and does not stop those after it
  if (!attach(socket, kNothing) || !set(socket, PACKET_VERSION, version) || !set(socket, PACKET_LOSS, yes))
    return "set up the packet socket of";
  const auto frames_in_block = plan.rings.block_octets / plan.rings.frame_octets;
  const tpacket_req request{plan.rings.block_octets, plan.rings.frames / frames_in_block, plan.rings.frame_octets,
                            plan.rings.frames};
  if (!set(socket, PACKET_RX_RING, request) || !set(socket, PACKET_TX_RING, request)) return "get rings for";
  const std::size_t octets = std::size_t{2} * request.tp_block_size * request.tp_block_nr;
  if (mmap(rings, octets, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, socket, 0) == MAP_FAILED)
    return "map the rings of";

  packet_mreq all{};
  all.mr_ifindex = static_cast<int>(if_nametoindex(plan.interface.c_str()));
  all.mr_type = PACKET_MR_PROMISC;
  if (plan.forwards && !set(socket, PACKET_ADD_MEMBERSHIP, all)) return "make promiscuous";
  sockaddr_ll here{};
  here.sll_family = AF_PACKET;
  here.sll_protocol = htons(ETH_P_ALL);
  here.sll_ifindex = all.mr_ifindex;
  if (bind(socket, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0) return "listen on";
  return {};
}

// Into the group of the first one, which makes it, with a number that nobody else has.
Failed join(int socket, int first, const SocketPlan& plan) {
  constexpr std::uint32_t kFlags = 16; // where they begin
  std::uint32_t group = std::uint32_t{PACKET_FANOUT_CBPF} << kFlags;
  if (!plan.forwards) group |= std::uint32_t{PACKET_FANOUT_FLAG_DEFRAG} << kFlags;
  if (socket == first) {
    const sock_fprog fanout = program(plan.fanout);
    if (set(socket, PACKET_FANOUT, group | std::uint32_t{PACKET_FANOUT_FLAG_UNIQUEID} << kFlags) &&
        set(socket, PACKET_FANOUT_DATA, fanout))
      return {};
    return "spread the packets of";
  }
  std::uint32_t made = 0;
  socklen_t size = sizeof made;
  if (getsockopt(first, SOL_PACKET, PACKET_FANOUT, &made, &size) == 0 &&
      set(socket, PACKET_FANOUT, group | (made & 0xffff)))
    return {};
  return "spread the packets of";
}

class Sockets { // until the driver's descriptors keep them
public:
  explicit Sockets(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) // protocol 0: hears nothing before bind()
      made_.push_back(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  }
  Sockets(const Sockets&) = delete;
  Sockets& operator=(const Sockets&) = delete;
  ~Sockets() {
    for (const int fd : made_)
      if (fd >= 0) close(fd);
  }
  int operator[](std::size_t i) const { return made_[i]; }

private:
  std::vector<int> made_;
};

} // namespace

std::expected<void, std::string> replace_sockets(std::span<const int> sockets, const SocketPlan& plan) {
  const auto failed = [&](const char* what) {
    return std::unexpected("cannot " + std::string(what) + " " + plan.interface + ": " + std::strerror(errno));
  };
  const Sockets made(sockets.size());
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    if (const Failed what = set_up(made[i], sockets[i], plan)) return failed(*what);
    if (sockets.size() > 1)
      if (const Failed what = join(made[i], made[0], plan)) return failed(*what);
    if (dup3(made[i], sockets[i], O_CLOEXEC) < 0) return failed("replace the packet socket of");
  }
  for (const int socket : sockets)
    if (!attach(socket, plan.forwards ? std::span<const sock_filter>(kArriving) : plan.filter)) return failed("filter");
  return {};
}

} // namespace sipward::dataplane
