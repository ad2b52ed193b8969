// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "sip/first_look.h"
#include "sip/marks.h"
#include "sip/parser.h"
#include "sip/shapes.h"
#include "sip/simd.h"
#include "tests/fuzz/fenced.h"

// What must hold for every octet string, not only for messages:
//   - nothing is read before its first octet or after its last one;
//   - the SIMD ways and the plain way agree in every field;
//   - offsets are in order and inside the input, parts inside their values, headers within the limits;
//   - a header value, put into a message of its own, yields the same parts;
//   - a first look convicts nobody whom the whole message does not, and no mark shows a password.
// A run costs a few microseconds, since half a billion of them are wanted: what costs as much again is checked by
// turns, and the input says whose turn it is.
using namespace sipward::sip;
using sipward::test::Fenced;

namespace {

void require(bool holds, const char* what) {
  if (holds) [[likely]]
    return;
  std::fprintf(stderr, "property does not hold: %s\n", what);
  std::abort();
}

void check_same(const Index& fast, const Index& plain) {
  require(fast.kind == plain.kind && fast.malformation == plain.malformation, "fast and plain: what it is");
  require(fast.method == plain.method && fast.status == plain.status, "fast and plain: start line");
  require(fast.keepalive == plain.keepalive, "fast and plain: keepalive");
  require(fast.method_token == plain.method_token && fast.request_uri == plain.request_uri, "fast and plain: parts");
  require(fast.header_count == plain.header_count && fast.body == plain.body, "fast and plain: extent");
  require(fast.first == plain.first && fast.counts == plain.counts, "fast and plain: kinds");
  const std::size_t count = plain.header_count;
  if (count == 0) return;
  bool alike = fast.places[count + 1].begin == plain.places[count + 1].begin;
  for (std::size_t i = 1; i <= count; ++i)
    alike = alike && fast.places[i].begin == plain.places[i].begin && fast.places[i].colon == plain.places[i].colon &&
            fast.kinds[i] == plain.kinds[i];
  require(alike, "fast and plain: headers");
}

void check_index(const Index& index, std::string_view datagram) {
  require(index.header_count <= kMaxHeaders, "header count");
  require(index.body <= datagram.size(), "the body inside");
  std::size_t before = 0;
  for (std::size_t i = 1; i <= index.header_count; ++i) {
    const HeaderLine line = index.line(i, datagram);
    require(line.name >= before && line.name <= line.colon && line.colon <= line.end, "offsets in order");
    before = line.end;
  }
  require(before <= datagram.size() && before <= kMaxHeaderOctets, "offsets inside");
}

void check_inside(Span part, Span whole) {
  if (!part.present()) return;
  require(part.begin >= whole.begin && part.begin <= part.end && part.end <= whole.end, "a part inside its value");
}

void check_message(const Message& m, std::size_t size) {
  const Span all{0, static_cast<std::uint16_t>(std::min<std::size_t>(size, 65'535))};
  for (const Span part : {m.method_token, m.request_uri, m.user_agent, m.from, m.to, m.call_id, m.cseq_method_token,
                          m.body, m.server, m.via, m.contact, m.content_type, m.authorization.value,
                          m.proxy_authorization.value, m.www_authenticate.value, m.proxy_authenticate.value})
    check_inside(part, all);
  for (const Span part : {m.from_display, m.from_user, m.from_host, m.from_tag}) check_inside(part, m.from);
  for (const Span part : {m.to_display, m.to_user, m.to_host, m.to_tag}) check_inside(part, m.to);
  for (const Span part : {m.via_transport, m.via_sent_by, m.via_branch, m.via_rport, m.via_received})
    check_inside(part, m.via);
  for (const Span part : {m.contact_user, m.contact_host}) check_inside(part, m.contact);
  for (const Digest* digest : {&m.authorization, &m.proxy_authorization, &m.www_authenticate, &m.proxy_authenticate})
    for (const Span part : {digest->username, digest->realm, digest->nonce, digest->uri, digest->response})
      check_inside(part, digest->value);
  require((m.kind == Kind::Malformed) == (m.malformation != Malformation::None),
          "malformed if and only if there is a cause");
  require((m.kind == Kind::Keepalive) == (m.keepalive != Keepalive::None), "keepalives have a kind");
  require(m.kind != Kind::Response || (m.status >= 100 && m.status <= 699), "status");
  require(m.header_count <= kMaxHeaders, "header count of a message");
}

// Each way that this processor has, against the plain one.
void check_ways(std::string_view datagram, const Index& plain) {
  static Index fast; // two kilobytes, every octet of them defined
  const FirstLook look = first_look_by_index(datagram, plain);
  if (best_isa() == Isa::Plain) return;
  index_avx2(datagram, fast);
  check_same(fast, plain);
  require(first_look_avx2(datagram) == look, "first look, AVX2");
  if (best_isa() != Isa::Avx512) return;
  index_avx512(datagram, fast);
  check_same(fast, plain);
  require(first_look_avx512(datagram) == look, "first look, AVX-512");
}

void check_ways(std::string_view datagram) {
  static Index plain;
  index_plain(datagram, plain);
  check_index(plain, datagram);
  check_ways(datagram, plain);
}

void check_same(const Message& message, std::string_view datagram) {
  require(message == parse_plain(datagram), "fast and plain: message");
  if (best_isa() == Isa::Plain) return;
  require(message == parse_avx2(datagram), "AVX2 and plain: message");
}

// What the marks say of it.
void check_marks(const Message& message, std::string_view datagram) {
  static const Marks marks;
  require(shapes_of(message, datagram) == shapes_plain(message, datagram), "fast and plain: shapes");
  const Mark* mark = marks.find(message, datagram);
  const MarkSet all = marks.find_all(message, datagram);
  require(mark ? std::count(all.begin(), all.end(), mark) == 1 && all.marks[0]->weight == mark->weight : all.count == 0,
          "the weightiest mark is the first of them all");
  const Mark* sooner = marks.find(first_look(datagram), datagram);
  require(!sooner || (sooner->weight == Weight::Hard && mark && mark->weight == Weight::Hard),
          "a first look convicts nobody whom the whole message does not");
  const Target target = sipvicious_target(message.from_tag.in(datagram));
  const std::size_t colon = target.view().find(':');
  require(colon == std::string_view::npos || std::string_view("***").starts_with(target.view().substr(colon + 1)),
          "no password is shown");
}

// The parts of two messages hold the same text, and the same ones are absent.
struct Pair {
  const Message& a;
  std::string_view text_a;
  const Message& b;
  std::string_view text_b;

  void require_same(Span Message::*part, const char* what) const { require_same(a.*part, b.*part, what); }
  void require_same(Digest Message::*digest, const char* what) const {
    for (const auto part :
         {&Digest::value, &Digest::username, &Digest::realm, &Digest::nonce, &Digest::uri, &Digest::response})
      require_same((a.*digest).*part, (b.*digest).*part, what);
  }
  void require_same(Span in_a, Span in_b, const char* what) const {
    require(in_a.present() == in_b.present() && in_a.in(text_a) == in_b.in(text_b), what);
  }
};

// Reads the values once more, each in a message that holds nothing else.
void check_again(const Message& m, std::string_view datagram, Fenced& room) {
  const auto text = [datagram](Span part) { return part.in(datagram); };
  if (m.from.size() + m.to.size() + m.via.size() + m.contact.size() + m.authorization.value.size() +
          m.www_authenticate.value.size() >
      kMaxHeaderOctets - 200)
    return;
  const char* const start = m.method_token.present() ? "OPTIONS sip:x SIP/2.0" : "SIP/2.0 401 No";
  const std::string_view again =
      room.at_end({start, "\r\nf: ", text(m.from), "\r\nt: ", text(m.to), "\r\nv: ", text(m.via),
                   "\r\nm: ", text(m.contact), "\r\nAuthorization: ", text(m.authorization.value),
                   "\r\nWWW-Authenticate: ", text(m.www_authenticate.value), "\r\n\r\n"});
  const Message n = parse(again);
  const Pair pair{m, datagram, n, again};
  if (!m.from.empty())
    for (const auto part :
         {&Message::from, &Message::from_display, &Message::from_user, &Message::from_host, &Message::from_tag})
      pair.require_same(part, "again: From");
  if (!m.to.empty())
    for (const auto part : {&Message::to, &Message::to_display, &Message::to_user, &Message::to_host, &Message::to_tag})
      pair.require_same(part, "again: To");
  if (!m.via.empty())
    for (const auto part : {&Message::via, &Message::via_transport, &Message::via_sent_by, &Message::via_branch,
                            &Message::via_rport, &Message::via_received})
      pair.require_same(part, "again: Via");
  if (!m.contact.empty())
    for (const auto part : {&Message::contact, &Message::contact_user, &Message::contact_host})
      pair.require_same(part, "again: Contact");
  if (!m.authorization.value.empty()) pair.require_same(&Message::authorization, "again: Authorization");
  if (!m.www_authenticate.value.empty()) pair.require_same(&Message::www_authenticate, "again: WWW-Authenticate");
}

// A number that changes with the input, for taking turns.
std::size_t turn_of(std::string_view input) noexcept {
  std::uint64_t ends[2] = {};
  const std::size_t n = std::min<std::size_t>(input.size(), 8);
  if (n > 0) {
    std::memcpy(&ends[0], input.data() + (input.size() - n) / 2, n);
    std::memcpy(&ends[1], input.data() + input.size() - n, n);
  }
  return ((ends[0] ^ ends[1] * 3 ^ input.size()) * 0x9e37'79b9'7f4a'7c15) >> 40;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Fenced room, other_room;
  static Index plain;
  const std::string_view input(reinterpret_cast<const char*>(data), std::min(size, Fenced::kOctets));
  const std::string_view datagram = room.at_end(input);
  index_plain(datagram, plain);
  check_index(plain, datagram);
  check_ways(datagram, plain);
  const Message message = parse(datagram);
  check_message(message, size);
  check_marks(message, datagram);

  const std::size_t turn = turn_of(input);
  switch (turn % 4) {
  case 0: check_same(message, datagram); break;
  case 1: check_again(message, datagram, other_room); break;
  case 2: check_ways(other_room.at_start(input), plain); break;
  default: check_ways(other_room.at_end(input.substr(0, turn / 4 % (input.size() + 1)))); break;
  }
  return 0;
}
