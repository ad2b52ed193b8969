// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include <random>
#include <string>

#include "sip/first_look.h"
#include "sip/parser.h"
#include "sip/simd.h"
#include "tests/sip_datagram.h"

using namespace sipward::sip;
using sipward::test::Datagram;

namespace {

const std::string kRegister = "REGISTER sip:example.com SIP/2.0\r\n"
                              "Via: SIP/2.0/UDP 192.0.2.4:5060;rport;branch=z9hG4bK776asdhds;received=192.0.2.9\r\n"
                              "Max-Forwards: 70\r\n"
                              "From: \"Ann \\\"A\\\" B\" <sip:ann%20b@example.com:5062;user=phone>;tag=a73k\r\n"
                              "To: <sip:ann@[2001:db8::1]>\r\n"
                              "Call-ID: 1j9FpLxk3uxtm8tn@example.com\r\n"
                              "CSeq: 1826 REGISTER\r\n"
                              "Contact: <sip:ann@192.0.2.4>;expires=60, <sip:other@192.0.2.5>\r\n"
                              "Authorization: Digest username=\"ann\", realm=\"example.com\",nonce=\"84a4cc\",\r\n"
                              " uri=\"sip:example.com\" , response=\"7587245234b3434cc3412213e5f113a5\"\r\n"
                              "User-Agent:  Yealink SIP-T46S 66.85.0.5 \r\n"
                              "Expires: 3600\r\n"
                              "Content-Length: 0\r\n"
                              "\r\n";

std::string with(std::string text, std::string_view old, std::string_view now) {
  const std::size_t at = text.find(old);
  REQUIRE(at != std::string::npos);
  return text.replace(at, old.size(), now);
}

} // namespace

TEST_CASE("every part of a REGISTER is found") {
  const Datagram d(kRegister);
  const Message m = parse(d);
  CHECK(m.kind == Kind::Request);
  CHECK(m.malformation == Malformation::None);
  CHECK(m.method == Method::Register);
  CHECK(m.method_token.in(d) == "REGISTER");
  CHECK(m.request_uri.in(d) == "sip:example.com");
  CHECK(m.via_transport.in(d) == "UDP");
  CHECK(m.via_sent_by.in(d) == "192.0.2.4:5060");
  CHECK(m.via_branch.in(d) == "z9hG4bK776asdhds");
  CHECK(m.via_rport.present());
  CHECK(m.via_rport.empty());
  CHECK(m.via_received.in(d) == "192.0.2.9");
  CHECK(m.max_forwards == 70);
  CHECK(m.from_display.in(d) == "Ann \\\"A\\\" B");
  CHECK(m.from_user.in(d) == "ann%20b");
  CHECK(m.from_host.in(d) == "example.com");
  CHECK(m.from_tag.in(d) == "a73k");
  CHECK(m.to_user.in(d) == "ann");
  CHECK(m.to_host.in(d) == "2001:db8::1");
  CHECK_FALSE(m.to_tag.present());
  CHECK(m.call_id.in(d) == "1j9FpLxk3uxtm8tn@example.com");
  CHECK(m.cseq == 1826);
  CHECK(m.cseq_method == Method::Register);
  CHECK(m.contact_user.in(d) == "ann");
  CHECK(m.contact_host.in(d) == "192.0.2.4");
  CHECK(m.authorization.username.in(d) == "ann");
  CHECK(m.authorization.realm.in(d) == "example.com");
  CHECK(m.authorization.nonce.in(d) == "84a4cc");
  CHECK(m.authorization.uri.in(d) == "sip:example.com");
  CHECK(m.authorization.response.in(d) == "7587245234b3434cc3412213e5f113a5");
  CHECK(m.user_agent.in(d) == "Yealink SIP-T46S 66.85.0.5");
  CHECK(m.expires == 3600);
  CHECK(m.content_length == 0);
  CHECK(m.header_count == 11);
  CHECK(m.body.present());
  CHECK(m.body.empty());
}

TEST_CASE("a response is read by its status and CSeq") {
  const Datagram d(
      "SIP/2.0 401 Unauthorized\r\nv: SIP/2.0/UDP h;branch=b\r\nf: <sip:a@b>;tag=1\r\nt: c <sip:c@d>;tag=2\r\n"
      "i: x\r\nCSEQ: 7 INVITE\r\nServer: LabPBX 2.1\r\n"
      "WWW-Authenticate: Digest realm=\"r\", nonce=\"n,;=\", algorithm=MD5\r\n\r\n");
  const Message m = parse(d);
  CHECK(m.kind == Kind::Response);
  CHECK(m.status == 401);
  CHECK(m.cseq == 7);
  CHECK(m.cseq_method == Method::Invite);
  CHECK(m.from_user.in(d) == "a");
  CHECK(m.to_display.in(d) == "c");
  CHECK(m.to_tag.in(d) == "2");
  CHECK(m.user_agent.in(d) == "LabPBX 2.1");
  CHECK(m.www_authenticate.nonce.in(d) == "n,;=");
}

TEST_CASE("shapes that real phones and RFC 3261 allow read the same") {
  const struct {
    const char* name;
    std::string text;
  } rows[] = {
      {"LF alone",
       [] {
         std::string s;
         for (const char c : kRegister)
           if (c != '\r') s += c;
         return s;
       }()},
      {"leading CRLFs", "\r\n\r\n" + kRegister},
      {"space before the colon", with(kRegister, "User-Agent:", "User-Agent \t:")},
      {"another case", with(kRegister, "User-Agent:", "uSER-aGENT:")},
      {"a folded value", with(kRegister, "User-Agent:  Yea", "User-Agent:\r\n Yea")},
      {"compact From", with(kRegister, "From:", "f:")},
      {"no space after the colon", with(kRegister, "User-Agent:  ", "User-Agent:")},
      {"body after it", kRegister + "User-Agent: other\r\n"},
      {"NUL padding", kRegister + std::string(3, '\0')},
      {"a lower-case method", with(with(kRegister, "REGISTER sip", "register sip"), "6 REGISTER", "6 register")},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    const Datagram d(row.text);
    const Message m = parse(d);
    CHECK(m.kind == Kind::Request);
    CHECK(m.method == Method::Register);
    CHECK(m.user_agent.in(d) == "Yealink SIP-T46S 66.85.0.5");
    CHECK(m.from_user.in(d) == "ann%20b");
    CHECK(m.from_tag.in(d) == "a73k");
    CHECK(m.authorization.response.in(d) == "7587245234b3434cc3412213e5f113a5");
    CHECK(m.count(Header::UserAgent) == 1);
  }
}

TEST_CASE("each way to be malformed has its own name") {
  const struct {
    std::string text;
    Malformation cause;
  } rows[] = {
      {"", Malformation::Empty},
      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Malformation::NotSip},
      {std::string("\x16\x03\x01\x00", 4), Malformation::NotSip},
      {"INVITE sip:a@b\r\nTo: x\r\n\r\n", Malformation::NotSip},
      {"OPTIONS sip:nm SIP/2.0", Malformation::NoHeaders},
      {"OPTIONS sip:nm SIP/2.0\r\n\r\n", Malformation::NoHeaders},
      {with(kRegister, "SIP/2.0\r\n", "SIP/7.0\r\n"), Malformation::UnsupportedVersion},
      {with(kRegister, "sip:example.com", "<sip:example.com>"), Malformation::BadRequestUri},
      {with(kRegister, "sip:example.com", "sip:a b@example.com"), Malformation::BadRequestUri},
      {with(kRegister, "sip:example.com", "sip:2001:db8::10"), Malformation::BadRequestUri},
      {"SIP/2.0 4294967301 better\r\nVia: x\r\n\r\n", Malformation::BadStatus},
      {with(kRegister, "Via:", "Vio:"), Malformation::NoVia},
      {with(kRegister, "From:", "Frum:"), Malformation::NoFrom},
      {with(kRegister, "To:", "Too:"), Malformation::NoTo},
      {with(kRegister, "Call-ID:", "Call-Id2:"), Malformation::NoCallId},
      {with(kRegister, "CSeq:", "CSec:"), Malformation::NoCSeq},
      {with(kRegister, "CSeq:", "To: <sip:x@y>\r\nCSeq:"), Malformation::RepeatedHeader},
      {with(kRegister, "SIP/2.0/UDP 192.0.2.4:5060;", "SIP/2.0/UDP 192.0.2.15;;,;,,"), Malformation::BadVia},
      {with(kRegister, "B\" <sip", "B <sip"), Malformation::BadFrom},
      {with(kRegister, "8::1]>", "8::1]"), Malformation::BadTo},
      {with(kRegister, "1826 REG", "one REG"), Malformation::BadCSeq},
      {with(kRegister, "1826", "9292394834772304023312"), Malformation::CSeqOverflow},
      {with(kRegister, "1826", "2147483648"), Malformation::CSeqOverflow},
      {with(kRegister, "1826 REGISTER", "1826 INVITE"), Malformation::CSeqMismatch},
      {with(kRegister, "Length: 0", "Length: -999"), Malformation::BadContentLength},
      {with(kRegister, "Length: 0", "Length: 0\r\nl: 5"), Malformation::ConflictingContentLength},
      {with(kRegister, "Length: 0", "Length: 9999"), Malformation::TruncatedBody},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const Datagram d(row.text);
    const Message m = parse(d);
    CHECK(to_string(m.malformation) == to_string(row.cause));
    CHECK(m.kind == Kind::Malformed);
  }
}

TEST_CASE("keepalives are told apart") {
  const struct {
    std::string text;
    Keepalive keepalive;
  } rows[] = {
      {"\r\n", Keepalive::Crlf},
      {"\r\n\r\n", Keepalive::DoubleCrlf},
      {std::string(1, '\0'), Keepalive::Zeros},
      {std::string(700, '\0'), Keepalive::Zeros},
      {std::string("\x00\x01\x00\x00\x21\x12\xa4\x42", 8) + "abcdefghijkl", Keepalive::Stun},
      {"jaK", Keepalive::Text},
      {"hello", Keepalive::Text},
  };
  for (const auto& row : rows) {
    const Datagram d(row.text);
    CHECK(parse(d).kind == Kind::Keepalive);
    CHECK(to_string(parse(d).keepalive) == to_string(row.keepalive));
  }
  CHECK(parse(std::string_view("\x00\x01\x00\x04\x21\x12\xa4\x42yz", 10)).kind == Kind::Malformed);
}

TEST_CASE("every prefix of a message has a defined result inside its bounds") {
  for (std::size_t n = 0; n <= kRegister.size(); ++n) {
    const Datagram d(std::string_view(kRegister).substr(0, n));
    const Message m = parse(d);
    for (const Span span :
         {m.method_token, m.request_uri, m.user_agent, m.from, m.from_user, m.from_tag, m.to, m.to_user, m.call_id,
          m.via_branch, m.authorization.response, m.cseq_method_token, m.body}) {
      CHECK(span.begin <= span.end);
      CHECK(span.end <= n);
    }
    if (n < 34) CHECK(m.kind == Kind::Malformed);
  }
}

TEST_CASE("the limits hold") {
  std::string many = "OPTIONS sip:a@b SIP/2.0\r\n";
  for (int i = 0; i < 300; ++i) many += "X: y\r\n";
  CHECK(parse(Datagram(many + "User-Agent: late\r\n\r\n")).header_count == kMaxHeaders);
  const std::string far =
      "OPTIONS sip:a@b SIP/2.0\r\nX: " + std::string(kMaxHeaderOctets, 'x') + "\r\nUser-Agent: late\r\n\r\n";
  CHECK_FALSE(parse(Datagram(far)).user_agent.present());
  CHECK(parse(Datagram(std::string(70'000, 'A'))).kind == Kind::Malformed);
}

TEST_CASE("parameters are read as far as an honest message has them") {
  const auto with = [](int via, int from, int digest) {
    const auto times = [](int count, std::string_view unit) {
      std::string out;
      while (count-- > 0) out += unit;
      return out;
    };
    return Datagram("REGISTER sip:b SIP/2.0\r\nVia: SIP/2.0/UDP h" + times(via - 1, ";x") +
                    ";branch=z9hG4bKq\r\nFrom: <sip:a@b>" + times(from - 1, ";y=\"z\"") +
                    ";tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n"
                    "Authorization: Digest username=\"a\"" +
                    times(digest - 2, ", k=v") + ", nonce=\"n\"\r\n\r\n");
  };
  const struct {
    const char* name;
    int via, from, digest;
    Malformation malformation;
  } rows[] = {
      {"the usual", 2, 1, 6, Malformation::None},
      {"eight each, and a dozen in the credentials", 8, 8, 12, Malformation::None},
      {"as many as one value may have", 24, 8, 8, Malformation::None},
      {"one more", 25, 1, 6, Malformation::TooManyParameters},
      {"as many as all of them may have beyond their eighth", 16, 16, 17, Malformation::None},
      {"one more of those", 16, 16, 18, Malformation::TooManyParameters},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    const Datagram d = with(row.via, row.from, row.digest);
    const Message m = parse(d);
    CHECK(to_string(m.malformation) == to_string(row.malformation));
    CHECK(m == parse_plain(d));
    CHECK(m.from_tag.in(d) == "1"); // what could be read is there all the same
    CHECK(m.authorization.username.in(d) == "a");
    CHECK(m.authorization.nonce.present() == (row.malformation == Malformation::None || row.digest == 6));
  }
}

TEST_CASE("credentials are a request's, challenges a response's") {
  const std::string headers =
      "Via: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n"
      "Authorization: Digest nonce=\"a\"\r\nWWW-Authenticate: Digest nonce=\"b\"\r\n\r\n";
  const Datagram request("REGISTER sip:b SIP/2.0\r\n" + headers), response("SIP/2.0 401 No\r\n" + headers);
  CHECK(parse(request).authorization.nonce.in(request) == "a");
  CHECK_FALSE(parse(request).www_authenticate.nonce.present());
  CHECK(parse(response).www_authenticate.nonce.in(response) == "b");
  CHECK_FALSE(parse(response).authorization.nonce.present());
}

TEST_CASE("headers written oddly, in any order and cut anywhere, read the same in every way") {
  constexpr std::string_view kHeaders[] = {"f:<sip:a@b>;tag=1\r\n",
                                           "v: SIP/2.0/UDP a;b\r\n",
                                           "l : 0\n",
                                           "x:\n",
                                           "To\t: \"a\" <sip:a>\n",
                                           "User-Agent : x\r\n",
                                           "a\n",
                                           "v\n",
                                           "\tb;c=\"d\"\r\n",
                                           "m:*\n",
                                           "CSeq: 1 REGISTER\r\n",
                                           "Expires\r\n : 5\r\n",
                                           " ,\n",
                                           ":x:y\r\n",
                                           ":\n",
                                           "e:\n :\n",
                                           "\rv: b\n",
                                           "i: \r x\n",
                                           "t\r\n\t\r\n"};
  std::mt19937 random(3);
  for (int round = 0; round < 400; ++round) {
    std::string text = "REGISTER sip:a@b SIP/2.0\r\n";
    const std::size_t size = 60 + random() % 1400, kinds = 1 + random() % std::size(kHeaders);
    while (text.size() < size) text += kHeaders[random() % kinds];
    text += round % 4 == 0 ? "" : "\r\nbody\n";
    text.resize(text.size() - random() % 8);
    const Datagram d(text);
    INFO(text);
    REQUIRE(parse(d) == parse_plain(d));
    Index plain, fast;
    index_plain(d, plain);
    index(d, fast);
    REQUIRE(fast.header_count == plain.header_count);
    CHECK(fast.first == plain.first);
    CHECK(fast.counts == plain.counts);
    CHECK(fast.body == plain.body);
    for (std::size_t i = 1; i <= fast.header_count; ++i) REQUIRE(fast.line(i, d) == plain.line(i, d));
  }
}

TEST_CASE("what the fuzzer found stays found") {
  const std::string rest =
      "\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 ACK\r\n\r\n";
  const struct {
    const char* name;
    std::string text;
    Kind kind;
  } rows[] = {
      {"a NUL at the end of a method", std::string("ACK\0 sip:a@b SIP/2.0", 21) + rest, Kind::Malformed},
      {"a CR in front of a name", "ACK sip:a@b SIP/2.0\r\n\rFrom: x" + rest, Kind::Request},
      {"a folded line and a CR at the end",
       "ACK sip:a@b SIP/2.0\r\nVia: x\r\n y\r\n z: 1234567890123456789012345678\r\n\r", Kind::Malformed},
      {"more parameters than are read, in a short value",
       "OPTIONS sip:a@b SIP/2.0\r\nTo: sip:v" + std::string(26, ';') + ";tag=I" + rest, Kind::Malformed},
      {"an empty line at once", "OPTIONS sip:a@b SIP/2.0\r\n\r\nFrom: a@b SIP/2.0\r\n\r\nFromb SI!User-Agent: x\r\n",
       Kind::Malformed},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    const Datagram d(row.text);
    CHECK(parse(d).kind == row.kind);
    CHECK(parse(d) == parse_plain(d));
    CHECK(first_look(d) == first_look_plain(d));
  }
}

TEST_CASE("every way of this processor reads every prefix as the plain one does") {
  if (best_isa() == Isa::Plain) {
    WARN("skipped: no AVX2 here");
    return;
  }
  for (std::size_t n = 0; n <= kRegister.size(); ++n) {
    const Datagram d(std::string_view(kRegister).substr(0, n));
    Index plain, fast;
    index_plain(d, plain);
    const auto agree = [&] {
      CHECK(fast.malformation == plain.malformation);
      CHECK(fast.first == plain.first);
      CHECK(fast.counts == plain.counts);
      CHECK(fast.body == plain.body);
      REQUIRE(fast.header_count == plain.header_count);
      for (std::size_t i = 1; i <= fast.header_count; ++i) CHECK(fast.line(i, d) == plain.line(i, d));
    };
    index_avx2(d, fast);
    agree();
    CHECK(first_look_avx2(d) == first_look_plain(d));
    if (best_isa() != Isa::Avx512) continue;
    index_avx512(d, fast);
    agree();
    CHECK(first_look_avx512(d) == first_look_plain(d));
  }
}
