// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "sip/first_look.h"
#include "sip/parser.h"
#include "tests/sip_datagram.h"

// The shapes that one header's value can have, and what is read in each: RFC 3261's grammar to its corners, and what
// real senders make of it.
using namespace sipward::sip;
using sipward::test::Datagram;
using sipward::test::request;

namespace {

constexpr const char* kNone = nullptr; // the part is absent

struct Part {
  Span Message::*part;
  const char* text;
};

struct Row {
  const char* name;
  std::string lines;
  std::vector<Part> parts;
};

void check(const Row& row) {
  INFO(row.name << ": " << row.lines);
  const Datagram d(request(row.lines));
  const Message m = parse(d);
  CHECK(m.kind == Kind::Request);
  CHECK(to_string(m.malformation) == "none");
  CHECK(m == parse_plain(d));
  CHECK(first_look(d) == first_look_plain(d));
  int number = 0;
  for (const auto& [part, text] : row.parts) {
    INFO("part " << number++);
    CHECK((m.*part).present() == (text != kNone));
    if (text) CHECK((m.*part).in(d) == text);
  }
}

constexpr auto kDisplay = &Message::from_display, kUser = &Message::from_user, kHost = &Message::from_host,
               kTag = &Message::from_tag, kSentBy = &Message::via_sent_by, kBranch = &Message::via_branch,
               kRport = &Message::via_rport, kReceived = &Message::via_received, kTransport = &Message::via_transport,
               kContact = &Message::contact, kContactUser = &Message::contact_user,
               kContactHost = &Message::contact_host;

} // namespace

TEST_CASE("From in every shape") {
  for (const Row& row : {
           Row{"without angle brackets: the parameters are the header's",
               "From: sip:ann@example.com;tag=x1",
               {{kDisplay, kNone}, {kUser, "ann"}, {kHost, "example.com"}, {kTag, "x1"}}},
           Row{"without angle brackets, spaces around the semicolon",
               "From: sip:ann@example.com ; tag=x1",
               {{kTag, "x1"}}},
           Row{"a tag within the angle brackets is the URI's",
               "From: <sip:ann@example.com;tag=no>",
               {{kUser, "ann"}, {kHost, "example.com"}, {kTag, kNone}}},
           Row{"a tag in the URI and one of the header", "From: <sip:ann@example.com;tag=no>;tag=x1", {{kTag, "x1"}}},
           Row{"the tag's name in capitals", "From: <sip:ann@example.com>;TAG=x1", {{kTag, "x1"}}},
           Row{"white space around everything",
               "From:\t <sip:ann@example.com> ; tag = x1 ",
               {{kUser, "ann"}, {kTag, "x1"}}},
           Row{"the tag after other parameters", "From: <sip:ann@example.com>;x;y=\"a;tag=no\";tag=x1", {{kTag, "x1"}}},
           Row{"a parameter that only ends like a tag", "From: <sip:ann@example.com>;xtag=no;tag=x1", {{kTag, "x1"}}},
           Row{"the first of two tags", "From: <sip:ann@example.com>;tag=x1;tag=x2", {{kTag, "x1"}}},
           Row{"a tag without a value", "From: <sip:ann@example.com>;tag=", {{kTag, ""}}},
           Row{"no tag", "From: <sip:ann@example.com>", {{kTag, kNone}}},
           Row{"a quoted display name",
               "From: \"Ann B\" <sip:ann@example.com>;tag=x1",
               {{kDisplay, "Ann B"}, {kUser, "ann"}}},
           Row{"nothing between name and bracket",
               "From: \"Ann\"<sip:ann@example.com>;tag=x1",
               {{kDisplay, "Ann"}, {kUser, "ann"}}},
           Row{"words without quotes",
               "From: Ann B <sip:ann@example.com>;tag=x1",
               {{kDisplay, "Ann B"}, {kUser, "ann"}}},
           Row{"an empty display name", "From: \"\" <sip:ann@example.com>;tag=x1", {{kDisplay, ""}, {kUser, "ann"}}},
           Row{"a comma in quotes",
               "From: \"B, Ann\" <sip:ann@example.com>;tag=x1",
               {{kDisplay, "B, Ann"}, {kUser, "ann"}, {kTag, "x1"}}},
           Row{"an address in quotes",
               "From: \"<sip:no@evil.example>;tag=no\" <sip:ann@example.com>;tag=x1",
               {{kDisplay, "<sip:no@evil.example>;tag=no"}, {kUser, "ann"}, {kHost, "example.com"}, {kTag, "x1"}}},
           Row{"an escaped quote",
               "From: \"A \\\"<sip:no@x>\\\" B\" <sip:ann@example.com>;tag=x1",
               {{kDisplay, "A \\\"<sip:no@x>\\\" B"}, {kUser, "ann"}, {kTag, "x1"}}},
           Row{"an escaped backslash ends no escape",
               "From: \"A\\\\\" <sip:ann@example.com>;tag=x1",
               {{kDisplay, "A\\\\"}, {kUser, "ann"}}},
           Row{"UTF-8",
               "From: \"J\xc3\xbcrgen \xe5\xb1\xb1\" <sip:j%C3%BCrgen@example.com>;tag=x1",
               {{kDisplay, "J\xc3\xbcrgen \xe5\xb1\xb1"}, {kUser, "j%C3%BCrgen"}}},
           Row{"a name and bracket over two lines",
               "From: \"Ann\"\r\n\t<sip:ann@example.com>\r\n  ;tag=x1",
               {{kDisplay, "Ann"}, {kUser, "ann"}, {kTag, "x1"}}},
           Row{"the value begins on the second line",
               "From:\r\n <sip:ann@example.com>;tag=x1",
               {{kUser, "ann"}, {kTag, "x1"}}},
           Row{"compact", "f: <sip:ann@example.com>;tag=x1", {{kUser, "ann"}, {kTag, "x1"}}},
           Row{"compact, in capitals, a space before the colon", "F : <sip:ann@example.com>;tag=x1", {{kUser, "ann"}}},
           Row{"no space after the colon", "From:<sip:ann@example.com>;tag=x1", {{kUser, "ann"}}},
           Row{"escapes", "From: <sip:a%20n%6E@example.com>;tag=x1", {{kUser, "a%20n%6E"}}},
           Row{"a password", "From: <sip:ann:secret@example.com>;tag=x1", {{kUser, "ann"}, {kHost, "example.com"}}},
           Row{"a colon in the password",
               "From: <sip:ann:a:b@example.com>;tag=x1",
               {{kUser, "ann"}, {kHost, "example.com"}}},
           Row{"parameters of the user",
               "From: <sip:+15551234;ext=7@example.com>;tag=x1",
               {{kUser, "+15551234;ext=7"}, {kHost, "example.com"}}},
           Row{"every unreserved mark",
               "From: <sip:a-_.!~*'()&=+$,;?/b@example.com>;tag=x1",
               {{kUser, "a-_.!~*'()&=+$,;?/b"}, {kHost, "example.com"}}},
           Row{"no user", "From: <sip:example.com>;tag=x1", {{kUser, kNone}, {kHost, "example.com"}}},
           Row{"a port", "From: <sip:ann@example.com:5070>;tag=x1", {{kHost, "example.com"}}},
           Row{"parameters and headers of the URI",
               "From: <sip:ann@example.com;user=phone?x=y>;tag=x1",
               {{kUser, "ann"}, {kHost, "example.com"}}},
           Row{"headers of a URI without parameters",
               "From: <sip:ann@example.com?to=b%40c>;tag=x1",
               {{kHost, "example.com"}}},
           Row{"sips, in capitals", "From: <SIPS:ann@EXAMPLE.com>;tag=x1", {{kUser, "ann"}, {kHost, "EXAMPLE.com"}}},
           Row{"tel",
               "From: <tel:+1-555-1234;phone-context=x>;tag=x1",
               {{kUser, "+1-555-1234"}, {kHost, kNone}, {kTag, "x1"}}},
           Row{"tel, without brackets", "From: tel:+15551234;tag=x1", {{kUser, "+15551234"}, {kTag, "x1"}}},
           Row{"another scheme",
               "From: <mailto:ann@example.com>;tag=x1",
               {{kUser, kNone}, {kHost, kNone}, {kTag, "x1"}}},
           Row{"an IPv6 reference", "From: <sip:ann@[2001:db8::1]>;tag=x1", {{kUser, "ann"}, {kHost, "2001:db8::1"}}},
           Row{"an IPv6 reference with a port",
               "From: <sip:ann@[2001:DB8::A]:5062;x>;tag=x1",
               {{kHost, "2001:DB8::A"}, {kTag, "x1"}}},
           Row{"an IPv6 reference without a user or brackets",
               "From: sip:[2001:db8::1]:5060;tag=x1",
               {{kUser, kNone}, {kHost, "2001:db8::1"}, {kTag, "x1"}}},
       })
    check(row);
}

TEST_CASE("Via in every shape") {
  for (const Row& row : {
           Row{"spaces around the slashes",
               "Via: SIP / 2.0 / UDP 192.0.2.9;branch=z9hG4bKa",
               {{kTransport, "UDP"}, {kSentBy, "192.0.2.9"}, {kBranch, "z9hG4bKa"}}},
           Row{"spaces around the equals sign",
               "Via: SIP/2.0/UDP 192.0.2.9 ; branch = z9hG4bKa ; rport",
               {{kBranch, "z9hG4bKa"}, {kRport, ""}}},
           Row{"a tab before sent-by",
               "Via: SIP/2.0/UDP\t192.0.2.9:5070;branch=z9hG4bKa",
               {{kSentBy, "192.0.2.9:5070"}}},
           Row{"spaces around the port's colon",
               "Via: SIP/2.0/UDP first.example.com: 4000;branch=z9hG4bKa",
               {{kBranch, "z9hG4bKa"}}},
           Row{"no parameters",
               "Via: SIP/2.0/UDP 192.0.2.9",
               {{kSentBy, "192.0.2.9"}, {kBranch, kNone}, {kRport, kNone}}},
           Row{"rport with a value, and received",
               "Via: SIP/2.0/UDP h;rport=5071;received=198.51.100.1;branch=z9hG4bKa",
               {{kRport, "5071"}, {kReceived, "198.51.100.1"}, {kBranch, "z9hG4bKa"}}},
           Row{"names in capitals",
               "VIA: sip/2.0/udp h;RPORT;BRANCH=z9hG4bKa",
               {{kTransport, "udp"}, {kRport, ""}, {kBranch, "z9hG4bKa"}}},
           Row{"an IPv6 reference with a port",
               "Via: SIP/2.0/UDP [2001:db8::9]:5061;branch=z9hG4bKa;received=2001:db8::7",
               {{kSentBy, "[2001:db8::9]:5061"}, {kReceived, "2001:db8::7"}, {kBranch, "z9hG4bKa"}}},
           Row{"the first of two in one header",
               "Via: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/TCP b;branch=z9hG4bK2;rport",
               {{kSentBy, "a"}, {kBranch, "z9hG4bK1"}, {kRport, kNone}}},
           Row{"the first has no branch, the second one does",
               "Via: SIP/2.0/UDP a, SIP/2.0/TCP b;branch=z9hG4bK2",
               {{kSentBy, "a"}, {kBranch, kNone}}},
           Row{"the first of two headers",
               "Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nv: SIP/2.0/TCP b;branch=z9hG4bK2",
               {{kSentBy, "a"}, {kBranch, "z9hG4bK1"}}},
           Row{"a quoted parameter with a comma and a semicolon",
               "Via: SIP/2.0/UDP a;x=\",;branch=no\";branch=z9hG4bK1",
               {{kBranch, "z9hG4bK1"}}},
           Row{"folded at every semicolon",
               "Via: SIP/2.0/UDP\r\n 192.0.2.9\r\n ;branch=z9hG4bKa\r\n\t;rport",
               {{kSentBy, "192.0.2.9"}, {kBranch, "z9hG4bKa"}, {kRport, ""}}},
           Row{"an unknown transport",
               "v: SIP/2.0/UNKNOWN t5.example.com;branch=z9hG4bKa",
               {{kTransport, "UNKNOWN"}, {kSentBy, "t5.example.com"}}},
       })
    check(row);
}

TEST_CASE("Contact in every shape") {
  for (const Row& row : {
           Row{"all of them",
               "Contact: *\r\nExpires: 0",
               {{kContact, "*"}, {kContactUser, kNone}, {kContactHost, kNone}}},
           Row{"without brackets",
               "Contact: sip:ann@192.0.2.9:5062;expires=60",
               {{kContactUser, "ann"}, {kContactHost, "192.0.2.9"}}},
           Row{"compact", "m: <sip:ann@192.0.2.9>", {{kContactUser, "ann"}}},
           Row{"the first of several",
               "Contact: \"a, b\" <sip:ann@h1>;q=0.5, <sip:bob@h2>",
               {{kContactUser, "ann"}, {kContactHost, "h1"}}},
           Row{"the first of several without brackets",
               "Contact: sip:ann@h1, sip:bob@h2",
               {{kContactUser, "ann"}, {kContactHost, "h1"}}},
           Row{"the first of two headers", "Contact: <sip:ann@h1>\r\nContact: <sip:bob@h2>", {{kContactUser, "ann"}}},
           Row{"an IPv6 reference",
               "Contact: <sip:ann@[2001:db8::1]:5060;transport=udp>",
               {{kContactHost, "2001:db8::1"}}},
           Row{"no address at all",
               "Contact: None",
               {{kContact, "None"}, {kContactUser, kNone}, {kContactHost, kNone}}},
           Row{"empty", "Contact: ", {{kContactUser, kNone}, {kContactHost, kNone}}},
           Row{"a URI of headers",
               "Contact: <sip:ann@h1?Route=%3Csip:x%3E>",
               {{kContactUser, "ann"}, {kContactHost, "h1"}}},
       })
    check(row);
}

TEST_CASE("credentials in every shape") {
  struct Shape {
    const char* name;
    const char* value;
    const char *username, *realm, *nonce, *uri, *response;
  };
  for (const Shape& row : {
           Shape{"as usual", "Digest username=\"ann\", realm=\"r\", nonce=\"n\", uri=\"sip:r\", response=\"f\"", "ann",
                 "r", "n", "sip:r", "f"},
           Shape{"in another order, no spaces",
                 "Digest response=\"f\",uri=\"sip:r\",nonce=\"n\",realm=\"r\",username=\"ann\"", "ann", "r", "n",
                 "sip:r", "f"},
           Shape{"without quotes", "Digest username=ann, realm=r, nonce=n, uri=sip:r, response=f", "ann", "r", "n",
                 "sip:r", "f"},
           Shape{"spaces around the equals signs", "Digest username = \"ann\" , realm = \"r\" , nonce = \"n\"", "ann",
                 "r", "n", kNone, kNone},
           Shape{"names in capitals", "DIGEST USERNAME=\"ann\",REALM=\"r\",Nonce=\"n\",URI=\"u\",Response=\"f\"", "ann",
                 "r", "n", "u", "f"},
           Shape{"commas and semicolons in quotes", "Digest username=\"a,b;c\", nonce=\"n,realm=no\"", "a,b;c", kNone,
                 "n,realm=no", kNone, kNone},
           Shape{"an escaped quote", "Digest username=\"a\\\"b, realm=\\\"no\", realm=\"r\"", "a\\\"b, realm=\\\"no",
                 "r", kNone, kNone, kNone},
           Shape{"names that only end alike", "Digest cnonce=\"no\", xuri=\"no\", username*=no, nonce=\"n\"", kNone,
                 kNone, "n", kNone, kNone},
           Shape{"empty values", "Digest username=\"\", nonce=\"\", response=\"\"", "", kNone, "", kNone, ""},
           Shape{"a comma too many", "Digest ,username=\"ann\",, nonce=\"n\",", "ann", kNone, "n", kNone, kNone},
           Shape{"folded", "Digest username=\"ann\",\r\n\trealm=\"r\",\r\n nonce=\"n\"", "ann", "r", "n", kNone, kNone},
           Shape{"the first of a name that stands twice", "Digest username=\"ann\", username=\"bob\"", "ann", kNone,
                 kNone, kNone, kNone},
           Shape{"nonces with = and /", "Digest nonce=\"abc/+==\", qop=auth, nc=00000001", kNone, kNone,
                 "abc/+==", kNone, kNone},
           Shape{"the scheme alone", "Digest", kNone, kNone, kNone, kNone, kNone},
           Shape{"another scheme", "Basic QWxhZGRpbjpvcGVu", kNone, kNone, kNone, kNone, kNone},
       }) {
    for (const bool proxy : {false, true}) {
      INFO(row.name << (proxy ? ", for a proxy" : ""));
      const Datagram d(request((proxy ? "Proxy-Authorization: " : "Authorization: ") + std::string(row.value)));
      const Message m = parse(d);
      CHECK(m.kind == Kind::Request);
      const Digest& digest = proxy ? m.proxy_authorization : m.authorization;
      const auto same = [&](Span span, const char* text) {
        CHECK(span.present() == (text != kNone));
        if (text) CHECK(span.in(d) == text);
      };
      same(digest.username, row.username);
      same(digest.realm, row.realm);
      same(digest.nonce, row.nonce);
      same(digest.uri, row.uri);
      same(digest.response, row.response);
    }
  }
}

TEST_CASE("several credentials in a message: the first ones are read, all are counted") {
  const Datagram d(request("Authorization: Digest username=\"ann\", realm=\"r1\"\r\n"
                           "Authorization: Digest username=\"bob\", realm=\"r2\"\r\n"
                           "Proxy-Authorization: Digest username=\"eve\""));
  const Message m = parse(d);
  CHECK(m.authorization.username.in(d) == "ann");
  CHECK(m.authorization.realm.in(d) == "r1");
  CHECK(m.proxy_authorization.username.in(d) == "eve");
  CHECK(m.count(Header::Authorization) == 2);
}

TEST_CASE("names of software in every shape") {
  for (const Row& row : {
           Row{"in capitals, a space before the colon", "USER-AGENT : Snom", {{&Message::user_agent, "Snom"}}},
           Row{"over two lines, with a tab", "User-Agent: Snom\r\n\t320", {{&Message::user_agent, "Snom\r\n\t320"}}},
           Row{"empty", "User-Agent:", {{&Message::user_agent, ""}}},
           Row{"none", "X: y", {{&Message::user_agent, kNone}}},
           Row{"the first of two",
               "User-Agent: Snom\r\nUser-Agent: friendly-scanner",
               {{&Message::user_agent, "Snom"}}},
           Row{"a Server stands for it",
               "Server: LabPBX",
               {{&Message::user_agent, "LabPBX"}, {&Message::server, "LabPBX"}}},
           Row{"a Server beside it",
               "Server: LabPBX\r\nUser-Agent: Snom",
               {{&Message::user_agent, "Snom"}, {&Message::server, "LabPBX"}}},
           Row{"a header that only ends alike", "X-User-Agent: friendly-scanner", {{&Message::user_agent, kNone}}},
           Row{"a colon within", "User-Agent: Snom:320", {{&Message::user_agent, "Snom:320"}}},
           Row{"in the value of another header",
               "Subject: User-Agent: friendly-scanner",
               {{&Message::user_agent, kNone}}},
           Row{"in a folded line", "Subject: x\r\n User-Agent: friendly-scanner", {{&Message::user_agent, kNone}}},
       })
    check(row);
}
