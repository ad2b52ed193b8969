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

struct Line {
  std::size_t begin, end; // without the line end
  std::size_t next;       // where the next line begins
  bool complete;          // ended by LF or by the end of the datagram, not by kMaxHeaderOctets
};

Line line_at(std::string_view datagram, std::size_t begin) noexcept {
  const std::size_t limit = std::min(datagram.size(), kMaxHeaderOctets);
  std::size_t end = begin;
  while (end < limit && datagram[end] != '\n') ++end;
  const bool ended = end < limit;
  const std::size_t next = ended ? end + 1 : end;
  if (end > begin && datagram[end - 1] == '\r') --end;
  return {begin, end, next, ended || limit == datagram.size()};
}

void add(std::string_view datagram, const Line& line, Index& out) noexcept {
  HeaderLine& header = out.lines[++out.header_count];
  const std::size_t colon = datagram.substr(0, line.end).find(':', line.begin);
  const bool named = colon != std::string_view::npos;
  header.name = static_cast<std::uint16_t>(line.begin);
  header.colon = static_cast<std::uint16_t>(named ? colon : line.end);
  header.end = static_cast<std::uint16_t>(line.end);
  std::size_t name_end = named ? colon : line.begin;
  while (name_end > line.begin && is_space(datagram[name_end - 1])) --name_end;
  header.header = header_of(span(line.begin, name_end).in(datagram));
  header.unused = 0;
  const auto kind = static_cast<std::size_t>(header.header);
  if (out.counts[kind]++ == 0) out.first[kind] = static_cast<std::uint8_t>(out.header_count);
}

} // namespace

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
  out.lines[0] = {};
}

void index_plain(std::string_view datagram, Index& out) noexcept {
  reset(out);
  datagram = datagram.substr(0, 65'535);
  if (read_keepalive(datagram, out)) return;
  const std::size_t begin = skip_line_ends(datagram);
  Line line = line_at(datagram, begin);
  if (!line.complete) return;
  read_start_line(datagram, line.begin, line.end, out);
  if (out.malformation == Malformation::NotSip) return;

  for (std::size_t n = 0; n < kMaxLines && line.next < datagram.size(); ++n) {
    line = line_at(datagram, line.next);
    if (!line.complete) break;
    if (line.begin == line.end) {
      out.body = static_cast<std::uint16_t>(line.next);
      break;
    }
    if (datagram[line.begin] == ' ' || datagram[line.begin] == '\t') {
      if (out.header_count > 0) out.lines[out.header_count].end = static_cast<std::uint16_t>(line.end);
      continue;
    }
    if (out.header_count == kMaxHeaders) break;
    add(datagram, line, out);
  }
  if (out.header_count == 0 && out.malformation == Malformation::None) {
    out.kind = Kind::Malformed;
    out.malformation = Malformation::NoHeaders;
  }
}

Span Index::value(const HeaderLine& line, std::string_view datagram) noexcept {
  if (line.end == 0) return {};
  const std::size_t begin = line.colon < line.end ? line.colon + 1u : line.end;
  return trim(datagram, begin, line.end);
}

} // namespace sipward::sip
