// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <string_view>

// Datagrams for the parser's tests.
namespace sipward::test {

// An exact-size heap copy, so that the address sanitizer sees a single octet read too far.
struct Datagram {
  explicit Datagram(std::string_view text) : octets(new char[text.size()]), size(text.size()) {
    if (size > 0) std::memcpy(octets.get(), text.data(), size);
  }
  operator std::string_view() const { return {octets.get(), size}; }
  std::unique_ptr<char[]> octets;
  std::size_t size;
};

// A request with these header lines, after those which it must have and which they do not name.
inline std::string request(std::string_view lines, std::string_view method = "REGISTER") {
  std::string names = "\n" + std::string(lines);
  for (char& c : names) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  const auto add_missing = [&](const char* name, const char* compact, std::string_view line) {
    const bool has = names.find(name) != std::string::npos || names.find(compact) != std::string::npos;
    return has ? std::string() : std::string(line) + "\r\n";
  };
  return std::string(method) + " sip:example.com SIP/2.0\r\n" +
         add_missing("\nvia", "\nv:", "Via: SIP/2.0/UDP 192.0.2.4:5060;branch=z9hG4bKx") +
         add_missing("\nfrom", "\nf", "From: <sip:ann@example.com>;tag=a1") +
         add_missing("\nto", "\nt:", "To: <sip:bob@example.com>") +
         add_missing("\ncall-id", "\ni:", "Call-ID: c1@192.0.2.4") +
         add_missing("\ncseq", "\ncseq", "CSeq: 7 " + std::string(method)) + std::string(lines) + "\r\n\r\n";
}

} // namespace sipward::test
