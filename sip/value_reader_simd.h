// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <array>
#include <bit>
#include <cstring>

#include "sip/lanes.h"
#include "sip/message.h"
#include "sip/text.h"
#include "sip/values.h"

// The parts of a header's value, found as values.cpp finds them, but 64 octets at a time: whole sets of octets are
// looked for at once, and what varies between phones (lengths, mostly) moves no branch. For files compiled for AVX2 and
// BMI only.
namespace sipward::sip {
namespace {

// Sets of octets.
struct Spaces {
  static std::uint64_t in(const Block& b) noexcept { return b.spaces(); }
};
struct Ink { // whatever is no white space
  static std::uint64_t in(const Block& b) noexcept { return ~b.spaces(); }
};
template<char... C>
struct Any {
  static std::uint64_t in(const Block& b) noexcept { return (b.equal(C) | ...); }
};
template<char... C>
struct SpacesOr {
  static std::uint64_t in(const Block& b) noexcept { return (b.spaces() | ... | b.equal(C)); }
};
using ParamEnd = SpacesOr<';', ','>;
using NameEnd = SpacesOr<';', ',', '='>;
using HostEnd = SpacesOr<':', ';', '?', '>'>;

// The octets behind an odd number of backslashes. `carry`: the first octet is one, and afterwards: the next block's is.
inline std::uint64_t escaped(std::uint64_t backslashes, std::uint64_t& carry) noexcept {
  if ((backslashes | carry) == 0) [[likely]]
    return 0;
  constexpr std::uint64_t kEven = 0x5555'5555'5555'5555;
  backslashes &= ~carry; // an escaped one escapes nothing
  const std::uint64_t behind = backslashes << 1 | carry;
  // Adding a run to its start moves a bit behind its end; whether that place is even or odd tells the run's length.
  const std::uint64_t odd_starts = backslashes & ~kEven & ~behind;
  unsigned long long sum;
  carry = _addcarry_u64(0, odd_starts, backslashes, &sum);
  return (kEven ^ sum << 1) & behind;
}

// From each set bit to before the next one, as between a quote and its closing one.
inline std::uint64_t between_pairs(std::uint64_t bits) noexcept {
  for (unsigned shift = 1; shift < 64; shift *= 2) bits ^= bits << shift;
  return bits;
}

// A value of any length: block after block, each time.
class ValueBits {
public:
  ValueBits(const char* data, std::size_t readable) noexcept : data_(data), readable_(readable) {}

  template<class Set>
  std::size_t find(std::size_t from, std::size_t end) const noexcept {
    for (; from < end; from += kBlock)
      if (const std::uint64_t bits = Set::in(block(from, end)); bits != 0) {
        const std::size_t at = from + _tzcnt_u64(bits);
        return at < end ? at : end;
      }
    return end;
  }
  std::size_t closing_quote(std::size_t from, std::size_t end) const noexcept {
    for (std::uint64_t carry = 0; from < end; from += kBlock) {
      const Block octets = block(from, end);
      const std::uint64_t quotes = octets.equal('"') & ~escaped(octets.equal('\\'), carry);
      if (quotes != 0) return from + _tzcnt_u64(quotes);
    }
    return end;
  }
  // The first octet c in [from, end) outside quotes, or end: then `quoted` tells whether a quote is still open.
  std::size_t find_unquoted(char c, std::size_t from, std::size_t end, bool& quoted) const noexcept {
    std::uint64_t carry = 0, inside = 0; // inside a quoted string: all ones
    for (; from < end; from += kBlock) {
      const Block octets = block(from, end);
      const std::uint64_t quotes = octets.equal('"') & ~escaped(octets.equal('\\'), carry);
      const std::uint64_t hidden = inside ^ between_pairs(quotes);
      if (const std::uint64_t bits = octets.equal(c) & ~hidden; bits != 0) return from + _tzcnt_u64(bits);
      inside = static_cast<std::uint64_t>(static_cast<std::int64_t>(hidden) >> 63);
    }
    quoted = inside != 0;
    return end;
  }
  // Calls see(place) for each delimiter in [from, end) outside quotes, until it says false. A comma, unless it
  // delimits, ends it as well.
  template<bool Commas, class See>
  [[gnu::always_inline]] void each_delimiter(std::size_t from, std::size_t end, See see) const noexcept {
    std::uint64_t carry = 0, inside = 0; // inside a quoted string: all ones
    for (; from < end; from += kBlock) {
      const Block octets = block(from, end);
      std::uint64_t quoted = inside;
      if (const std::uint64_t quotes = octets.equal('"') & ~escaped(octets.equal('\\'), carry); quotes != 0) {
        quoted ^= between_pairs(quotes);
        inside = static_cast<std::uint64_t>(static_cast<std::int64_t>(quoted) >> 63);
      }
      const std::uint64_t semicolons = octets.equal(';') & ~quoted, commas = octets.equal(',') & ~quoted;
      std::uint64_t bits = Commas ? semicolons | commas : commas != 0 ? semicolons & _blsmsk_u64(commas) : semicolons;
      for (; bits != 0; bits = _blsr_u64(bits))
        if (!see(from + _tzcnt_u64(bits))) return;
      if (!Commas && commas != 0) return;
    }
  }

private:
  Block block(std::size_t from, std::size_t end) const noexcept {
    return Block::first(data_, from, readable_, end - from < kBlock ? end - from : kBlock);
  }
  const char* data_;
  std::size_t readable_;
};

// Up to eight letters, to be compared at once in any case.
struct Letters {
  consteval explicit Letters(std::string_view lower) noexcept : size(lower.size()) {
    for (std::size_t i = 0; i < size; ++i) {
      const bool letter = text::is_alpha(lower[i]);
      pattern |= static_cast<std::uint64_t>(static_cast<unsigned char>(lower[i]) & (letter ? 0xdf : 0xff)) << (8 * i);
      mask |= (letter ? 0xdfull : 0xffull) << (8 * i);
    }
  }
  std::size_t size;
  std::uint64_t pattern = 0, mask = 0;
};

// Reads any value. Places are places in the datagram.
class ValueReader {
public:
  ValueReader(const char* data, std::size_t readable, Span value) noexcept
      : data_(data), readable_(readable), value_(value), bits_(data, readable) {}

  [[gnu::always_inline]] Address address() const noexcept {
    Address out;
    const std::size_t end = value_.end;
    bool quoted = false;
    const std::size_t open = bits_.find_unquoted('<', value_.begin, end, quoted);
    if (open == end) {
      if (quoted) return out.good = false, out.params = end, out;
      const std::size_t stop = bits_.find<ParamEnd>(value_.begin, end);
      const Uri uri = read_uri(value_.begin, stop);
      return out.user = uri.user, out.host = uri.host, out.params = stop, out;
    }
    if (data_[value_.begin] == '"')
      out.display = place(value_.begin + 1, bits_.closing_quote(value_.begin + 1, end));
    else if (const Span display = trimmed(value_.begin, open); !display.empty())
      out.display = display;
    const std::size_t close = bits_.find<Any<'>'>>(open, end);
    const Uri uri = read_uri(open + 1, close);
    out.user = uri.user;
    out.host = uri.host;
    out.good = close < end;
    out.params = close < end ? close + 1 : end;
    return out;
  }

  [[gnu::always_inline]] Span tag(std::size_t from, ParamLimit& limit) const noexcept {
    Span out;
    each_parameter<false>(from, value_.end, limit, [&](Octets name) {
      if (!named(name, Letters("tag"))) [[likely]]
        return true;
      out = param_value(name.at + 3);
      return false;
    });
    return out;
  }

  [[gnu::always_inline]] bool via(const ViaParts& out, ParamLimit& limit) const noexcept {
    const std::size_t end = value_.end;
    std::size_t i = value_.begin;
    if (starts(i, Letters("sip/2.0/"))) [[likely]] {
      i += 8;
    } else {
      const std::size_t slash = bits_.find<Any<'/'>>(i, end);
      const std::size_t slash2 = slash < end ? bits_.find<Any<'/'>>(slash + 1, end) : end;
      if (slash2 == end || !is(trimmed(i, slash), "sip") || !is(trimmed(slash + 1, slash2), "2.0")) return false;
      i = slash2 + 1;
    }
    i = skip_space(i, end);
    const std::size_t transport = i;
    i = bits_.find<ParamEnd>(i, end);
    out.transport = place(transport, i);
    const std::size_t sent_by_end = bits_.find<Any<';', ','>>(i, end);
    out.sent_by = trimmed(i, sent_by_end);
    bool good = !out.transport.empty() && !out.sent_by.empty();

    each_parameter<false>(sent_by_end, end, limit, [&](Octets name) {
      const auto letter = static_cast<char>(name.word);
      if (letter == ';' || letter == ',') [[unlikely]]
        good = false; // nothing between two separators
      else if (named(name, Letters("branch")))
        take(out.branch, name.at + 6);
      else if (named(name, Letters("rport")))
        take(out.rport, name.at + 5);
      else if (named(name, Letters("received")))
        take(out.received, name.at + 8);
      return true;
    });
    return good;
  }

  [[gnu::always_inline]] Digest digest(ParamLimit& limit) const noexcept {
    Digest out;
    out.value = value_;
    const auto read = [&](Octets name) {
      const auto letter = static_cast<char>(name.word | 0x20);
      if (letter == 'n') {
        if (named(name, Letters("nonce"))) take(out.nonce, name.at + 5);
      } else if (letter == 'r') {
        if (named(name, Letters("realm"))) take(out.realm, name.at + 5);
        if (named(name, Letters("response"))) take(out.response, name.at + 8);
      } else if (letter == 'u') {
        if (named(name, Letters("username"))) take(out.username, name.at + 8);
        if (named(name, Letters("uri"))) take(out.uri, name.at + 3);
      }
      return true;
    };
    const std::size_t scheme_end = bits_.find<Spaces>(value_.begin, value_.end);
    read(name_behind(scheme_end - 1));
    each_parameter<true>(scheme_end, value_.end, limit, read);
    return out;
  }

private:
  static Span place(std::size_t begin, std::size_t end) noexcept { return span_at(begin, end); }
  std::size_t skip_space(std::size_t i, std::size_t end) const noexcept {
    if (i >= end || !is_white(data_[i])) [[likely]]
      return i;
    if (i + 1 < end && !is_white(data_[i + 1])) [[likely]]
      return i + 1;
    return bits_.find<Ink>(i, end);
  }
  Span trimmed(std::size_t begin, std::size_t end) const noexcept {
    begin = skip_space(begin, end);
    while (end > begin && is_white(data_[end - 1])) --end;
    return place(begin, end);
  }
  static std::string_view text_of(const char* data, Span span) noexcept { return {data + span.begin, span.size()}; }
  bool is(Span span, std::string_view lower) const noexcept {
    if (span.size() != lower.size()) return false;
    for (std::size_t i = 0; i < lower.size(); ++i) {
      const char c = data_[span.begin + i];
      if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c) != lower[i]) return false;
    }
    return true;
  }

  // Eight octets of the value, or fewer and zeroes behind them.
  struct Octets {
    std::size_t at;
    std::uint64_t word;
  };
  [[gnu::always_inline]] Octets octets_at(std::size_t i) const noexcept {
    if (i >= value_.end) [[unlikely]]
      return {i, 0};
    const std::size_t over = i + 8 > readable_ ? i + 8 - readable_ : 0, size = value_.end - i;
    std::uint64_t word;
    std::memcpy(&word, data_ + i - over, sizeof word);
    word >>= 8 * over;
    if (size < 8) [[unlikely]]
      word = _bzhi_u64(word, static_cast<std::uint32_t>(8 * size));
    return {i, word};
  }
  // Those of the name that follows the delimiter.
  [[gnu::always_inline]] Octets name_behind(std::size_t delimiter) const noexcept {
    const Octets octets = octets_at(delimiter + 1);
    if (static_cast<unsigned char>(octets.word) > ' ') [[likely]]
      return octets;
    return octets_at(skip_space(delimiter + 1, value_.end));
  }
  // Calls see(the octets of its name) for each parameter in [from, end), until it says false.
  template<bool Commas, class See>
  [[gnu::always_inline]] void each_parameter(std::size_t from, std::size_t end, ParamLimit& limit,
                                             See see) const noexcept {
    const int most = limit.of_value();
    int seen = 0;
    bits_.each_delimiter<Commas>(from, end, [&](std::size_t at) {
      if (seen == most) return limit.exceeded = true, false;
      ++seen;
      return see(name_behind(at));
    });
    limit.count(seen);
  }
  [[gnu::always_inline]] static bool match(std::uint64_t octets, Letters word) noexcept {
    return ((octets ^ word.pattern) & word.mask) == 0;
  }
  // Does this word stand at i?
  [[gnu::always_inline]] bool starts(std::size_t i, Letters word) const noexcept {
    return match(octets_at(i).word, word);
  }
  // Is it the whole name of the parameter that begins so?
  [[gnu::always_inline]] bool named(Octets octets, Letters word) const noexcept {
    if (!match(octets.word, word)) [[likely]]
      return false;
    const std::size_t next = octets.at + word.size;
    return next == value_.end || data_[next] == '=' || data_[next] == ';' || data_[next] == ',' ||
           is_white(data_[next]);
  }
  // The first parameter of a name counts, which ends at i.
  [[gnu::always_inline]] void take(Span& out, std::size_t i) const noexcept {
    if (!out.present()) out = param_value(i);
  }
  // What stands behind the `=` that follows a name ending at i; empty at i if there is none.
  [[gnu::always_inline]] Span param_value(std::size_t i) const noexcept {
    const std::size_t end = value_.end, equals = skip_space(i, end);
    if (equals >= end || data_[equals] != '=') return place(i, i);
    const std::size_t begin = skip_space(equals + 1, end);
    if (begin < end && data_[begin] == '"') return place(begin + 1, bits_.closing_quote(begin + 1, end));
    return place(begin, bits_.find<ParamEnd>(begin, end));
  }

  [[gnu::always_inline]] Uri read_uri(std::size_t begin, std::size_t end) const noexcept {
    begin = skip_space(begin, end);
    const std::size_t colon = bits_.find<Any<':'>>(begin, end);
    if (colon == end) return {};
    const std::size_t rest = colon + 1;
    const Span scheme = place(begin, colon);
    if (!(colon - begin == 3 && starts(begin, Letters("sip"))) && !is(scheme, "sips")) {
      if (!is(scheme, "tel")) return {};
      return {place(rest, bits_.find<Any<';', '?'>>(rest, end)), {}};
    }
    Uri out;
    std::size_t host = rest;
    const std::size_t at = bits_.find<Any<'@'>>(rest, end);
    if (at < end) {
      out.user = place(rest, bits_.find<Any<':'>>(rest, at));
      host = at + 1;
    }
    if (host < end && data_[host] == '[')
      out.host = place(host + 1, bits_.find<Any<']'>>(host + 1, end));
    else
      out.host = place(host, bits_.find<HostEnd>(host, end));
    return out;
  }

  const char* data_;
  std::size_t readable_;
  Span value_;
  ValueBits bits_;
};

} // namespace
} // namespace sipward::sip
