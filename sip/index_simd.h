// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstring>
#include <utility>

#include "sip/header_names.h"
#include "sip/kinds_simd.h"
#include "sip/lanes.h"
#include "sip/name_table.h"
#include "sip/start_line.h"
#include "sip/start_line_simd.h"

// The index in two strides, without a branch that depends on the order of the headers:
//   1. 64 octets at a time, up to the empty line: where headers begin (an octet above the space behind an LF) and where
//      their first colons stand, as bitmaps, whose set bits are written out as places.
//   2. Each header: its name by a perfect hash.
// Folded lines and bare LFs cost nothing; headers without a colon, spaces before one, and names beyond 15 octets are
// looked at by themselves.
//
// Compiled for AVX2 and BMI. Nothing here may be an inline function that another translation unit uses too: the linker
// might keep this one's copy.
namespace sipward::sip {
namespace {

// Where a datagram may be read, and how far it is looked at.
struct Extent {
  const char* data;
  std::size_t size;     // of the datagram
  std::size_t readable; // at least kBlock, and at least size
  std::size_t limit;    // where looking for headers ends; at most size
};

struct Found {
  std::size_t places;   // without the empty line's
  std::size_t headers;  // begun, at most kMaxHeaders + some
  std::size_t first_lf; // the start line's; == limit if there is none
  std::size_t body;     // where it begins; 0: no empty line was found
  bool blank;           // one was found
};

// Index::places as the first stride leaves it: one behind the other, as they stand in the datagram, and last the empty
// line's. Usually a header's begin and its colon take turns, and then this is all right.
//
//   Via: ...\r\nFrom: ...\r\n\r\n
//   |  |       |   |       |
//   0  1       2   3       4
inline std::uint16_t* first_place(Index& out) noexcept { return &out.places[1].begin; }
// The block with the header beyond kMaxHeaders is the last one looked at.
static_assert(sizeof(Index::places) >= (2 * (kMaxHeaders + 1) + kBlock) * sizeof(std::uint16_t));

// What ends the search for a header's colon: Colon, wherever it is; Line, the end of its first line too. With Line each
// header has two places, whatever is in it, but the second one has to be looked at.
enum class Stop { Colon, Line };

// The first stride, block by block.
template<Stop kStop>
class Finder {
public:
  Finder(const Extent& extent, Index& out) noexcept
      : data_(extent.data), limit_(extent.limit), places_(first_place(out)), next_(places_) {}

  // Nothing of note stands at octet 0; so each octet looked at has one before it.
  [[gnu::always_inline]] Found find() noexcept {
    std::size_t at = 1;
    for (; at + kBlock <= limit_; at += kBlock)
      if (step(Block::whole(data_ + at - 1), Block::whole(data_ + at), at)) return result();
    const std::size_t readable = limit_ < kBlock ? kBlock : limit_;
    if (at < limit_)
      step(Block::first(data_, at - 1, readable, limit_ - at), Block::first(data_, at, readable, limit_ - at), at);
    return result();
  }

private:
  // True: there is no need to go on.
  [[gnu::always_inline]] bool step(const Block& before, const Block& octets, std::size_t at) noexcept {
    std::uint64_t begins, odd; // odd: an empty line, or one that continues the one before
    find_lines(before, octets, begins, odd);
    if (odd != 0) [[unlikely]]
      begins &= ~odd;
    // Adding a bit where a header begins (with Line: behind that) carries it over whatever is no stop, to the first
    // one.
    std::uint64_t others = octets.not_equal(':'), open = begins;
    if constexpr (kStop == Stop::Line) {
      others &= octets.not_equal('\n');
      open <<= 1;
    }
    open |= open_;
    const std::uint64_t sum = open + others, places = begins | (sum & ~others);
    open_ = sum < open;
    if constexpr (kStop == Stop::Line) open_ |= begins >> 63;
    if (odd != 0) [[unlikely]] {
      const std::uint64_t ends = odd & (octets.equal('\r') | octets.equal('\n'));
      folded_ |= ends != odd;
      for (std::uint64_t rest = ends; rest != 0; rest = _blsr_u64(rest)) {
        const std::size_t line = at + _tzcnt_u64(rest);
        const bool cr = data_[line] == '\r';
        if (cr && line + 1 < limit_ && data_[line + 1] != '\n') {
          folded_ = true;
          continue;
        }
        const std::uint64_t above = _blsmsk_u64(rest); // in front of it
        add(begins & above, places & above, at);
        *next_ = static_cast<std::uint16_t>(line);
        body_ = line + 1 + (cr && line + 1 < limit_);
        return blank_ = true;
      }
    }
    add(begins, places, at);
    return headers_ > kMaxHeaders;
  }
  [[gnu::always_inline]] void add(std::uint64_t begins, std::uint64_t places, std::size_t at) noexcept {
    headers_ += static_cast<std::size_t>(_mm_popcnt_u64(begins));
    next_ = append(writer_, next_, places, at);
  }

  [[gnu::always_inline]] Found result() noexcept {
    if (kStop == Stop::Line && !blank_ && open_ != 0) *next_++ = static_cast<std::uint16_t>(limit_);
    Found found{static_cast<std::size_t>(next_ - places_), headers_, limit_, body_, blank_};
    if ((headers_ > 0 || blank_) && !folded_) [[likely]] { // nothing stands between the start line and these
      found.first_lf = places_[0] - 1u;
    } else if (const void* lf = std::memchr(data_, '\n', limit_)) {
      found.first_lf = static_cast<std::size_t>(static_cast<const char*>(lf) - data_);
    }
    return found;
  }

  const char* const data_;
  const std::size_t limit_;
  std::uint16_t *const places_, *next_;
  PlaceWriter writer_;
  std::size_t body_ = 0;
  std::size_t headers_ = 0;
  std::uint64_t open_ = 0; // 1: a header has begun, and its stop is still to come
  bool blank_ = false, folded_ = false;
};

// The kind of the header whose name is [begin, end), end >= 16; of names longer than kWholeName it may be wrong.
// `lows` becomes negative where it ends with white space or a control character.
[[gnu::always_inline]] inline std::size_t look_up(const char* data, std::size_t begin, std::size_t end,
                                                  std::int32_t& lows) noexcept {
  std::uint16_t octets_2;
  std::memcpy(&octets_2, data + end - 2, sizeof octets_2);
  const std::uint32_t last_two = octets_2;
  lows |= static_cast<std::int32_t>(last_two - ((' ' + 1) << 8));
  const NameSlot& slot =
      kNameTable.slots[name_slot(name_key(last_two, static_cast<std::uint32_t>(end - begin)), kNameMultiplier)];
  const __m128i octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + end - 16));
  const __m128i pattern = _mm_load_si128(reinterpret_cast<const __m128i*>(slot.pattern));
  const __m128i mask = _mm_load_si128(reinterpret_cast<const __m128i*>(slot.mask));
  const auto header = static_cast<std::size_t>(slot.header());
  return _mm_testz_si128(_mm_xor_si128(octets, pattern), mask) ? header : 0;
}

// How many there are of each kind, and which is the first one, where some are repeated.
[[gnu::noinline]] void count_repeated_kinds(Index& out) noexcept {
  out.first = {};
  out.counts = {};
  for (std::size_t i = out.header_count; i > 0; --i) {
    const auto kind = static_cast<std::size_t>(out.kinds[i]);
    out.first[kind] = static_cast<std::uint8_t>(i);
    ++out.counts[kind];
  }
  out.first[0] = 0;
}

// The kinds of which the slots do not tell for sure.
consteval std::uint32_t long_kinds() {
  std::uint32_t kinds = 0;
  for (const HeaderName& known : kHeaderNames)
    if (known.name.size() > kWholeName) kinds |= 1u << static_cast<unsigned>(known.header);
  return kinds;
}
constexpr std::uint32_t kLongKinds = long_kinds();

// The kind of the header whose name, with white space behind it perhaps, is [begin, end).
[[gnu::always_inline]] inline std::size_t kind_of(const char* data, std::size_t begin, std::size_t end) noexcept {
  while (end > begin && is_control_or_space(data[end - 1]) && is_white(data[end - 1])) --end;
  if (end == begin) [[unlikely]]
    return 0;
  if (end >= 16) [[likely]] {
    std::int32_t lows = 0;
    const std::size_t kind = look_up(data, begin, end, lows);
    if ((kLongKinds >> kind & 1) == 0) [[likely]]
      return kind;
  }
  return static_cast<std::size_t>(header_of({data + begin, end - begin}));
}

// No empty line was found: where does the last header end? A header that is cut there is none.
inline std::size_t end_without_blank(const Extent& extent, std::size_t& headers, const Index& out) noexcept {
  const char* const data = extent.data;
  const std::size_t limit = extent.limit;
  if (data[limit - 1] == '\n') return limit;
  if (limit == extent.size) return limit + 1;  // the end of the datagram takes an LF's place
  const void* lf = memrchr(data, '\n', limit); // cut by kMaxHeaderOctets: not a line that we know
  const auto end = static_cast<std::size_t>(static_cast<const char*>(lf) - data) + 1;
  while (headers > 0 && out.places[headers].begin >= end) --headers;
  return end;
}

// Where the colon of the header is whose first line has none behind its first octet, but ends at `stop`; or its last
// octet.
[[gnu::noinline]] std::uint16_t colon_of(const Extent& extent, std::size_t begin, std::size_t stop,
                                         std::size_t end) noexcept {
  const char* const data = extent.data;
  if (data[begin] == ':') return static_cast<std::uint16_t>(begin);
  if (stop + 1 < end) { // a line continues it
    const void* colon = std::memchr(data + stop, ':', end - 1 - stop);
    if (colon) return static_cast<std::uint16_t>(static_cast<const char*>(colon) - data);
  }
  return static_cast<std::uint16_t>(end - 1);
}

// The second stride, where something is out of the ordinary.
[[gnu::noinline]] void read_odd_headers(const Extent& extent, Found found, Index& out) noexcept {
  const char* const data = extent.data;
  if (found.places != 2 * found.headers) found = Finder<Stop::Line>(extent, out).find();
  std::size_t headers = found.headers;
  if (headers > kMaxHeaders)
    headers = kMaxHeaders, out.body = 0;
  else if (!found.blank)
    out.places[headers + 1].begin = static_cast<std::uint16_t>(end_without_blank(extent, headers, out));
  out.header_count = static_cast<std::uint16_t>(headers);

  for (std::size_t i = 1; i <= headers; ++i) {
    const std::size_t begin = out.places[i].begin;
    std::size_t colon = out.places[i].colon;
    if (colon >= extent.limit || data[colon] != ':' || data[begin] == ':') [[unlikely]]
      colon = out.places[i].colon = colon_of(extent, begin, colon, out.places[i + 1].begin);
    const bool has_colon = colon < extent.limit && data[colon] == ':';
    out.kinds[i] = static_cast<Header>(has_colon ? kind_of(data, begin, colon) : 0);
  }
  count_repeated_kinds(out);
}

// The same for up to kMaxHeaders headers, each of which has its colon. False: read_odd_headers() has to do it again.
[[gnu::always_inline]] inline bool read_headers(const char* data, std::size_t headers, Index& out) noexcept {
  Kinds kinds(out);
  std::int32_t lows = 0;
  for (std::size_t i = 1; i <= headers; ++i) {
    const std::size_t kind = look_up(data, out.places[i].begin, out.places[i].colon, lows);
    out.kinds[i] = static_cast<Header>(kind);
    kinds.add(kind);
    if (lows < 0) [[unlikely]]
      return false;
  }
  out.header_count = static_cast<std::uint16_t>(headers);
  if (!kinds.store(out)) [[unlikely]]
    count_repeated_kinds(out);
  return (kinds.seen() & kLongKinds) == 0;
}

// As for an empty datagram; what the columns hold means nothing.
[[gnu::always_inline]] inline void reset(Index& out) noexcept {
  out.kind = Kind::Malformed;
  out.method = Method::Other;
  out.malformation = Malformation::NotSip;
  out.keepalive = Keepalive::None;
  out.status = 0;
  out.method_token = out.request_uri = {};
  out.header_count = out.body = 0;
  out.first = {};
  out.counts = {};
}

// The start line [0, end). False: there is none.
[[gnu::always_inline]] inline bool index_start_line(const Extent& extent, std::size_t end, Index& out) noexcept {
  StartLine start;
  if (!read_usual_start_line<true>(extent.data, extent.readable, end, start)) [[unlikely]] {
    reset(out);
    read_start_line({extent.data, extent.size}, 0, end, out);
    return out.malformation != Malformation::NotSip;
  }
  const std::uint32_t what = start.kind | start.method << 8; // and neither a malformation nor a keepalive
  static_assert(offsetof(Index, kind) == 0 && offsetof(Index, method) == 1 && offsetof(Index, malformation) == 2 &&
                offsetof(Index, keepalive) == 3 && Malformation::None == Malformation{} &&
                Keepalive::None == Keepalive{});
  std::memcpy(static_cast<void*>(&out), &what, sizeof what);
  out.status = static_cast<std::uint16_t>(start.status);
  out.method_token = span_at(0, start.method_end);
  out.request_uri = start.method_end != 0 ? span_at(start.method_end + 1, start.uri_end) : Span{};
  return true;
}

[[gnu::always_inline]] inline void index_message(const Extent& extent, Index& out) noexcept {
  const char* const data = extent.data;
  const Found found = Finder<Stop::Colon>(extent, out).find();
  const std::size_t end = found.first_lf - (found.first_lf > 0 && data[found.first_lf - 1] == '\r');
  if ((found.first_lf == extent.limit && extent.limit < extent.size) || !index_start_line(extent, end, out))
      [[unlikely]] {
    return reset(out);
  }
  out.body = static_cast<std::uint16_t>(found.body);
  // look_up() reads sixteen octets back.
  const bool usual = found.blank && found.places == 2 * found.headers && found.headers <= kMaxHeaders && end >= 16;
  if (!usual || !read_headers(data, found.headers, out)) [[unlikely]]
    read_odd_headers(extent, found, out);
  if (out.header_count == 0 && out.malformation == Malformation::None) [[unlikely]] {
    out.kind = Kind::Malformed;
    out.malformation = Malformation::NoHeaders;
  }
}

inline bool is_letter(char c) noexcept { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }

// A datagram that is neither empty nor a keepalive, and begins with no line end.
[[gnu::always_inline]] inline void index_text(const char* data, std::size_t size, Index& out) noexcept {
  const std::size_t limit = size < kMaxHeaderOctets ? size : kMaxHeaderOctets;
  if (size >= kBlock) [[likely]]
    return index_message({data, size, size, limit}, out);
  char padded[kBlock] = {};
  std::memcpy(padded, data, size);
  index_message({padded, size, kBlock, limit}, out);
}

// What stands behind `begin` line ends at the front: read as if those were not there, then moved.
[[gnu::noinline]] void index_behind(const char* data, std::size_t size, std::size_t begin, Index& out) noexcept {
  index_text(data + begin, size - begin, out);
  const auto move = [begin](std::uint16_t& place) { place = static_cast<std::uint16_t>(place + begin); };
  for (Span* span : {&out.method_token, &out.request_uri})
    if (span->present()) *span = span_at(span->begin + begin, span->end + begin);
  if (out.body != 0) move(out.body);
  for (std::size_t i = 1; i <= out.header_count; ++i) move(out.places[i].begin), move(out.places[i].colon);
  move(out.places[out.header_count + 1u].begin);
}

[[gnu::always_inline]] inline void index_simd(std::string_view datagram, Index& out) noexcept {
  const std::size_t size = datagram.size() < 65'535 ? datagram.size() : 65'535;
  const char* data = datagram.data();
  if (size <= 8 || !is_letter(data[0])) [[unlikely]] {
    reset(out);
    if (read_keepalive({data, size}, out)) return;
    if (const std::size_t begin = skip_line_ends({data, size})) return index_behind(data, size, begin, out);
  }
  index_text(data, size, out);
}

} // namespace
} // namespace sipward::sip
