// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <string_view>

#include "sip/marks.h"

// The marks that are shipped. What a tool sends by itself is hard; what careless software or a borrowed example also
// sends is soft. Left out on purpose, because customers use them: sipsak, "Asterisk PBX", Zoiper, eyeBeam and X-Lite in
// general, MizuPhone, FPBX, Linksys, "Z 3", "PBX", and everything that holds "voip", "pbx", "sipp" or "system". An
// operator adds them as patterns of his own.
namespace sipward::sip {

struct AgentMark {
  std::string_view pattern; // as Marks::valid_pattern has it, in lower case
  Weight weight;
};

inline constexpr std::array kAgentMarks{
    AgentMark{"*friendly-scanner*", Weight::Hard}, // SIPVicious, unless told otherwise
    AgentMark{"*sipvicious*", Weight::Hard},
    AgentMark{"*sundayddr*", Weight::Hard}, // a worm on SIPVicious's code; the next is a common misspelling
    AgentMark{"*sundayaddr*", Weight::Hard},
    AgentMark{"sipcli/*", Weight::Hard},
    AgentMark{"pplsip", Weight::Hard}, // SIPPTS
    AgentMark{"sipptk", Weight::Hard},
    AgentMark{"*vaxsipuseragent*", Weight::Hard},
    AgentMark{"*vaxipuseragent*", Weight::Hard},
    AgentMark{"sip-scan*", Weight::Hard},
    AgentMark{"*sipscan*", Weight::Hard},
    AgentMark{"iwar", Weight::Hard},
    AgentMark{"sivus*", Weight::Hard},
    AgentMark{"smap", Weight::Hard},
    AgentMark{"smap/*", Weight::Hard},
    AgentMark{"smap 0*", Weight::Hard}, // its version, 0.6.0
    AgentMark{"gulp", Weight::Hard},
    AgentMark{"sipv", Weight::Hard},
    AgentMark{"siparmyknife*", Weight::Hard},
    AgentMark{"*viproy*", Weight::Hard},
    AgentMark{"protos*", Weight::Hard},
    AgentMark{"nmap nse", Weight::Hard},
    AgentMark{"hacker", Weight::Hard},
    AgentMark{"friendly-request", Weight::Soft}, // from here on: seen in honeypots, and now and then elsewhere
    AgentMark{"test agent", Weight::Soft},
    AgentMark{"custom sip phone", Weight::Soft},
    AgentMark{"conaito*", Weight::Soft},
    AgentMark{"ozeki voip sip sdk*", Weight::Soft},
    AgentMark{"fourcats*", Weight::Soft},
    AgentMark{"dr.pes", Weight::Soft},
    AgentMark{"im-client/oma1.0", Weight::Soft},
    AgentMark{"a_b_c", Weight::Soft},
    AgentMark{"aaaaaaaa", Weight::Soft},
    AgentMark{"fgfdhgfxjfhyjhkj", Weight::Soft},
    AgentMark{"china", Weight::Soft},
    AgentMark{"asterix pbx", Weight::Soft},
    AgentMark{"voip", Weight::Soft}, // the whole value
    AgentMark{"cisco-sipgateway*", Weight::Soft},
    AgentMark{"cisco v11.0.0", Weight::Soft},
    AgentMark{"sip call", Weight::Soft},
    AgentMark{"portsip voip sdk*", Weight::Soft},
    AgentMark{"abto video sip sdk*", Weight::Soft},
    AgentMark{"csipsimple*", Weight::Soft},
    AgentMark{"voxalot*", Weight::Soft},
    AgentMark{"eyebeam release 3006o stamp 17551", Weight::Soft}, // these builds only
    AgentMark{"eyebeam release 3007n stamp 17816", Weight::Soft},
    AgentMark{"eyebeam release 3004t stamp 16741", Weight::Soft},
    AgentMark{"eyebeam release 3015c stamp 27107", Weight::Soft},
};

// Marks of the message's shape, which a changed User-Agent does not hide; each found by a rule of its own in
// shapes.cpp. Left out on purpose, because honest parties do the same: SIPp's own user and subject (carriers test with
// it), users called 100 or tester, two spaces behind a colon, addresses in place of domains.
enum class Shape : std::uint8_t {
  SipviciousTag,   // From tag: hex of the target, 0x01 and a decimal number
  SvcrackTag,      // From tag 3206210844
  OneOneOneOne,    // a party or contact at 1.1.1.1
  SipviciousName,  // "sipvicious", or its copies' "sipsscuser" and "ccxllrlflgig", as the caller's name or user
  SipviciousShape, // three of: decimal branch with rport, Call-ID of digits, bare Contact, Accept on REGISTER
  SipptsShape,     // a branch of 71 letters and digits without the cookie
  NmapProbe,       // nmap's service probe: sip:nm, nm@nm to nm2@nm2, tag=root with Call-ID 50000
  NmapName,        // "Nmap NSE" as the caller's name
  Hydra,           // Call-ID 1337@..., no From tag, no branch
  Masscan,         // a branch that runs into the next line of its template
  Zmap,            // a User-Agent of eight random letters, a branch without the cookie, NULs at the end
  SipcliBranch,    // the branch is the cookie and the Call-ID
  ToolUser,        // SIVuS, smap, thisisthecanary: users that only a tool is called
  ContactNone,     // Contact: None, a program's word for nothing
  CopiedIds,       // two of RFC 3261's example tag, Call-ID and branches
  TortureUri,      // RFC 4475's unusual request URI
  BorrowedCisco,   // a Cisco gateway's name on a PJSIP stack, or with a Call-ID of fifty letters
  Shellshock,      // "() {" at the beginning of a value or name
  LoopbackVia,     // from here on soft: a Via of 127.0.0.0/8
  NoCookie,        // a branch without z9hG4bK
  DecimalBranch,   // z9hG4bK- and up to ten digits, with rport
  DigitsCallId,    // digits and nothing else
  RegisterAccept,  // Accept on a REGISTER
  ExampleHost,     // hosts of RFC 3261's examples
  CopiedId,        // one of RFC 3261's example tag, Call-ID and branches
};
inline constexpr std::array kShapeMarks{
    Mark{"sipvicious_tag", Weight::Hard},
    Mark{"svcrack_tag", Weight::Hard},
    Mark{"1.1.1.1", Weight::Hard},
    Mark{"sipvicious_name", Weight::Hard},
    Mark{"sipvicious_shape", Weight::Hard},
    Mark{"sippts_shape", Weight::Hard},
    Mark{"nmap_probe", Weight::Hard},
    Mark{"nmap_name", Weight::Hard},
    Mark{"hydra", Weight::Hard},
    Mark{"masscan", Weight::Hard},
    Mark{"zmap", Weight::Hard},
    Mark{"sipcli_branch", Weight::Hard},
    Mark{"tool_user", Weight::Hard},
    Mark{"contact_none", Weight::Hard},
    Mark{"copied_ids", Weight::Hard},
    Mark{"torture_uri", Weight::Hard},
    Mark{"borrowed_cisco", Weight::Hard},
    Mark{"shellshock", Weight::Hard},
    Mark{"loopback_via", Weight::Soft},
    Mark{"no_cookie", Weight::Soft},
    Mark{"decimal_branch", Weight::Soft},
    Mark{"digits_call_id", Weight::Soft},
    Mark{"register_accept", Weight::Soft},
    Mark{"example_host", Weight::Soft},
    Mark{"copied_id", Weight::Soft},
};

} // namespace sipward::sip
