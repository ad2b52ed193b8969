// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include <set>
#include <string>

#include "sip/marks.h"
#include "sip/parser.h"

using namespace sipward::sip;

// What the tools send, literally, but for the addresses. Without a word about themselves, the rest of the message
// tells.
TEST_CASE("the tools are known by what they really send") {
  const std::string sippts_rest =
      "Contact: <sip:1002@198.51.100.9:58975;transport=UDP>;expires=120\r\n"
      "Call-ID: eb89f4be5945e52e18dac285d80552af\r\nCSeq: 1 REGISTER\r\nMax-Forwards: 70\r\n"
      "User-Agent: pplsip\r\nExpires: 120\r\nContent-Length: 0\r\n\r\n";
  const struct {
    const char* tool;
    std::set<std::string_view> hard; // exactly these, the User-Agent taken away
    std::string message;
  } rows[] = {
      {"svmap, OPTIONS",
       {"sipvicious_tag", "1.1.1.1", "sipvicious_name", "sipvicious_shape"},
       "OPTIONS sip:100@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.1.1:5060;branch=z9hG4bK-978872083;rport\r\n"
       "Max-Forwards: 70\r\nTo: \"sipvicious\"<sip:100@1.1.1.1>\r\nFrom: \"sipvicious\"<sip:100@1.1.1.1>;tag="
       "3833663330303031313363340131393939383835373034\r\nUser-Agent: friendly-scanner\r\n"
       "Call-ID: 136061588268204605358974\r\nContact: sip:100@127.0.1.1:5060\r\nCSeq: 1 OPTIONS\r\n"
       "Accept: application/sdp\r\nContent-Length: 0\r\n\r\n"},
      {"svmap, REGISTER",
       {"sipvicious_tag", "1.1.1.1", "sipvicious_name", "sipvicious_shape", "contact_none"},
       "REGISTER sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK-3911869738;rport\r\n"
       "Max-Forwards: 70\r\nTo: \"sipvicious\"<sip:100@1.1.1.1>\r\nFrom: \"sipvicious\"<sip:100@1.1.1.1>;tag="
       "3061343230303032313363340133353736393031363332\r\nUser-Agent: friendly-scanner\r\n"
       "Call-ID: 201748245271914608108611\r\nContact: None\r\nCSeq: 1 REGISTER\r\nAccept: application/sdp\r\n"
       "Content-Length: 0\r\n\r\n"},
      {"svmap, compact",
       {"sipvicious_tag", "1.1.1.1", "sipvicious_name", "sipvicious_shape"},
       "OPTIONS sip:100@192.0.2.1 SIP/2.0\r\nv: SIP/2.0/UDP 127.0.1.1:5060;branch=z9hG4bK-978872083;rport\r\n"
       "Max-Forwards: 70\r\nt: \"sipvicious\"<sip:100@1.1.1.1>\r\nf: \"sipvicious\"<sip:100@1.1.1.1>;tag="
       "3833663330303031313363340131393939383835373034\r\ni: 136061588268204605358974\r\n"
       "m: sip:100@127.0.1.1:5060\r\nCSeq: 1 OPTIONS\r\nAccept: application/sdp\r\nl: 0\r\n\r\n"},
      {"svwar",
       {"sipvicious_tag", "sipvicious_shape"},
       "REGISTER sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK-2027639371;rport\r\n"
       "Max-Forwards: 70\r\nTo: \"1001\"<sip:1001@192.0.2.1>\r\nFrom: \"1001\"<sip:1001@192.0.2.1>;tag="
       "313030310131383939313737393630\r\nUser-Agent: friendly-scanner\r\nCall-ID: 304674690\r\n"
       "Contact: sip:1001@192.0.2.1\r\nCSeq: 1 REGISTER\r\nAccept: application/sdp\r\nContent-Length: 0\r\n\r\n"},
      {"svcrack, the first message",
       {"svcrack_tag", "1.1.1.1", "sipvicious_shape"},
       "REGISTER sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK-1859718752;rport\r\n"
       "Max-Forwards: 70\r\nTo: \"1010\" <sip:1010@192.0.2.1>\r\nFrom: \"1010\" <sip:1010@192.0.2.1>;tag=3206210844\r\n"
       "User-Agent: friendly-scanner\r\nCall-ID: 3942947027\r\nContact: sip:123@1.1.1.1\r\nCSeq: 1 REGISTER\r\n"
       "Accept: application/sdp\r\nContent-Length: 0\r\n\r\n"},
      {"svcrack, a guess",
       {"sipvicious_tag", "1.1.1.1", "sipvicious_shape"},
       "REGISTER sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK-1859718752;rport\r\n"
       "Max-Forwards: 70\r\nTo: \"1010\" <sip:1010@192.0.2.1>\r\nFrom: \"1010\" <sip:1010@192.0.2.1>;tag="
       "313031303a70617373776f7264300133393831353230383534\r\nUser-Agent: friendly-scanner\r\n"
       "Call-ID: 3942947027\r\nContact: sip:123@1.1.1.1\r\nCSeq: 2 REGISTER\r\nAccept: application/sdp\r\n"
       "Content-Length: 0\r\nAuthorization: Digest username=\"1010\",realm=\"example.net\",nonce=\"awJOC2sCTN\","
       "uri=\"sip:192.0.2.1\",response=\"acbc499408c936e20aff25c11d55d310\"\r\n\r\n"},
      {"sippts",
       {"sippts_shape"},
       "REGISTER sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:58975;branch="
       "o90it6bhzebe5ud0owtsa9aa50vr9ftyzcq3vfwq8rew6tnj2odpr633fi0qwufa31qbsap;rport\r\n"
       "From:  <sip:1002@192.0.2.1>;tag=3f3fae9e\r\nTo:  <sip:1002@192.0.2.1>\r\n" +
           sippts_rest},
      {"nmap -sV",
       {"nmap_probe"},
       "OPTIONS sip:nm SIP/2.0\r\nVia: SIP/2.0/TCP nm;branch=foo\r\nFrom: <sip:nm@nm>;tag=root\r\n"
       "To: <sip:nm2@nm2>\r\nCall-ID: 50000\r\nCSeq: 42 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n"
       "Contact: <sip:nm@nm>\r\nAccept: application/sdp\r\n\r\n"},
      {"nmap's scripts",
       {"nmap_name"},
       "REGISTER sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:34055;rport;branch="
       "z9hG4bKZYf6qTggJ8e2yf406hR2f6TPs\r\nMax-Forwards: 70\r\n"
       "From: \"Nmap NSE\" <sip:1001@192.0.2.1>;tag=QuWnAyCZS8ElelvbFmPk\r\nTo: \"Nmap NSE\" <sip:1001@192.0.2.1>\r\n"
       "Call-ID: ReJvDjB2G3YDTLZlafVNgvGfw4ZvxCIDhRzk10c8t1BBBbnb69pcuw7fpWQb\r\nCSeq: 1234 REGISTER\r\n"
       "User-Agent: Nmap NSE\r\nContact: \"Nmap NSE\" <sip:1001@198.51.100.9:34055>\r\nExpires: 0\r\n"
       "Content-Length:  0\r\n\r\n"},
      {"hydra",
       {"hydra"},
       "REGISTER sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:46759\r\nFrom: <sip:1010@192.0.2.1>\r\n"
       "To: <sip:1010@192.0.2.1>\r\nCall-ID: 1337@192.0.2.1\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n"},
      {"masscan",
       {"masscan", "copied_ids"},
       "OPTIONS sip:carol@chicago.com SIP/2.0\r\nVia: SIP/2.0/UDP pc33.atlanta.com;branch=z9hGOPTIONS "
       "sip:carol@chicago.com SIP/2.0\r\nMax-Forwards: 70\r\nTo: <sip:carol@chicago.com>\r\n"
       "From: Alice <sip:alice@atlanta.com>;tag=1928301774\r\nCall-ID: a84b4c76e66710\r\nCSeq: 63104 OPTIONS\r\n"
       "Contact: <sip:alice@pc33.atlanta.com>\r\nAccept: application/sdp\r\nContent-Length: 0\r\n\r\n"},
      {"sipcli",
       {"sipcli_branch"},
       "INVITE sip:00441234567890@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:5071;branch="
       "z9hG4bK-8f1c2e4a5b;rport\r\nFrom: <sip:100@192.0.2.1>;tag=6d2f\r\nTo: <sip:00441234567890@192.0.2.1>\r\n"
       "Call-ID: 8f1c2e4a5b\r\nCSeq: 1 INVITE\r\nContact: <sip:100@198.51.100.9:5071>\r\n"
       "User-Agent: sipcli/v1.8\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"},
      {"SIVuS",
       {"tool_user"},
       "OPTIONS sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:5060;branch=z9hG4bK1\r\n"
       "From: SIVuS_VoIP_Scanner <sip:SIVuS@198.51.100.9>;tag=1\r\nTo: <sip:192.0.2.1>\r\n"
       "Call-ID: 17@198.51.100.9\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"},
  };
  const Marks marks;
  for (const auto& row : rows) {
    INFO(row.tool);
    std::string d = row.message;
    const Mark* found = marks.find(parse(d), d);
    REQUIRE(found);
    CHECK(found->weight == Weight::Hard);
    if (const Span agent = parse(d).user_agent; agent.present())
      d.replace(agent.begin, agent.size(), "Yealink SIP-T46S 66.85.0.5");
    std::set<std::string_view> hard;
    for (const Mark* mark : marks.find_all(parse(d), d))
      if (mark->weight == Weight::Hard) hard.insert(mark->name);
    CHECK(hard == row.hard);
  }
}
