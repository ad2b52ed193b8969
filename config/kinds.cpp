// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/kinds.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "config/units.h"
#include "policy/meter.h"
#include "sip/marks.h"

namespace sipward::config {
namespace {

bool is_graphic(char c) { return static_cast<unsigned char>(c) > ' ' && c != 0x7f; }
bool is_alphanumeric(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// As character_size(), and nothing that would begin another line or column.
std::size_t inline_character_size(std::string_view text) {
  return text.front() == '\t' || text.front() == '\n' || text.front() == '\r' ? 0 : character_size(text);
}

bool is_one_line(std::string_view text) {
  while (!text.empty()) {
    const std::size_t size = inline_character_size(text);
    if (size == 0) return false;
    text.remove_prefix(size);
  }
  return true;
}

std::optional<std::uint64_t> parse_whole(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A kind of text: kept as it was written if `valid`.
Kind<std::string> text_kind(std::string allowed, std::function<bool(const std::string&)> valid) {
  return {std::move(allowed),
          [valid = std::move(valid)](const std::string& text) -> std::expected<std::string, Objection> {
            if (!is_one_line(text) || !valid(text)) return std::unexpected(Objection{});
            return text;
          },
          yaml_text};
}

// The kernel's own rule for names of interfaces (dev_valid_name): 1 to 15 octets, no slash, no colon, no blank.
bool is_interface(std::string_view name) {
  return !name.empty() && name.size() < 16 && name != "." && name != ".." &&
         std::ranges::all_of(name, [](char c) { return is_graphic(c) && c != '/' && c != ':'; });
}

// [DOMAIN:]BUS:DEVICE.FUNCTION in hexadecimal, as lspci prints it.
bool is_pci(std::string_view text) {
  static constexpr std::string_view kShapes[] = {"hh:hh.h", "hhhh:hh:hh.h"};
  return std::ranges::any_of(kShapes, [&](std::string_view shape) {
    return std::ranges::equal(text, shape, [](char c, char s) { return s == 'h' ? is_hex(c) : c == s; });
  });
}

std::string lower_case(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

// Labels of letters, digits, '-' and '_'; the last has a letter, or it would be a mistyped address.
bool is_dns_name(std::string_view text) {
  constexpr std::size_t kLongestName = 253, kLongestLabel = 63;
  if (text.empty() || text.size() > kLongestName) return false;
  std::string_view label;
  for (bool last = false; !last;) {
    const auto dot = text.find('.');
    last = dot == text.npos;
    label = text.substr(0, dot);
    if (label.empty() || label.size() > kLongestLabel || label.front() == '-' || label.back() == '-') return false;
    if (!std::ranges::all_of(label, [](char c) { return is_alphanumeric(c) || c == '-' || c == '_'; })) return false;
    if (!last) text.remove_prefix(dot + 1);
  }
  return std::ranges::any_of(label, [](char c) { return is_alphanumeric(c) && !(c >= '0' && c <= '9'); });
}

// Names are resolved for `allow` only; elsewhere, silence about one would leave a customer unprotected.
Objection about_name(const std::string& text) {
  const bool like_a_name =
      std::ranges::all_of(text, [](char c) { return is_alphanumeric(c) || c == '.' || c == '-' || c == '_'; }) &&
      std::ranges::any_of(text, [](char c) { return is_alphanumeric(c) && !(c >= '0' && c <= '9'); });
  if (like_a_name) return in_quotes(text) + " is a name: names are not resolved here; write its address";
  return {};
}

Objection about_host_bits(const std::string& text) {
  const auto slash = text.find('/');
  if (slash == text.npos) return {};
  const auto base = policy::Address::parse(std::string_view(text).substr(0, slash));
  const auto length = parse_whole(std::string_view(text).substr(slash + 1));
  if (!base || !length || *length > policy::bits(base->family)) return {};
  const auto meant = policy::Prefix::of(*base, static_cast<std::uint8_t>(*length));
  return in_quotes(text) + " has bits set after its length: write " + to_string(meant) + " for the range, or " +
         to_string(*base) + " for the host";
}

} // namespace

std::size_t character_size(std::string_view text) {
  const auto octet = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](std::size_t i, unsigned least = 0x80, unsigned most = 0xbf) {
    return octet(i) >= least && octet(i) <= most;
  };
  const unsigned lead = octet(0);
  if (lead < 0x80) return (lead >= ' ' && lead != 0x7f) || lead == '\t' || lead == '\n' || lead == '\r' ? 1 : 0;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  if (lead < 0xe0) return follows(1, lead == 0xc2 ? 0xa0 : 0x80) ? 2 : 0; // U+0080 to U+009F are controls
  if (lead < 0xf0) return follows(1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf) && follows(2) ? 3 : 0;
  return follows(1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf) && follows(2) && follows(3) ? 4 : 0;
}

std::string join(std::span<const std::string> words, std::string_view between) {
  std::string text;
  for (const auto& word : words) {
    if (!text.empty()) text += between;
    text += word;
  }
  return text;
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kLongest = 60; // octets
  std::string result = "\"";
  while (!text.empty() && result.size() < kLongest) {
    const std::size_t size = inline_character_size(text);
    result += size > 0 ? text.substr(0, size) : "?";
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return result + (text.empty() ? "\"" : "...\"");
}

std::string yaml_text(const std::string& text) {
  static constexpr std::string_view kReserved[] = {"null", "Null", "NULL", "true", "false", "yes", "no", "on", "off"};
  const bool plain = !text.empty() && (is_alphanumeric(text.front()) || text.front() == '/') &&
                     std::ranges::find(kReserved, text) == std::end(kReserved) && std::ranges::all_of(text, [](char c) {
                       return is_alphanumeric(c) || c == '/' || c == '.' || c == '_' || c == '-';
                     });
  if (plain) return text;
  YAML::Emitter emitter;
  emitter << YAML::DoubleQuoted << text;
  return emitter.c_str();
}

Kind<std::uint64_t> whole(std::uint64_t least, std::uint64_t most) {
  return {"a whole number from " + std::to_string(least) + " to " + std::to_string(most),
          [=](const std::string& text) -> std::expected<std::uint64_t, Objection> {
            const auto value = parse_whole(text);
            if (!value || *value < least || *value > most) return std::unexpected(Objection{});
            return *value;
          },
          [](const std::uint64_t& value) { return std::to_string(value); }};
}

Kind<bool> flag() {
  static constexpr Name<bool> kNames[] = {{"true", true}, {"false", false}};
  return choice(kNames);
}

Kind<std::chrono::seconds> duration(std::chrono::seconds least, std::chrono::seconds most) {
  return {"a duration from " + duration_text(least) + " to " + duration_text(most) + ", such as 90s, 5m, 1h30m or 14d",
          [=](const std::string& text) -> std::expected<std::chrono::seconds, Objection> {
            const auto value = parse_duration(text);
            if (!value || *value < least || *value > most) return std::unexpected(Objection{});
            return *value;
          },
          duration_text};
}

// The least rate is one that drains a single request within the meters' horizon; above the greatest, the meters' ticks
// are coarse.
Kind<double> rate() {
  constexpr double kLeast = 1.0 / std::chrono::duration_cast<std::chrono::seconds>(policy::kHorizon).count();
  constexpr double kMost = 10'000;
  return {"a rate from 1/h to 10000/s, such as 10/s, 600/min or 50 per 10s",
          [=](const std::string& text) -> std::expected<double, Objection> {
            const auto value = parse_rate(text);
            if (!value || *value < kLeast || *value > kMost) return std::unexpected(Objection{});
            return *value;
          },
          rate_text};
}

Kind<std::uint64_t> size(std::uint64_t least, std::uint64_t most) {
  return {"a size from " + size_text(least) + " to " + size_text(most) + ", such as 256 MiB or 1 GiB",
          [=](const std::string& text) -> std::expected<std::uint64_t, Objection> {
            const auto value = parse_size(text);
            if (!value || *value < least || *value > most) return std::unexpected(Objection{});
            return *value;
          },
          size_text};
}

Kind<std::string> port() {
  return text_kind("an interface (eth0), a PCI address (0000:01:00.0), tap:NAME or vdev:STRING",
                   [](const std::string& text) {
                     if (text.starts_with("tap:")) return is_interface(std::string_view(text).substr(4));
                     if (text.starts_with("vdev:")) return text.size() > 5;
                     return is_interface(text) || is_pci(text);
                   });
}

Kind<std::string> file_path(std::size_t longest) {
  return text_kind(
      "the absolute path of a file, at most " + std::to_string(longest) + " octets", [=](const std::string& text) {
        return text.starts_with('/') && text.size() <= longest && std::filesystem::path(text).has_filename();
      });
}

Kind<std::string> group() {
  return text_kind("the name of a group", [](const std::string& text) {
    return !text.empty() && text.size() < 32 && text.front() != '-' &&
           std::ranges::all_of(text, [](char c) { return is_alphanumeric(c) || c == '_' || c == '-' || c == '.'; });
  });
}

Kind<std::string> listen_address() {
  return text_kind("an address and a port, such as 127.0.0.1:9560 or [::1]:9560", [](const std::string& text) {
    const auto colon = text.rfind(':');
    if (colon == text.npos) return false;
    std::string_view host = std::string_view(text).substr(0, colon);
    const auto family = host.starts_with('[') && host.ends_with(']') ? policy::Family::V6 : policy::Family::V4;
    if (family == policy::Family::V6) host = host.substr(1, host.size() - 2);
    const auto parsed = policy::Address::parse(host);
    const auto number = parse_whole(std::string_view(text).substr(colon + 1));
    return parsed && parsed->family == family && number && *number >= 1 && *number <= 65535;
  });
}

Kind<std::string> user_agent() {
  return text_kind("a pattern: text, text* or *text*, at least three characters beside the stars",
                   [](const std::string& text) { return sip::Marks::valid_pattern(text); });
}

Kind<policy::Address> address() {
  return {"an IPv4 or IPv6 address",
          [](const std::string& text) -> std::expected<policy::Address, Objection> {
            const auto value = policy::Address::parse(text);
            if (!value) return std::unexpected(about_name(text));
            const auto& octets = value->octets;
            if (std::ranges::all_of(octets, [](std::uint8_t octet) { return octet == 0; }))
              return std::unexpected(in_quotes(text) +
                                     " is nobody's address; an empty list means the interface's own addresses");
            return *value;
          },
          [](const policy::Address& value) { return yaml_text(to_string(value)); }};
}

Kind<policy::Prefix> prefix() {
  return {"an address (203.0.113.10) or a range (203.0.113.128/25)",
          [](const std::string& text) -> std::expected<policy::Prefix, Objection> {
            const auto value = policy::Prefix::parse(text);
            if (value) return *value;
            const auto why = about_host_bits(text);
            return std::unexpected(why.empty() ? about_name(text) : why);
          },
          [](const policy::Prefix& value) { return yaml_text(to_string(value)); }};
}

Kind<std::string> allow_entry() {
  return {"an address (203.0.113.10), a range (203.0.113.128/25), a name (sip.example.net) or a list (file:/PATH)",
          [](const std::string& text) -> std::expected<std::string, Objection> {
            if (policy::Prefix::parse(text)) return text;
            if (text.starts_with(kFileMark)) {
              if (is_one_line(text) && text[kFileMark.size()] == '/') return text;
              return std::unexpected(in_quotes(text) + " needs an absolute path: file:/etc/sipward/carriers.list");
            }
            if (is_dns_name(text)) return lower_case(text);
            return std::unexpected(about_host_bits(text));
          },
          yaml_text};
}

Kind<std::string> or_empty(Kind<std::string> kind, const std::string& meaning) {
  return {kind.allowed + ", or \"\" for " + meaning,
          [read = std::move(kind.read)](const std::string& text) -> std::expected<std::string, Objection> {
            if (text.empty()) return text;
            return read(text);
          },
          kind.print};
}

} // namespace sipward::config
