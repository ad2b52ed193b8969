// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/shapes.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "sip/text.h"

// Nearly every message has none of these shapes but the generators' own, so the first four octets of each part,
// compared as one word, decide whether the other rules are asked at all. Each of them begins with the first eight
// octets of the part that it is about; what passes that is looked at properly.
namespace sipward::sip {
namespace {

using namespace text;

consteval std::uint64_t word(std::string_view octets) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < octets.size() && i < 8; ++i)
    out |= static_cast<std::uint64_t>(static_cast<unsigned char>(octets[i])) << (8 * i);
  return out;
}
consteval std::uint32_t start_word(std::string_view octets) { return static_cast<std::uint32_t>(word(octets)); }
constexpr std::uint64_t kFive = 0xff'ffff'ffff;
constexpr std::uint64_t kSeven = 0xff'ffff'ffff'ffff;

constexpr bool is_hex(char c) noexcept { return is_digit(c) || (c >= 'a' && c <= 'f'); }
constexpr bool is_small(char c) noexcept { return c >= 'a' && c <= 'z'; }

template<class Test>
bool all(std::string_view octets, Test test) noexcept {
  return std::all_of(octets.begin(), octets.end(), test);
}

// Zero in the high half of each octet if all eight are digits.
std::uint64_t other_than_digits(const char* octets) noexcept {
  constexpr std::uint64_t kOnes = 0x0101'0101'0101'0101;
  std::uint64_t w;
  std::memcpy(&w, octets, sizeof w);
  w ^= kOnes * '0';
  return w | (w + kOnes * 6); // a sum that carries into the next octet comes from one that is no digit
}
bool is_number(std::string_view octets) noexcept {
  constexpr std::uint64_t kHighHalves = 0xf0f0'f0f0'f0f0'f0f0;
  if (octets.size() < 8) return !octets.empty() && all(octets, is_digit);
  const char* const last = octets.data() + octets.size() - 8;
  std::uint64_t other = other_than_digits(last);
  if ((other & kHighHalves) != 0) return false; // most identifiers end with a host's name
  for (const char* at = octets.data(); at < last; at += 8) other |= other_than_digits(at);
  return (other & kHighHalves) == 0;
}

constexpr std::string_view kCookie = "z9hG4bK"; // RFC 3261, section 8.1.1.7

// A message and the beginnings of its parts.
class Finder {
public:
  Finder(const Message& message, std::string_view datagram) noexcept : m_(message), datagram_(datagram) {}

  Shapes find() const noexcept {
    const Shapes out = branch_shapes();
    if (!is_suspect()) [[likely]]
      return out;
    return out | sipvicious() | nmap() | names() | identifiers() | hosts() | odd_values();
  }

private:
  // The first eight octets of a part; what is missing is zeroes.
  std::uint64_t head(Span part) const noexcept {
    std::uint64_t octets = 0;
    if (part.begin + 8u > datagram_.size()) [[unlikely]] {
      std::memcpy(&octets, datagram_.data() + part.begin, std::min<std::size_t>(part.size(), 8));
      return octets;
    }
    std::memcpy(&octets, datagram_.data() + part.begin, sizeof octets);
    return part.size() >= 8 ? octets : octets & ((std::uint64_t{1} << (8 * part.size())) - 1);
  }
  std::string_view text(Span part) const noexcept { return part.in(datagram_); }

  // Names that only a tool is called, as the caller's name or user.
  struct Name {
    std::string_view name; // in lower case
    Shape shape;
  };
  static constexpr std::array<Name, 9> kNames{{
      {"sipvicious", Shape::SipviciousName},
      {"sipsscuser", Shape::SipviciousName},
      {"ccxllrlflgig", Shape::SipviciousName},
      {"sivus", Shape::ToolUser},
      {"sivus_voip_scanner", Shape::ToolUser},
      {"sivus-discovery", Shape::ToolUser},
      {"thisisthecanary", Shape::ToolUser},
      {"smap", Shape::ToolUser},
      {"nmap nse", Shape::NmapName},
  }};
  // By the first four letters, and by the first alone: users are numbers, mostly.
  static constexpr std::size_t name_slot(std::uint32_t octets) noexcept {
    return (octets | 0x2020'2020) * 0x9e37'79b1u >> 26;
  }
  static consteval std::uint64_t name_slots() {
    std::uint64_t slots = 0;
    for (const Name& known : kNames) {
      std::uint32_t octets = 0;
      for (std::size_t i = 0; i < 4; ++i)
        octets |= static_cast<std::uint32_t>(static_cast<unsigned char>(known.name[i])) << (8 * i);
      slots |= std::uint64_t{1} << name_slot(octets);
    }
    return slots;
  }
  static consteval std::uint64_t name_letters() {
    std::uint64_t letters = 0;
    for (const Name& known : kNames)
      for (const char letter : {known.name[0], static_cast<char>(known.name[0] & 0xdf)})
        letters |= std::uint64_t{1} << (static_cast<unsigned char>(letter) % 64);
    return letters;
  }

  // The first four octets of a part, with what follows a shorter one.
  std::uint32_t start(Span part) const noexcept {
    std::uint32_t octets;
    std::memcpy(&octets, datagram_.data() + part.begin, sizeof octets);
    return octets;
  }
  // False: no rule but those of branch_shapes() holds. What an absent part begins with, here the method, can only make
  // it true.
  bool is_suspect() const noexcept {
    if (!ends_plainly()) [[unlikely]]
      return true;
    return is_suspect_name() || is_suspect_host(m_.from_host) || is_suspect_host(m_.to_host) ||
           is_suspect_host(m_.contact_host) || is_suspect_sent_by() || is_suspect_id() || is_suspect_value() ||
           is_suspect_uri();
  }
  // The last header has a value, and \r\n\r\n follows: four octets may be read wherever a part begins.
  bool ends_plainly() const noexcept {
    if (m_.body.begin < 5) return false;
    std::uint32_t end;
    std::memcpy(&end, datagram_.data() + m_.body.begin - 4, sizeof end);
    const char last = datagram_[m_.body.begin - 5u];
    return end == start_word("\r\n\r\n") && last != ':' && static_cast<unsigned char>(last) > ' ';
  }
  bool is_suspect_name() const noexcept {
    constexpr std::uint64_t kSlots = name_slots(), kLetters = name_letters();
    const auto is_known = [&](std::uint32_t octets) { return kSlots >> name_slot(octets) & kLetters >> (octets % 64); };
    return ((is_known(start(m_.from_user)) | is_known(start(m_.from_display))) & 1) != 0;
  }
  bool is_suspect_host(Span host) const noexcept {
    const std::uint32_t octets = start(host);
    return octets == start_word("1.1.") || (octets & 0xffff) == start_word("nm");
  }
  bool is_suspect_sent_by() const noexcept {
    const std::uint32_t octets = start(m_.via_sent_by);
    return octets == start_word("127.") || octets == start_word("pc33") || octets == start_word("serv") ||
           octets == start_word("bobs") || octets == start_word("bigb");
  }
  bool is_suspect_id() const noexcept {
    const std::uint32_t call_id = start(m_.call_id), tag = start(m_.from_tag);
    if (call_id == start_word("1337") || call_id == start_word("a84b") || tag == start_word("3206") ||
        tag == start_word("root") || tag == start_word("1928"))
      return true;
    if (m_.from_tag.size() >= 16 && datagram_[m_.from_tag.end - 2u] == '3') return true;
    const std::uint64_t branch = head(m_.via_branch);
    return branch == word("z9hG4bK7") || branch == word("z9hG4bKh");
  }
  bool is_suspect_value() const noexcept {
    constexpr std::uint32_t kFunction = start_word("() {");
    const std::uint32_t contact = start(m_.contact), agent = start(m_.user_agent);
    return contact == kFunction || contact == start_word("None") || agent == kFunction || start(m_.from) == kFunction ||
           start(m_.to) == kFunction || start(m_.call_id) == kFunction || start(m_.from_display) == kFunction ||
           (agent == start_word("Cisc") && is_borrowed_cisco());
  }
  // sip:nm, sip:1_unusual
  bool is_suspect_uri() const noexcept {
    if (m_.request_uri.size() < 6) return false;
    const char* const host = datagram_.data() + m_.request_uri.begin + 4;
    return (host[0] == 'n' && host[1] == 'm') || (host[0] == '1' && host[1] == '_');
  }
  static Shapes when(bool holds, Shape shape) noexcept { return holds ? shape_bit(shape) : 0; }

  Shapes sipvicious() const noexcept {
    const std::string_view tag = text(m_.from_tag);
    Shapes out = 0;
    if (tag.size() >= 16 && tag[tag.size() - 2] == '3') [[unlikely]]
      out |= when(sipvicious_mark(tag) != 0, Shape::SipviciousTag);
    return out | when(tag == "3206210844", Shape::SvcrackTag);
  }

  Shapes branch_shapes() const noexcept {
    const std::uint64_t branch = head(m_.via_branch);
    const std::string_view call_id = text(m_.call_id), tail = text(m_.via_branch);
    Shapes out = 0;
    bool decimal = false;
    if (branch == word("z9hG4bK-")) {
      const std::string_view rest = tail.substr(8);
      decimal = m_.via_rport.present() && rest.size() <= 10 && is_number(rest);
      out |= when(rest == call_id && !rest.empty(), Shape::SipcliBranch);
    } else if ((branch & kSeven) != word(kCookie) && !m_.via_branch.empty()) [[unlikely]] {
      out |= shape_bit(Shape::NoCookie) | without_cookie(tail);
    }
    const bool digits = is_number(call_id), bare = has_bare_contact();
    const bool accept = m_.method == Method::Register && m_.count(Header::Accept) > 0;
    return out | when(decimal, Shape::DecimalBranch) | when(digits, Shape::DigitsCallId) |
           when(accept, Shape::RegisterAccept) | when(decimal + digits + bare + accept >= 3, Shape::SipviciousShape);
  }
  Shapes without_cookie(std::string_view branch) const noexcept {
    const auto is_base36 = [](char c) { return is_digit(c) || is_small(c); };
    return when(branch.size() == 71 && all(branch, is_base36), Shape::SipptsShape) |
           when(branch.starts_with("z9hGOPTIONS"), Shape::Masscan) | when(is_zmap(), Shape::Zmap);
  }
  // Eight letters drawn at random hold capitals behind the first one; the names of products that long do not.
  bool is_zmap() const noexcept {
    const std::string_view name = text(m_.user_agent);
    const auto is_capital = [](char c) { return is_alpha(c) && !is_small(c); };
    return name.size() == 8 && datagram_.ends_with('\0') && all(name, is_alpha) &&
           std::any_of(name.begin() + 1, name.end(), is_capital) && !all(name, is_capital);
  }
  // An address without brackets around it; "*" is no address.
  bool has_bare_contact() const noexcept {
    const Span uri = m_.contact_user.present() ? m_.contact_user : m_.contact_host;
    if (uri.present()) [[likely]]
      return uri.begin - m_.contact.begin <= 5 && datagram_[m_.contact.begin] != '<';
    const std::string_view contact = text(m_.contact);
    return !contact.empty() && contact != "*" && contact.find('<') == std::string_view::npos;
  }

  Shapes nmap() const noexcept {
    const bool probe = text(m_.request_uri) == "sip:nm" ||
                       (head(m_.from_user) == word("nm") && head(m_.from_host) == word("nm")) ||
                       (head(m_.to_user) == word("nm2") && head(m_.to_host) == word("nm2")) ||
                       (head(m_.from_tag) == word("root") && head(m_.call_id) == word("50000"));
    return when(probe, Shape::NmapProbe);
  }

  Shapes names() const noexcept {
    Shapes out = 0;
    for (const Name& known : kNames)
      out |= when(equals(text(m_.from_user), known.name) || equals(text(m_.from_display), known.name), known.shape);
    return out;
  }

  Shapes identifiers() const noexcept {
    const std::uint64_t call_id = head(m_.call_id), branch = head(m_.via_branch);
    Shapes out =
        when((call_id & kFive) == word("1337@") && m_.via_branch.empty() && !m_.from_tag.present(), Shape::Hydra);
    // RFC 3261, section 24.
    const bool tag = head(m_.from_tag) == word("19283017") && text(m_.from_tag) == "1928301774";
    const bool id = call_id == word("a84b4c76") && text(m_.call_id).starts_with("a84b4c76e66710");
    const bool via = (branch == word("z9hG4bK7") || branch == word("z9hG4bKh")) &&
                     (text(m_.via_branch) == "z9hG4bK776asdhds" || text(m_.via_branch) == "z9hG4bKhjhs8ass877");
    const int copied = tag + id + via;
    if (copied > 0) [[unlikely]]
      out |= shape_bit(copied > 1 ? Shape::CopiedIds : Shape::CopiedId);
    if ((head(m_.user_agent) & kFive) == word("Cisco")) out |= when(is_borrowed_cisco(), Shape::BorrowedCisco);
    return out;
  }
  bool is_borrowed_cisco() const noexcept {
    if (text(m_.user_agent).starts_with("Cisco-SIPGateway") && text(m_.via_branch).starts_with("z9hG4bKPj"))
      return true;
    return m_.call_id.size() == 50 && all(text(m_.call_id), is_small);
  }

  Shapes hosts() const noexcept {
    constexpr std::uint64_t kDefault = word("1.1.1.1");
    const std::uint64_t sent_by = head(m_.via_sent_by);
    const bool example = sent_by == word("pc33.atl") || sent_by == word("server10") || sent_by == word("bobspc.b") ||
                         sent_by == word("bigbox3.");
    return when(head(m_.from_host) == kDefault || head(m_.to_host) == kDefault || head(m_.contact_host) == kDefault,
                Shape::OneOneOneOne) |
           when((sent_by & 0xffff'ffff) == word("127."), Shape::LoopbackVia) |
           when(example && is_example(text(m_.via_sent_by)), Shape::ExampleHost);
  }
  static bool is_example(std::string_view sent_by) noexcept {
    for (const std::string_view example :
         {"pc33.atlanta.com", "server10.biloxi.com", "bobspc.biloxi.com", "bigbox3.site3.atlanta.com"})
      if (sent_by.starts_with(example)) return true;
    return false;
  }

  Shapes odd_values() const noexcept {
    constexpr auto kFunction = static_cast<std::uint32_t>(word("() {"));
    bool function = false;
    for (const Span part : {m_.user_agent, m_.from, m_.from_display, m_.to, m_.contact, m_.call_id})
      function |= static_cast<std::uint32_t>(head(part)) == kFunction;
    const bool torture =
        head(m_.request_uri) == word("sip:1_un") && text(m_.request_uri).starts_with("sip:1_unusual.URI");
    return when(function, Shape::Shellshock) | when(torture, Shape::TortureUri) |
           when(head(m_.contact) == word("None"), Shape::ContactNone);
  }

  const Message& m_;
  std::string_view datagram_;
};

} // namespace

// At least six digits follow the 0x01: fewer may be chance, and happen to the tool two times in a hundred thousand.
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

Shapes shapes_plain(const Message& message, std::string_view datagram) noexcept {
  return may_have_shapes(message) ? Finder(message, datagram).find() : 0;
}

} // namespace sipward::sip
