// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include <string>

#include "sip/first_look.h"
#include "sip/parser.h"
#include "tests/sip_datagram.h"

// What a whole datagram can be: messages by their start lines, numbers and size, keepalives, and what is neither.
using namespace sipward::sip;
using sipward::test::Datagram;
using sipward::test::request;

namespace {

constexpr const char* kNone = nullptr; // the part is absent

} // namespace

TEST_CASE("numbers in every shape") {
  const struct {
    const char* name;
    const char* lines;
    Malformation cause;
    std::uint32_t Message::*number;
    std::uint32_t value;
  } rows[] = {
      {"CSeq with leading zeros", "CSeq: 0009 REGISTER", Malformation::None, &Message::cseq, 9},
      {"CSeq with tabs and a fold", "CSeq:\t9\r\n\tREGISTER", Malformation::None, &Message::cseq, 9},
      {"the largest CSeq", "CSeq: 2147483647 REGISTER", Malformation::None, &Message::cseq, 2147483647},
      {"CSeq 0", "CSeq: 0 REGISTER", Malformation::None, &Message::cseq, 0},
      {"a CSeq without its method", "CSeq: 9", Malformation::BadCSeq, &Message::cseq, 9},
      {"a CSeq without a space", "CSeq: 9REGISTER", Malformation::BadCSeq, &Message::cseq, 9},
      {"a negative CSeq", "CSeq: -9 REGISTER", Malformation::BadCSeq, &Message::cseq, 0},
      {"a hexadecimal CSeq", "CSeq: 0x9 REGISTER", Malformation::BadCSeq, &Message::cseq, 0},
      {"Max-Forwards beyond 32 bits", "Max-Forwards: 99999999999", Malformation::None, &Message::max_forwards,
       0xffff'fffe},
      {"Max-Forwards that is no number", "Max-Forwards: many", Malformation::None, &Message::max_forwards,
       Message::kAbsent},
      {"Expires with spaces", "Expires:   3600  ", Malformation::None, &Message::expires, 3600},
      {"compact Content-Length", "l:0", Malformation::None, &Message::content_length, 0},
      {"Content-Length with leading zeros", "Content-Length: 0000", Malformation::None, &Message::content_length, 0},
      {"a negative Content-Length", "Content-Length: -1", Malformation::BadContentLength, &Message::content_length,
       Message::kAbsent},
      {"a huge Content-Length", "Content-Length: 18446744073709551617", Malformation::TruncatedBody,
       &Message::content_length, 0xffff'fffe},
      {"two Content-Lengths that agree", "Content-Length: 0\r\nl: 00", Malformation::None, &Message::content_length, 0},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    const Datagram d(request(row.lines));
    const Message m = parse(d);
    CHECK(to_string(m.malformation) == to_string(row.cause));
    CHECK(m.*row.number == row.value);
    CHECK(m == parse_plain(d));
  }
}

TEST_CASE("start lines in every shape") {
  const std::string rest =
      "Via: SIP/2.0/UDP h;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\n";
  const struct {
    const char* name;
    std::string text;
    Kind kind;
    Method method;
    std::uint16_t status;
    const char* token_or_uri; // of a request: its method as written, then its URI
    const char* uri;
  } rows[] = {
      {"an unknown method", "FROBNICATE sip:a SIP/2.0\r\nCSeq: 1 FROBNICATE\r\n", Kind::Request, Method::Other, 0,
       "FROBNICATE", "sip:a"},
      {"a method that begins like a known one", "INVITED sip:a SIP/2.0\r\nCSeq: 1 INVITED\r\n", Kind::Request,
       Method::Other, 0, "INVITED", "sip:a"},
      {"a method of odd characters", "!In-%.*~_+`'Z sip:a SIP/2.0\r\nCSeq: 1 !In-%.*~_+`'Z\r\n", Kind::Request,
       Method::Other, 0, "!In-%.*~_+`'Z", "sip:a"},
      {"an unknown method in another case is another", "frob sip:a SIP/2.0\r\nCSeq: 1 FROB\r\n", Kind::Malformed,
       Method::Other, 0, "frob", "sip:a"},
      {"a known method in another case", "Invite sip:a SIP/2.0\r\nCSeq: 1 INVITE\r\n", Kind::Request, Method::Invite, 0,
       "Invite", "sip:a"},
      {"the version in lower case", "OPTIONS sip:a sip/2.0\r\nCSeq: 1 OPTIONS\r\n", Kind::Request, Method::Options, 0,
       "OPTIONS", "sip:a"},
      {"LF alone at its end", "OPTIONS sip:a SIP/2.0\nCSeq: 1 OPTIONS\n", Kind::Request, Method::Options, 0, "OPTIONS",
       "sip:a"},
      {"many CRLFs before it", "\r\n\r\n\r\n\r\nOPTIONS sip:a SIP/2.0\r\nCSeq: 1 OPTIONS\r\n", Kind::Request,
       Method::Options, 0, "OPTIONS", "sip:a"},
      {"an LF before it", "\nOPTIONS sip:a SIP/2.0\r\nCSeq: 1 OPTIONS\r\n", Kind::Request, Method::Options, 0,
       "OPTIONS", "sip:a"},
      {"a URI of everything", "OPTIONS sips:a%20b:c@[2001:db8::1]:5061;x=y?z=%00 SIP/2.0\r\nCSeq: 1 OPTIONS\r\n",
       Kind::Request, Method::Options, 0, "OPTIONS", "sips:a%20b:c@[2001:db8::1]:5061;x=y?z=%00"},
      {"a tel URI", "INVITE tel:+15551234 SIP/2.0\r\nCSeq: 1 INVITE\r\n", Kind::Request, Method::Invite, 0, "INVITE",
       "tel:+15551234"},
      {"a urn", "INVITE urn:service:sos SIP/2.0\r\nCSeq: 1 INVITE\r\n", Kind::Request, Method::Invite, 0, "INVITE",
       "urn:service:sos"},
      {"a space before the method", " OPTIONS sip:a SIP/2.0\r\nCSeq: 1 OPTIONS\r\n", Kind::Malformed, Method::Other, 0,
       kNone, kNone},
      {"no URI", "OPTIONS SIP/2.0\r\nCSeq: 1 OPTIONS\r\n", Kind::Malformed, Method::Options, 0, "OPTIONS", ""},
      {"SIP/2.00", "OPTIONS sip:a SIP/2.00\r\nCSeq: 1 OPTIONS\r\n", Kind::Malformed, Method::Options, 0, "OPTIONS",
       "sip:a"},
      {"HTTP", "OPTIONS sip:a HTTP/1.1\r\nCSeq: 1 OPTIONS\r\n", Kind::Malformed, Method::Other, 0, kNone, kNone},
      {"a response", "SIP/2.0 200 OK\r\nCSeq: 1 OPTIONS\r\n", Kind::Response, Method::Other, 200, kNone, kNone},
      {"no reason phrase", "SIP/2.0 200 \r\nCSeq: 1 OPTIONS\r\n", Kind::Response, Method::Other, 200, kNone, kNone},
      {"no space after the status either", "SIP/2.0 200\r\nCSeq: 1 OPTIONS\r\n", Kind::Response, Method::Other, 200,
       kNone, kNone},
      {"extra spaces", "SIP/2.0   486   Busy  Here \r\nCSeq: 1 OPTIONS\r\n", Kind::Response, Method::Other, 486, kNone,
       kNone},
      {"a reason that looks like a request line", "SIP/2.0 404 INVITE sip:a SIP/2.0\r\nCSeq: 1 OPTIONS\r\n",
       Kind::Response, Method::Other, 404, kNone, kNone},
      {"the smallest status", "SIP/2.0 100 Trying\r\nCSeq: 1 OPTIONS\r\n", Kind::Response, Method::Other, 100, kNone,
       kNone},
      {"the largest status", "SIP/2.0 699 x\r\nCSeq: 1 OPTIONS\r\n", Kind::Response, Method::Other, 699, kNone, kNone},
      {"status 099", "SIP/2.0 099 x\r\nCSeq: 1 OPTIONS\r\n", Kind::Malformed, Method::Other, 0, kNone, kNone},
      {"status 700", "SIP/2.0 700 x\r\nCSeq: 1 OPTIONS\r\n", Kind::Malformed, Method::Other, 0, kNone, kNone},
      {"a status of two digits", "SIP/2.0 20 x\r\nCSeq: 1 OPTIONS\r\n", Kind::Malformed, Method::Other, 0, kNone,
       kNone},
      {"a status of letters", "SIP/2.0 2OO OK\r\nCSeq: 1 OPTIONS\r\n", Kind::Malformed, Method::Other, 0, kNone, kNone},
      {"a negative status", "SIP/2.0 -200 OK\r\nCSeq: 1 OPTIONS\r\n", Kind::Malformed, Method::Other, 0, kNone, kNone},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    const Datagram d(row.text + rest + "\r\n");
    const Message m = parse(d);
    CHECK(m.kind == row.kind);
    CHECK(to_string(m.method) == to_string(row.method));
    CHECK(m.status == row.status);
    CHECK(m.method_token.present() == (row.token_or_uri != kNone));
    if (row.token_or_uri) CHECK(m.method_token.in(d) == row.token_or_uri);
    if (row.uri) CHECK(m.request_uri.in(d) == row.uri);
    CHECK(m == parse_plain(d));
    CHECK(first_look(d) == first_look_plain(d));
  }
}

TEST_CASE("datagrams that are no messages") {
  const std::string stun("\x00\x01\x00\x00\x21\x12\xa4\x42", 8);
  const struct {
    const char* name;
    std::string text;
    Kind kind;
    Keepalive keepalive;
    Malformation cause;
  } rows[] = {
      {"nothing", "", Kind::Malformed, Keepalive::None, Malformation::Empty},
      {"CRLF", "\r\n", Kind::Keepalive, Keepalive::Crlf, Malformation::None},
      {"LF", "\n", Kind::Keepalive, Keepalive::Crlf, Malformation::None},
      {"two CRLFs", "\r\n\r\n", Kind::Keepalive, Keepalive::DoubleCrlf, Malformation::None},
      {"thirty CRLFs", std::string("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n") + "\r\n\r\n", Kind::Keepalive,
       Keepalive::DoubleCrlf, Malformation::None},
      {"one NUL", std::string(1, '\0'), Kind::Keepalive, Keepalive::Zeros, Malformation::None},
      {"four NULs", std::string(4, '\0'), Kind::Keepalive, Keepalive::Zeros, Malformation::None},
      {"NULs, as long as a datagram can be", std::string(65'507, '\0'), Kind::Keepalive, Keepalive::Zeros,
       Malformation::None},
      {"NULs and then something", std::string(20, '\0') + "x", Kind::Malformed, Keepalive::None, Malformation::NotSip},
      {"a STUN binding request", stun + "abcdefghijkl", Kind::Keepalive, Keepalive::Stun, Malformation::None},
      {"a STUN binding request with an attribute",
       std::string("\x00\x01\x00\x08\x21\x12\xa4\x42", 8) + "abcdefghijkl" + std::string("\x80\x22\x00\x04test", 8),
       Kind::Keepalive, Keepalive::Stun, Malformation::None},
      {"a STUN indication", std::string("\x00\x11\x00\x00\x21\x12\xa4\x42", 8) + "abcdefghijkl", Kind::Keepalive,
       Keepalive::Stun, Malformation::None},
      {"STUN that is cut", stun + "abcdefghijk", Kind::Malformed, Keepalive::None, Malformation::NotSip},
      {"STUN without its cookie", std::string(20, '\x01'), Kind::Malformed, Keepalive::None, Malformation::NotSip},
      {"a space", " ", Kind::Malformed, Keepalive::None, Malformation::NotSip},
      {"one octet", "x", Kind::Malformed, Keepalive::None, Malformation::NotSip},
      {"jaK", "jaK", Kind::Keepalive, Keepalive::Text, Malformation::None},
      {"hello, with a line end", "hello\r\n", Kind::Keepalive, Keepalive::Text, Malformation::None},
      {"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", Kind::Malformed, Keepalive::None, Malformation::NotSip},
      {"TLS", std::string("\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 11), Kind::Malformed, Keepalive::None,
       Malformation::NotSip},
      {"RTP", std::string("\x80\x00\x12\x34\x00\x00\x00\xa0\x11\x22\x33\x44", 12) + std::string(160, '\xff'),
       Kind::Malformed, Keepalive::None, Malformation::NotSip},
      {"letters, as many as a datagram holds", std::string(65'535, 'A'), Kind::Malformed, Keepalive::None,
       Malformation::NotSip},
      {"colons, as many as a datagram holds", std::string(65'535, ':'), Kind::Malformed, Keepalive::None,
       Malformation::NotSip},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    const Datagram d(row.text);
    const Message m = parse(d);
    CHECK(m.kind == row.kind);
    CHECK(to_string(m.keepalive) == to_string(row.keepalive));
    CHECK(to_string(m.malformation) == to_string(row.cause));
    CHECK(m == parse_plain(d));
    CHECK(first_look(d) == first_look_plain(d));
  }
}

TEST_CASE("large messages are read as far as the limits go") {
  const auto lines = [](int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += "X-" + std::to_string(i) + ": y\r\n";
    return out;
  };
  const std::string padded = "User-Agent: Yealink\r\nSubject: " + std::string(5000, 's');
  const struct {
    const char* name;
    std::string text;
    Kind kind;
    const char* user_agent; // kNone: beyond the limits
    std::size_t headers;
  } rows[] = {
      {"a line over 4 kB before the name", request("Subject: " + std::string(5000, 's') + "\r\nUser-Agent: Yealink"),
       Kind::Request, "Yealink", 7},
      {"a line over 4 kB after it", request(padded), Kind::Request, "Yealink", 7},
      {"a display name of 4 kB",
       request("From: \"" + std::string(4096, 'n') + "\" <sip:ann@example.com>;tag=a\r\nUser-Agent: Yealink"),
       Kind::Request, "Yealink", 6},
      {"200 headers after it", request("User-Agent: Yealink\r\n" + lines(200)), Kind::Request, "Yealink", 128},
      {"200 headers before it", request(lines(200) + "User-Agent: Yealink"), Kind::Request, kNone, 128},
      {"a body of 60 kB", request("User-Agent: Yealink") + std::string(60'000, 'b'), Kind::Request, "Yealink", 6},
      {"65,535 octets, most of them one header",
       request("User-Agent: Yealink\r\nX: " + std::string(65'000, 'x')).substr(0, 65'535), Kind::Request, "Yealink", 6},
      {"a value over a hundred lines",
       request("User-Agent: Yealink\r\nSubject: a" +
               [] {
                 std::string folds;
                 for (int i = 0; i < 100; ++i) folds += "\r\n b";
                 return folds;
               }()),
       Kind::Request, "Yealink", 7},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    const Datagram d(row.text);
    const Message m = parse(d);
    CHECK(m.kind == row.kind);
    CHECK(m.from_user.in(d) == "ann");
    CHECK(m.header_count == row.headers);
    CHECK(m.user_agent.present() == (row.user_agent != kNone));
    if (row.user_agent) CHECK(m.user_agent.in(d) == row.user_agent);
    CHECK(m == parse_plain(d));
    CHECK(first_look(d) == first_look_plain(d));
  }
}
