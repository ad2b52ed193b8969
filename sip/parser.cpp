// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/parser.h"

#include <algorithm>

#include "sip/reader.h"
#include "sip/simd.h"
#include "sip/text.h"
#include "sip/values.h"

// The whole message, octet by octet: what runs without SIMD, and what the other ways are held against.
namespace sipward::sip {
namespace {

class PlainValues {
public:
  explicit PlainValues(std::string_view datagram) noexcept : datagram_(datagram) {}
  Span value(const Index& index, Header header) const noexcept {
    return value(index, index.first[static_cast<std::size_t>(header)]);
  }
  Span value(const Index& index, std::size_t i) const noexcept {
    const std::size_t end = index.places[i + 1].begin - 1u;
    return text::trim(datagram_, std::min<std::size_t>(index.places[i].colon + 1u, end), end);
  }
  bool address(Span value, const Party& out, ParamLimit& limit) const noexcept {
    const Address address = read_address(datagram_, value);
    out.display = address.display;
    out.user = address.user;
    out.host = address.host;
    out.tag = read_tag(datagram_, address.params, value.end, limit);
    return address.good;
  }
  bool via(Span value, const ViaParts& out, ParamLimit& limit) const noexcept {
    return read_via(datagram_, value, out, limit);
  }
  bool cseq(Span value, Span, Method, std::uint32_t& number, Span& method, Method& kind) const noexcept {
    return read_cseq(datagram_, value, number, method, kind);
  }
  Digest digest(Span value, ParamLimit& limit) const noexcept { return read_digest(datagram_, value, limit); }
  bool number(Span value, std::uint32_t& out) const noexcept { return read_number(value.in(datagram_), out); }

private:
  std::string_view datagram_;
};

} // namespace

Message parse_plain(std::string_view datagram) noexcept {
  datagram = datagram.substr(0, 65'535);
  Message message;
  Index index;
  index_plain(datagram, index);
  const PlainValues values(datagram);
  Reader<PlainValues>(datagram, index, values, message).read();
  return message;
}

} // namespace sipward::sip
