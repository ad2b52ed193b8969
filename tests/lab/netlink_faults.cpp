// SPDX-License-Identifier: GPL-2.0-or-later
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// Preloaded into the real daemon (tests/system_netlink.py): its nftables sockets fail as a file tells, whose name is in
// SIPWARD_NETLINK_FAULTS. One fault stands in it, a line:
//
//   NUMBER SOCKET FAULT ERRNO SKIP TIMES
//
// NUMBER: a new one begins counting anew. SOCKET: "change", what transactions and single questions go through; "look",
// each dump's own; "watch", what is told of others' changes. FAULT happens to the TIMES calls that it fits after the
// first SKIP of them:
//
//   send    nothing is sent, and sendto() says ERRNO
//   receive nothing is received, and recvmsg() says ERRNO
//   lose    a datagram is taken out of the queue and lost, and recvmsg() says ERRNO; 0: it goes on with the next one
//   cut     a datagram comes without its second half
//   refuse  the kernel finds a fault with the message in the middle of a transaction, and says ERRNO for it
//   dead    sendto() and recvmsg() say ERRNO from now on, until the socket is closed
//
// How often it has happened is the text of the file's namesake with ".done" behind it, as far as eight: "NUMBER TIMES".
namespace {

enum class Socket : char { None, Change, Look, Watch };
struct Known {
  Socket kind = Socket::None;
  int dead = 0; // an errno
};
std::array<Known, 1024> known;

struct Fault {
  int number = 0;
  char socket[16] = "", what[16] = "";
  int code = 0, skip = 0, times = 0;
};
constexpr int kTold = 8; // writing takes longer than what fails
int current = 0, fitted = 0, happened = 0;
int spoilt = 0; // the errno that the kernel's next refusals get

template<class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

Known& at(int fd) {
  static Known none;
  none = {};
  return fd >= 0 && static_cast<std::size_t>(fd) < known.size() ? known[static_cast<std::size_t>(fd)] : none;
}

Fault told(const char* file) {
  Fault fault;
  std::array<char, 128> text{};
  const int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fault;
  if (read(fd, text.data(), text.size() - 1) > 0)
    std::sscanf(text.data(), "%d %15s %15s %d %d %d", &fault.number, fault.socket, fault.what, &fault.code, &fault.skip,
                &fault.times);
  close(fd);
  return fault;
}

bool is_for(const Fault& fault, Socket kind) {
  switch (kind) {
  case Socket::Change: return std::strcmp(fault.socket, "change") == 0;
  case Socket::Look: return std::strcmp(fault.socket, "look") == 0;
  case Socket::Watch: return std::strcmp(fault.socket, "watch") == 0;
  case Socket::None: break;
  }
  return false;
}

void tell(const char* file, const Fault& fault) {
  std::array<char, 512> name{}, text{};
  std::snprintf(name.data(), name.size(), "%s.done", file);
  const int length = std::snprintf(text.data(), text.size(), "%d %d", fault.number, happened);
  const int fd = open(name.data(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return;
  if (write(fd, text.data(), static_cast<std::size_t>(length)) < 0) std::abort();
  close(fd);
}

// The fault that is to happen to this call, one of `kinds`; none: an empty name. The daemon has one thread for netlink.
Fault due(int fd, const char* kinds) {
  const char* file = std::getenv("SIPWARD_NETLINK_FAULTS");
  if (file == nullptr || at(fd).kind == Socket::None) return {};
  const auto fault = told(file);
  if (fault.number == 0 || !is_for(fault, at(fd).kind) || std::strstr(kinds, fault.what) == nullptr) return {};
  if (fault.number != current) {
    current = fault.number;
    fitted = happened = 0;
  }
  if (fitted++ < fault.skip || happened >= fault.times) return {};
  if (++happened <= kTold) tell(file, fault);
  return fault;
}

bool is(const Fault& fault, const char* what) { return std::strcmp(fault.what, what) == 0; }

// Makes the message in the middle one that the kernel does not know, and so the whole transaction one that it refuses.
bool spoil(std::uint8_t* batch, std::size_t octets) {
  std::array<std::size_t, 4096> places{};
  std::size_t count = 0;
  for (std::size_t place = 0; place + sizeof(nlmsghdr) <= octets && count < places.size();) {
    nlmsghdr header;
    std::memcpy(&header, batch + place, sizeof header);
    places[count++] = place;
    place += NLMSG_ALIGN(header.nlmsg_len);
  }
  if (count < 3) return false; // its beginning, its end, and something in between
  const std::uint16_t unknown = NFNL_SUBSYS_NFTABLES << 8 | 0xff;
  std::memcpy(batch + places[count / 2] + offsetof(nlmsghdr, nlmsg_type), &unknown, sizeof unknown);
  return true;
}

bool is_batch(const void* octets, std::size_t size) {
  nlmsghdr header;
  if (size < sizeof header) return false;
  std::memcpy(&header, octets, sizeof header);
  return header.nlmsg_type == NFNL_MSG_BATCH_BEGIN;
}

// What the kernel said of the spoilt message: another reason.
void rename_refusals(std::uint8_t* octets, std::size_t size) {
  for (std::size_t place = 0; place + sizeof(nlmsghdr) + sizeof(int) <= size;) {
    nlmsghdr header;
    std::memcpy(&header, octets + place, sizeof header);
    if (header.nlmsg_len < sizeof header) return;
    int said;
    std::memcpy(&said, octets + place + sizeof header, sizeof said);
    if (header.nlmsg_type == NLMSG_ERROR && said != 0) {
      said = -spoilt;
      std::memcpy(octets + place + sizeof header, &said, sizeof said);
      spoilt = 0;
      return;
    }
    place += NLMSG_ALIGN(header.nlmsg_len);
  }
}

} // namespace

extern "C" {

int socket(int domain, int type, int protocol) noexcept {
  const int fd = real<int(int, int, int)>("socket")(domain, type, protocol);
  const bool ours = domain == AF_NETLINK && protocol == NETLINK_NETFILTER;
  at(fd) = {ours ? Socket::Look : Socket::None, 0};
  return fd;
}

int setsockopt(int fd, int level, int name, const void* value, socklen_t size) noexcept {
  if (level == SOL_NETLINK && at(fd).kind != Socket::None) {
    if (name == NETLINK_CAP_ACK) at(fd).kind = Socket::Change;
    if (name == NETLINK_ADD_MEMBERSHIP) at(fd).kind = Socket::Watch;
  }
  return real<int(int, int, int, const void*, socklen_t)>("setsockopt")(fd, level, name, value, size);
}

ssize_t sendto(int fd, const void* octets, std::size_t size, int flags, const sockaddr* to, socklen_t to_size) {
  const auto send = real<decltype(sendto)>("sendto");
  if (at(fd).dead != 0) return errno = at(fd).dead, -1;
  const auto fault = due(fd, is_batch(octets, size) ? "send dead refuse" : "send dead");
  if (is(fault, "dead")) at(fd).dead = fault.code;
  if (is(fault, "dead") || is(fault, "send")) return errno = fault.code, -1;
  if (!is(fault, "refuse")) return send(fd, octets, size, flags, to, to_size);
  auto* copy = static_cast<std::uint8_t*>(std::malloc(size));
  std::memcpy(copy, octets, size);
  if (spoil(copy, size)) spoilt = fault.code;
  const auto sent = send(fd, copy, size, flags, to, to_size);
  const int error = errno;
  std::free(copy);
  errno = error;
  return sent;
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  const auto receive = real<decltype(recvmsg)>("recvmsg");
  if (at(fd).kind == Socket::None) return receive(fd, message, flags);
  if (at(fd).dead != 0) return errno = at(fd).dead, -1;
  char octet;
  if (recv(fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) < 0) return -1; // nothing is there that could suffer
  const auto fault = due(fd, "receive lose cut dead");
  if (is(fault, "dead")) at(fd).dead = fault.code;
  if (is(fault, "dead") || is(fault, "receive")) return errno = fault.code, -1;
  const auto received = receive(fd, message, flags);
  if (received <= 0) return received;
  if (is(fault, "cut")) return received / 2 / NLMSG_ALIGNTO * NLMSG_ALIGNTO;
  if (is(fault, "lose") && fault.code == 0) return recvmsg(fd, message, flags);
  if (is(fault, "lose")) return errno = fault.code, -1;
  if (spoilt != 0 && at(fd).kind == Socket::Change)
    rename_refusals(static_cast<std::uint8_t*>(message->msg_iov[0].iov_base), static_cast<std::size_t>(received));
  return received;
}
}
