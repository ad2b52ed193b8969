// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/tcp_peers.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>

using namespace sipward;
using namespace sipward::daemon;
using namespace std::chrono_literals;

namespace {

policy::Address address(const char* text) { return policy::Address::parse(text).value(); }
policy::Time at(policy::Duration since) { return policy::Time(1000h + since); }

struct Fd {
  int fd;
  explicit Fd(int value) : fd(value) { REQUIRE(fd >= 0); }
  Fd(const Fd&) = delete;
  ~Fd() { close(fd); }
};

std::uint16_t port_of(const Fd& socket) {
  sockaddr_in name{};
  socklen_t size = sizeof name;
  REQUIRE(getsockname(socket.fd, reinterpret_cast<sockaddr*>(&name), &size) == 0);
  return ntohs(name.sin_port);
}

} // namespace

TEST_CASE("connections count once they have lasted; those of the first look have") {
  TcpPeers peers;
  const auto office = address("198.51.100.66"), attacker = address("203.0.113.9");
  peers.note({{office, 40001}, {office, 40002}}, at(0s));
  CHECK(peers.lasting(office) == 2);
  CHECK(peers.lasting(attacker) == 0);
  const std::vector<TcpPeer> both{{office, 40002}, {office, 40003}, {attacker, 1}, {attacker, 2}, {attacker, 3}};
  peers.note(both, at(1min));
  CHECK(peers.lasting(office) == 1); // one has gone, one is new
  CHECK(peers.lasting(attacker) == 0);
  peers.note(both, at(1min + TcpPeers::kLasting - 1s));
  CHECK(peers.lasting(attacker) == 0);
  peers.note(both, at(1min + TcpPeers::kLasting));
  CHECK(peers.lasting(office) == 2);
  CHECK(peers.lasting(attacker) == 3);
  peers.note({}, at(1h));
  CHECK(peers.lasting(office) == 0);
  peers.note({{office, 40002}}, at(2h));
  CHECK(peers.lasting(office) == 0); // it came back
}

TEST_CASE("the kernel tells who is connected to a port of ours, and not whom we are connected to") {
  const Fd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(bind(listener.fd, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  REQUIRE(listen(listener.fd, 4) == 0);
  const std::uint16_t ours = port_of(listener);
  const Fd phone(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  name.sin_port = htons(ours);
  REQUIRE(connect(phone.fd, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  const Fd accepted(accept(listener.fd, nullptr, nullptr));

  const auto found = connected_to(std::array{ours});
  REQUIRE(found);
  CHECK(*found == std::vector<TcpPeer>{{address("127.0.0.1"), port_of(phone)}});
  CHECK(connected_to(std::array{std::uint16_t{1}}).value().empty());
}

TEST_CASE("an IPv4 peer of an IPv6 socket is an IPv4 address") {
  const Fd listener(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  REQUIRE(bind(listener.fd, reinterpret_cast<sockaddr*>(&any), sizeof any) == 0);
  REQUIRE(listen(listener.fd, 4) == 0);
  socklen_t size = sizeof any;
  REQUIRE(getsockname(listener.fd, reinterpret_cast<sockaddr*>(&any), &size) == 0);
  const Fd phone(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = any.sin6_port;
  REQUIRE(connect(phone.fd, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  const auto found = connected_to(std::array{static_cast<std::uint16_t>(ntohs(any.sin6_port))});
  REQUIRE(found);
  REQUIRE(found->size() == 1);
  CHECK(found->front().address == address("127.0.0.1"));
}
