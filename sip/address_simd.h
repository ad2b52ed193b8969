// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <cstring>

#include "sip/address_forms.h"
#include "sip/lanes.h"
#include "sip/values.h"

// An address or a Via in one of the usual forms, without a loop or a branch on what it is: the delimiters and their
// places are moved together, and the form's table makes the parts. It takes AVX-512 to do so.
namespace sipward::sip {
namespace {

#if defined(__AVX512BW__) && defined(__AVX512VBMI2__)

// By low nibble, which of the high nibbles 0, 2, 3, 4 and 5 (as bits 0 to 4) make a delimiter with it:
// white space, `"`, `,`, `:;<=>?`, `@`, `[\]`. And by high nibble, its bit.
alignas(16) constexpr char kDelimiterLow[16] = {
    0x02 | 0x08,        0,    0x02, 0, 0, 0, 0, 0, 0, 0x01, 0x01 | 0x04, 0x04 | 0x10, 0x02 | 0x04 | 0x10,
    0x01 | 0x04 | 0x10, 0x04, 0x04};
alignas(16) constexpr char kDelimiterHigh[16] = {0x01, 0, 0x02, 0x04, 0x08, 0x10};

// A value's form, and where its parts are, relative to its beginning.
struct Formed {
  const ValueForm* form;
  __m128i parts;
  std::uint32_t first; // where the first delimiter stands, in the lowest octet
};

// The value of 1 .. 63 octets. False: it has none of these forms.
template<class Table>
[[gnu::always_inline]] inline bool find_form(const Table& table_of, const char* text, std::size_t size,
                                             Formed& out) noexcept {
  alignas(64) static constexpr std::uint8_t kIota[64] = {
      0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
      22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
      44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
  const auto table = [](const char* octets) {
    return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(octets)));
  };
  const __mmask64 inside = _bzhi_u64(~0ull, static_cast<std::uint32_t>(size));
  const __m512i octets = _mm512_maskz_loadu_epi8(inside, text);
  const __m512i nibbles = _mm512_and_si512(_mm512_srli_epi16(octets, 4), _mm512_set1_epi8(0x0f));
  const __mmask64 others = _mm512_mask_testn_epi8_mask(inside, _mm512_shuffle_epi8(table(kDelimiterLow), octets),
                                                       _mm512_shuffle_epi8(table(kDelimiterHigh), nibbles));
  // The end counts as a delimiter, and looks like a zero.
  const __m128i delimiters = _mm512_castsi512_si128(_mm512_maskz_compress_epi8(_knot_mask64(others), octets));
  const __m128i places =
      _mm512_castsi512_si128(_mm512_maskz_compress_epi8(_knot_mask64(others), _mm512_load_si512(kIota)));

  const std::size_t slot = form_slot(static_cast<std::uint64_t>(_mm_cvtsi128_si64(delimiters)),
                                     static_cast<std::uint64_t>(_mm_extract_epi64(delimiters, 1)), table_of.multiplier);
  const ValueForm& form = table_of.forms[table_of.slots[slot]];
  const auto column = [](const auto& octets_of) { return _mm_load_si128(reinterpret_cast<const __m128i*>(octets_of)); };
  const __m128i other = _mm_xor_si128(delimiters, column(form.delimiters));
  if (!_mm_testz_si128(other, other)) return false; // only now the places below are inside
  out.form = &form;
  out.parts = _mm_add_epi8(_mm_shuffle_epi8(places, column(form.at)), column(form.add));
  out.first = static_cast<std::uint32_t>(_mm_cvtsi128_si32(places));
  return true;
}

// Writes the four parts of a value that begins at `begin`.
[[gnu::always_inline]] inline void write_parts(const Formed& formed, std::size_t begin, Span& first) noexcept {
  const __m128i has = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(formed.form->has)));
  const __m128i spans = _mm_add_epi16(_mm_cvtepu8_epi16(formed.parts), _mm_set1_epi16(static_cast<short>(begin)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(&first), _mm_and_si128(spans, has));
}

// The value of 1 .. 63 octets at `begin`; four more can be read behind it. False: it has another form.
[[gnu::always_inline]] inline bool read_usual_address(const char* data, std::size_t begin, std::size_t size,
                                                      const Party& out) noexcept {
  const char* const text = data + begin;
  Formed formed;
  if (!find_form(kAddressForms, text, size, formed)) return false;
  const auto words = static_cast<std::uint32_t>(_mm_extract_epi16(formed.parts, kSchemeAt / 2));
  std::uint32_t scheme, tag;
  std::memcpy(&scheme, text + (words & 0xff), sizeof scheme);
  std::memcpy(&tag, text + (words >> 8), sizeof tag);
  const std::uint32_t wrong = ((scheme ^ 0x3a504953) & 0xffdfdfdf) |                 // "SIP:"
                              ((tag ^ 0x3d474154) & 0xffdfdfdf & formed.form->tag) | // "TAG="
                              ((formed.first ^ formed.form->first) & 0xff);
  if (wrong != 0) return false;
  write_parts(formed, begin, out.display);
  return true;
}

// The same for a Via of 9 .. 71 octets; eight octets more can be read behind it.
[[gnu::always_inline]] inline bool read_usual_via(const char* data, std::size_t begin, std::size_t size,
                                                  const ViaParts& out) noexcept {
  constexpr std::size_t kVersion = 8; // octets of SIP/2.0/
  std::uint64_t head, branch, rport;
  std::memcpy(&head, data + begin, sizeof head);
  begin += kVersion;
  const char* const text = data + begin;
  Formed formed;
  if (!find_form(kViaForms, text, size - kVersion, formed)) return false;
  const auto words = static_cast<std::uint32_t>(_mm_extract_epi16(formed.parts, kRportAt / 2));
  const auto places = static_cast<std::uint64_t>(_mm_cvtsi128_si64(formed.parts));
  std::memcpy(&rport, text + (words & 0xff), sizeof rport);
  std::memcpy(&branch, text + (words >> 8), sizeof branch);
  const std::uint64_t has_rport = formed.form->has[6] != 0 ? ~0ull : 0;
  const std::uint64_t wrong = ((head ^ 0x2f30'2e32'2f50'4953) & 0xffff'ffff'ffdf'dfdf) |    // "SIP/2.0/"
                              ((branch ^ 0x003d'4843'4e41'5242) & 0x00ff'dfdf'dfdf'dfdf) |  // "BRANCH="
                              ((rport ^ 0x0054'524f'5052) & 0x00df'dfdf'dfdf & has_rport) | // "RPORT"
                              (((places >> 48 & 0xff) ^ ((words & 0xff) + 5)) & has_rport); // and no more
  const std::uint64_t lengths = places ^ places >> 8; // neither transport nor sent-by is empty
  if (wrong != 0 || (lengths & 0xff) == 0 || (lengths & 0xff'0000) == 0) return false;
  write_parts(formed, begin, out.transport);
  return true;
}

#else

inline bool read_usual_address(const char*, std::size_t, std::size_t, const Party&) noexcept { return false; }
inline bool read_usual_via(const char*, std::size_t, std::size_t, const ViaParts&) noexcept { return false; }

#endif

} // namespace
} // namespace sipward::sip
