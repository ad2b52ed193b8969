// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/marks.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "sip/mark_list.h"
#include "sip/text.h"
#include "sip/values.h"

namespace sipward::sip {
namespace {

using namespace text;

constexpr std::string_view kCookie = "z9hG4bK"; // RFC 3261, section 8.1.1.7
constexpr std::string_view kDefaultHost = "1.1.1.1";
constexpr std::string_view kSvcrackTag = "3206210844";

const Mark& shape_mark(Shape shape) noexcept { return kShapeMarks[static_cast<std::size_t>(shape)]; }

template<class Test>
bool all(std::string_view text, Test test) noexcept {
  return std::all_of(text.begin(), text.end(), test);
}

constexpr bool is_hex(char c) noexcept { return is_digit(c) || (c >= 'a' && c <= 'f'); }
constexpr int nibble(char c) noexcept { return is_digit(c) ? c - '0' : c - 'a' + 10; }

// Where the 0x01 stands in a SIPVicious tag (an even offset), or 0. At least six digits follow it: fewer may be chance,
// and happen to the tool two times in a hundred thousand.
std::size_t sipvicious_mark(std::string_view tag) noexcept {
  constexpr std::size_t kDigits = 6;
  if (tag.size() < 2 + 2 + 2 * kDigits || tag.size() % 2 != 0) return 0;
  std::size_t i = tag.size();
  while (i >= 2 && tag[i - 2] == '3' && is_digit(tag[i - 1])) i -= 2;
  if (i < 4 || tag[i - 2] != '0' || tag[i - 1] != '1' || tag.size() - i < 2 * kDigits) return 0;
  for (std::size_t k = 0; k < i - 2; k += 2) {
    if (!is_hex(tag[k]) || !is_hex(tag[k + 1])) return 0;
    const int octet = nibble(tag[k]) << 4 | nibble(tag[k + 1]);
    if (octet < 0x20 || octet > 0x7e) return 0;
  }
  return i - 2;
}

// What the shape marks look at, as text.
struct Texts {
  Texts(const Message& m, std::string_view datagram) noexcept
      : branch(m.via_branch.in(datagram)), call_id(m.call_id.in(datagram)), from_tag(m.from_tag.in(datagram)),
        from_user(m.from_user.in(datagram)), from_host(m.from_host.in(datagram)), to_host(m.to_host.in(datagram)),
        contact_host(m.contact_host.in(datagram)), from_display(m.from_display.in(datagram)),
        user_agent(m.user_agent.in(datagram)), sent_by(m.via_sent_by.in(datagram)), uri(m.request_uri.in(datagram)) {}
  std::string_view branch, call_id, from_tag, from_user, from_host, to_host, contact_host, from_display, user_agent,
      sent_by, uri;
};

bool is_decimal_branch(std::string_view branch) noexcept {
  if (branch.size() < 9 || branch.size() > 18 || !branch.starts_with("z9hG4bK-")) return false;
  return all(branch.substr(8), is_digit);
}

bool is_nmap(const Texts& t) noexcept {
  return t.uri == "sip:nm" || (t.from_user == "nm" && t.from_host == "nm") ||
         (t.from_tag == "root" && t.call_id == "50000");
}

bool is_example_host(std::string_view host) noexcept {
  for (const std::string_view example :
       {"pc33.atlanta.com", "server10.biloxi.com", "bobspc.biloxi.com", "bigbox3.site3.atlanta.com"})
    if (host.substr(0, example.size()) == example) return true;
  return false;
}

bool is_zmap(const Texts& t, std::string_view datagram) noexcept {
  return t.user_agent.size() == 8 && all(t.user_agent, is_alpha) && !t.branch.empty() &&
         !t.branch.starts_with(kCookie) && datagram.ends_with('\0');
}

bool is_borrowed_cisco(const Texts& t) noexcept {
  if (t.user_agent.substr(0, 5) != "Cisco") return false;
  if (t.user_agent.starts_with("Cisco-SIPGateway") && t.branch.starts_with("z9hG4bKPj")) return true;
  return t.call_id.size() == 50 && all(t.call_id, [](char c) { return c >= 'a' && c <= 'z'; });
}

// Calls found(shape) for each shape that the message has, hard ones first, until it says false.
template<class Found>
void each_shape(const Message& m, std::string_view datagram, Found found) noexcept {
  const Texts t(m, datagram);
  const bool decimal = m.via_rport.present() && is_decimal_branch(t.branch);
  const bool digits =
      !t.call_id.empty() && is_digit(t.call_id.back()) && is_digit(t.call_id[0]) && all(t.call_id, is_digit);
  const bool bare = m.contact.present() && !m.contact.empty() && datagram[m.contact.end - 1u] != '>' &&
                    m.contact.in(datagram).find('<') == std::string_view::npos;
  const bool accept = m.method == Method::Register && m.count(Header::Accept) > 0;
  const bool no_cookie = !t.branch.empty() && !t.branch.starts_with(kCookie);
  const auto named = [&](std::string_view name) { return equals(t.from_display, name) || equals(t.from_user, name); };
  const auto is = [&](Shape shape, bool holds) { return !holds || found(shape_mark(shape)); };

  (is(Shape::SipviciousTag, sipvicious_mark(t.from_tag) != 0) && is(Shape::SvcrackTag, t.from_tag == kSvcrackTag) &&
   is(Shape::OneOneOneOne,
      t.from_host == kDefaultHost || t.to_host == kDefaultHost || t.contact_host == kDefaultHost) &&
   is(Shape::SipviciousName, named("sipvicious") || named("sipsscuser") || named("ccxllrlflgig")) &&
   is(Shape::SipviciousShape, decimal + digits + bare + accept >= 3) &&
   is(Shape::SipptsShape, no_cookie && t.branch.size() == 71 &&
                              all(t.branch, [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z'); })) &&
   is(Shape::NmapProbe, is_nmap(t)) && is(Shape::NmapName, t.from_display == "Nmap NSE") &&
   is(Shape::Hydra, t.call_id.starts_with("1337@") && t.branch.empty() && !m.from_tag.present()) &&
   is(Shape::Masscan, t.branch.starts_with("z9hGOPTIONS")) && is(Shape::Zmap, is_zmap(t, datagram)) &&
   is(Shape::SipcliBranch, !t.call_id.empty() && t.branch.size() == t.call_id.size() + 8 &&
                               t.branch.starts_with("z9hG4bK-") && t.branch.substr(8) == t.call_id) &&
   is(Shape::ToolUser,
      named("sivus") || named("sivus_voip_scanner") || named("sivus-discovery") || named("thisisthecanary")) &&
   is(Shape::BorrowedCisco, is_borrowed_cisco(t)) &&
   is(Shape::Shellshock, t.user_agent.starts_with("() {") || m.from.in(datagram).starts_with("() {") ||
                             t.from_display.starts_with("() {")) &&
   is(Shape::LoopbackVia, t.sent_by.starts_with("127.")) && is(Shape::NoCookie, no_cookie) &&
   is(Shape::DecimalBranch, decimal) && is(Shape::DigitsCallId, digits) && is(Shape::RegisterAccept, accept) &&
   is(Shape::ExampleHost, is_example_host(t.sent_by)));
}

// A response carries its request's shape, whoever sent that.
bool has_shape(const Message& m) noexcept {
  return m.kind == Kind::Request || (m.kind == Kind::Malformed && m.method_token.present());
}

// A cheap test that any From value ending in one of SIPVicious's tags passes: svcrack's last two digits, or two digits
// in hex.
bool ends_like_sipvicious(std::string_view from) noexcept {
  if (from.size() < 16) return false;
  const char* last = from.data() + from.size() - 4;
  const bool digits = last[0] == '3' && is_digit(last[1]) && last[2] == '3' && is_digit(last[3]);
  return digits || from.ends_with(kSvcrackTag);
}

} // namespace

Target sipvicious_target(std::string_view from_tag) noexcept {
  Target out;
  const std::size_t end = sipvicious_mark(from_tag);
  const auto put = [&out](char c) {
    if (out.size < out.text.size()) out.text[out.size++] = c;
  };
  for (std::size_t i = 0; i < end; i += 2) {
    const auto octet = static_cast<char>(nibble(from_tag[i]) << 4 | nibble(from_tag[i + 1]));
    put(octet);
    if (octet != ':') continue;
    for (int k = 0; k < 3; ++k) put('*'); // a password, whoever's it may be
    break;
  }
  return out;
}

Marks::Marks(std::span<const std::string> user_agents) {
  const auto add = [this](std::string_view pattern, Weight weight) {
    table_.add(pattern, static_cast<std::uint32_t>(agents_.size()));
    agents_.push_back({pattern, weight});
  };
  written_.reserve(user_agents.size()); // the marks' names point into it
  // Hard patterns first: of two that match, the first is found.
  for (const AgentMark& mark : kAgentMarks)
    if (mark.weight == Weight::Hard) add(mark.pattern, mark.weight);
  for (const std::string& own : user_agents)
    if (valid_pattern(own)) add(written_.emplace_back(own), Weight::Hard);
  for (const AgentMark& mark : kAgentMarks)
    if (mark.weight == Weight::Soft) add(mark.pattern, mark.weight);
  table_.build();
}

const Mark* Marks::user_agent(std::string_view value) const noexcept {
  const std::uint32_t id = table_.find(value);
  return id == AgentTable::kNone ? nullptr : &agents_[id];
}

const Mark* Marks::find(const FirstLook& look, std::string_view datagram) const noexcept {
  if (const Mark* mark = user_agent(look.user_agent.in(datagram)); mark && mark->weight == Weight::Hard) return mark;
  if (look.kind != Kind::Request) return nullptr;
  const std::string_view from = look.from.in(datagram);
  if (!ends_like_sipvicious(from)) return nullptr;
  // Suspicious: now read it properly, for a quoted name can hold all of this.
  const Address address = read_address(datagram, look.from);
  const std::string_view tag = read_param(datagram, address.params, look.from.end, "tag").in(datagram);
  if (tag == kSvcrackTag) return &shape_mark(Shape::SvcrackTag);
  if (sipvicious_mark(tag) != 0) return &shape_mark(Shape::SipviciousTag);
  return nullptr;
}

const Mark* Marks::find(const Message& message, std::string_view datagram) const noexcept {
  const Mark* best = user_agent(message.user_agent.in(datagram));
  if ((best && best->weight == Weight::Hard) || !has_shape(message)) return best;
  each_shape(message, datagram, [&best](const Mark& mark) {
    if (!best || mark.weight > best->weight) best = &mark;
    return false; // hard ones come first
  });
  return best;
}

MarkSet Marks::find_all(const Message& message, std::string_view datagram) const noexcept {
  MarkSet out;
  const auto add = [&out](const Mark& mark) {
    if (out.count < out.marks.size()) out.marks[out.count++] = &mark;
    return true;
  };
  if (const Mark* agent = user_agent(message.user_agent.in(datagram))) add(*agent);
  if (has_shape(message)) each_shape(message, datagram, add);
  std::sort(out.marks.begin(), out.marks.begin() + static_cast<std::ptrdiff_t>(out.count),
            [](const Mark* a, const Mark* b) { return a->weight > b->weight; });
  return out;
}

bool Marks::valid_pattern(std::string_view pattern) noexcept {
  if (pattern.starts_with('*')) pattern.remove_prefix(1);
  if (pattern.ends_with('*')) pattern.remove_suffix(1);
  if (pattern.size() < 3 || pattern.size() > 255) return false;
  return std::all_of(pattern.begin(), pattern.end(),
                     [](char c) { return c != '*' && static_cast<unsigned char>(c) >= ' ' && c != 0x7f; });
}

} // namespace sipward::sip
