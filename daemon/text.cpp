// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/text.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdio>
#include <optional>

namespace sipward::daemon {
namespace {

using std::chrono::nanoseconds, std::chrono::seconds;

struct Range {
  char32_t first, last;
};

// Characters that leave no mark of their own but change how others look or where they stand: Unicode's Cf, Zl and Zp.
constexpr Range kFormat[] = {{0xad, 0xad},       {0x600, 0x605},     {0x61c, 0x61c},     {0x6dd, 0x6dd},
                             {0x70f, 0x70f},     {0x890, 0x891},     {0x8e2, 0x8e2},     {0x180e, 0x180e},
                             {0x200b, 0x200f},   {0x2028, 0x202e},   {0x2060, 0x206f},   {0xfeff, 0xfeff},
                             {0xfff9, 0xfffb},   {0x110bd, 0x110bd}, {0x110cd, 0x110cd}, {0x13430, 0x1343f},
                             {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff}};
// Two columns wide on a terminal (Unicode's East Asian Width W and F, in coarse blocks).
constexpr Range kWide[] = {{0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},   {0xac00, 0xd7a3},
                           {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},
                           {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};
// No column of their own: they stand on the character before.
constexpr Range kCombining[] = {{0x300, 0x36f},   {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff},
                                {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}};

template<std::size_t N>
bool in(const Range (&ranges)[N], char32_t c) noexcept {
  return std::ranges::any_of(ranges, [c](const Range& range) { return range.first <= c && c <= range.last; });
}

bool printable(char32_t c) noexcept { return c >= 0x20 && !(c >= 0x7f && c <= 0x9f) && !in(kFormat, c); }

struct Character {
  char32_t code;
  std::size_t octets;
};

// The character that `text` begins with, strictly by RFC 3629: no overlong forms, no surrogates. Nothing if there is
// none.
std::optional<Character> first_character(std::string_view text) noexcept {
  const auto octet = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = octet(0);
  if (lead < 0x80) return Character{lead, 1};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return std::nullopt;
  char32_t code = lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((octet(i) & 0xc0) != 0x80) return std::nullopt;
    code = code << 6 | (octet(i) & 0x3fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  if (overlong || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return std::nullopt;
  return Character{code, length};
}

// Calls `each(octets, code)` for every character in turn; an octet that belongs to none comes alone, without a code.
template<typename Each>
void for_each_character(std::string_view text, Each each) {
  while (!text.empty()) {
    const auto character = first_character(text);
    const std::size_t octets = character ? character->octets : 1;
    each(text.substr(0, octets), character ? std::optional(character->code) : std::nullopt);
    text.remove_prefix(octets);
  }
}

void append_number(std::string& to, const char* format, double value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), format, value);
  to += text.data();
}

} // namespace

policy::Time monotonic_now() {
  return policy::Time(
      std::chrono::duration_cast<policy::Duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

WallClock WallClock::now() {
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  return {std::chrono::duration_cast<nanoseconds>(wall) - monotonic_now().time_since_epoch()};
}

std::string rfc3339(WallTime time) {
  const auto us = std::chrono::floor<std::chrono::microseconds>(time);
  const auto day = std::chrono::floor<std::chrono::days>(us);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(us - day);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02ld:%02ld:%02ld.%06ldZ", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), clock.hours().count(),
                clock.minutes().count(), clock.seconds().count(), clock.subseconds().count());
  return text.data();
}

std::optional<WallTime> parse_rfc3339(std::string_view text) {
  static constexpr std::string_view kForm = "0000-00-00T00:00:00.000000Z";
  if (text.size() != kForm.size()) return std::nullopt;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (kForm[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != kForm[i]) return std::nullopt;
  const auto number = [text](std::size_t at, std::size_t digits) {
    int value = 0;
    for (const char digit : text.substr(at, digits)) value = value * 10 + (digit - '0');
    return value;
  };
  const std::chrono::year_month_day date(std::chrono::year(number(0, 4)),
                                         std::chrono::month(static_cast<unsigned>(number(5, 2))),
                                         std::chrono::day(static_cast<unsigned>(number(8, 2))));
  const int year = number(0, 4), hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
  if (!date.ok() || year < 1970 || year > 2261 || hour > 23 || minute > 59 || second > 59) return std::nullopt;
  return std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
         std::chrono::seconds(second) + std::chrono::microseconds(number(20, 6));
}

std::string human_duration(nanoseconds duration) {
  std::string text;
  if (duration < nanoseconds::zero()) {
    text = "-";
    duration = duration == nanoseconds::min() ? nanoseconds::max() : -duration;
  }
  const auto ns = duration.count();
  if (ns == 0) return "0s";
  if (ns < 1'000'000) return text + std::to_string(ns / 1000) + "us";
  if (ns < 1'000'000'000) return text + std::to_string(ns / 1'000'000) + "ms";
  const auto s = ns / 1'000'000'000;
  if (const auto tenths = ns / 100'000'000 % 10; s < 10 && tenths != 0)
    return text + std::to_string(s) + "." + std::to_string(tenths) + "s";
  if (s < 120 && s != 60) return text + std::to_string(s) + "s";
  const bool days = s >= 48 * 3600;
  const std::pair<std::int64_t, char> parts[] = {
      {days ? s / 86400 : 0, 'd'}, {(days ? s % 86400 : s) / 3600, 'h'}, {s % 3600 / 60, 'm'}, {s % 60, 's'}};
  for (const auto& [count, unit] : parts)
    if (count != 0) text += std::to_string(count) + unit;
  return text;
}

std::string human_octets(std::uint64_t octets) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (octets < 1024) return std::to_string(octets) + " B";
  double value = static_cast<double>(octets) / 1024;
  std::size_t unit = 0;
  for (; value >= 1023.95; ++unit) value /= 1024; // what would print as 1024.0 is one of the next unit
  std::string text;
  append_number(text, "%.1f ", value);
  return text + kUnits[unit];
}

std::string in_quotes(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string result = "\"";
  for_each_character(text, [&](std::string_view octets, std::optional<char32_t> code) {
    if (code && printable(*code)) {
      if (*code == '"' || *code == '\\') result += '\\';
      result += octets;
      return;
    }
    for (const char c : octets) {
      const auto octet = static_cast<unsigned char>(c);
      result += {'\\', 'x', kHex[octet >> 4], kHex[octet & 15]};
    }
  });
  return result + '"';
}

std::string word(std::string_view text) {
  const auto plain = [](char c) { return c > ' ' && c < 0x7f && c != '=' && c != '"' && c != '\\'; };
  return !text.empty() && std::ranges::all_of(text, plain) ? std::string(text) : in_quotes(text);
}

std::string utf8(std::string_view text) {
  static constexpr std::string_view kReplacement = "\xef\xbf\xbd"; // U+FFFD
  std::string result;
  for_each_character(text, [&](std::string_view octets, std::optional<char32_t> code) {
    result += code && (*code < 0x20 || printable(*code)) ? octets : kReplacement;
  });
  return result;
}

std::size_t display_width(std::string_view text) noexcept {
  std::size_t width = 0;
  for_each_character(text, [&](std::string_view, std::optional<char32_t> code) {
    width += !code ? 1u : in(kCombining, *code) ? 0u : in(kWide, *code) ? 2u : 1u;
  });
  return width;
}

std::string fixed(double value, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string toned(std::string_view text, Tone tone) {
  static constexpr std::array<std::string_view, 5> kEscapes = {"", "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m"};
  const auto escape = kEscapes[static_cast<std::size_t>(tone)];
  if (escape.empty()) return std::string(text);
  return std::string(escape) + std::string(text) + "\x1b[0m";
}

std::string_view clipped(std::string_view line, std::size_t columns) noexcept {
  std::size_t end = 0, taken = 0;
  while (end < line.size()) {
    std::size_t next = end + 1;
    while (next < line.size() && (static_cast<unsigned char>(line[next]) & 0xc0) == 0x80) ++next;
    taken += display_width(line.substr(end, next - end));
    if (taken > columns) break;
    end = next;
  }
  return line.substr(0, end);
}

void Table::add(std::vector<std::string> cells, Tone tone) {
  assert(cells.size() == columns_.size());
  rows_.push_back({std::move(cells), tone});
}

std::string Table::text(bool colours, std::size_t most_columns) const {
  Row titles{{}, Tone::Faint};
  std::vector<std::size_t> widths;
  for (const auto& column : columns_) titles.cells.push_back(column.title);
  for (const auto& title : titles.cells) widths.push_back(display_width(title));
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], display_width(row.cells[i]));

  std::string text;
  const auto add_line = [&](const Row& row) {
    std::string line;
    std::size_t gap = 0; // owed before the next cell; an empty end owes nothing
    for (std::size_t i = 0; i < row.cells.size(); ++i) {
      const auto& cell = row.cells[i];
      const std::size_t padding = widths[i] - display_width(cell);
      const bool right = columns_[i].align == Align::Right;
      if (!cell.empty()) {
        line.append(gap + (right ? padding : 0), ' ');
        line += cell;
        gap = 0;
      }
      gap += cell.empty() ? widths[i] : right ? 0 : padding;
      gap += 2;
    }
    const auto shown = clipped(line, most_columns);
    text += colours ? toned(shown, row.tone) : std::string(shown);
    text += '\n';
  };
  add_line(titles);
  for (const auto& row : rows_) add_line(row);
  return text;
}

} // namespace sipward::daemon
