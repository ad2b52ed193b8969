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

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

namespace sipward::dataplane {
namespace {

#ifndef PACKET_IGNORE_OUTGOING // newer than some headers; Linux 4.20
constexpr int PACKET_IGNORE_OUTGOING = 23;
#endif

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

} // namespace

std::expected<void, std::string> replace_socket(int fd, const std::string& interface, const RingShape& shape) {
  const auto failed = [&](const char* what) {
    return std::unexpected("cannot " + std::string(what) + " " + interface + ": " + std::strerror(errno));
  };
  void* rings = mapping_of(fd);
  const int socket = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); // protocol 0: hears nothing before bind()
  if (rings == nullptr || socket < 0) return failed("open another packet socket on");
  struct Close {
    int fd;
    ~Close() { close(fd); }
  } const close_ours{socket}; // the driver's descriptor keeps it

  const int version = TPACKET_V2;
  const int yes = 1; // PACKET_LOSS: a frame that the kernel refuses is skipped, and does not stop those after it
  const auto frames_in_block = shape.block_octets / shape.frame_octets;
  const tpacket_req request{shape.block_octets, shape.frames / frames_in_block, shape.frame_octets, shape.frames};
  packet_mreq all{};
  all.mr_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  all.mr_type = PACKET_MR_PROMISC;
  const auto set = [&](int option, const auto& value) {
    return setsockopt(socket, SOL_PACKET, option, &value, sizeof value) == 0;
  };
  if (!set(PACKET_VERSION, version) || !set(PACKET_LOSS, yes)) return failed("set up the packet socket of");
  if (!set(PACKET_IGNORE_OUTGOING, yes)) return failed("leave out what this host sends by");
  if (!set(PACKET_RX_RING, request) || !set(PACKET_TX_RING, request)) return failed("get rings for");
  if (!set(PACKET_ADD_MEMBERSHIP, all)) return failed("make promiscuous");

  const std::size_t octets = std::size_t{2} * request.tp_block_size * request.tp_block_nr;
  if (mmap(rings, octets, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, socket, 0) == MAP_FAILED)
    return failed("map the rings of");
  sockaddr_ll here{};
  here.sll_family = AF_PACKET;
  here.sll_protocol = htons(ETH_P_ALL);
  here.sll_ifindex = all.mr_ifindex;
  if (bind(socket, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0) return failed("listen on");
  if (dup3(socket, fd, O_CLOEXEC) < 0) return failed("replace the packet socket of");
  return {};
}

} // namespace sipward::dataplane
