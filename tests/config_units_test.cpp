// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/units.h"

#include <catch2/catch.hpp>

#include <random>

using namespace sipward::config;
using std::chrono::hours, std::chrono::minutes, std::chrono::seconds;

TEST_CASE("durations are what people write, and nothing else") {
  struct {
    const char* text;
    std::int64_t expected_s;
  } const kGood[] = {{"0s", 0},        {"5m", 300},    {"90s", 90},        {"1h30m", 5400},      {"2h", 7200},
                     {"14d", 1209600}, {"1w", 604800}, {"1h 30min", 5400}, {"2 weeks", 1209600}, {"1d2h3m4s", 93784}};
  for (const auto& row : kGood) {
    INFO(row.text);
    CHECK(parse_duration(row.text) == seconds(row.expected_s));
  }
  for (const char* bad : {"", " ", "5", "m", "5 parsecs", "500ms", "-5m", "+5m", "1.5h", "30m1h", "5m5m", "5M", "5m,",
                          "5m x", " 5m", "99999999999999999999s", "1000000001s", "0x5s"}) {
    INFO(bad);
    CHECK_FALSE(parse_duration(bad));
  }
}

TEST_CASE("rates are what people write, and nothing else") {
  struct {
    const char* text;
    double per_second;
  } const kGood[] = {{"10/s", 10},
                     {"600/min", 10},
                     {"50 per 10s", 5},
                     {"5/10s", 0.5},
                     {"0.5/s", 0.5},
                     {"10 / s", 10},
                     {"7200/h", 2},
                     {"6 per hour", 6.0 / 3600},
                     {"4 per 300 seconds", 4.0 / 300}};
  for (const auto& row : kGood) {
    INFO(row.text);
    CHECK(parse_rate(row.text) == row.per_second);
  }
  for (const char* bad : {"", "10", "/s", "10/", "10 s", "10/0s", "10 per", "10 each s", "-10/s", "10/s/s", "10/s 5",
                          "inf/s", "nan/s", "1e3/s", "10/ms"}) {
    INFO(bad);
    CHECK_FALSE(parse_rate(bad));
  }
}

TEST_CASE("sizes are what people write, and nothing else") {
  struct {
    const char* text;
    std::uint64_t octets;
  } const kGood[] = {{"256 MiB", 268435456},  {"1 GiB", 1073741824}, {"64MB", 64'000'000},
                     {"1TiB", 1099511627776}, {"4096 B", 4096},      {"2kB", 2000}};
  for (const auto& row : kGood) {
    INFO(row.text);
    CHECK(parse_size(row.text) == row.octets);
  }
  for (const char* bad : {"", "256", "MiB", "256 M", "256 mib", "256 MiB x", "-1 MiB", "1.5 GiB",
                          "18446744073709551615 TiB", "99999999999999999999 B"}) {
    INFO(bad);
    CHECK_FALSE(parse_size(bad));
  }
}

TEST_CASE("what is printed in units is read as the same value") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const seconds duration(static_cast<std::int64_t>(random() >> (34 + random() % 30)));
    CHECK(parse_duration(duration_text(duration)) == duration);
    const std::uint64_t octets = random() >> (random() % 64);
    CHECK(parse_size(size_text(octets)) == octets);
    const double rate = static_cast<double>(1 + random() % 10'000) / static_cast<double>(1 + random() % 4000);
    CHECK(parse_rate(rate_text(rate)) == rate);
  }
  CHECK(duration_text(hours(24)) == "24h");
  CHECK(duration_text(hours(24 * 14)) == "14d");
  CHECK(duration_text(minutes(90)) == "1h30m");
  CHECK(rate_text(10) == "10/s");
  CHECK(rate_text(10.0 / 60) == "10/min");
  CHECK(size_text(64'000'000) == "64 MB");
  CHECK(size_text(std::uint64_t{1} << 30) == "1 GiB");
}
