// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <netinet/in.h>

#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "daemon/nft.h"
#include "tests/nft_changes.h"

// What a real kernel makes of our batches, seen from outside: by `nft`, and by packets. The process moves into a
// network namespace of its own before the first test (nft_lab.cpp), so nothing here touches the host. Documentation
// addresses throughout.
//
// The wire is a pair of veth interfaces: frames written to swn-a arrive at swn-b, which owns 192.0.2.10 and
// 2001:db8::10.
namespace sipward::test {

using Texts = std::vector<std::string>;

std::string output_of(const std::string& command);
void run(const std::string& command);

// A host of 10.0.0.0/8.
policy::Subject numbered(int number);
daemon::nft::Layout layout_on(std::initializer_list<const char*> interfaces, config::Scope scope = config::Scope::Sip);

// A socket, and no table left over from the test before.
daemon::nft::Nft fresh();

template<class Result>
void must(const Result& result) {
  INFO((result ? std::string() : result.error().message));
  REQUIRE(result);
}

// `nft -j list` of it.
nlohmann::json listed(const std::string& what);
// The elements of a set as `nft -j` tells them: value → the element's object (empty if it has no attributes).
std::map<std::string, nlohmann::json> elements(const std::string& set);
Texts values(const std::string& set);

// Frames, by hand: what our own stack would refuse to send.
struct Frame {
  std::string from;
  std::uint8_t protocol = IPPROTO_UDP;
  std::uint16_t port = 5060;
  std::uint16_t fragment = 0; // the IPv4 header's flags and offset
  std::uint16_t from_port = 40000;
};

class Wire {
public:
  Wire();
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  void send(const Frame& frame) const;

private:
  int socket_;
  std::array<std::uint8_t, 6> to_{};
};

// The packets that our elements' counters have counted.
std::uint64_t dropped(daemon::nft::Nft& nft);
// What came through: a table of somebody else's, after ours, counts everything from swn-a's stranger.
void make_probe();
std::uint64_t passed();

enum class Fate : std::uint8_t { Passed, Dropped, Lost };
// Exactly one of the two counters moves; which, is the frame's fate.
Fate fate_of(const Frame& frame, const Wire& wire, daemon::nft::Nft& nft);

// What the kernel says when our stack sends a datagram from this port of 192.0.2.10 or 2001:db8::10: 0, or an errno.
int error_of_sending(std::uint16_t port, const std::string& to, std::uint16_t to_port = 5060);

} // namespace sipward::test
