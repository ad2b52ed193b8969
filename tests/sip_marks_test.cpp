// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include <set>
#include <string>
#include <vector>

#include "sip/first_look.h"
#include "sip/mark_list.h"
#include "sip/marks.h"
#include "sip/parser.h"
#include "sip/shapes.h"

using namespace sipward::sip;

namespace {

std::string options(std::string_view user_agent) {
  return "OPTIONS sip:100@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bKx\r\n"
         "From: <sip:a@192.0.2.1>;tag=ab\r\nTo: <sip:a@192.0.2.1>\r\nCall-ID: 1@x\r\nCSeq: 1 OPTIONS\r\nUser-Agent: " +
         std::string(user_agent) + "\r\n\r\n";
}

std::string mark_of(const Marks& marks, std::string_view user_agent) {
  const std::string datagram = options(user_agent);
  const Mark* mark = marks.find(parse(datagram), datagram);
  return mark ? std::string(mark->name) : "";
}

} // namespace

TEST_CASE("every name in the shipped list is found as its bearer writes it, and weighs what it should") {
  const struct {
    const char* user_agent;
    const char* pattern;
  } rows[] = {
      {"friendly-scanner", "*friendly-scanner*"},
      {"Friendly-Scanner/2", "*friendly-scanner*"},
      {"sipvicious", "*sipvicious*"},
      {"sundayddr", "*sundayddr*"},
      {"sundayaddr", "*sundayaddr*"},
      {"sipcli/v1.8", "sipcli/*"},
      {"sipcli/v2.2", "sipcli/*"},
      {"pplsip", "pplsip"},
      {"sipptk", "sipptk"},
      {"VaxSIPUserAgent/3.1", "*vaxsipuseragent*"},
      {"VaxIPUserAgent", "*vaxipuseragent*"},
      {"sip-scan", "sip-scan*"},
      {"SIPScan", "*sipscan*"},
      {"iWar", "iwar"},
      {"SIVuS_VoIP_Scanner", "sivus*"},
      {"smap", "smap"},
      {"smap/0.6.0", "smap/*"},
      {"smap 0.6.0", "smap 0*"},
      {"Gulp", "gulp"},
      {"sipv", "sipv"},
      {"siparmyknife", "siparmyknife*"},
      {"Viproy VoIP Kit", "*viproy*"},
      {"PROTOS/1.0", "protos*"},
      {"Nmap NSE", "nmap nse"},
      {"Hacker", "hacker"},
      {"friendly-request", "friendly-request"},
      {"Test Agent", "test agent"},
      {"Custom SIP Phone", "custom sip phone"},
      {"Conaito", "conaito*"},
      {"Ozeki VoIP SIP SDK v11.4.1", "ozeki voip sip sdk*"},
      {"FourCats", "fourcats*"},
      {"dr.pes", "dr.pes"},
      {"IM-client/OMA1.0", "im-client/oma1.0"},
      {"A_B_C", "a_b_c"},
      {"aaaaaaaa", "aaaaaaaa"},
      {"fgfdhgfxjfhyjhkj", "fgfdhgfxjfhyjhkj"},
      {"China", "china"},
      {"Asterix PBX", "asterix pbx"},
      {"VOIP", "voip"},
      {"Cisco-SIPGateway/IOS-12.x", "cisco-sipgateway*"},
      {"Cisco v11.0.0", "cisco v11.0.0"},
      {"SIP Call", "sip call"},
      {"PortSIP VoIP SDK 11.2", "portsip voip sdk*"},
      {"ABTO Video SIP SDK", "abto video sip sdk*"},
      {"CSipSimple_crespo-16/r2457", "csipsimple*"},
      {"voxalot", "voxalot*"},
      {"eyeBeam release 3006o stamp 17551", "eyebeam release 3006o stamp 17551"},
      {"eyeBeam release 3007n stamp 17816", "eyebeam release 3007n stamp 17816"},
      {"eyeBeam release 3004t stamp 16741", "eyebeam release 3004t stamp 16741"},
      {"eyeBeam release 3015c stamp 27107", "eyebeam release 3015c stamp 27107"},
  };
  const Marks marks;
  std::set<std::string_view> found;
  for (const auto& row : rows) {
    INFO(row.user_agent);
    const std::string datagram = options(row.user_agent);
    const Mark* mark = marks.find(parse(datagram), datagram);
    REQUIRE(mark);
    CHECK(mark->name == row.pattern);
    found.insert(row.pattern);
    for (const AgentMark& shipped : kAgentMarks)
      if (shipped.pattern == row.pattern) CHECK(mark->weight == shipped.weight);
    const Mark* sooner = marks.find(first_look(datagram), datagram);
    CHECK(sooner == (mark->weight == Weight::Hard ? mark : nullptr));
  }
  for (const AgentMark& shipped : kAgentMarks) {
    INFO(shipped.pattern << " has no row");
    CHECK(found.contains(shipped.pattern));
  }
}

TEST_CASE("honest phones, servers and monitors bear no mark") {
  const Marks marks;
  for (const char* phone : {"Yealink SIP-T46S 66.85.0.5",
                            "Nero SIPPS IP Phone Version 2.0.51.16",
                            "Zoiper rv2.10.19",
                            "Zoiper rev.11137",
                            "Z 3.9.32144 r32121",
                            "Z 5.6.5 v2.10.20.9",
                            "X-Lite release 5.8.3 stamp 98121",
                            "X-Lite build 1101",
                            "eyeBeam release 1102q stamp 51814",
                            "eyeBeam release 3006o stamp 175510",
                            "3CXPhoneSystem",
                            "3CXPhone 6.0.26523.0",
                            "Asterisk PBX 18.9",
                            "PBX",
                            "FPBX-16.0.40(18.9)",
                            "MizuPhone 2.9",
                            "baresip v1.0.0 (x86_64/linux)",
                            "sipsak 0.9.8.1",
                            "SIPp",
                            "Linphone/3.6.1 (eXosip2/4.1.0)",
                            "Linksys/SPA942-6.1.5(a)",
                            "Cisco/SPA504G-7.4.9c",
                            "Cisco-CP8841/11.0.1",
                            "Cisco-CUCM11.5",
                            "PolycomVVX-VVX_410-UA/5.9.0",
                            "Grandstream GXP2160 1.0.9.69",
                            "snomD785/10.1.54.13",
                            "FRITZ!OS",
                            "AVM FRITZ!Box 7590",
                            "Gigaset N510 IP PRO/42.245",
                            "VoIP Phone V1.0",
                            "voip.ms",
                            "TP-Link SIP Stack V1.0.0",
                            "OpenSIPS (3.2.5 (x86_64/linux))",
                            "kamailio (5.6.3 (x86_64/linux))",
                            "FreeSWITCH-mod_sofia/1.10.9",
                            "MicroSIP/3.21.3",
                            "Bria 5 release 5.8.3",
                            "PJSUA v2.12 Linux",
                            "Smap Telecom SBC",
                            "Hackerspace phone 12",
                            "Chinatel ATA",
                            "iWarp gateway",
                            "GulpPhone",
                            ""}) {
    INFO(phone);
    CHECK(mark_of(marks, phone).empty());
  }
}

TEST_CASE("an operator's patterns are exact, prefix, suffix or contained") {
  const std::vector<std::string> own{"evil phone", "evilpre*", "*evilin*", "*evilsuf", "ev", "a*b*c"};
  const Marks marks(own);
  CHECK(mark_of(marks, "Evil Phone") == "evil phone");
  CHECK(mark_of(marks, "Evil Phone 2").empty());
  CHECK(mark_of(marks, "EVILPRE 2") == "evilpre*");
  CHECK(mark_of(marks, "an evilpre").empty());
  CHECK(mark_of(marks, "an evilin thing") == "*evilin*");
  CHECK(mark_of(marks, "an evilsuf") == "*evilsuf");
  CHECK(mark_of(marks, "evilsuf an").empty());
  CHECK(mark_of(marks, "ev").empty());
}

TEST_CASE("patterns are checked for sense") {
  CHECK(Marks::valid_pattern("abc"));
  CHECK(Marks::valid_pattern("*abc*"));
  CHECK_FALSE(Marks::valid_pattern("ab"));
  CHECK_FALSE(Marks::valid_pattern("**"));
  CHECK_FALSE(Marks::valid_pattern("*ab*"));
  CHECK_FALSE(Marks::valid_pattern("a*bcd"));
  CHECK_FALSE(Marks::valid_pattern("abc\n"));
}

namespace {

struct Shot {
  std::string uri = "sip:192.0.2.1", via = "SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bKx1y",
              from = "<sip:a@example.com>;tag=ab";
  std::string to = "<sip:a@example.com>", call_id = "1@x", cseq = "1 OPTIONS", method = "OPTIONS";
  std::string rest = "User-Agent: Yealink SIP-T46S\r\nContact: <sip:a@198.51.100.9>\r\n", tail = {};
};

std::string message(const Shot& s) {
  return s.method + " " + s.uri + " SIP/2.0\r\nVia: " + s.via + "\r\nFrom: " + s.from + "\r\nTo: " + s.to +
         "\r\nCall-ID: " + s.call_id + "\r\nCSeq: " + s.cseq + "\r\n" + s.rest + "\r\n" + s.tail;
}

} // namespace

TEST_CASE("each mark of a message's shape is found, and weighs what it should") {
  const std::string letters71 = "1yn678fwnam4f1gjbrldffmy55vn7wkq7ojhq3q1zswd5jnemal4ggjr1gjg05pdtusco5x";
  const struct {
    const char* mark;
    Weight weight;
    Shot shot;
  } rows[] = {
      {"sipvicious_tag", Weight::Hard, {.from = "\"1000\"<sip:1000@192.0.2.1>;tag=313030300131393030393832343539"}},
      {"svcrack_tag", Weight::Hard, {.from = "\"1010\" <sip:1010@192.0.2.1>;tag=3206210844"}},
      {"1.1.1.1", Weight::Hard, {.from = "\"x\"<sip:100@1.1.1.1>;tag=99"}},
      {"1.1.1.1", Weight::Hard, {.to = "\"x\"<sip:100@1.1.1.1>"}},
      {"1.1.1.1", Weight::Hard, {.rest = "Contact: sip:123@1.1.1.1\r\n"}},
      {"sipvicious_name", Weight::Hard, {.from = "\"sipvicious\"<sip:1@192.0.2.1>;tag=99"}},
      {"sipvicious_name", Weight::Hard, {.from = "\"sipsscuser\"<sip:1@192.0.2.1>;tag=99"}},
      {"sipvicious_name", Weight::Hard, {.from = "\"ccxllrlflgig\"<sip:100@192.0.2.1>;tag=99"}},
      {"sipvicious_shape",
       Weight::Hard,
       {.via = "SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK-2886404113;rport",
        .call_id = "1449949872",
        .cseq = "1 REGISTER",
        .method = "REGISTER",
        .rest = "Contact: sip:1000@192.0.2.1\r\nAccept: application/sdp\r\n"}},
      {"sippts_shape", Weight::Hard, {.via = "SIP/2.0/UDP 198.51.100.9:35305;branch=" + letters71 + ";rport"}},
      {"nmap_probe",
       Weight::Hard,
       {.uri = "sip:nm", .from = "<sip:nm@nm>;tag=root", .call_id = "50000", .cseq = "42 OPTIONS"}},
      {"nmap_probe", Weight::Hard, {.from = "<sip:x@x>;tag=root", .call_id = "50000", .cseq = "42 OPTIONS"}},
      {"nmap_probe", Weight::Hard, {.to = "<sip:nm2@nm2>"}},
      {"nmap_name", Weight::Hard, {.from = "\"Nmap NSE\" <sip:1000@192.0.2.1>;tag=8axW"}},
      {"hydra",
       Weight::Hard,
       {.via = "SIP/2.0/UDP 198.51.100.9:46759", .from = "<sip:1010@192.0.2.1>", .call_id = "1337@192.0.2.1"}},
      {"masscan", Weight::Hard, {.via = "SIP/2.0/UDP 198.51.100.9;branch=z9hGOPTIONS sip:carol@chicago.com"}},
      {"zmap",
       Weight::Hard,
       {.via = "SIP/2.0/UDP 198.51.100.9;branch=kq3x",
        .rest = "User-Agent: qWkxTzpa\r\n",
        .tail = std::string(2, '\0')}},
      {"sipcli_branch", Weight::Hard, {.via = "SIP/2.0/UDP 198.51.100.9;branch=z9hG4bK-a1b2c3", .call_id = "a1b2c3"}},
      {"tool_user", Weight::Hard, {.from = "SIVuS_VoIP_Scanner <sip:SIVuS@192.0.2.9>;tag=1"}},
      {"tool_user", Weight::Hard, {.from = "<sip:sivus-discovery@vopsecurity.org>;tag=1"}},
      {"tool_user", Weight::Hard, {.from = "<sip:thisisthecanary@192.0.2.9>;tag=1"}},
      {"tool_user", Weight::Hard, {.from = "<sip:smap@192.0.2.9>;tag=1"}},
      {"contact_none", Weight::Hard, {.rest = "Contact: None\r\n"}},
      {"copied_ids",
       Weight::Hard,
       {.from = "Alice <sip:alice@atlanta.com>;tag=1928301774", .call_id = "a84b4c76e66710@198.51.100.9"}},
      {"torture_uri", Weight::Hard, {.uri = "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com"}},
      {"borrowed_cisco",
       Weight::Hard,
       {.via = "SIP/2.0/UDP 198.51.100.9;branch=z9hG4bKPjabc", .rest = "User-Agent: Cisco-SIPGateway/IOS-12.x\r\n"}},
      {"borrowed_cisco", Weight::Hard, {.call_id = std::string(50, 'q'), .rest = "User-Agent: Cisco v11.0.0\r\n"}},
      {"shellshock", Weight::Hard, {.rest = "User-Agent: () { :;}; /bin/true\r\n"}},
      {"loopback_via", Weight::Soft, {.via = "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKx"}},
      {"loopback_via", Weight::Soft, {.via = "SIP/2.0/UDP 127.0.1.1:5061;branch=z9hG4bKx"}},
      {"no_cookie", Weight::Soft, {.via = "SIP/2.0/UDP 198.51.100.9:5060;branch=foo"}},
      {"decimal_branch", Weight::Soft, {.via = "SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK-244453446;rport"}},
      {"digits_call_id", Weight::Soft, {.call_id = "3942947027"}},
      {"register_accept",
       Weight::Soft,
       {.cseq = "1 REGISTER", .method = "REGISTER", .rest = "Accept: application/sdp\r\n"}},
      {"example_host", Weight::Soft, {.via = "SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKx"}},
      {"copied_id", Weight::Soft, {.from = "Alice <sip:alice@atlanta.com>;tag=1928301774"}},
      {"cisco-sipgateway*", Weight::Soft, {.rest = "User-Agent: Cisco-SIPGateway/IOS-15.4\r\n"}},
      {"voip", Weight::Soft, {.rest = "User-Agent: VOIP\r\n"}},
  };
  const Marks marks;
  std::set<std::string_view> found;
  for (const auto& row : rows) {
    const std::string d = message(row.shot);
    INFO(row.mark << "\n" << d);
    const Message m = parse(d);
    CHECK(m.kind == Kind::Request);
    const Mark* mark = marks.find(m, d);
    REQUIRE(mark);
    CHECK(mark->name == row.mark);
    CHECK(mark->weight == row.weight);
    found.insert(mark->name);
  }
  for (const Mark& shipped : kShapeMarks) {
    INFO(shipped.name << " has no row");
    CHECK(found.contains(shipped.name));
  }
  const std::string plain = message({});
  CHECK(marks.find(parse(plain), plain) == nullptr);
}

TEST_CASE("marks that are nearly there are not") {
  const Marks marks;
  for (const Shot& shot : {Shot{.from = "<sip:a@x>;tag=31303030013139"}, // too few digits after the 0x01
                           Shot{.from = "<sip:a@x>;tag=3130303001313930303938323435f9"}, // not digits
                           Shot{.from = "<sip:a@x>;tag=32062108440"}, Shot{.from = "<sip:a@1.1.1.10>;tag=1"},
                           Shot{.from = "\"sipp\" <sip:sipp@x>;tag=1"}, Shot{.call_id = "1337x@y"},
                           Shot{.rest = "User-Agent: qWkxTzpa\r\n"}, Shot{.rest = "Contact: *\r\n"},
                           Shot{.rest = "User-Agent: sipsak 0.9.8.1\r\n"}}) {
    const std::string d = message(shot);
    INFO(d);
    CHECK(marks.find(parse(d), d) == nullptr);
  }
}

TEST_CASE("all the marks of a message are listed, the hard ones first") {
  const std::string d = message({.via = "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK-2886404113;rport",
                                 .from = "\"1000\"<sip:1000@192.0.2.1>;tag=313030300131393030393832343539",
                                 .call_id = "1449949872",
                                 .rest = "User-Agent: VOIP\r\nContact: sip:1000@192.0.2.1\r\n"});
  const Marks marks;
  const MarkSet all = marks.find_all(parse(d), d);
  REQUIRE(all.count == 6);
  CHECK(all.marks[0]->weight == Weight::Hard);
  CHECK(all.marks[1]->weight == Weight::Hard);
  CHECK(all.marks[2]->weight == Weight::Soft);
}

TEST_CASE("a phone that unregisters, or whose name has eight letters, is no scanner") {
  const Marks marks;
  const std::string unregister = message({.via = "SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK-2886404113;rport",
                                          .call_id = "1449949872",
                                          .cseq = "1 REGISTER",
                                          .method = "REGISTER",
                                          .rest = "Contact: *\r\nExpires: 0\r\n"});
  CHECK(marks.find(parse(unregister), unregister)->weight == Weight::Soft);
  const std::string old_stack = message({.via = "SIP/2.0/UDP 198.51.100.9;branch=kq3x",
                                         .rest = "User-Agent: Linphone\r\n",
                                         .tail = std::string(2, '\0')});
  CHECK(marks.find(parse(old_stack), old_stack)->weight == Weight::Soft);
}

TEST_CASE("a first look convicts by name") {
  const Marks marks;
  for (const char* rest : {"User-Agent: friendly-scanner\r\n", "User-Agent :\r\n friendly-scanner\r\n"}) {
    const std::string d = message({.rest = rest});
    const Mark* mark = marks.find(first_look(d), d);
    INFO(d);
    REQUIRE(mark);
    CHECK(mark->name == "*friendly-scanner*");
  }
  const std::string plain = message({});
  CHECK(marks.find(first_look(plain), plain) == nullptr);
}

TEST_CASE("a cache answers as the marks do, whichever marks they are") {
  const Marks shipped;
  const std::vector<std::string> own{"evil phone"};
  const Marks extended(own);
  AgentCache cache;
  for (int round = 0; round < 2; ++round)
    for (const Marks* marks : {&shipped, &extended})
      for (const char* agent :
           {"Evil Phone", "evil phone", "Evil Phone 2", "friendly-scanner", "Friendly-Scanner", "Yealink SIP-T46S",
            "Yealink SIP-T46U", "x", "", "a name of more than thirty-two octets"}) {
        const std::string d = options(agent);
        const Message m = parse(d);
        INFO(agent);
        CHECK(cache.find(*marks, d, m.user_agent) == marks->user_agent(m.user_agent.in(d)));
      }
}

TEST_CASE("a response to a scanner does not convict the server that sends it") {
  const Marks marks;
  const std::string d = "SIP/2.0 404 Not Found\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK-1;rport\r\n"
                        "From: \"sipvicious\"<sip:100@1.1.1.1>;tag=3206210844\r\nTo: <sip:100@1.1.1.1>;tag=1\r\n"
                        "Call-ID: 1\r\nCSeq: 1 REGISTER\r\nServer: LabPBX\r\n\r\n";
  CHECK(marks.find(parse(d), d) == nullptr);
  CHECK(marks.find(first_look(d), d) == nullptr);
}

TEST_CASE("a SIPVicious tag gives its target away, but no password") {
  CHECK(sipvicious_target("313030300131393030393832343539").view() == "1000");
  CHECK(sipvicious_target("313031303a70617373776f72640132343031323034343031").view() == "1010:***");
  CHECK(sipvicious_target("3061343230303031313363340131303034333832383336").view() == "0a42000113c4");
  CHECK(sipvicious_target("3206210844").size == 0);
  CHECK(sipvicious_target("").size == 0);
}

TEST_CASE("shapes are the same whichever way they are looked for") {
  // Every part that some rule looks at, with whatever one of them may begin with.
  const std::vector<std::string> beginnings{
      "sipv",      "SIPS",   "ccxl",   "sivus",   "this",  "smap",  "nmap nse",  "1.1.1.1",    "nm",
      "127.0.0.1", "pc33.a", "server", "bobs",    "bigb",  "1337@", "a84b4c7",   "3206210844", "root",
      "1928",      "() {",   "None",   "Cisco-S", "Cisco", "*",     "123456789", "1_un",       "12345x"};
  const std::vector<std::pair<std::string, std::string>> parts{
      {"sip:h1.example", "URI"},
      {"198.51.100.9", "sent-by"},
      {"z9hG4bK-1234567890", "branch"},
      {"Ann", "display"},
      {"ann", "user"},
      {"h2.example", "From host"},
      {"tag1", "tag"},
      {"h3.example", "To host"},
      {"id1", "Call-ID"},
      {"<sip:c@h4", "Contact"},
      {"h4.example", "its host"},
      {"phone", "User-Agent"},
      {"\"Ann\" <sip:ann", "From"},
      {"<sip:bob", "To"},
  };
  const std::string message =
      "REGISTER sip:h1.example SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK-1234567890;rport\r\n"
      "From: \"Ann\" <sip:ann@h2.example>;tag=tag1\r\nTo: <sip:bob@h3.example>\r\nCall-ID: id1\r\nCSeq: 1 REGISTER\r\n"
      "Contact: <sip:c@h4.example>\r\nUser-Agent: phone\r\nAccept: a/b\r\n";
  std::size_t shapes_seen = 0;
  for (const auto& [text, what] : parts)
    for (const std::string& beginning : beginnings)
      for (const char* rest :
           {"", "x", "1928301774", "atlanta.com", "0123456789012345678901234567890123456789012345678"})
        for (const char* end : {"\r\n", "", "Content-Length: 0\r\n\r\n", "X:\r\n\r\n", "\r\nbody"}) {
          std::string d = message + end;
          const std::size_t at = d.find(text);
          REQUIRE(at != std::string::npos);
          d.replace(at, text.size(), beginning + rest);
          INFO(what << ": " << d);
          const Message m = parse(d);
          REQUIRE(shapes_of(m, d) == shapes_plain(m, d));
          shapes_seen += shapes_of(m, d) != 0;
        }
  CHECK(shapes_seen > 1000);
}
