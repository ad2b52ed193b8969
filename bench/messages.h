// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

// Messages as scanners and phones send them, every one different, with the header orders of real ones, for the parser's
// bench.
namespace sipward::bench {

struct Sample {
  std::string octets;
  std::string method{}, user{}, call_id{}, user_agent{}; // what a reader must find
};

using Random = std::mt19937_64;

inline std::string digits(Random& random, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += static_cast<char>('0' + (i == 0 ? 1 + random() % 9 : random() % 10));
  return out;
}
inline std::string hex(Random& random, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += "0123456789abcdef"[random() % 16];
  return out;
}

// Header orders of SIPVicious (two builds), Yealink, baresip, Linphone, Grandstream, Cisco and PJSIP. V: Via, M:
// Max-Forwards, T: To, F: From, U: User-Agent, I: Call-ID, C: Contact, S: CSeq, X: the rest, L: Content-Length.
inline const std::vector<std::string>& header_orders() {
  static const std::vector<std::string> orders{"VMTFUICSXL", "VTFMUICSXL", "VMFTISCXUL", "VCMTFISUXL",
                                               "VFTSIMXCUL", "VFTISCXUML", "VFTIMXSUCL", "VMFTISUXCL"};
  return orders;
}

struct Shape {
  std::string method, uri, body;
  std::vector<std::string> extra;  // whole header lines
  std::vector<std::string> agents; // one is drawn
  std::size_t size;                // of the whole datagram: the Call-ID is stretched to reach it
  bool bare_contact = false;       // no brackets around the Contact, as SIPVicious has it
};

inline Sample make(Random& random, const Shape& shape) {
  Sample s;
  s.method = shape.method;
  s.user = digits(random, 4 + random() % 3);
  const std::size_t kind = random() % header_orders().size(); // which tool or phone it is
  s.user_agent = shape.agents[kind % shape.agents.size()];
  const std::string host = "10.66." + std::to_string(random() % 256) + "." + std::to_string(random() % 256);
  const std::string tag = hex(random, 10 + random() % 3);
  const auto build = [&](const std::string& call_id, const std::string& order) {
    std::string m = shape.method + " " + shape.uri + " SIP/2.0\r\n";
    for (const char c : order) {
      if (c == 'V') m += "Via: SIP/2.0/UDP " + host + ":5060;branch=z9hG4bK-" + tag + ";rport\r\n";
      if (c == 'M') m += "Max-Forwards: 70\r\n";
      if (c == 'T') m += "To: \"" + s.user + "\" <sip:" + s.user + "@10.66.0.1>\r\n";
      if (c == 'F') m += "From: \"" + s.user + "\" <sip:" + s.user + "@10.66.0.1>;tag=" + tag + "\r\n";
      if (c == 'U') m += "User-Agent: " + s.user_agent + "\r\n";
      if (c == 'I') m += "Call-ID: " + call_id + "\r\n";
      if (c == 'C')
        m += "Contact: " + std::string(shape.bare_contact ? "" : "<") + "sip:" + s.user + "@10.66.0.1" +
             (shape.bare_contact ? "" : ">") + "\r\n";
      if (c == 'S') m += "CSeq: 1 " + shape.method + "\r\n";
      if (c == 'X')
        for (const std::string& line : shape.extra) m += line + "\r\n";
      if (c == 'L') m += "Content-Length: " + std::to_string(shape.body.size()) + "\r\n";
    }
    return m + "\r\n" + shape.body;
  };
  const std::string& order = header_orders()[kind];
  s.call_id = digits(random, 1);
  const std::size_t shortest = build(s.call_id, order).size();
  s.call_id += digits(random, shape.size > shortest ? shape.size - shortest : 0);
  s.octets = build(s.call_id, order);
  return s;
}

inline std::vector<Sample> make_many(const Shape& shape, std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<Sample> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(make(random, shape));
  return out;
}

inline const std::vector<std::string>& scanner_agents() {
  static const std::vector<std::string> agents{"friendly-scanner", "friendly-scanner",  "Yealink SIP-T46S",
                                               "baresip v1.0.0",   "Linphone/3.6.1",    "Grandstream GXP2160",
                                               "Cisco/SPA504G",    "PolycomVVX-VVX_411"};
  return agents;
}
inline const std::vector<std::string>& phone_agents() {
  static const std::vector<std::string> agents{"Yealink SIP-T46S 66.85.0.5",   "baresip v1.0.0 (x86_64/linux)",
                                               "PolycomVVX-VVX_411-UA/5.9.0",  "Linphone/3.6.1 (eXosip2/4.1.0)",
                                               "Grandstream GXP2160 1.0.9.69", "Zoiper rv2.10.19.4"};
  return agents;
}

inline Shape scanner_register() {
  return {"REGISTER", "sip:10.66.0.1", "", {"Accept: application/sdp"}, scanner_agents(), 361, true};
}
inline Shape phone_register() {
  return {"REGISTER",
          "sip:lab.example.net",
          "",
          {"Expires: 120", "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REFER, UPDATE",
           "Authorization: Digest username=\"1000\", realm=\"lab.example.net\", "
           "nonce=\"awJNJWsCS/mPLL51A8nFYVOI06DiouGv\", uri=\"sip:lab.example.net\", "
           "response=\"9c28acec0e618a48c2105b6169bc679d\", cnonce=\"6b8b4567\", nc=00000001, qop=auth, algorithm=MD5",
           "Supported: path, gruu, outbound"},
          phone_agents(),
          760};
}
inline Shape invite() {
  return {
      "INVITE",
      "sip:1001@lab.example.net",
      "v=0\r\no=user1 53655765 2353687637 IN IP4 10.66.1.10\r\ns=-\r\nc=IN IP4 10.66.1.10\r\nt=0 0\r\n"
      "m=audio 6000 RTP/AVP 0 8 9 18 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:9 G722/8000\r\n"
      "a=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
      "a=ptime:20\r\na=sendrecv\r\n",
      {"Content-Type: application/sdp",
       "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REFER, UPDATE, INFO, SUBSCRIBE",
       "Supported: replaces, timer, 100rel"},
      phone_agents(),
      1096};
}

} // namespace sipward::bench
