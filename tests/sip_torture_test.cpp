// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "sip/parser.h"
#include "tests/sip_capture.h"

// RFC 4475 and RFC 5118, message by message: what we make of each, and why.
using namespace sipward::sip;
using namespace sipward::test;

namespace {

struct Row {
  const char* message;
  Kind kind;
  Malformation malformation;
  const char* why;
};

constexpr Row kRows[] = {
    {"rfc4475_badaspec", Kind::Request, Malformation::None,
     "white space within the angle brackets of To: understood all the same"},
    {"rfc4475_badbranch", Kind::Request, Malformation::None,
     "a branch that is the cookie alone; phones of RFC 2543 send worse"},
    {"rfc4475_baddate", Kind::Request, Malformation::None, "Date is not read"},
    {"rfc4475_baddn", Kind::Request, Malformation::None, "unquoted commas in a display name: understood all the same"},
    {"rfc4475_badinv01", Kind::Malformed, Malformation::BadVia, "separators with nothing between them in Via"},
    {"rfc4475_badvers", Kind::Malformed, Malformation::UnsupportedVersion, "SIP/7.0"},
    {"rfc4475_bcast", Kind::Response, Malformation::None, "a response; where it was sent is not our affair"},
    {"rfc4475_bext01", Kind::Request, Malformation::None, "an extension is required: the server refuses it"},
    {"rfc4475_bigcode", Kind::Malformed, Malformation::BadStatus, "a status of ten digits"},
    {"rfc4475_clerr", Kind::Malformed, Malformation::TruncatedBody, "Content-Length beyond the end of the datagram"},
    {"rfc4475_cparam01", Kind::Request, Malformation::None, "an unknown Contact parameter"},
    {"rfc4475_cparam02", Kind::Request, Malformation::None, "an unknown Contact parameter, within the URI"},
    {"rfc4475_dblreq", Kind::Request, Malformation::None, "the octets after Content-Length are ignored"},
    {"rfc4475_esc01", Kind::Request, Malformation::None, "escapes in user parts"},
    {"rfc4475_esc02", Kind::Request, Malformation::None, "% is a token character"},
    {"rfc4475_escnull", Kind::Request, Malformation::None, "escaped NULs in user parts"},
    {"rfc4475_escruri", Kind::Request, Malformation::None, "headers within the Request-URI: the server refuses them"},
    {"rfc4475_insuf", Kind::Malformed, Malformation::NoFrom,
     "From, Call-ID and others are missing: From is named first"},
    {"rfc4475_intmeth", Kind::Request, Malformation::None, "every character that a token may have"},
    {"rfc4475_inv2543", Kind::Request, Malformation::None, "an RFC 2543 INVITE is good"},
    {"rfc4475_invut", Kind::Request, Malformation::None, "an unknown body type is the server's affair"},
    {"rfc4475_longreq", Kind::Request, Malformation::None, "long, but within the limits"},
    {"rfc4475_ltgtruri", Kind::Malformed, Malformation::BadRequestUri, "angle brackets around the Request-URI"},
    {"rfc4475_lwsdisp", Kind::Request, Malformation::None, "no white space before the angle bracket"},
    {"rfc4475_lwsruri", Kind::Malformed, Malformation::BadRequestUri, "white space within the Request-URI"},
    {"rfc4475_lwsstart", Kind::Request, Malformation::None,
     "extra spaces between the parts of the start line are forgiven"},
    {"rfc4475_mcl01", Kind::Malformed, Malformation::ConflictingContentLength, "two Content-Lengths that differ"},
    {"rfc4475_mismatch01", Kind::Malformed, Malformation::CSeqMismatch, "CSeq names another method"},
    {"rfc4475_mismatch02", Kind::Malformed, Malformation::CSeqMismatch,
     "CSeq names another method than the unknown one"},
    {"rfc4475_mpart01", Kind::Request, Malformation::None, "binary octets in the body"},
    {"rfc4475_multi01", Kind::Malformed, Malformation::RepeatedHeader, "From, To, Call-ID and CSeq twice"},
    {"rfc4475_ncl", Kind::Malformed, Malformation::BadContentLength, "a negative Content-Length"},
    {"rfc4475_noreason", Kind::Response, Malformation::None, "an empty reason phrase"},
    {"rfc4475_novelsc", Kind::Request, Malformation::None,
     "an unknown scheme in the Request-URI is the server's affair"},
    {"rfc4475_quotbal", Kind::Malformed, Malformation::BadTo, "an unclosed quote in To"},
    {"rfc4475_regaut01", Kind::Request, Malformation::None, "an unknown authorization scheme"},
    {"rfc4475_regbadct", Kind::Request, Malformation::None, "Contact is not judged"},
    {"rfc4475_regescrt", Kind::Request, Malformation::None, "an escaped header in Contact"},
    {"rfc4475_scalar02", Kind::Malformed, Malformation::CSeqOverflow, "CSeq beyond 2^31"},
    {"rfc4475_scalarlg", Kind::Malformed, Malformation::CSeqOverflow, "CSeq beyond 2^31, in a response"},
    {"rfc4475_sdp01", Kind::Request, Malformation::None, "what is acceptable is the server's affair"},
    {"rfc4475_semiuri", Kind::Request, Malformation::None, "semicolons in a user part"},
    {"rfc4475_test", Kind::Malformed, Malformation::NotSip, "no SIP version: not a request line"},
    {"rfc4475_transports", Kind::Request, Malformation::None, "unknown transports in Via"},
    {"rfc4475_trws", Kind::Request, Malformation::None, "trailing spaces of the start line are forgiven"},
    {"rfc4475_unkscm", Kind::Request, Malformation::None, "an unknown scheme in the Request-URI"},
    {"rfc4475_unksm2", Kind::Request, Malformation::None, "unknown schemes in From and To"},
    {"rfc4475_unreason", Kind::Response, Malformation::None, "a reason phrase in UTF-8"},
    {"rfc4475_wsinv", Kind::Request, Malformation::None, "folds and white space everywhere"},
    {"rfc4475_zeromf", Kind::Request, Malformation::None, "Max-Forwards 0: the server answers 483"},
    {"rfc5118_ipv4-mapped-ipv6", Kind::Request, Malformation::None, "IPv6 references in Via and Contact"},
    {"rfc5118_ipv6-bad", Kind::Malformed, Malformation::BadRequestUri, "an IPv6 address outside brackets"},
    {"rfc5118_ipv6-bug-abnf-3-colons", Kind::Request, Malformation::None,
     "three colons, as RFC 3261's grammar allowed by mistake: be lenient"},
    {"rfc5118_ipv6-correct-abnf-2-colons", Kind::Request, Malformation::None, "an IPv6 reference with an IPv4 tail"},
    {"rfc5118_ipv6-good", Kind::Request, Malformation::None, "an IPv6 reference"},
    {"rfc5118_ipv6-in-sdp", Kind::Malformed, Malformation::TruncatedBody,
     "its body is 251 octets where Content-Length says 268: valid but for that"},
    {"rfc5118_mult-ip-in-header", Kind::Request, Malformation::None, "IPv4 and IPv6 side by side"},
    {"rfc5118_mult-ip-in-sdp", Kind::Request, Malformation::None, "IPv4 and IPv6 in the body"},
    {"rfc5118_port-ambiguous", Kind::Request, Malformation::None, "5070 is a part of the address, not a port"},
    {"rfc5118_port-unambiguous", Kind::Request, Malformation::None, "a port after the bracket"},
    {"rfc5118_via-received-param-no-delim", Kind::Request, Malformation::None, "received without brackets"},
    {"rfc5118_via-received-param-with-delim", Kind::Request, Malformation::None, "received with brackets"},
};

std::string torture(std::string_view name) {
  return contents(data_folder() / "torture" / (std::string(name) + ".dat"));
}

} // namespace

TEST_CASE("each torture message has the outcome that the table gives") {
  const auto present = files(data_folder() / "torture", ".dat");
  if (present.empty()) {
    WARN("skipped: no " << (data_folder() / "torture").string() << " (set SIPWARD_DATA)");
    return;
  }
  CHECK(present.size() == std::size(kRows));
  for (const Row& row : kRows) {
    const std::string d = torture(row.message);
    INFO(row.message << ": " << row.why);
    REQUIRE_FALSE(d.empty());
    const Message m = parse(d);
    CHECK(to_string(m.malformation) == to_string(row.malformation));
    CHECK(m.kind == row.kind);
    CHECK(parse_plain(d) == m);
  }
}

TEST_CASE("the parts that RFC 4475 and RFC 5118 hide are found") {
  if (files(data_folder() / "torture", ".dat").empty()) {
    WARN("skipped: no torture messages (set SIPWARD_DATA)");
    return;
  }
  const struct {
    const char* message;
    Span Message::*part;
    const char* text;
  } rows[] = {
      {"rfc4475_wsinv", &Message::from_user, "jdrosen"},
      {"rfc4475_wsinv", &Message::from_tag, "98asjd8"},
      {"rfc4475_wsinv", &Message::from_display, "J Rosenberg \\\\\\\""},
      {"rfc4475_wsinv", &Message::to_user, "vivekg"},
      {"rfc4475_wsinv", &Message::to_tag, "1918181833n"},
      {"rfc4475_wsinv", &Message::via_branch, "390skdjuw"},
      {"rfc4475_wsinv", &Message::via_sent_by, "192.0.2.2"},
      {"rfc4475_wsinv", &Message::contact_user, "jdrosen"},
      {"rfc4475_wsinv", &Message::cseq_method_token, "INVITE"},
      {"rfc4475_esc01", &Message::to_user, "%75se%72"},
      {"rfc4475_escnull", &Message::from_user, "null-%00-null"},
      {"rfc4475_lwsdisp", &Message::from_display, "caller"},
      {"rfc4475_semiuri", &Message::from_user, "caller"},
      {"rfc4475_unksm2", &Message::call_id, "unksm2.daksdj@hyphenated-host.example.com"},
      {"rfc5118_ipv4-mapped-ipv6", &Message::contact_host, "::ffff:192.0.2.2"},
      {"rfc5118_ipv6-good", &Message::contact_host, "2001:db8::1"},
      {"rfc5118_via-received-param-no-delim", &Message::via_received, "2001:db8::9:255"},
      {"rfc5118_via-received-param-with-delim", &Message::via_received, "[2001:db8::9:255]"},
      {"rfc5118_mult-ip-in-header", &Message::via_sent_by, "[2001:db8::9:1]:6050"},
  };
  for (const auto& row : rows) {
    INFO(row.message);
    const std::string d = torture(row.message);
    CHECK((parse(d).*row.part).in(d) == row.text);
  }
  const std::string many = torture("rfc4475_wsinv");
  CHECK(parse(many).count(Header::Via) == 2);
  CHECK(parse(many).cseq == 9);
  CHECK(parse(many).max_forwards == 68);
}
