// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "sip/first_look.h"
#include "sip/marks.h"
#include "sip/parser.h"
#include "sip/simd.h"

// What must hold for every octet string, not only for messages:
//   - the SIMD way and the plain way agree in every field;
//   - offsets are in order and inside the input, headers within the limits;
//   - a prefix, in a buffer that ends where it ends, is read without leaving it (the address sanitizer watches);
//   - a header value, put into a message of its own, yields the same parts.
using namespace sipward::sip;

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "property does not hold: %s\n", what);
  std::abort();
}

void check_index(std::string_view datagram, const Index& fast, const Index& plain) {
  require(fast.kind == plain.kind && fast.malformation == plain.malformation, "fast and plain: what it is");
  require(fast.method == plain.method && fast.status == plain.status, "fast and plain: start line");
  require(fast.method_token == plain.method_token && fast.request_uri == plain.request_uri, "fast and plain: parts");
  require(fast.header_count == plain.header_count && fast.body == plain.body, "fast and plain: extent");
  require(fast.first == plain.first && fast.counts == plain.counts, "fast and plain: kinds");
  require(fast.header_count <= kMaxHeaders, "header count");
  std::size_t before = 0;
  for (std::size_t i = 1; i <= fast.header_count; ++i) {
    const HeaderLine& line = fast.lines[i];
    require(line == plain.lines[i], "fast and plain: lines");
    require(line.name >= before && line.name <= line.colon && line.colon <= line.end, "offsets in order");
    require(line.end <= datagram.size() && line.end <= kMaxHeaderOctets, "offsets inside");
    before = line.end;
  }
}

void check_span(Span part, Span whole) {
  if (!part.present()) return;
  require(part.begin >= whole.begin && part.begin <= part.end && part.end <= whole.end, "a part inside its value");
}

void check_message(const Message& m, std::string_view datagram) {
  const Span all{0, static_cast<std::uint16_t>(std::min<std::size_t>(datagram.size(), 65'535))};
  for (const Span part :
       {m.method_token, m.request_uri, m.user_agent, m.from, m.to, m.call_id, m.cseq_method_token, m.body, m.server,
        m.via, m.contact, m.content_type, m.authorization.value, m.www_authenticate.value})
    check_span(part, all);
  for (const Span part : {m.from_display, m.from_user, m.from_host, m.from_tag}) check_span(part, m.from);
  for (const Span part : {m.to_display, m.to_user, m.to_host, m.to_tag}) check_span(part, m.to);
  for (const Span part : {m.via_transport, m.via_sent_by, m.via_branch, m.via_rport, m.via_received})
    check_span(part, m.via);
  for (const Digest& digest : {m.authorization, m.proxy_authorization, m.www_authenticate, m.proxy_authenticate})
    for (const Span part : {digest.username, digest.realm, digest.nonce, digest.uri, digest.response})
      check_span(part, digest.value);
  require((m.kind == Kind::Malformed) == (m.malformation != Malformation::None),
          "malformed if and only if there is a cause");
  require((m.kind == Kind::Keepalive) == (m.keepalive != Keepalive::None), "keepalives have a kind");
  require(m.kind != Kind::Response || (m.status >= 100 && m.status <= 699), "status");
}

// Each way that this processor has, against the plain one.
void check_ways(std::string_view datagram) {
  Index fast, plain;
  index_plain(datagram, plain);
  const FirstLook look = first_look_by_index(datagram, plain);
  if (best_isa() == Isa::Plain) return;
  index_avx2(datagram, fast);
  check_index(datagram, fast, plain);
  require(first_look_avx2(datagram) == look, "first look, AVX2");
  if (best_isa() != Isa::Avx512) return;
  index_avx512(datagram, fast);
  check_index(datagram, fast, plain);
  require(first_look_avx512(datagram) == look, "first look, AVX-512");
}

// Two messages' parts hold the same text.
void check_same(std::string_view a, Span in_a, std::string_view b, Span in_b, const char* what) {
  require(in_a.present() == in_b.present() && in_a.in(a) == in_b.in(b), what);
}

void check_again(const Message& m, std::string_view datagram) {
  if (m.from.size() + m.via.size() + m.authorization.value.size() > 4000) return;
  std::string again = "OPTIONS sip:x SIP/2.0\r\nf: ";
  again.append(m.from.in(datagram)).append("\r\nv: ").append(m.via.in(datagram));
  again.append("\r\nAuthorization: ").append(m.authorization.value.in(datagram)).append("\r\n\r\n");
  const Message n = parse(again);
  if (!m.from.empty()) {
    check_same(datagram, m.from_user, again, n.from_user, "again: user");
    check_same(datagram, m.from_host, again, n.from_host, "again: host");
    check_same(datagram, m.from_tag, again, n.from_tag, "again: tag");
    check_same(datagram, m.from_display, again, n.from_display, "again: display name");
  }
  if (!m.via.empty()) check_same(datagram, m.via_branch, again, n.via_branch, "again: branch");
  if (!m.authorization.value.empty())
    check_same(datagram, m.authorization.response, again, n.authorization.response, "again: response");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Marks marks;
  const std::string_view datagram(reinterpret_cast<const char*>(data), size);
  check_ways(datagram);
  const Message message = parse(datagram);
  require(message == parse_plain(datagram), "fast and plain: message");
  check_message(message, datagram);
  check_again(message, datagram);
  const Mark* mark = marks.find(message, datagram);
  const Mark* sooner = marks.find(first_look(datagram), datagram);
  require(!sooner || (sooner->weight == Weight::Hard && mark && mark->weight == Weight::Hard),
          "a first look convicts nobody whom the whole message does not");
  if (size == 0) return 0;
  const std::size_t cut = data[size / 2] * size / 256;
  const std::unique_ptr<char[]> prefix(new char[cut]);
  std::memcpy(prefix.get(), data, cut);
  check_ways({prefix.get(), cut});
  return 0;
}
