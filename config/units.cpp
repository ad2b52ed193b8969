// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/units.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

namespace sipward::config {
namespace {

template<class Number>
struct Unit {
  std::string_view name;
  Number worth;
};
using TimeUnit = Unit<std::int64_t>;  // seconds
using SizeUnit = Unit<std::uint64_t>; // octets

constexpr std::int64_t kMinute = 60, kHour = 3600, kDay = 86400, kWeek = 604800;
constexpr TimeUnit kTimeUnits[] = {
    {"s", 1},         {"sec", 1},          {"second", 1},        {"seconds", 1}, {"m", kMinute},
    {"min", kMinute}, {"minute", kMinute}, {"minutes", kMinute}, {"h", kHour},   {"hour", kHour},
    {"hours", kHour}, {"d", kDay},         {"day", kDay},        {"days", kDay}, {"w", kWeek},
    {"week", kWeek},  {"weeks", kWeek},
};
// The large before the small: the first that divides is the one to print.
constexpr SizeUnit kSizeUnits[] = {
    {"TiB", std::uint64_t{1} << 40},
    {"TB", 1'000'000'000'000},
    {"GiB", std::uint64_t{1} << 30},
    {"GB", 1'000'000'000},
    {"MiB", std::uint64_t{1} << 20},
    {"MB", 1'000'000},
    {"KiB", 1024},
    {"kB", 1000},
    {"KB", 1000},
    {"B", 1},
};

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

void skip_blanks(std::string_view& text) { text.remove_prefix(std::min(text.find_first_not_of(' '), text.size())); }

// Takes a number without a sign from the front of `text`.
template<class Number>
std::optional<Number> take_number(std::string_view& text) {
  Number number{};
  if (text.empty() || !is_digit(text.front())) return std::nullopt;
  const auto [end, error] = [&] {
    if constexpr (std::is_floating_point_v<Number>)
      return std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    else
      return std::from_chars(text.data(), text.data() + text.size(), number);
  }();
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

std::string_view take_word(std::string_view& text) {
  const auto end = std::ranges::find_if_not(text, is_letter);
  const auto word = text.substr(0, static_cast<std::size_t>(end - text.begin()));
  text.remove_prefix(word.size());
  return word;
}

template<class Number, std::size_t N>
std::optional<Number> take_unit(std::string_view& text, const Unit<Number> (&units)[N]) {
  skip_blanks(text);
  const auto word = take_word(text);
  const auto* unit = std::ranges::find(units, word, &Unit<Number>::name);
  if (unit == std::end(units)) return std::nullopt;
  return unit->worth;
}

} // namespace

std::optional<std::chrono::seconds> parse_duration(std::string_view text) {
  constexpr std::int64_t kMost = 1'000'000'000; // of any unit: no sum of five overflows
  std::int64_t total_s = 0;
  std::int64_t last_unit_s = std::numeric_limits<std::int64_t>::max();
  do {
    const auto number = take_number<std::int64_t>(text);
    const auto unit_s = take_unit(text, kTimeUnits);
    if (!number || *number > kMost || !unit_s || *unit_s >= last_unit_s) return std::nullopt;
    total_s += *number * *unit_s;
    last_unit_s = *unit_s;
    skip_blanks(text);
  } while (!text.empty());
  return std::chrono::seconds(total_s);
}

// A single day stays 24h, as people say it; longer ones are days.
std::string duration_text(std::chrono::seconds duration) {
  std::string text;
  auto left_s = duration.count();
  const auto take = [&](std::int64_t unit_s, char name) {
    if (left_s >= unit_s) text += std::to_string(left_s / unit_s) + name;
    left_s %= unit_s;
  };
  if (left_s >= 2 * kDay) take(kDay, 'd');
  take(kHour, 'h');
  take(kMinute, 'm');
  take(1, 's');
  return text.empty() ? "0s" : text;
}

std::optional<double> parse_rate(std::string_view text) {
  const auto count = take_number<double>(text);
  skip_blanks(text);
  if (!count) return std::nullopt;
  if (text.starts_with('/'))
    text.remove_prefix(1);
  else if (take_word(text) != "per")
    return std::nullopt;
  skip_blanks(text);
  std::int64_t periods = 1;
  if (!text.empty() && is_digit(text.front())) {
    const auto number = take_number<std::int64_t>(text);
    if (!number || *number == 0) return std::nullopt;
    periods = *number;
  }
  const auto unit_s = take_unit(text, kTimeUnits);
  if (!unit_s || !text.empty()) return std::nullopt;
  return *count / (static_cast<double>(periods) * static_cast<double>(*unit_s));
}

// In the unit that makes it a whole number, if that is read back as the very same value; else per second, to the last
// digit.
std::string rate_text(double per_second) {
  constexpr std::pair<std::string_view, std::int64_t> kPeriods[] = {{"/s", 1}, {"/min", kMinute}, {"/h", kHour}};
  for (const auto& [suffix, period_s] : kPeriods) {
    const double count = std::round(per_second * static_cast<double>(period_s));
    if (count >= 1 && count < 1e9 && count / static_cast<double>(period_s) == per_second)
      return std::to_string(static_cast<std::int64_t>(count)) + std::string(suffix);
  }
  std::array<char, 512> digits{}; // fixed notation of any double fits
  const auto end =
      std::to_chars(digits.data(), digits.data() + digits.size(), per_second, std::chars_format::fixed).ptr;
  return std::string(digits.data(), end) + "/s";
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const auto number = take_number<std::uint64_t>(text);
  const auto unit = take_unit(text, kSizeUnits);
  if (!number || !unit || !text.empty() || *number > std::numeric_limits<std::uint64_t>::max() / *unit)
    return std::nullopt;
  return *number * *unit;
}

std::string size_text(std::uint64_t octets) {
  const auto* unit =
      std::ranges::find_if(kSizeUnits, [&](const auto& u) { return octets >= u.worth && octets % u.worth == 0; });
  if (unit == std::end(kSizeUnits)) return "0 B";
  return std::to_string(octets / unit->worth) + " " + std::string(unit->name);
}

} // namespace sipward::config
