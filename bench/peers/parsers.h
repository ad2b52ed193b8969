// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

// What the parser is measured beside: SIP libraries, and the least that any reader of the same octets must do.
namespace sipward::bench::peers {

struct Answer {
  std::string method, user, call_id;
};

struct Parser {
  const char* name;
  Answer (*read)(std::string_view datagram);
  std::uint64_t (*time)(std::string_view datagram); // parse and free, nothing more
};
std::span<const Parser> parsers();

// The sum of the octets, 32 at a time: as fast as this machine reads memory.
std::uint64_t read_avx2(std::string_view datagram);

// A memchr for each line up to the empty one, as header parsers of the line-by-line kind do: the number of lines.
std::uint64_t lines(std::string_view datagram);
std::uint64_t lines_plain(std::string_view datagram); // the same, octet by octet, to check against

} // namespace sipward::bench::peers
