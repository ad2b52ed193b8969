// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "sip/header_names.h"
#include "sip/lanes.h"
#include "sip/name_table.h"
#include "sip/start_line.h"
#include "sip/start_line_simd.h"

// The index in two strides, without a branch that depends on the order of the headers:
//   1. 64 octets at a time: where headers begin (an octet above the space behind an LF), as a bitmap whose set bits are
//      written out as places; and the colons, as a bitmap. Up to the empty line.
//   2. Each header: its first colon, and its name by a perfect hash.
// Folded lines and bare LFs cost nothing; spaces before a colon and names beyond 15 octets are looked at by themselves.
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

// A bitmap of the colons.
struct Colons {
  std::uint64_t words[kMaxHeaderOctets / kBlock + 2];

  // How far behind `from` the first one stands, if that is less than 57; otherwise something more.
  [[gnu::always_inline]] std::size_t near(std::size_t from) const noexcept {
    std::uint64_t window;
    std::memcpy(&window, reinterpret_cast<const char*>(words) + from / 8, sizeof window);
    return _tzcnt_u64(window >> from % 8);
  }
  // Where the first one in [from, end) stands, or end.
  std::size_t next(std::size_t from, std::size_t end) const noexcept {
    const std::size_t distance = near(from);
    if (distance < 57) return std::min<std::size_t>(from + distance, end);
    std::size_t word = from / kBlock;
    std::uint64_t bits = words[word] >> from % kBlock << from % kBlock;
    while (bits == 0 && (word + 1) * kBlock < end) bits = words[++word];
    return bits != 0 ? std::min<std::size_t>(word * kBlock + _tzcnt_u64(bits), end) : end;
  }
};

struct Found {
  std::size_t headers;  // begun, at most kMaxHeaders + some
  std::size_t first_lf; // the start line's; == limit if there is none
  bool blank;           // the empty line was found
};

// The first stride, block by block.
class Finder {
public:
  Finder(const Extent& extent, Colons& colons, Index& out) noexcept
      : data_(extent.data), limit_(extent.limit), word_(colons.words), out_(out) {}

  [[gnu::always_inline]] Found find() noexcept {
    std::size_t at = 0;
    for (; at + kBlock <= limit_; at += kBlock)
      if (step(Block::whole(data_ + at), at)) return result();
    if (at < limit_) step(Block(data_, at, limit_ < kBlock ? kBlock : limit_), at);
    return result();
  }

private:
  // True: there is no need to go on.
  [[gnu::always_inline]] bool step(const Block& block, std::size_t at) noexcept {
    const std::uint64_t lf = block.equal('\n');
    const std::uint64_t lines = lf << 1 | lf_ >> 63, odd = lines & block.at_most(' ');
    *word_++ = block.equal(':');
    const std::uint64_t begins = lines & ~odd;
    if (odd != 0) [[unlikely]] { // an empty line, or one that continues the one before
      for (std::uint64_t rest = odd; rest != 0; rest = _blsr_u64(rest)) {
        const std::size_t line = at + _tzcnt_u64(rest);
        if (line >= limit_) break;
        const bool cr = data_[line] == '\r';
        if (!(data_[line] == '\n' || (cr && (line + 1 == limit_ || data_[line + 1] == '\n')))) {
          folded_ = true;
          continue;
        }
        next_ = append(next_, begins & _blsmsk_u64(rest), at);
        *next_ = static_cast<std::uint16_t>(line);
        out_.body = static_cast<std::uint16_t>(line + 1 + (cr && line + 1 < limit_));
        return blank_ = true;
      }
    }
    next_ = append(next_, begins, at);
    lf_ = lf;
    // Blocks that begin eight headers at most cannot overrun kRoom; in others one has to look.
    return std::popcount(begins) > 8 && next_ > out_.begins.data() + 1 + kMaxHeaders;
  }

  [[gnu::always_inline]] Found result() noexcept {
    *word_ = 0;
    Found found{static_cast<std::size_t>(next_ - out_.begins.data()) - 1, limit_, blank_};
    if ((found.headers > 0 || blank_) && !folded_) [[likely]] { // nothing stands between the start line and these
      found.first_lf = out_.begins[1] - 1u;
    } else if (const void* lf = std::memchr(data_, '\n', limit_)) {
      found.first_lf = static_cast<std::size_t>(static_cast<const char*>(lf) - data_);
    }
    return found;
  }

  const char* const data_;
  const std::size_t limit_;
  std::uint64_t* word_;
  Index& out_;
  std::uint16_t* next_ = out_.begins.data() + 1;
  std::uint64_t lf_ = 0; // of the block before
  bool blank_ = false, folded_ = false;
};

// No empty line was found: where does the last header end? Sets begins[headers + 1].
[[gnu::noinline]] void end_without_blank(const Extent& extent, Found& found, Index& out) noexcept {
  if (found.headers > kMaxHeaders) return; // at the one too many
  const char* const data = extent.data;
  const std::size_t limit = extent.limit;
  std::size_t end = limit + 1; // the end of the datagram takes an LF's place
  if (data[limit - 1] == '\n') {
    end = limit;
  } else if (limit < extent.size) { // cut by kMaxHeaderOctets: not a line that we know
    const void* lf = memrchr(data, '\n', limit);
    end = static_cast<std::size_t>(static_cast<const char*>(lf) - data) + 1;
    while (found.headers > 0 && out.begins[found.headers] >= end) --found.headers;
  }
  out.begins[found.headers + 1] = static_cast<std::uint16_t>(end);
}

// The kind of the header whose name is [begin, end), end >= 16; of names longer than kWholeName it may be wrong.
// `spaced`: it ends with white space or a control character.
[[gnu::always_inline]] inline std::size_t look_up(const char* data, std::size_t begin, std::size_t end,
                                                  bool& spaced) noexcept {
  std::uint16_t last_two;
  std::memcpy(&last_two, data + end - 2, sizeof last_two);
  spaced = last_two < (' ' + 1) << 8;
  const std::size_t at = name_slot(name_key(last_two, static_cast<std::uint32_t>(end - begin)), kNameMultiplier);
  const NameSlot& slot = kNameTable.slots[at];
  const __m128i octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + end - 16));
  const __m128i pattern = _mm_load_si128(reinterpret_cast<const __m128i*>(slot.pattern));
  const __m128i mask = _mm_load_si128(reinterpret_cast<const __m128i*>(slot.mask));
  const auto header = static_cast<std::size_t>(kNameTable.headers[at]);
  return _mm_testz_si128(_mm_xor_si128(octets, pattern), mask) ? header : 0;
}

// The first of each kind, and how many there are. Most messages have one of each known kind: bits tell.
[[gnu::always_inline]] inline void count_kinds(std::uint32_t seen, std::uint32_t repeated, Index& out) noexcept {
  seen &= ~1u;
  const __m256i octet_of = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, //
                                            2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bit_of = _mm256_set1_epi64x(static_cast<long long>(0x8040'2010'0804'0201));
  const __m256i octets = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(seen)), octet_of);
  const __m256i ones =
      _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_cmpeq_epi8(_mm256_and_si256(octets, bit_of), bit_of));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.counts.data()), ones);
  out.counts[0] = static_cast<std::uint8_t>(out.header_count - _mm_popcnt_u64(seen));
  out.first[0] = 0;
  if (repeated == 0) [[likely]]
    return;
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

// The second stride, where something is out of the ordinary: no colon near, white space before it, a long name.
[[gnu::noinline]] void read_odd_headers(const char* data, const Colons& colons, Index& out) noexcept {
  std::uint32_t seen = 0, repeated = 0;
  out.first = {};
  for (std::size_t i = 1; i <= out.header_count; ++i) {
    const std::size_t begin = out.begins[i], end = out.begins[i + 1] - 1u, colon = colons.next(begin, end);
    std::size_t name_end = colon < end ? colon : begin;
    while (name_end > begin && is_white(data[name_end - 1])) --name_end;
    std::size_t kind = 0;
    bool spaced = false;
    if (name_end > begin) [[likely]] {
      if (name_end >= 16) [[likely]]
        kind = look_up(data, begin, name_end, spaced);
      if (name_end < 16 || (kLongKinds >> kind & 1) != 0) [[unlikely]]
        kind = static_cast<std::size_t>(header_of({data + begin, name_end - begin}));
    }
    out.colons[i] = static_cast<std::uint16_t>(colon);
    out.kinds[i] = static_cast<Header>(kind);
    out.first[kind] = static_cast<std::uint8_t>(i);
    repeated |= seen & 1u << kind;
    seen |= 1u << kind;
  }
  count_kinds(seen, repeated & ~1u, out);
}

[[gnu::always_inline]] inline void read_headers(const char* data, const Colons& colons, Index& out) noexcept {
  constexpr std::size_t kNear = 56; // as far as one look at the bitmap reaches
  const std::size_t count = out.header_count;
  std::uint32_t seen = 0, repeated = 0;
  std::size_t next = out.begins[1];
  bool odd = next < 16; // look_up() reads so far back
  if (!odd) [[likely]]
    for (std::size_t i = 1; i <= count; ++i) {
      const std::size_t begin = next, length = colons.near(begin), colon = begin + length;
      next = out.begins[i + 1];
      if (length > kNear || colon >= next) [[unlikely]] {
        odd = true;
        break;
      }
      const std::size_t kind = look_up(data, begin, colon, odd);
      out.colons[i] = static_cast<std::uint16_t>(colon);
      out.kinds[i] = static_cast<Header>(kind);
      out.first[kind] = static_cast<std::uint8_t>(i);
      const std::uint32_t bit = 1u << kind;
      repeated |= seen & bit;
      seen |= bit;
      if (odd) [[unlikely]]
        break;
    }
  if (odd || (seen & kLongKinds) != 0) [[unlikely]]
    return read_odd_headers(data, colons, out);
  count_kinds(seen, repeated & ~1u, out);
}

[[gnu::always_inline]] inline void index_message(const Extent& extent, Index& out) noexcept {
  const char* const data = extent.data;
  Colons colons;
  Found found = Finder(extent, colons, out).find();
  if (found.first_lf == extent.limit && extent.limit < extent.size) [[unlikely]] {
    out.body = 0;
    return;
  }
  const std::size_t end = found.first_lf - (found.first_lf > 0 && data[found.first_lf - 1] == '\r');
  StartLine start;
  if (read_usual_start_line<true>(data, extent.readable, end, start)) [[likely]] {
    out.kind = static_cast<Kind>(start.kind);
    out.method = static_cast<Method>(start.method);
    out.status = static_cast<std::uint16_t>(start.status);
    out.malformation = Malformation::None;
    out.method_token = span_at(0, start.method_end);
    if (start.method_end != 0) out.request_uri = span_at(start.method_end + 1, start.uri_end);
  } else {
    read_start_line({data, extent.size}, 0, end, out);
    if (out.malformation == Malformation::NotSip) {
      out.body = 0;
      return;
    }
  }

  if (!found.blank) [[unlikely]]
    end_without_blank(extent, found, out);
  if (found.headers > kMaxHeaders) [[unlikely]] {
    found.headers = kMaxHeaders;
    out.body = 0;
  }
  out.header_count = static_cast<std::uint16_t>(found.headers);
  read_headers(data, colons, out);
  if (found.headers == 0 && out.malformation == Malformation::None) [[unlikely]] {
    out.kind = Kind::Malformed;
    out.malformation = Malformation::NoHeaders;
  }
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
  for (std::size_t i = 1; i <= out.header_count; ++i) move(out.begins[i]), move(out.colons[i]);
  move(out.begins[out.header_count + 1u]);
}

[[gnu::always_inline]] inline void index_simd(std::string_view datagram, Index& out) noexcept {
  reset(out);
  const std::size_t size = datagram.size() < 65'535 ? datagram.size() : 65'535;
  const char* data = datagram.data();
  if (size <= 8 || !is_letter(data[0])) [[unlikely]] {
    if (read_keepalive({data, size}, out)) return;
    if (const std::size_t begin = skip_line_ends({data, size})) return index_behind(data, size, begin, out);
  }
  index_text(data, size, out);
}

} // namespace
} // namespace sipward::sip
