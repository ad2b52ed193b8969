// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "tests/dataplane_lab.h"

// What the tests of the dataplane on a kernel's interface share: a wire in a network namespace of the test's own.
namespace sipward::test {

inline void run(const std::string& command) {
  INFO(command);
  REQUIRE(std::system(command.c_str()) == 0);
}

// Frames sent into swt-far arrive at swt-near.
class Veth {
public:
  Veth() {
    if (unshare(CLONE_NEWNET) != 0)
      skip("a network namespace of its own needs root: " + std::string(std::strerror(errno)));
    if (std::system("ip link add swt-near type veth peer name swt-far") != 0) skip("ip(8) or veth is missing");
    std::ofstream("/proc/sys/net/ipv6/conf/all/disable_ipv6") << 1; // no neighbour discovery in between
    run("ip link set swt-near up && ip link set swt-far up");
    socket_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    REQUIRE(socket_ >= 0);
  }
  Veth(const Veth&) = delete;
  Veth& operator=(const Veth&) = delete;
  ~Veth() { close(socket_); }

  void send(const Octets& frame) const {
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(if_nametoindex("swt-far"));
    REQUIRE(sendto(socket_, frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) ==
            static_cast<ssize_t>(frame.size()));
  }
  short flags() const {
    ifreq request{};
    std::strcpy(request.ifr_name, "swt-near");
    REQUIRE(ioctl(socket_, SIOCGIFFLAGS, &request) == 0);
    return request.ifr_flags;
  }

private:
  int socket_ = -1;
};

inline Octets scanner(unsigned n, const std::string& body = "") {
  return ethernet(kEtherIpv4, ipv4({.source = "198.51.100." + std::to_string(n % 250)},
                                   udp(5062, 5060, request("OPTIONS", "friendly-scanner") + body)));
}

inline double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// The share of one CPU that this process uses.
inline double cpu_over(std::chrono::milliseconds time) {
  const double before = cpu_seconds();
  std::this_thread::sleep_for(time);
  return (cpu_seconds() - before) / std::chrono::duration<double>(time).count();
}

// Holds a worker, in a signal handler, until the test lets it go.
inline std::atomic<bool> held = false, may_go = false;
inline void hold_worker(unsigned id) {
  pid_t thread = 0;
  for (const auto& task : fs::directory_iterator("/proc/self/task")) {
    std::string name;
    std::ifstream(task.path() / "comm") >> name;
    if (name == "worker-" + std::to_string(id)) thread = std::atoi(task.path().filename().c_str());
  }
  REQUIRE(thread != 0);
  std::signal(SIGUSR1, [](int) {
    held = true;
    while (!may_go) usleep(1000);
  });
  REQUIRE(syscall(SYS_tgkill, getpid(), thread, SIGUSR1) == 0);
  REQUIRE(within(std::chrono::seconds(2), [] { return held.load(); }));
}
inline void let_go() { may_go = true; }

} // namespace sipward::test
