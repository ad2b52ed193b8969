// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "sip/address_simd.h"
#include "sip/index.h"
#include "sip/lanes.h"
#include "sip/message.h"
#include "sip/usual_places_simd.h"
#include "sip/usual_value_simd.h"
#include "sip/value_reader_simd.h"
#include "sip/values.h"

// The parts of headers' values: at once where they are written as nearly everybody writes them, and by ValueReader
// otherwise. For files compiled for AVX2 and BMI only.
namespace sipward::sip {
namespace {

// What the reader of messages asks for; see reader.h.
class SimdValues {
public:
  // `index` is what was found in `datagram`.
  [[gnu::always_inline]] SimdValues(std::string_view datagram, std::size_t readable, const Index& index) noexcept
      : data_(datagram.data()), readable_(readable), places_(index) {
    // Behind the LF of the last one two octets can be read, and so behind any.
    const std::size_t count = index.header_count;
    usual_ = count <= UsualPlaces::kMost && index.places[count + 1].begin + 2u <= readable;
  }

  // Of the first header of this kind, of which there is one. Usually it stands between one space and CRLF.
  [[gnu::always_inline]] Span value(const Index& index, Header header) const noexcept {
    if (usual_) [[likely]] {
      const std::uint32_t word = places_[index.first[static_cast<std::size_t>(header)]];
      const char *const begin = data_ + (word & 0xffff), *const end = data_ + (word >> 16);
      if (begin[-1] == ' ' && !is_control_or_space(begin[0]) && end[0] == '\r' && !is_control_or_space(end[-1]))
          [[likely]]
        return std::bit_cast<Span>(word);
    }
    return value(index, index.first[static_cast<std::size_t>(header)]);
  }
  // Of the header at place i.
  Span value(const Index& index, std::size_t i) const noexcept { return trim(data_, readable_, index, i); }
  // (What is unusual is handed over part by part: a Party that goes elsewhere would have to stand in memory.)
  [[gnu::always_inline]] bool address(Span value, const Party& out, ParamLimit& limit) const noexcept {
    const Word word(value);
    if (word.size() - 1 < kBlock - 1 && word.end + 4 <= readable_ &&
        read_usual_address(data_, word.begin, word.size(), out)) [[likely]]
      return true;
    return other_address(data_, readable_, value, out.display, out.user, out.host, out.tag, out.wants_tag, limit);
  }
  [[gnu::always_inline]] bool via(Span value, const ViaParts& out, ParamLimit& limit) const noexcept {
    const Word word(value);
    if (word.size() - 9 < kBlock - 1 && word.end + 8 <= readable_ &&
        read_usual_via(data_, word.begin, word.size(), out)) [[likely]]
      return true;
    return other_via(data_, readable_, value, out.transport, out.sent_by, out.branch, out.rport, out.received, limit);
  }
  Digest digest(Span value, ParamLimit& limit) const noexcept { return any_digest(data_, readable_, value, limit); }
  // A number in decimal digits, as text::number has it.
  [[gnu::always_inline]] bool number(Span value, std::uint32_t& out) const noexcept {
    const Word word(value);
    const std::size_t size = word.size();
    if (size - 1 > 7 || word.end < 8) [[unlikely]]
      return read_number({data_ + word.begin, word.size()}, out);
    std::uint64_t octets;
    std::memcpy(&octets, data_ + word.end - 8, sizeof octets);
    return digits(octets, static_cast<std::uint32_t>(8 * (8 - size)), out);
  }
  // `token` is the start line's method, of that kind; absent in a response.
  [[gnu::always_inline]] bool cseq(Span value, Span token, Method token_kind, std::uint32_t& number, Span& method,
                                   Method& kind) const noexcept {
    const Word word(value);
    const std::size_t size = token.size(), name = word.end - size, count = name - 1 - word.begin; // of digits
    if (size - 1 < 8 && count - 1 < 8 && name + 8 <= readable_ && name >= 9) [[likely]] {
      std::uint64_t theirs, ours, octets;
      std::memcpy(&theirs, data_ + name, sizeof theirs);
      std::memcpy(&ours, data_ + token.begin, sizeof ours);
      std::memcpy(&octets, data_ + name - 9, sizeof octets);
      if (data_[name - 1] == ' ' && _bzhi_u64(theirs ^ ours, static_cast<std::uint32_t>(8 * size)) == 0 &&
          digits(octets, static_cast<std::uint32_t>(8 * (8 - count)), number)) [[likely]] {
        method = span_at(name, word.end);
        kind = token_kind;
        return true;
      }
    }
    return read_cseq({data_, readable_}, value, number, method, kind);
  }

private:
  // A Span in general registers: the compiler would take it apart in a vector register.
  struct Word {
    [[gnu::always_inline]] explicit Word(Span span) noexcept {
      auto word = std::bit_cast<std::uint32_t>(span);
      asm("" : "+r"(word));
      begin = word & 0xffff;
      end = word >> 16;
    }
    std::size_t size() const noexcept { return end - begin; }
    std::size_t begin, end;
  };

  // What is out of the ordinary. (Not members: whose `this` is handed on has to stand in memory, and be read again.)
  [[gnu::noinline]] static bool other_address(const char* data, std::size_t readable, Span value, Span& display,
                                              Span& user, Span& host, Span& tag, bool wants_tag,
                                              ParamLimit& limit) noexcept {
    if (value.size() - 1 < kBlock - 1 &&
        UsualValue(data, readable, value).address({display, user, host, tag, wants_tag})) [[likely]]
      return true;
    const ValueReader reader(data, readable, value);
    const Address address = reader.address();
    display = address.display;
    user = address.user;
    host = address.host;
    if (wants_tag) tag = reader.tag(address.params, limit);
    return address.good;
  }
  [[gnu::noinline]] static bool other_via(const char* data, std::size_t readable, Span value, Span& transport,
                                          Span& sent_by, Span& branch, Span& rport, Span& received,
                                          ParamLimit& limit) noexcept {
    const ViaParts out{transport, sent_by, branch, rport, received};
    if (value.size() - 1 < kBlock && UsualValue(data, readable, value).via(out)) [[likely]]
      return true;
    transport = sent_by = branch = rport = received = {};
    return ValueReader(data, readable, value).via(out, limit);
  }
  [[gnu::noinline]] static Digest any_digest(const char* data, std::size_t readable, Span value,
                                             ParamLimit& limit) noexcept {
    return ValueReader(data, readable, value).digest(limit);
  }
  [[gnu::noinline]] static Span trim(const char* data, std::size_t readable, const Index& index,
                                     std::size_t i) noexcept {
    std::size_t end = index.places[i + 1].begin - 1u, begin = std::min(index.places[i].colon + std::size_t{1}, end);
    const ValueBits bits(data, readable);
    begin = bits.find<Ink>(begin, end);
    while (end > begin) {
      const std::size_t from = end - begin < kBlock ? begin : end - kBlock;
      const std::uint64_t ink =
          _bzhi_u64(~Block::first(data, from, readable, end - from).spaces(), static_cast<std::uint32_t>(end - from));
      if (ink != 0) {
        end = from + 64 - _lzcnt(ink);
        break;
      }
      end = from;
    }
    return span_at(begin, end);
  }
  static std::size_t _lzcnt(std::uint64_t bits) noexcept { return static_cast<std::size_t>(__builtin_clzll(bits)); }
  // Eight octets that end with a number; the first `other` bits are none of it.
  [[gnu::always_inline]] static bool digits(std::uint64_t octets, std::uint32_t other, std::uint32_t& out) noexcept {
    constexpr std::uint64_t kOnes = 0x0101'0101'0101'0101;
    octets = (octets ^ kOnes * '0') >> other << other;
    // A sum that carries into the next octet comes from one that is no digit by itself.
    if (((octets | (octets + kOnes * 6)) & kOnes * 0xf0) != 0) return false;
    octets = octets * 10 + (octets >> 8); // pairs, then fours and eights (the lowest digit is the highest octet)
    out = static_cast<std::uint32_t>(((octets & 0x0000'00ff'0000'00ff) * 0x000f'4240'0000'0064 +
                                      (octets >> 16 & 0x0000'00ff'0000'00ff) * 0x0000'2710'0000'0001) >>
                                     32);
    return true;
  }

  const char* data_;
  std::size_t readable_;
  UsualPlaces places_;
  bool usual_;
};

} // namespace
} // namespace sipward::sip
