// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/values.h"

#include <cstring>

#include "sip/text.h"

namespace sipward::sip {
namespace {

using namespace text;

std::size_t skip_space(std::string_view datagram, std::size_t i, std::size_t end) noexcept {
  while (i < end && is_space(datagram[i])) ++i;
  return i;
}

// The first of `stops` in [i, end), or end.
std::size_t find(std::string_view datagram, std::size_t i, std::size_t end, const Octets256& stops) noexcept {
  while (i < end && !stops(datagram[i])) ++i;
  return i;
}
std::size_t find(std::string_view datagram, std::size_t i, std::size_t end, char stop) noexcept {
  if (i >= end) return end;
  const void* at = std::memchr(datagram.data() + i, stop, end - i);
  return at ? static_cast<std::size_t>(static_cast<const char*>(at) - datagram.data()) : end;
}

constexpr int kMaxParams = 32; // looked at in one value; no honest one has half as many

constexpr Octets256 kParamEnd{";, \t\r\n"};
constexpr Octets256 kNameEnd{"=;, \t\r\n"};
constexpr Octets256 kHostEnd{":;?> \t\r\n"};
constexpr Octets256 kTransportEnd{" \t\r\n;,"};
constexpr Octets256 kListEnd{";,"};
constexpr Octets256 kTelEnd{";?"};
constexpr Octets256 kOpen{"<;"};
constexpr Octets256 kSpaces{" \t\r\n"};

// The closing quote of the string that was opened before i, or end.
std::size_t closing_quote(std::string_view datagram, std::size_t i, std::size_t end) noexcept {
  while (i < end && datagram[i] != '"') i += datagram[i] == '\\' && i + 1 < end ? 2u : 1u;
  return i;
}

// One `name` or `name=value`, and what follows it.
struct Param {
  Span name, value;
  std::size_t next;
};

Param param_at(std::string_view datagram, std::size_t i, std::size_t end) noexcept {
  i = skip_space(datagram, i, end);
  const std::size_t name = i;
  i = find(datagram, i, end, kNameEnd);
  Param param{span(name, i), span(i, i), i};
  i = skip_space(datagram, i, end);
  if (i == end || datagram[i] != '=') return param.next = i, param;
  i = skip_space(datagram, i + 1, end);
  if (i < end && datagram[i] == '"') {
    const std::size_t close = closing_quote(datagram, i + 1, end);
    param.value = span(i + 1, close);
    i = close < end ? close + 1 : end;
  } else {
    const std::size_t value = i;
    i = find(datagram, i, end, kParamEnd);
    param.value = span(value, i);
  }
  param.next = skip_space(datagram, i, end);
  return param;
}

} // namespace

Uri read_uri(std::string_view datagram, Span uri) noexcept {
  const std::size_t end = uri.end;
  const std::size_t begin = skip_space(datagram, uri.begin, end);
  const std::size_t colon = find(datagram, begin, end, ':');
  const std::string_view scheme = span(begin, colon).in(datagram);
  if (colon == end) return {};
  const std::size_t rest = colon + 1;
  if (equals(scheme, "tel")) return {span(rest, find(datagram, rest, end, kTelEnd)), {}};
  if (!equals(scheme, "sip") && !equals(scheme, "sips")) return {};

  Uri out;
  std::size_t host = rest;
  const std::size_t at = find(datagram, rest, end, '@');
  if (at < end) {
    out.user = span(rest, find(datagram, rest, at, ':'));
    host = at + 1;
  }
  if (host < end && datagram[host] == '[')
    out.host = span(host + 1, find(datagram, host + 1, end, ']'));
  else
    out.host = span(host, find(datagram, host, end, kHostEnd));
  return out;
}

Address read_address(std::string_view datagram, Span value) noexcept {
  Address out;
  const std::size_t end = value.end;
  std::size_t i = value.begin;
  if (i < end && datagram[i] == '"') {
    const std::size_t close = closing_quote(datagram, i + 1, end);
    if (close == end) return out.good = false, out.params = end, out;
    out.display = span(i + 1, close);
    i = close + 1;
  }
  const std::size_t open = find(datagram, i, end, kOpen);
  if (open == end || datagram[open] == ';') {
    i = skip_space(datagram, i, end);
    const std::size_t stop = find(datagram, i, end, kParamEnd);
    const Uri uri = read_uri(datagram, span(i, stop));
    return out.user = uri.user, out.host = uri.host, out.params = stop, out;
  }
  if (!out.display.present()) {
    const Span display = trim(datagram, i, open);
    if (!display.empty()) out.display = display;
  }
  const std::size_t close = find(datagram, open, end, '>');
  const Uri uri = read_uri(datagram, span(open + 1, close));
  out.user = uri.user;
  out.host = uri.host;
  out.good = close < end;
  out.params = close < end ? close + 1 : end;
  return out;
}

Span read_param(std::string_view datagram, std::size_t begin, std::size_t end, std::string_view name) noexcept {
  std::size_t i = skip_space(datagram, begin, end);
  for (int n = 0; n < kMaxParams && i < end && datagram[i] == ';'; ++n) {
    const Param param = param_at(datagram, i + 1, end);
    if (equals(param.name.in(datagram), name)) return param.value;
    i = param.next;
  }
  return {};
}

Via read_via(std::string_view datagram, Span value) noexcept {
  Via out;
  const std::size_t end = value.end;
  const std::size_t slash = find(datagram, value.begin, end, '/');
  const std::size_t slash2 = slash < end ? find(datagram, slash + 1, end, '/') : end;
  if (slash2 == end || !equals(trim(datagram, value.begin, slash).in(datagram), "sip") ||
      trim(datagram, slash + 1, slash2).in(datagram) != "2.0")
    return out;
  std::size_t i = skip_space(datagram, slash2 + 1, end);
  const std::size_t transport = i;
  i = find(datagram, i, end, kTransportEnd);
  out.transport = span(transport, i);
  const std::size_t sent_by_end = find(datagram, i, end, kListEnd);
  out.sent_by = trim(datagram, i, sent_by_end);
  out.good = !out.transport.empty() && !out.sent_by.empty();

  i = sent_by_end;
  for (int n = 0; n < kMaxParams && i < end && datagram[i] == ';'; ++n) {
    const Param param = param_at(datagram, i + 1, end);
    const std::string_view name = param.name.in(datagram);
    if (name.empty() && param.next < end) out.good = false;
    if (!out.branch.present() && equals(name, "branch")) out.branch = param.value;
    if (!out.rport.present() && equals(name, "rport")) out.rport = param.value;
    if (!out.received.present() && equals(name, "received")) out.received = param.value;
    i = param.next;
  }
  return out;
}

CSeq read_cseq(std::string_view datagram, Span value) noexcept {
  CSeq out;
  std::size_t i = value.begin;
  while (i < value.end && is_digit(datagram[i])) ++i;
  const std::size_t method = skip_space(datagram, i, value.end);
  out.method = span(method, value.end);
  out.good = number(span(value.begin, i).in(datagram), out.number) && method > i && method < value.end;
  for (std::size_t k = method; k < value.end; ++k) out.good = out.good && is_token(datagram[k]);
  return out;
}

Digest read_digest(std::string_view datagram, Span value) noexcept {
  Digest out;
  out.value = value;
  const std::size_t end = value.end;
  std::size_t i = find(datagram, value.begin, end, kSpaces); // past the scheme
  for (int n = 0; n < kMaxParams && i < end; ++n) {
    while (i < end && (is_space(datagram[i]) || datagram[i] == ',' || datagram[i] == ';')) ++i;
    const Param param = param_at(datagram, i, end);
    const std::string_view name = param.name.in(datagram);
    if (!out.username.present() && equals(name, "username")) out.username = param.value;
    if (!out.realm.present() && equals(name, "realm")) out.realm = param.value;
    if (!out.nonce.present() && equals(name, "nonce")) out.nonce = param.value;
    if (!out.uri.present() && equals(name, "uri")) out.uri = param.value;
    if (!out.response.present() && equals(name, "response")) out.response = param.value;
    i = param.next > i ? param.next : i + 1;
  }
  return out;
}

} // namespace sipward::sip
