// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "sip/lanes.h"
#include "sip/message.h"
#include "sip/shapes.h"
#include "sip/start_line_simd.h"

// The shapes of a message that has at most a generator's: the first four octets of each part, sixteen at once, tell
// that none of the other rules can hold. It takes AVX-512 to do so.
namespace sipward::sip {
namespace {

#if defined(__AVX512BW__) && defined(__AVX512VBMI2__)

// The parts whose beginnings betray something, and with what: see the rules in shapes.cpp.
enum Lane : int {
  kFromUser,
  kFromDisplay,
  kFromHost,
  kToHost,
  kContactHost,
  kSentBy,
  kCallId,
  kFromTag,
  kContact,
  kAgent,
  kFrom,
  kTo
};
struct Beginning {
  Lane lane;
  std::string_view octets;
};
// In small letters, for any case.
constexpr std::array<Beginning, 14> kNameBeginnings{{{kFromUser, "sipv"},
                                                     {kFromUser, "sips"},
                                                     {kFromUser, "ccxl"},
                                                     {kFromUser, "sivu"},
                                                     {kFromUser, "this"},
                                                     {kFromUser, "smap"},
                                                     {kFromUser, "nmap"},
                                                     {kFromDisplay, "sipv"},
                                                     {kFromDisplay, "sips"},
                                                     {kFromDisplay, "ccxl"},
                                                     {kFromDisplay, "sivu"},
                                                     {kFromDisplay, "this"},
                                                     {kFromDisplay, "smap"},
                                                     {kFromDisplay, "nmap"}}};
constexpr std::array<Beginning, 16> kBeginnings{{{kFromHost, "1.1."},
                                                 {kToHost, "1.1."},
                                                 {kContactHost, "1.1."},
                                                 {kSentBy, "127."},
                                                 {kSentBy, "pc33"},
                                                 {kSentBy, "serv"},
                                                 {kSentBy, "bobs"},
                                                 {kSentBy, "bigb"},
                                                 {kCallId, "1337"},
                                                 {kCallId, "a84b"},
                                                 {kCallId, "() {"},
                                                 {kFromTag, "3206"},
                                                 {kFromTag, "root"},
                                                 {kFromTag, "1928"},
                                                 {kContact, "() {"},
                                                 {kContact, "None"}}};
constexpr std::array<Beginning, 7> kFurtherBeginnings{{{kAgent, "() {"},
                                                       {kFrom, "() {"},
                                                       {kTo, "() {"},
                                                       {kFromDisplay, "() {"},
                                                       {kFromHost, "nm"},
                                                       {kToHost, "nm"},
                                                       {kContactHost, "nm"}}};

struct alignas(64) Beginnings {
  std::array<std::uint32_t, 16> lanes{}, octets{}, masks{};
};
template<std::size_t N>
consteval Beginnings make_beginnings(const std::array<Beginning, N>& from) {
  Beginnings out;
  for (std::size_t i = 0; i < 16; ++i) { // lanes to spare look for the first once more
    const Beginning& beginning = from[i < N ? i : 0];
    out.lanes[i] = static_cast<std::uint32_t>(beginning.lane);
    out.octets[i] = static_cast<std::uint32_t>(packed_token(beginning.octets));
    out.masks[i] = beginning.octets.size() == 4 ? ~0u : 0xffff;
  }
  return out;
}
constexpr Beginnings kNames = make_beginnings(kNameBeginnings), kOthers = make_beginnings(kBeginnings),
                     kFurther = make_beginnings(kFurtherBeginnings);

// Up to 64 octets that are all digits; `size` may be more.
[[gnu::always_inline]] inline bool begins_with_digits(const char* octets, std::size_t size) noexcept {
  const __mmask64 inside = size < kBlock ? _bzhi_u64(~0ull, static_cast<std::uint32_t>(size)) : ~0ull;
  const __m512i values = _mm512_sub_epi8(_mm512_maskz_loadu_epi8(inside, octets), _mm512_set1_epi8('0'));
  return _mm512_mask_cmpgt_epu8_mask(inside, values, _mm512_set1_epi8(9)) == 0;
}

// Without a branch on each.
template<class... Bools>
[[gnu::always_inline]] inline bool all_hold(Bools... conditions) noexcept {
  return (static_cast<unsigned>(conditions) & ...) != 0;
}

class UsualShapes {
public:
  UsualShapes(const Message& message, std::string_view datagram) noexcept
      : m_(message), data_(datagram.data()), size_(datagram.size()) {}

  // kUnknownShapes: the rules have to be asked.
  [[gnu::always_inline]] Shapes find() const noexcept {
    const std::size_t branch = m_.via_branch.begin, branch_size = m_.via_branch.size(), rest = branch_size - 8;
    if (!ends_plainly() || branch_size < 8 || branch + 8 > size_) [[unlikely]]
      return kUnknownShapes;
    std::uint64_t head;
    std::memcpy(&head, data_ + branch, sizeof head);
    constexpr std::uint64_t kCookie = packed_token("z9hG4bK");
    const std::uint64_t behind = head >> 56;
    const std::size_t call_id = m_.call_id.begin, call_id_size = m_.call_id.size();
    const bool generated = behind == '-';
    if (((head ^ kCookie) << 8) != 0 || behind == '7' || behind == 'h' || is_suspect() ||
        (generated && rest == call_id_size && data_[branch + 8] == data_[call_id])) [[unlikely]]
      return kUnknownShapes;

    const bool decimal =
        all_hold(generated, m_.via_rport.present(), rest - 1 < 10, begins_with_digits(data_ + branch + 8, rest));
    const bool digits = all_hold(call_id_size != 0, begins_with_digits(data_ + call_id, call_id_size));
    const bool accept = all_hold(m_.method == Method::Register, m_.count(Header::Accept) != 0);
    const Span uri = m_.contact_user.present() ? m_.contact_user : m_.contact_host;
    if ((m_.contact.present() && !uri.present()) || (digits && call_id_size > kBlock)) [[unlikely]]
      return kUnknownShapes;
    const bool bare = all_hold(uri.present(), uri.begin - m_.contact.begin <= 5, data_[m_.contact.begin] != '<');
    return bit(decimal, Shape::DecimalBranch) | bit(digits, Shape::DigitsCallId) | bit(accept, Shape::RegisterAccept) |
           bit(decimal + digits + bare + accept >= 3, Shape::SipviciousShape);
  }

private:
  static Shapes bit(bool holds, Shape shape) noexcept {
    return static_cast<Shapes>(holds) << static_cast<unsigned>(shape);
  }
  // The last header has a value, and \r\n\r\n follows: four octets may be read wherever a part begins.
  [[gnu::always_inline]] bool ends_plainly() const noexcept {
    const std::size_t body = m_.body.begin;
    if (body < 5) return false;
    return word_at(body - 4) == static_cast<std::uint32_t>(packed_token("\r\n\r\n")) && data_[body - 5] != ':' &&
           !is_control_or_space(data_[body - 5]);
  }
  [[gnu::always_inline]] std::uint32_t word_at(std::size_t at) const noexcept {
    std::uint32_t octets;
    std::memcpy(&octets, data_ + at, sizeof octets);
    return octets;
  }
  [[gnu::always_inline]] __m128i words_at(Span a, Span b, Span c, Span d) const noexcept {
    const auto word = [this](Span part) { return static_cast<int>(word_at(part.begin)); };
    return _mm_insert_epi32(_mm_insert_epi32(_mm_insert_epi32(_mm_cvtsi32_si128(word(a)), word(b), 1), word(c), 2),
                            word(d), 3);
  }
  // False: no rule but those above can hold. What an absent part begins with, here the method, can only make it true.
  [[gnu::always_inline]] bool is_suspect() const noexcept {
    const __m512i words = _mm512_inserti32x4(
        _mm512_inserti32x4(_mm512_castsi128_si512(words_at(m_.from_user, m_.from_display, m_.from_host, m_.to_host)),
                           words_at(m_.contact_host, m_.via_sent_by, m_.call_id, m_.from_tag), 1),
        words_at(m_.contact, m_.user_agent, m_.from, m_.to), 2);
    const auto column = [](const auto& of) { return _mm512_load_si512(of.data()); };
    const auto moved = [&](const Beginnings& of) { return _mm512_permutexvar_epi32(column(of.lanes), words); };
    const __m512i small = _mm512_or_si512(moved(kNames), _mm512_set1_epi32(0x2020'2020));
    const __m512i further = _mm512_and_si512(moved(kFurther), column(kFurther.masks));
    const auto found = static_cast<unsigned>(_mm512_cmpeq_epi32_mask(small, column(kNames.octets)) |
                                             _mm512_cmpeq_epi32_mask(moved(kOthers), column(kOthers.octets)) |
                                             _mm512_cmpeq_epi32_mask(further, column(kFurther.octets)));
    return !all_hold(found == 0, !is_suspect_tag(), !is_suspect_uri(), !is_suspect_agent());
  }
  // Where SIPVicious's number would stand.
  bool is_suspect_tag() const noexcept { return m_.from_tag.size() >= 16 && data_[m_.from_tag.end - 2u] == '3'; }
  // sip:nm, sip:1_unusual
  bool is_suspect_uri() const noexcept {
    if (m_.request_uri.size() < 6) return true;
    const std::uint32_t host = word_at(m_.request_uri.begin + 2u) >> 16;
    return host == packed_token("nm") || host == packed_token("1_");
  }
  // A gateway's name, or a Call-ID as long as only that phone's is.
  bool is_suspect_agent() const noexcept {
    return word_at(m_.user_agent.begin) == packed_token("Cisc") &&
           (m_.call_id.size() == 50 || data_[m_.user_agent.begin + 5] == '-');
  }

  const Message& m_;
  const char* const data_;
  const std::size_t size_;
};

#endif

} // namespace
} // namespace sipward::sip
