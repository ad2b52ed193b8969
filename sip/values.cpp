// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/values.h"

#include <cstring>

#include "sip/start_line.h"
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

constexpr Octets256 kParamEnd{";, \t\r\n"};
constexpr Octets256 kNameEnd{"=;, \t\r\n"};
constexpr Octets256 kHostEnd{":;?> \t\r\n"};
constexpr Octets256 kListEnd{";,"};
constexpr Octets256 kTelEnd{";?"};
constexpr Octets256 kSpaces{" \t\r\n"};

// The closing quote of the string that was opened before i, or end.
std::size_t closing_quote(std::string_view datagram, std::size_t i, std::size_t end) noexcept {
  while (i < end && datagram[i] != '"') i += datagram[i] == '\\' && i + 1 < end ? 2u : 1u;
  return i;
}

// One `name` or `name=value`, of which the name begins at or behind i.
struct Param {
  Span name, value;
};

Param param_at(std::string_view datagram, std::size_t i, std::size_t end) noexcept {
  const std::size_t name = skip_space(datagram, i, end);
  const std::size_t name_end = find(datagram, name, end, kNameEnd);
  Param param{span(name, name_end), span(name_end, name_end)};
  i = skip_space(datagram, name_end, end);
  if (i == end || datagram[i] != '=') return param;
  i = skip_space(datagram, i + 1, end);
  if (i < end && datagram[i] == '"')
    param.value = span(i + 1, closing_quote(datagram, i + 1, end));
  else
    param.value = span(i, find(datagram, i, end, kParamEnd));
  return param;
}

// A backslash matters to quotes only, and to other backslashes.
bool escapes(std::string_view datagram, std::size_t i, std::size_t end) noexcept {
  return datagram[i] == '\\' && i + 1 < end && (datagram[i + 1] == '"' || datagram[i + 1] == '\\');
}

// Calls see(i) for each delimiter in [i, end) outside quotes, until it says false. A comma, unless it delimits, ends it
// as well.
template<class See>
void each_delimiter(std::string_view datagram, std::size_t i, std::size_t end, bool commas, ParamLimit& limit,
                    See see) noexcept {
  bool quoted = false;
  int seen = 0;
  const int most = limit.of_value();
  for (; i < end; ++i) {
    const char c = datagram[i];
    if (escapes(datagram, i, end)) {
      ++i;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && (c == ';' || c == ',')) {
      if (c == ',' && !commas) break;
      if (seen == most) {
        limit.exceeded = true;
        break;
      }
      ++seen;
      if (!see(i)) break;
    }
  }
  limit.count(seen);
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
  bool quoted = false;
  std::size_t open = value.begin; // the first angle bracket outside quotes
  for (; open < end && (quoted || datagram[open] != '<'); ++open) {
    if (escapes(datagram, open, end))
      ++open;
    else if (datagram[open] == '"')
      quoted = !quoted;
  }
  if (open >= end) {
    if (quoted) return out.good = false, out.params = end, out;
    const std::size_t stop = find(datagram, value.begin, end, kParamEnd);
    const Uri uri = read_uri(datagram, span(value.begin, stop));
    return out.user = uri.user, out.host = uri.host, out.params = stop, out;
  }
  const std::size_t name_end = datagram[value.begin] == '"' ? closing_quote(datagram, value.begin + 1, end) : 0;
  const Span display = name_end != 0 ? span(value.begin + 1, name_end) : trim(datagram, value.begin, open);
  if (name_end != 0 || !display.empty()) out.display = display;
  const std::size_t close = find(datagram, open, end, '>');
  const Uri uri = read_uri(datagram, span(open + 1, close));
  out.user = uri.user;
  out.host = uri.host;
  out.good = close < end;
  out.params = close < end ? close + 1 : end;
  return out;
}

Span read_tag(std::string_view datagram, std::size_t params, std::size_t end, ParamLimit& limit) noexcept {
  Span tag;
  each_delimiter(datagram, params, end, false, limit, [&](std::size_t i) {
    const Param param = param_at(datagram, i + 1, end);
    if (!equals(param.name.in(datagram), "tag")) return true;
    tag = param.value;
    return false;
  });
  return tag;
}

bool read_via(std::string_view datagram, Span value, const ViaParts& out, ParamLimit& limit) noexcept {
  const std::size_t end = value.end;
  const std::size_t slash = find(datagram, value.begin, end, '/');
  const std::size_t slash2 = slash < end ? find(datagram, slash + 1, end, '/') : end;
  if (slash2 == end || !equals(trim(datagram, value.begin, slash).in(datagram), "sip") ||
      trim(datagram, slash + 1, slash2).in(datagram) != "2.0")
    return false;
  std::size_t i = skip_space(datagram, slash2 + 1, end);
  const std::size_t transport = i;
  i = find(datagram, i, end, kParamEnd);
  out.transport = span(transport, i);
  const std::size_t sent_by_end = find(datagram, i, end, kListEnd);
  out.sent_by = trim(datagram, i, sent_by_end);
  bool good = !out.transport.empty() && !out.sent_by.empty();

  each_delimiter(datagram, sent_by_end, end, false, limit, [&](std::size_t delimiter) {
    const std::size_t next = skip_space(datagram, delimiter + 1, end);
    if (next < end && kListEnd(datagram[next])) good = false; // nothing between two separators
    const Param param = param_at(datagram, next, end);
    const std::string_view name = param.name.in(datagram);
    if (!out.branch.present() && equals(name, "branch")) out.branch = param.value;
    if (!out.rport.present() && equals(name, "rport")) out.rport = param.value;
    if (!out.received.present() && equals(name, "received")) out.received = param.value;
    return true;
  });
  return good;
}

bool read_cseq(std::string_view datagram, Span value, std::uint32_t& number, Span& method, Method& kind) noexcept {
  std::size_t i = value.begin;
  while (i < value.end && i - value.begin <= kMaxDigits && is_digit(datagram[i])) ++i;
  const std::size_t name = skip_space(datagram, i, value.end);
  method = span(name, value.end);
  kind = method_of(method.in(datagram));
  bool good = read_number(span(value.begin, i).in(datagram), number) && name > i && name < value.end;
  for (std::size_t k = name; k < value.end && good; ++k) good = is_token(datagram[k]);
  return good;
}

Digest read_digest(std::string_view datagram, Span value, ParamLimit& limit) noexcept {
  Digest out;
  out.value = value;
  const std::size_t end = value.end;
  const auto read = [&](std::size_t i) {
    const Param param = param_at(datagram, i, end);
    const std::string_view name = param.name.in(datagram);
    if (!out.username.present() && equals(name, "username")) out.username = param.value;
    if (!out.realm.present() && equals(name, "realm")) out.realm = param.value;
    if (!out.nonce.present() && equals(name, "nonce")) out.nonce = param.value;
    if (!out.uri.present() && equals(name, "uri")) out.uri = param.value;
    if (!out.response.present() && equals(name, "response")) out.response = param.value;
    return true;
  };
  const std::size_t scheme_end = find(datagram, value.begin, end, kSpaces);
  read(scheme_end);
  each_delimiter(datagram, scheme_end, end, true, limit, [&](std::size_t i) { return read(i + 1); });
  return out;
}

bool read_number(std::string_view digits, std::uint32_t& out) noexcept {
  if (digits.empty() || digits.size() > kMaxDigits) return false;
  std::uint64_t value = 0;
  for (const char c : digits) {
    if (!is_digit(c)) return false;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
    if (value > 0xffff'fffe) value = 0xffff'fffe;
  }
  out = static_cast<std::uint32_t>(value);
  return true;
}

} // namespace sipward::sip
