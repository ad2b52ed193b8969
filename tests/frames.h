// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/address.h"

// Frames built from the inside out, for the tests of whatever reads them: ethernet(ipv4({.source = ...}, udp(...))).
namespace sipward::test {

using Octets = std::vector<std::uint8_t>;

inline void put16(Octets& octets, std::size_t value) {
  octets.push_back(static_cast<std::uint8_t>(value >> 8));
  octets.push_back(static_cast<std::uint8_t>(value));
}

inline void append(Octets& octets, const Octets& more) { octets.insert(octets.end(), more.begin(), more.end()); }

inline Octets joined(Octets head, const Octets& tail) {
  append(head, tail);
  return head;
}

inline Octets octets_of(std::string_view text) { return {text.begin(), text.end()}; }

// `length` < 0: the true one.
inline Octets udp(std::uint16_t source_port, std::uint16_t destination_port, std::string_view payload,
                  int length = -1) {
  Octets octets;
  put16(octets, source_port);
  put16(octets, destination_port);
  put16(octets, length < 0 ? payload.size() + 8 : static_cast<std::size_t>(length));
  put16(octets, 0);
  return joined(std::move(octets), octets_of(payload));
}

struct Ipv4 {
  std::string_view source = "198.51.100.66", destination = "192.0.2.10";
  std::uint8_t protocol = 17;
  std::uint16_t fragment = 0;    // flags and offset, as in the header
  std::size_t options = 0;       // octets of them, a multiple of 4
  int total = -1;                // < 0: the true one
  int ihl = -1;                  // < 0: the true one
  std::uint16_t number = 0x1234; // identification
};
inline Octets ipv4(const Ipv4& header, const Octets& payload) {
  const std::size_t size = 20 + header.options;
  Octets octets = {static_cast<std::uint8_t>(0x40 | (header.ihl < 0 ? size / 4 : static_cast<std::size_t>(header.ihl))),
                   0};
  put16(octets, header.total < 0 ? size + payload.size() : static_cast<std::size_t>(header.total));
  put16(octets, header.number);
  put16(octets, header.fragment);
  octets.push_back(64);
  octets.push_back(header.protocol);
  put16(octets, 0);
  for (const auto text : {header.source, header.destination}) {
    const auto address = policy::Address::parse(text).value();
    octets.insert(octets.end(), address.wire().begin(), address.wire().end());
  }
  octets.insert(octets.end(), header.options, 1); // "no operation"
  std::uint32_t sum = 0;
  for (std::size_t at = 0; at < size; at += 2) sum += static_cast<std::uint32_t>(octets[at] << 8 | octets[at + 1]);
  while (sum > 0xffff) sum = (sum >> 16) + (sum & 0xffff);
  octets[10] = static_cast<std::uint8_t>(~sum >> 8);
  octets[11] = static_cast<std::uint8_t>(~sum);
  return joined(std::move(octets), payload);
}

struct Ipv6 {
  std::string_view source = "2001:db8:66::1", destination = "2001:db8:10::5";
  std::uint8_t next = 17;
  int length = -1; // < 0: the true one
};
inline Octets ipv6(const Ipv6& header, const Octets& payload) {
  Octets octets = {0x60, 0, 0, 0};
  put16(octets, header.length < 0 ? payload.size() : static_cast<std::size_t>(header.length));
  octets.push_back(header.next);
  octets.push_back(64);
  for (const auto text : {header.source, header.destination}) {
    const auto address = policy::Address::parse(text).value();
    octets.insert(octets.end(), address.wire().begin(), address.wire().end());
  }
  return joined(std::move(octets), payload);
}

// An extension header whose length field says `units`; it is padded to `size` octets.
inline Octets extension(std::uint8_t next, std::uint8_t units, std::size_t size, const Octets& payload) {
  Octets octets = {next, units};
  octets.resize(size, 0);
  return joined(std::move(octets), payload);
}

inline Octets ipv6_fragment(std::uint8_t next, std::uint16_t offset_and_more, const Octets& payload,
                            std::uint16_t number = 7) {
  Octets octets = {next, 0};
  put16(octets, offset_and_more);
  put16(octets, 0);
  put16(octets, number); // identification
  return joined(std::move(octets), payload);
}

// `tags`: tag protocol identifiers, outermost first.
inline Octets ethernet(std::uint16_t ethertype, const Octets& payload, std::initializer_list<std::uint16_t> tags = {}) {
  Octets octets = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
  for (const auto tag : tags) {
    put16(octets, tag);
    put16(octets, 100);
  }
  put16(octets, ethertype);
  return joined(std::move(octets), payload);
}

inline constexpr std::uint16_t kEtherIpv4 = 0x0800, kEtherIpv6 = 0x86dd;

// A whole request, as a phone (or a scanner) would send it. Branch and Call-ID are its user's, its number's and its
// credentials': whatever differs is another transaction.
struct Request {
  std::string_view method = "REGISTER";
  std::string user = "100"; // To, and From unless that is another's
  unsigned cseq = 1;
  std::string nonce = {};    // there: it answers this challenge ...
  std::string response = {}; // ... so
  std::string to_tag = {};   // there: in a dialogue
  std::string from_user = {};
  std::string branch = {}; // there: this one
  std::string_view user_agent = "Yealink SIP-T46U 108.86.0.20";

  std::string via() const {
    return "SIP/2.0/UDP 198.51.100.66:5060;branch=z9hG4bK" +
           (branch.empty() ? user + "-" + std::to_string(cseq) + nonce + response : branch);
  }
  std::string from() const { return "<sip:" + (from_user.empty() ? user : from_user) + "@192.0.2.10>;tag=a1"; }
  std::string to() const { return "<sip:" + user + "@192.0.2.10>"; }
  std::string call_id() const { return "call-" + user + "-" + std::to_string(cseq) + "@198.51.100.66"; }
  std::string number() const { return std::to_string(cseq) + " " + std::string(method); }
};

inline std::string text_of(const Request& r) {
  std::string text = std::string(r.method) + " sip:192.0.2.10 SIP/2.0\r\nVia: " + r.via() +
                     "\r\nMax-Forwards: 70\r\nFrom: " + r.from() + "\r\nTo: " + r.to() +
                     (r.to_tag.empty() ? "" : ";tag=" + r.to_tag) + "\r\nCall-ID: " + r.call_id() +
                     "\r\nCSeq: " + r.number() + "\r\nUser-Agent: " + std::string(r.user_agent);
  if (!r.nonce.empty())
    text += "\r\nAuthorization: Digest username=\"" + r.user + "\", realm=\"192.0.2.10\", nonce=\"" + r.nonce +
            "\", uri=\"sip:192.0.2.10\", response=\"" + (r.response.empty() ? "0123456789abcdef" : r.response) + "\"";
  return text + "\r\nContent-Length: 0\r\n\r\n";
}

// Our server's answer to it. `nonce`: a challenge.
inline std::string answer_to(const Request& r, unsigned status, const std::string& nonce = {},
                             const std::string& to_tag = "b2", bool stale = false) {
  std::string text = "SIP/2.0 " + std::to_string(status) + " Answer\r\nVia: " + r.via() + "\r\nFrom: " + r.from() +
                     "\r\nTo: " + r.to() + ";tag=" + (r.to_tag.empty() ? to_tag : r.to_tag) +
                     "\r\nCall-ID: " + r.call_id() + "\r\nCSeq: " + r.number();
  if (!nonce.empty())
    text +=
        "\r\nWWW-Authenticate: Digest realm=\"192.0.2.10\", nonce=\"" + nonce + "\"" + (stale ? ", stale=TRUE" : "");
  return text + "\r\nContent-Length: 0\r\n\r\n";
}

inline std::string request(std::string_view method, std::string_view user_agent, std::string_view user = "100",
                           unsigned cseq = 1) {
  return text_of({.method = method, .user = std::string(user), .cseq = cseq, .user_agent = user_agent});
}
inline std::string answer(unsigned status, std::string_view method, std::string_view user = "100", unsigned cseq = 1) {
  return answer_to({.method = method, .user = std::string(user), .cseq = cseq}, status);
}

} // namespace sipward::test
