// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "sip/header_names.h"
#include "sip/index.h"
#include "sip/start_line.h"
#include "sip/text.h"

// The index, octet by octet: easy to believe, and what the SIMD way is held against.
namespace sipward::sip {
namespace {

using namespace text;

// The end of the physical line that begins here: at its LF, or at the limit.
std::size_t line_end(std::string_view datagram, std::size_t begin, std::size_t limit) noexcept {
  while (begin < limit && datagram[begin] != '\n') ++begin;
  return begin;
}

// A line that begins with white space (or with a control character, which begins no header) continues the one before.
bool continues(char c) noexcept { return static_cast<unsigned char>(c) <= ' '; }

// Length of the empty line here: 1 or 2, or 0 where the line is not empty. A CR that ends the datagram counts as one.
std::size_t empty_line(std::string_view datagram, std::size_t at) noexcept {
  if (at < datagram.size() && datagram[at] == '\n') return 1;
  if (at >= datagram.size() || datagram[at] != '\r') return 0;
  return at + 1 == datagram.size() ? 1 : datagram[at + 1] == '\n' ? 2 : 0;
}

void add(std::string_view datagram, std::size_t i, Index& out) noexcept {
  const std::size_t begin = out.places[i].begin, end = out.places[i + 1].begin - 1u;
  std::size_t colon = begin;
  while (colon < end && datagram[colon] != ':') ++colon;
  std::size_t name_end = colon < end ? colon : begin;
  while (name_end > begin && is_space(datagram[name_end - 1])) --name_end;
  const Header header = header_of(span(begin, name_end).in(datagram));
  out.places[i].colon = static_cast<std::uint16_t>(colon);
  out.kinds[i] = header;
  const auto kind = static_cast<std::size_t>(header);
  if (out.counts[kind]++ == 0 && header != Header::Other) out.first[kind] = static_cast<std::uint8_t>(i);
}

// Finds where each header begins, up to the empty line. Header i ends where header i + 1 begins.
void find_headers(std::string_view datagram, std::size_t at, std::size_t limit, Index& out) noexcept {
  std::size_t count = 0;
  while (at < limit) {
    if (const std::size_t length = empty_line(datagram.substr(0, limit), at)) {
      out.body = static_cast<std::uint16_t>(at + length);
      break;
    }
    const std::size_t lf = line_end(datagram, at, limit);
    if (lf == limit && limit < datagram.size()) break; // cut by kMaxHeaderOctets: not a line that we know
    if (!continues(datagram[at]) && count++ == kMaxHeaders) break;
    if (!continues(datagram[at])) out.places[count].begin = static_cast<std::uint16_t>(at);
    at = lf + 1; // beyond the limit, where no LF ends the last line
  }
  out.header_count = static_cast<std::uint16_t>(std::min(count, kMaxHeaders));
  out.places[out.header_count + 1u].begin = static_cast<std::uint16_t>(at);
}

void reset(Index& out) noexcept {
  out.kind = Kind::Malformed;
  out.method = Method::Other;
  out.malformation = Malformation::NotSip;
  out.keepalive = Keepalive::None;
  out.status = 0;
  out.method_token = out.request_uri = {};
  out.header_count = out.body = 0;
  out.first = {};
  out.counts = {};
}

} // namespace

Header header_of(std::string_view name) noexcept {
  for (const HeaderName& known : kHeaderNames)
    if (equals(name, known.name)) return known.header;
  return Header::Other;
}

void index_plain(std::string_view datagram, Index& out) noexcept {
  reset(out);
  datagram = datagram.substr(0, 65'535);
  if (read_keepalive(datagram, out)) return;
  const std::size_t begin = skip_line_ends(datagram);
  const std::size_t limit = std::min(datagram.size(), kMaxHeaderOctets);
  const std::size_t lf = line_end(datagram, begin, limit);
  if (lf == limit && limit < datagram.size()) return;
  read_start_line(datagram, begin, lf > begin && datagram[lf - 1] == '\r' ? lf - 1 : lf, out);
  if (out.malformation == Malformation::NotSip) return;

  find_headers(datagram, lf + 1, limit, out);
  for (std::size_t i = 1; i <= out.header_count; ++i) add(datagram, i, out);
  if (out.header_count == 0 && out.malformation == Malformation::None) {
    out.kind = Kind::Malformed;
    out.malformation = Malformation::NoHeaders;
  }
}

HeaderLine Index::line(std::size_t i, std::string_view datagram) const noexcept {
  const auto [begin, colon] = places[i];
  std::size_t end = places[i + 1].begin - 1u;
  if (end > begin && datagram[end - 1] == '\r') --end;
  return {begin, static_cast<std::uint16_t>(std::min<std::size_t>(colon, end)), static_cast<std::uint16_t>(end),
          kinds[i]};
}

Span Index::any_value(std::size_t i, std::string_view datagram) const noexcept {
  const std::size_t end = places[i + 1].begin - 1u;
  return trim(datagram, std::min<std::size_t>(places[i].colon + 1u, end), end);
}

} // namespace sipward::sip
