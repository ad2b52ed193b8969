// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/time.h"

// How the daemon, its commands and replay write things down for people and for logs. Pure functions; any thread.
namespace sipward::daemon {

policy::Time monotonic_now(); // the daemon's clock, CLOCK_MONOTONIC

// A point on the wall clock: nanoseconds since 1970-01-01T00:00:00Z, leap seconds left out.
using WallTime = std::chrono::sys_time<std::chrono::nanoseconds>;

// From policy's time to the wall clock's.
struct WallClock {
  std::chrono::nanoseconds offset{0}; // 0: policy's time is Unix time already, as in a replay

  static WallClock now(); // for times of monotonic_now(), by what both clocks say at this moment
  WallTime at(policy::Time time) const noexcept { return WallTime(time.time_since_epoch() + offset); }
  policy::Time when(WallTime time) const noexcept { return policy::Time(time.time_since_epoch() - offset); }
};

std::string rfc3339(WallTime time); // "2026-11-22T01:02:03.123456Z": UTC, microseconds (RFC 3339)
// A time in exactly that form, years 1970 to 2261; nothing for any other text, or a day or hour that does not exist.
std::optional<WallTime> parse_rfc3339(std::string_view text);

// "90s", "5m", "1h30m", "24h", "3d2h", "2.5s", "350ms", "20us": whole seconds from ten seconds on, the rest is cut off.
std::string human_duration(std::chrono::nanoseconds duration);
std::string human_octets(std::uint64_t octets); // "512 B", "1.3 MiB"

// Text from the network, in double quotes. Quotes and backslashes get a backslash; whatever could end a line, move a
// cursor or turn the direction of the text (control and format characters) and octets that are no UTF-8 become \xNN.
std::string in_quotes(std::string_view text);
// The same without quotes where none are needed: one word of visible ASCII, without '=', '"' and '\'.
std::string word(std::string_view text);
// The text as valid UTF-8, for JSON. U+FFFD stands for each octet that is none, and for each character that JSON does
// not escape and in_quotes() does.
std::string utf8(std::string_view text);

std::size_t display_width(std::string_view text) noexcept; // columns on a terminal; valid UTF-8

std::string fixed(double value, int digits); // "12.3": so many digits behind the point

enum class Align : std::uint8_t { Left, Right };

// How a row of a table is coloured, where colours are wanted.
enum class Tone : std::uint8_t {
  Plain,
  Good,     // green
  Doubtful, // yellow
  Bad,      // red
  Faint,
};
std::string toned(std::string_view text, Tone tone); // with the terminal's escapes for it

// The beginning of a line, as much as fits into so many columns of a terminal. Valid UTF-8 without escapes.
std::string_view clipped(std::string_view line, std::size_t columns) noexcept;

// A table for people: columns as wide as their widest cell, two spaces apart, no space at the end of a line.
class Table {
public:
  struct Column {
    std::string title;
    Align align = Align::Left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<std::string> cells, Tone tone = Tone::Plain); // as many as there are columns; safe to print
  // The titles, then the rows, each with its line end and at most so wide.
  std::string text(bool colours = false, std::size_t most_columns = SIZE_MAX) const;

private:
  struct Row {
    std::vector<std::string> cells;
    Tone tone;
  };
  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

} // namespace sipward::daemon
