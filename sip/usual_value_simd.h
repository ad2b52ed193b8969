// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "sip/lanes.h"
#include "sip/message.h"
#include "sip/values.h"

namespace sipward::sip {
namespace {

// Values of up to 64 octets as nearly everybody writes them, without a loop but over parameters: all sets are bitmaps
// in registers, relative to the value's beginning (an address has 63 octets at most). False: there is something else in
// it, and ValueReader has to look.
class UsualValue {
public:
  UsualValue(const char* data, std::size_t readable, Span value) noexcept
      : text_(data + value.begin), size_(value.size()), room_(readable - value.begin), origin_(value.begin * 0x1'0001u),
        block_(Block::first(data, value.begin, readable, value.size())) {}

  // "name" <sip:user@host>;tag=x, with or without the name, the brackets, the user, a port and parameters.
  [[gnu::always_inline]] bool address(const Party& out) const noexcept {
    std::uint64_t quotes = block_.equal('"');
    const std::uint64_t semicolons = block_.equal(';');
    std::uint64_t behind = ~0ull; // the octets behind the quoted name
    if ((quotes & 1) != 0) [[likely]] {
      quotes = _blsr_u64(quotes);
      if (quotes == 0 || block_.equal('\\') != 0) [[unlikely]]
        return false;
      const std::size_t close = _tzcnt_u64(quotes);
      out.display = place(1, close);
      behind = from(close + 1);
      quotes = _blsr_u64(quotes);
    }
    const std::uint64_t open = block_.equal('<') & behind;
    const std::size_t bracket = _tzcnt_u64(open);
    if (quotes != 0 || (_bzhi_u64(semicolons & behind, static_cast<std::uint32_t>(bracket)) != 0 && open != 0))
      return false;
    const std::uint64_t spaces = block_.spaces(), commas = block_.equal(','), ends = spaces | semicolons | commas;
    std::size_t uri = 0, stop = 0;
    std::uint64_t parameters;
    if (open != 0) [[likely]] {
      if ((behind & 1) != 0 && bracket != 0) { // a name without quotes
        if (bracket < 2 || (spaces >> (bracket - 2) & 3) != 2) [[unlikely]]
          return false;
        out.display = place(0, bracket - 1);
      }
      const std::uint64_t close = block_.equal('>') & ~_blsmsk_u64(open);
      if (close == 0) [[unlikely]]
        return false;
      uri = bracket + 1;
      stop = _tzcnt_u64(close);
      parameters = semicolons & from(stop + 1);
    } else {
      if ((behind & 1) == 0) [[unlikely]]
        return false;
      stop = std::min<std::size_t>(_tzcnt_u64(ends), size_);
      parameters = semicolons & from(stop);
    }
    std::uint32_t scheme;
    if (uri + 4 >= stop || uri + 4 > room_) [[unlikely]]
      return false;
    std::memcpy(&scheme, text_ + uri, sizeof scheme);
    if ((scheme & 0xffdfdfdf) != 0x3a504953) [[unlikely]]
      return false; // "SIP:"
    const std::size_t rest = uri + 4;
    const std::uint64_t colons = block_.equal(':') & from(rest), ats = block_.equal('@') & from(rest);
    const std::size_t at = _tzcnt_u64(ats);
    std::size_t host = rest;
    if (at < stop) [[likely]] {
      out.user = place(rest, std::min<std::size_t>(_tzcnt_u64(colons), at));
      host = at + 1;
    }
    if (host >= stop || text_[host] == '[') [[unlikely]]
      return false;
    const std::uint64_t host_ends = (colons | spaces | semicolons | block_.equal('?') | block_.equal('>')) & from(host);
    out.host = place(host, std::min<std::size_t>(_tzcnt_u64(host_ends), stop));
    if (parameters == 0) return true;
    return (commas & from(stop)) == 0 && read_tag(parameters, ends, out.tag);
  }

  // SIP/2.0/UDP host:port;branch=x;rport
  [[gnu::always_inline]] bool via(const ViaParts& out) const noexcept {
    const std::uint64_t spaces = block_.spaces();
    std::uint64_t semicolons = block_.equal(';');
    const std::size_t space = _tzcnt_u64(spaces), sent_by = space + 1;
    const std::size_t stop = std::min<std::size_t>(_tzcnt_u64(semicolons), size_);
    std::uint64_t head;
    if (room_ < 8 || _mm_popcnt_u64(semicolons) > kFreeParams) [[unlikely]]
      return false;
    std::memcpy(&head, text_, sizeof head);
    if ((head & 0xffff'ffff'ffdf'dfdf) != 0x2f30'2e32'2f50'4953 || space <= 8) [[unlikely]]
      return false; // "SIP/2.0/"
    if (_blsr_u64(spaces) != 0 || sent_by >= stop || (block_.equal('"') | block_.equal(',')) != 0) [[unlikely]]
      return false;
    out.transport = place(8, space);
    out.sent_by = place(sent_by, stop);
    while (semicolons != 0) {
      const std::size_t name = _tzcnt_u64(semicolons) + 1;
      semicolons = _blsr_u64(semicolons);
      const std::size_t end = std::min<std::size_t>(_tzcnt_u64(semicolons), size_);
      std::uint64_t octets;
      if (name + 8 > room_ || name >= end) [[unlikely]]
        return false;
      std::memcpy(&octets, text_ + name, sizeof octets);
      octets &= 0xdfdf'dfdf'dfdf'dfdf;
      const auto take = [&](Span& out_part, std::size_t value) { // `value`: where the name ends
        if (value < end && text_[value] != '=') return;
        if (!out_part.present()) out_part = place(std::min(value + 1, end), end);
      };
      if ((octets & 0x0000'ffff'ffff'ffff) == 0x0000'4843'4e41'5242) // "BRANCH"
        take(out.branch, name + 6);
      else if ((octets & 0x0000'00ff'ffff'ffff) == 0x0000'0054'524f'5052) // "RPORT"
        take(out.rport, name + 5);
      else if (octets == 0x4445'5649'4543'4552) // "RECEIVED"
        take(out.received, name + 8);
    }
    return true;
  }

private:
  static std::uint64_t from(std::size_t i) noexcept { return ~0ull << i; } // i < 64
  Span place(std::size_t begin, std::size_t end) const noexcept {
    return std::bit_cast<Span>(static_cast<std::uint32_t>(begin | end << 16) + origin_);
  }
  [[gnu::always_inline]] bool read_tag(std::uint64_t parameters, std::uint64_t ends, Span& tag) const noexcept {
    if (_mm_popcnt_u64(parameters) > kFreeParams) [[unlikely]]
      return false;
    for (; parameters != 0; parameters = _blsr_u64(parameters)) {
      const std::size_t name = _tzcnt_u64(parameters) + 1;
      std::uint32_t octets;
      if (name + 4 > room_ || name >= size_) [[unlikely]]
        return false;
      std::memcpy(&octets, text_ + name, sizeof octets);
      if ((octets & 0xffdfdfdf) == 0x3d474154) [[likely]] { // "TAG="
        const std::size_t value = name + 4;
        if (value >= size_ || text_[value] == '"' || is_white(text_[value])) [[unlikely]]
          return false;
        tag = place(value, std::min<std::size_t>(_tzcnt_u64(ends & from(value)), size_));
        return true;
      }
      if ((octets & 0xdf) == 'T' || is_white(static_cast<char>(octets))) [[unlikely]]
        return false;
    }
    return true;
  }

  const char* text_;
  std::size_t size_, room_;
  std::uint32_t origin_; // where the value begins, in both halves of a Span
  Block block_;
};

} // namespace
} // namespace sipward::sip
