// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/start_line.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "sip/text.h"
#include "sip/values.h"

namespace sipward::sip {
namespace {

using namespace text;

// A token of up to eight letters as one integer, in upper case: comparing methods is comparing integers.
constexpr std::uint64_t packed(std::string_view token) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < token.size(); ++i)
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(token[i]) & 0xdf) << (8 * i);
  return value;
}

struct KnownMethod {
  std::uint64_t token;
  Method method;
};

constexpr std::array<KnownMethod, 13> kMethods{{
    {packed("REGISTER"), Method::Register},
    {packed("INVITE"), Method::Invite},
    {packed("ACK"), Method::Ack},
    {packed("BYE"), Method::Bye},
    {packed("CANCEL"), Method::Cancel},
    {packed("OPTIONS"), Method::Options},
    {packed("NOTIFY"), Method::Notify},
    {packed("PUBLISH"), Method::Publish},
    {packed("MESSAGE"), Method::Message},
    {packed("INFO"), Method::Info},
    {packed("PRACK"), Method::Prack},
    {packed("UPDATE"), Method::Update},
    {packed("REFER"), Method::Refer},
}};

constexpr Octets256 kNotInUri{"<>\" \t\r\n"};

// Enough of RFC 3986 to part a URI from rubbish: a scheme, something after it, and for
// SIP no IPv6 address outside brackets (RFC 5118, section 4.2).
bool plausible_uri(std::string_view uri) noexcept {
  const std::size_t colon = uri.find(':');
  if (colon == 0 || colon == std::string_view::npos || colon + 1 == uri.size() || !is_alpha(uri[0])) return false;
  if (std::any_of(uri.begin(), uri.end(), kNotInUri)) return false;
  const std::string_view scheme = uri.substr(0, colon);
  if (!equals(scheme, "sip") && !equals(scheme, "sips")) return true;
  const std::size_t at = uri.find('@', colon);
  std::string_view host = uri.substr(at == std::string_view::npos ? colon + 1 : at + 1);
  host = host.substr(0, std::min(host.find(';'), host.size()));
  host = host.substr(0, std::min(host.find('?'), host.size()));
  if (host.empty()) return false;
  const std::size_t port = host.find(':');
  return host[0] == '[' || port == std::string_view::npos || host.find(':', port + 1) == std::string_view::npos;
}

void read_status_line(std::string_view datagram, std::size_t begin, std::size_t end, Index& out) noexcept {
  const std::string_view line = datagram.substr(begin, end - begin);
  if (!equals(line.substr(0, 8), "sip/2.0 ")) {
    out.malformation = Malformation::UnsupportedVersion;
    return;
  }
  std::size_t i = 8;
  while (i < line.size() && line[i] == ' ') ++i;
  const std::size_t code = i;
  while (i < line.size() && is_digit(line[i])) ++i;
  std::uint32_t status = 0;
  if (i - code != 3 || (i < line.size() && !is_space(line[i])) || !read_number(line.substr(code, 3), status) ||
      status < 100 || status > 699) {
    out.malformation = Malformation::BadStatus;
    return;
  }
  out.kind = Kind::Response;
  out.malformation = Malformation::None;
  out.status = static_cast<std::uint16_t>(status);
}

bool is_version(std::string_view word) noexcept {
  if (word.size() < 5 || !equals(word.substr(0, 4), "sip/")) return false;
  return std::all_of(word.begin() + 4, word.end(), [](char c) { return is_digit(c) || c == '.'; });
}

bool is_stun(std::string_view datagram) noexcept {
  if (datagram.size() < 20 || (static_cast<unsigned char>(datagram[0]) & 0xc0) != 0) return false;
  const auto octet = [&](std::size_t i) { return static_cast<unsigned char>(datagram[i]); };
  const std::size_t length = static_cast<std::size_t>(octet(2) << 8 | octet(3));
  return datagram.substr(4, 4) == "\x21\x12\xa4\x42" && length % 4 == 0 && length + 20 == datagram.size();
}

// How many octets at the front are CR or LF, or NUL; eight at a time, because a flood of them is as long as it likes.
std::size_t line_ends_in_front(std::string_view datagram) noexcept {
  constexpr std::uint64_t kOnes = 0x0101'0101'0101'0101;
  std::size_t i = 0;
  for (; i + 8 <= datagram.size(); i += 8) {
    std::uint64_t word;
    std::memcpy(&word, datagram.data() + i, sizeof word);
    const std::uint64_t odd = word ^ kOnes * '\n'; // 0 for LF, 7 for CR
    if (odd != (odd & kOnes) * 7) break;
  }
  while (i < datagram.size() && (datagram[i] == '\r' || datagram[i] == '\n')) ++i;
  return i;
}
bool is_zeros(std::string_view datagram) noexcept {
  std::uint64_t any = 0;
  std::size_t i = 0;
  for (; i + 8 <= datagram.size() && any == 0; i += 8) std::memcpy(&any, datagram.data() + i, sizeof any);
  while (any == 0 && i < datagram.size()) any |= static_cast<unsigned char>(datagram[i++]);
  return any == 0;
}

Keepalive keepalive_of(std::string_view datagram) noexcept {
  if (line_ends_in_front(datagram) == datagram.size()) {
    const std::size_t first = datagram.find('\n');
    return first != std::string_view::npos && datagram.find('\n', first + 1) != std::string_view::npos
               ? Keepalive::DoubleCrlf
               : Keepalive::Crlf;
  }
  if (is_zeros(datagram)) return Keepalive::Zeros;
  if (is_stun(datagram)) return Keepalive::Stun;
  if (datagram.size() > 8) return Keepalive::None;
  while (!datagram.empty() && (is_space(datagram.back()) || datagram.back() == '\0')) datagram.remove_suffix(1);
  return equals(datagram, "jak") || equals(datagram, "hello") ? Keepalive::Text : Keepalive::None;
}

} // namespace

Method method_of(std::string_view token) noexcept {
  if (equals(token, "subscribe")) return Method::Subscribe;
  if (token.size() > 8 || !std::all_of(token.begin(), token.end(), is_alpha)) return Method::Other;
  const std::uint64_t key = packed(token);
  for (const KnownMethod& known : kMethods)
    if (known.token == key) return known.method;
  return Method::Other;
}

std::size_t skip_line_ends(std::string_view datagram) noexcept { return line_ends_in_front(datagram); }

bool read_keepalive(std::string_view datagram, Index& out) noexcept {
  if (datagram.empty()) {
    out.malformation = Malformation::Empty;
    return true;
  }
  out.keepalive = keepalive_of(datagram);
  if (out.keepalive == Keepalive::None) return false;
  out.kind = Kind::Keepalive;
  out.malformation = Malformation::None;
  return true;
}

void read_start_line(std::string_view datagram, std::size_t begin, std::size_t end, Index& out) noexcept {
  out.malformation = Malformation::NotSip;
  if (end - begin >= 4 && equals(datagram.substr(begin, 4), "sip/")) return read_status_line(datagram, begin, end, out);

  std::size_t i = begin;
  while (i < end && is_token(datagram[i])) ++i;
  if (i == begin || i == end || datagram[i] != ' ') return;
  const Span method = span(begin, i);
  const Span rest = trim(datagram, i, end);
  const std::string_view words = rest.in(datagram);
  const std::size_t space = words.find_last_of(" \t");
  const std::string_view version = words.substr(space == std::string_view::npos ? 0 : space + 1);
  if (!is_version(version)) return;

  out.method_token = method;
  out.method = method_of(method.in(datagram));
  out.request_uri = trim(datagram, rest.begin, rest.end - version.size());
  if (version.substr(4) != "2.0") {
    out.malformation = Malformation::UnsupportedVersion;
  } else if (!plausible_uri(out.request_uri.in(datagram))) {
    out.malformation = Malformation::BadRequestUri;
  } else {
    out.malformation = Malformation::None;
    out.kind = Kind::Request;
  }
}

} // namespace sipward::sip
