// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "policy/judge.h"
#include "sip/message.h"

namespace sipward::daemon {

// Who is protected, when nobody says: the addresses that answer requests on the SIP ports of a capture.
//
// Phones answer requests too, those of their own server. So the evidence is weighed, and the first that names anybody
// counts:
//   1. who answered a REGISTER of one that answers none itself (a registrar; a PBX that registers with its carrier is
//   not
//      the carrier's phone), and who answered any request of one that answers nobody;
//   2. who answered the most others;
//   3. in a capture of the way in only: who was sent requests.
class ServerSearch {
public:
  static constexpr std::size_t kMaxParties = 65536; // addresses looked at; further ones are not
  static constexpr std::size_t kMaxPeers = 256;     // remembered of each

  enum class Evidence : std::uint8_t { None, Answers, Requests };
  struct Found {
    std::vector<policy::Address> servers; // sorted
    Evidence evidence = Evidence::None;
  };

  explicit ServerSearch(std::span<const std::uint16_t> ports) : ports_(ports.begin(), ports.end()) {}

  bool concerns(const policy::Datagram& datagram) const noexcept; // worth parsing, for note()
  void note(const policy::Datagram& datagram, const sip::Message& message);
  Found found() const;

private:
  struct Party {
    std::set<policy::Address> answered, answered_register;
    bool asked = false;
  };
  bool is_port(std::uint16_t port) const noexcept;
  Party* party(const policy::Address& address);
  bool answers_anybody(const policy::Address& address) const;
  bool answers_registers(const policy::Address& address) const;

  std::vector<std::uint16_t> ports_;
  std::map<policy::Address, Party> parties_;
};

} // namespace sipward::daemon
