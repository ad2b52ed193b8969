// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// Durations, rates and sizes as people write them. Every *_text() is read back as the same
// value. A number without a unit is nothing: 300 could be seconds or milliseconds, and guessing wrong blocks customers.
namespace sipward::config {

// "0s", "5m", "90 s", "1h30m", "14d", "2 weeks": whole numbers, the largest unit first, each unit once.
std::optional<std::chrono::seconds> parse_duration(std::string_view text);
std::string duration_text(std::chrono::seconds duration);

// Per second, of "10/s", "600/min", "0.5/s", "5/10s", "50 per 10s", "6 per hour".
std::optional<double> parse_rate(std::string_view text);
std::string rate_text(double per_second);

// Octets, of "256 MiB" (2^20 each), "64MB" (10^6 each), "4096 B".
std::optional<std::uint64_t> parse_size(std::string_view text);
std::string size_text(std::uint64_t octets);

} // namespace sipward::config
