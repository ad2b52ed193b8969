// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "sip/marks.h"
#include "sip/parser.h"
#include "sip/shapes.h"
#include "sip/simd.h"
#include "tests/sip_capture.h"

// The parser and the marks against recorded traffic.
using namespace sipward;
using namespace sipward::test;
using sip::Kind;

namespace {

bool absent(const std::filesystem::path& path) {
  if (std::filesystem::exists(path)) return false;
  WARN("skipped: no " << path.string() << " (set SIPWARD_DATA)");
  return true;
}

std::vector<std::filesystem::path> all_captures() {
  std::vector<std::filesystem::path> out;
  for (const char* folder : {"captures", "first-light", "others"})
    for (const auto& path : files(data_folder() / folder, ".pcap")) out.push_back(path);
  return out;
}

bool is_port_sip(const Packet& packet) { return packet.port == 5060 || packet.source_port == 5060; }

} // namespace

TEST_CASE("what the scanners really sent bears a hard mark, their first message already") {
  const struct {
    const char* capture;
    const char* attacker;
    const char* mark; // of the first request
  } rows[] = {
      {"attack_svmap_register", "10.66.9.1", "*friendly-scanner*"},
      {"attack_svwar_register_e1000-1399", "10.66.9.2", "*friendly-scanner*"},
      {"attack_svwar_invite_e1000-1199_force", "10.66.9.2", "*friendly-scanner*"},
      {"attack_svcrack_dict_fail", "10.66.9.4", "*friendly-scanner*"},
      {"attack_svcrack_invite", "10.66.9.4", "*friendly-scanner*"},
      {"attack_nmap_sip_enum_users", "10.66.9.5", "nmap nse"},
      {"attack_hydra_sip", "10.66.9.6", "hydra"},
      {"attack_sippts_exten_register", "10.66.9.11", "pplsip"},
  };
  if (absent(data_folder() / "captures")) return;
  const sip::Marks marks;
  for (const auto& row : rows) {
    INFO(row.capture);
    std::size_t requests = 0;
    for (const Packet& packet : udp_packets(data_folder() / "captures" / (std::string(row.capture) + ".pcap"))) {
      const sip::Message m = sip::parse(packet.payload);
      if (packet.source != row.attacker || m.kind != Kind::Request || m.method == sip::Method::Ack) continue;
      const sip::Mark* mark = marks.find(m, packet.payload);
      REQUIRE(mark);
      CHECK(mark->weight == sip::Weight::Hard);
      CHECK(mark->name == row.mark);
      ++requests;
    }
    CHECK(requests > 0);
  }
}

TEST_CASE("with another User-Agent the same messages are marked all the same") {
  const struct {
    const char* capture;
    const char* attacker;
    std::set<std::string> marks;
  } rows[] = {
      {"attack_svmap_register", "10.66.9.1", {"sipvicious_tag"}},
      {"attack_svwar_register_e1000-1399", "10.66.9.2", {"sipvicious_tag", "sipvicious_shape"}},
      {"attack_svwar_invite_e1000-1199_force", "10.66.9.2", {"sipvicious_tag", "sipvicious_shape"}},
      {"attack_svcrack_dict_fail", "10.66.9.4", {"sipvicious_tag", "svcrack_tag", "1.1.1.1"}},
      {"attack_svcrack_invite", "10.66.9.4", {"sipvicious_tag", "svcrack_tag", "1.1.1.1"}},
      {"attack_nmap_sip_enum_users", "10.66.9.5", {"nmap_name"}},
      {"attack_sippts_exten_register", "10.66.9.11", {"sippts_shape"}},
  };
  if (absent(data_folder() / "captures")) return;
  const sip::Marks marks;
  for (const auto& row : rows) {
    INFO(row.capture);
    for (const Packet& packet : udp_packets(data_folder() / "captures" / (std::string(row.capture) + ".pcap"))) {
      std::string disguised = packet.payload;
      const sip::Message m = sip::parse(disguised);
      if (packet.source != row.attacker || m.kind != Kind::Request || m.method == sip::Method::Ack) continue;
      REQUIRE(m.user_agent.present());
      disguised.replace(m.user_agent.begin, m.user_agent.size(), "Yealink SIP-T46S");
      const sip::Mark* mark = marks.find(sip::parse(disguised), disguised);
      REQUIRE(mark);
      CHECK(mark->weight == sip::Weight::Hard);
      INFO(mark->name);
      CHECK(row.marks.count(std::string(mark->name)) == 1);
    }
  }
}

TEST_CASE("svmap from eleven places of the internet") {
  const auto path = data_folder() / "others" / "wild_svmap_11_sources.pcap";
  if (absent(path)) return;
  const sip::Marks marks;
  std::set<std::string> convicted;
  for (const Packet& packet : udp_packets(path)) {
    const sip::Mark* mark = marks.find(sip::parse(packet.payload), packet.payload);
    if (mark && mark->weight == sip::Weight::Hard) convicted.insert(packet.source);
  }
  CHECK(convicted.size() == 11);
}

TEST_CASE("honest traffic bears no mark at all") {
  if (absent(data_folder() / "captures")) return;
  const sip::Marks marks;
  std::size_t messages = 0;
  for (const auto& path : all_captures()) {
    const std::string name = path.filename().string();
    if (name.starts_with("attack_") || name.starts_with("wild_") || name.starts_with("svwar_")) continue;
    INFO(name);
    for (const Packet& packet : udp_packets(path)) {
      if (!is_port_sip(packet)) continue;
      const sip::Message m = sip::parse(packet.payload);
      if (m.kind != Kind::Request && m.kind != Kind::Response) continue;
      ++messages;
      for (const sip::Mark* mark : marks.find_all(m, packet.payload)) {
        INFO(mark->name << " in\n" << packet.payload);
        CHECK(mark->weight == sip::Weight::Soft);
        CHECK(std::set<std::string_view>{"no_cookie", "example_host", "loopback_via", "digits_call_id"}.contains(
            mark->name));
      }
    }
  }
  CHECK(messages > 5000);
}

TEST_CASE("honest phones of the laboratory send nothing malformed, and their keepalives are known") {
  if (absent(data_folder() / "captures")) return;
  std::map<std::string, std::size_t> keepalives;
  for (const auto& path : files(data_folder() / "captures", ".pcap")) {
    if (!path.filename().string().starts_with("honest_")) continue;
    INFO(path.filename().string());
    for (const Packet& packet : udp_packets(path)) {
      const sip::Message m = sip::parse(packet.payload);
      if (!is_port_sip(packet)) continue;
      INFO(packet.payload);
      if (m.kind == Kind::Keepalive)
        ++keepalives[std::string(to_string(m.keepalive))];
      else
        CHECK(to_string(m.malformation) == "none");
    }
  }
  for (const char* kind : {"crlf", "double_crlf", "stun", "zeros", "text"}) {
    INFO(kind);
    CHECK(keepalives[kind] > 0);
  }
}

TEST_CASE("every way to read gives the same answer on every recorded datagram") {
  if (absent(data_folder() / "captures")) return;
  const auto agree = [](std::string_view d) {
    const sip::Message m = sip::parse(d);
    REQUIRE(m == sip::parse_plain(d));
    REQUIRE(sip::shapes_of(m, d) == sip::shapes_plain(m, d));
    const sip::FirstLook look = sip::first_look_plain(d);
    REQUIRE(sip::first_look(d) == look);
    if (sip::best_isa() != sip::Isa::Plain) REQUIRE(sip::first_look_avx2(d) == look);
  };
  for (const auto& path : all_captures())
    for (const Packet& packet : udp_packets(path)) agree(packet.payload);
  for (const auto& path : files(data_folder() / "torture", ".dat")) {
    const std::string all = contents(path);
    for (std::size_t n = 0; n <= all.size(); ++n) {
      const std::unique_ptr<char[]> prefix(new char[n]);
      std::copy_n(all.data(), n, prefix.get());
      agree({prefix.get(), n});
    }
  }
}

// tshark's SIP dissector, an independent reader. Every disagreement over the data stands in a row, with its reason.
namespace {

struct Fields {
  std::string method, status, call_id, cseq, cseq_method, from_user, to_user, user_agent;
};

std::map<std::size_t, Fields> read_by_tshark(const std::filesystem::path& path) {
  const std::string command =
      "tshark -r '" + path.string() +
      "' -o ip.defragment:FALSE -o ipv6.defragment:FALSE -d udp.port==5060,sip -Y 'sip && udp && !icmp && !icmpv6' -T "
      "fields "
      "-E separator=/t -E occurrence=f -e frame.number -e sip.Method -e sip.Status-Code -e sip.Call-ID -e sip.CSeq.seq "
      "-e sip.CSeq.method -e sip.from.user -e sip.to.user -e sip.User-Agent 2>/dev/null";
  std::map<std::size_t, Fields> out;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  std::array<char, 65536> buffer;
  while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe.get())) text.append(buffer.data(), n);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::array<std::string, 9> fields;
    std::istringstream parts(line);
    for (std::string& field : fields) std::getline(parts, field, '\t');
    out[std::stoul(fields[0])] = {fields[1], fields[2], fields[3], fields[4],
                                  fields[5], fields[6], fields[7], fields[8]};
  }
  return out;
}

Fields read_by_us(const sip::Message& m, std::string_view d) {
  const auto text = [&](sip::Span span) { return std::string(span.in(d)); };
  const bool response = m.status != 0;
  Fields out{text(m.method_token),      response ? std::to_string(m.status) : "",
             text(m.call_id),           "",
             text(m.cseq_method_token), text(m.from_user),
             text(m.to_user),           m.count(sip::Header::UserAgent) > 0 ? text(m.user_agent) : ""};
  if (m.count(sip::Header::CSeq) > 0) out.cseq = std::to_string(m.cseq);
  return out;
}

// A field as both read it, and the message it is from.
struct Reading {
  std::string ours, theirs;
  const sip::Message& message;
};

// Equal, but that tshark shows octets which are no UTF-8 as U+FFFD, several of them perhaps as one.
bool is_alike(std::string_view ours, std::string_view theirs) {
  constexpr std::string_view kShown = "\xef\xbf\xbd";
  std::size_t i = 0, k = 0;
  while (i < ours.size() && k < theirs.size()) {
    if (theirs.substr(k).starts_with(kShown)) {
      if (static_cast<unsigned char>(ours[i]) < 0x80) return false;
      while (i < ours.size() && static_cast<unsigned char>(ours[i]) >= 0x80) ++i;
      while (theirs.substr(k).starts_with(kShown)) k += kShown.size();
    } else if (ours[i++] != theirs[k++]) {
      return false;
    }
  }
  return i == ours.size() && k == theirs.size();
}

struct Explained {
  const char* capture;
  const char* field; // any, where it is empty
  bool (*holds)(const Reading& reading);
  const char* why;
};
constexpr Explained kExplained[] = {
    {"attack_sipsak_random_trash", "", [](const Reading& r) { return !r.ours.empty() && is_alike(r.ours, r.theirs); },
     "octets that are no UTF-8: tshark shows U+FFFD in their place"},
    {"attack_sipsak_random_trash", "",
     [](const Reading& r) { return r.ours.empty() && r.message.malformation == sip::Malformation::NotSip; },
     "the first line is no request line (a control octet in the method, a broken version): tshark reads on, we do not"},
    {"attack_sipsak_random_trash", "user_agent",
     [](const Reading& r) { return is_alike(r.ours.substr(0, r.ours.find('\r')), r.theirs); },
     "a CR alone ends a line for tshark, not for RFC 3261"},
    {"attack_sipsak_random_trash", "cseq_method",
     [](const Reading& r) {
       return r.message.cseq == 0 && r.ours.size() > r.theirs.size() &&
              is_alike(r.ours.substr(r.ours.find(' ') + 3), r.theirs);
     },
     "a CSeq without a number: tshark takes the method from a fixed place, here after its second letter"},
    {"attack_sipp_register_flood_1src_50cps", "from_user",
     [](const Reading& r) { return r.ours.size() == 1 && r.theirs.empty(); },
     "tshark shows no user part of a single octet"},
    {"attack_sipp_register_flood_1src_50cps", "to_user",
     [](const Reading& r) { return r.ours.size() == 1 && r.theirs.empty(); },
     "tshark shows no user part of a single octet"},
    {"zeek_sip-long-request-response-paths", "", [](const Reading& r) { return r.ours.empty(); },
     "these headers lie beyond the 8 KiB that are inspected (kMaxHeaderOctets)"},
    {"honest_sipp_calls_fragmented_invite", "seen",
     [](const Reading& r) { return r.ours == "no" && r.theirs == "INVITE"; },
     "tshark reads the first fragment of a datagram by itself; fragments are not ours to read"},
};

// The first row that explains it, or nullptr.
const Explained* explanation(std::string_view capture, std::string_view field, const Reading& reading) {
  for (const Explained& row : kExplained)
    if (capture == row.capture && (*row.field == 0 || row.field == field) && row.holds(reading)) return &row;
  return nullptr;
}

} // namespace

TEST_CASE("tshark reads the recorded messages as we do, but for what the table explains") {
  if (absent(data_folder() / "captures")) return;
  if (std::system("tshark --version >/dev/null 2>&1") != 0) {
    WARN("skipped: no tshark");
    return;
  }
  std::size_t compared = 0;
  std::set<const Explained*> used;
  for (const auto& path : all_captures()) {
    const std::string name = path.stem().string();
    auto theirs = read_by_tshark(path);
    const auto compare = [&](std::size_t frame, const char* field, const Reading& reading) {
      if (reading.ours == reading.theirs) return;
      const Explained* row = explanation(name, field, reading);
      INFO(name << " frame " << frame << ' ' << field << ": we \"" << reading.ours << "\", tshark \"" << reading.theirs
                << '"');
      CHECK(row);
      used.insert(row);
    };
    for (const Packet& packet : udp_packets(path)) {
      const sip::Message m = sip::parse(packet.payload);
      const auto found = theirs.find(packet.frame);
      if (found == theirs.end()) {
        const bool sip = m.kind == Kind::Request || m.kind == Kind::Response;
        compare(packet.frame, "seen", {sip ? "yes" : "no", "no", m});
        continue;
      }
      const Fields ours = read_by_us(m, packet.payload);
      const Fields& other = found->second;
      ++compared;
      compare(packet.frame, "method", {ours.method, other.method, m});
      compare(packet.frame, "status", {ours.status, other.status, m});
      compare(packet.frame, "call_id", {ours.call_id, other.call_id, m});
      compare(packet.frame, "cseq", {ours.cseq, other.cseq, m});
      compare(packet.frame, "cseq_method", {ours.cseq_method, other.cseq_method, m});
      compare(packet.frame, "from_user", {ours.from_user, other.from_user, m});
      compare(packet.frame, "to_user", {ours.to_user, other.to_user, m});
      compare(packet.frame, "user_agent", {ours.user_agent, other.user_agent, m});
      theirs.erase(found);
    }
    for (const auto& [frame, other] : theirs) compare(frame, "seen", {"no", other.method + other.status, {}});
  }
  CHECK(compared > 18'000);
  for (const Explained& row : kExplained) {
    INFO(row.capture << ": nothing needs this row any more: " << row.why);
    CHECK(used.contains(&row));
  }
}
