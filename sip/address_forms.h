// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

// The usual forms of an address, told from the delimiters in it alone. Private to sip/.
//
//   "Ann" <sip:ann@example.com:5060>;tag=1
//   "   " <   :   @           :    >;   =  end
//   0   123   4   5           6    78   9  10
//
// Each part stands behind one of them, up to another: from the places of the delimiters, a table makes all parts at
// once.
namespace sipward::sip {

struct alignas(64) AddressForm {
  char delimiters[16];  // and zeroes behind them
  std::uint8_t at[16];  // of display, user, host and tag, where each begins and ends; of "sip:" and of "tag=", where it
                        // begins: as numbers of delimiters (kNowhere: at 0)
  std::uint8_t add[16]; // to that: 1 behind it
  std::uint8_t has[8];  // 0xff, by begins and ends: the part is there
  std::uint32_t tag;    // ones, where a tag is
  std::uint8_t first;   // where the first delimiter stands
};

inline constexpr std::uint8_t kNowhere = 0x80;
inline constexpr std::size_t kSchemeAt = 8, kTagAt = 9; // in `at`
inline constexpr std::size_t kForms = 88, kFormSlots = 512;

constexpr std::size_t form_slot(std::uint64_t low, std::uint64_t high, std::uint64_t multiplier) noexcept {
  return (low + high * 9) * multiplier >> 55;
}

// Writes forms down, delimiter by delimiter.
class FormWriter {
public:
  constexpr FormWriter() noexcept {
    for (std::uint8_t& at : form_.at) at = kNowhere;
  }
  constexpr void put(std::string_view delimiters) noexcept {
    for (const char c : delimiters) form_.delimiters[count_++] = c;
  }
  // The next delimiter is this part's first one, or the last one was.
  constexpr std::uint8_t next() const noexcept { return count_; }
  constexpr std::uint8_t last() const noexcept { return static_cast<std::uint8_t>(count_ - 1); }
  // Part 0 .. 3 stands behind delimiter `begin`, up to delimiter `end`.
  constexpr void part(std::size_t which, std::uint8_t begin, std::uint8_t end) noexcept {
    form_.at[2 * which] = begin, form_.add[2 * which] = 1;
    form_.at[2 * which + 1] = end;
    form_.has[2 * which] = form_.has[2 * which + 1] = 0xff;
  }
  constexpr void behind(std::size_t place, std::uint8_t delimiter) noexcept {
    form_.at[place] = delimiter, form_.add[place] = 1;
  }
  constexpr void tag() noexcept { form_.tag = ~0u; }
  constexpr void first(std::uint8_t place) noexcept { form_.first = place; }
  constexpr const AddressForm& form() const noexcept { return form_; }

private:
  AddressForm form_{};
  std::uint8_t count_ = 0;
};

// Which of its optional things a form has.
struct FormParts {
  bool brackets, display, display_space, space, user, port, uri_parameter, tag;
};

consteval AddressForm write_form(const FormParts& parts) {
  FormWriter out;
  if (parts.display) {
    out.put(parts.display_space ? "\" \"" : "\"\"");
    out.part(0, 0, out.last());
    if (parts.space) out.put(" ");
  }
  if (parts.brackets) {
    out.put("<");
    out.behind(kSchemeAt, out.last());
  } else {
    out.first(3); // the colon of "sip:"
  }
  out.put(":");
  if (parts.user) {
    out.part(1, out.last(), out.next());
    out.put("@");
  }
  out.part(2, out.last(), out.next());
  if (parts.port) out.put(":");
  if (parts.uri_parameter) out.put(";=");
  if (parts.brackets) out.put(">");
  if (parts.tag) {
    out.put(";=");
    out.behind(kTagAt, static_cast<std::uint8_t>(out.last() - 1));
    out.part(3, out.last(), out.next());
    out.tag();
  }
  return out.form();
}

struct AddressForms {
  std::array<AddressForm, kForms> forms{};
  std::array<std::uint8_t, kFormSlots> slots{}; // by form_slot()
  std::uint64_t multiplier = 0;
};

consteval std::uint64_t form_word(const AddressForm& form, std::size_t begin) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < 8; ++i)
    out |= static_cast<std::uint64_t>(static_cast<unsigned char>(form.delimiters[begin + i])) << (8 * i);
  return out;
}

consteval AddressForms make_address_forms() {
  AddressForms out;
  std::size_t count = 0;
  for (unsigned bits = 0; bits < 256; ++bits) {
    const auto bit = [bits](unsigned i) { return (bits >> i & 1) != 0; };
    const FormParts parts{bit(7), bit(6), bit(5), bit(4), bit(3), bit(2), bit(1), bit(0)};
    if ((!parts.brackets && (parts.display || parts.uri_parameter)) ||
        (!parts.display && (parts.display_space || parts.space)))
      continue;
    out.forms[count++] = write_form(parts);
  }
  std::array<std::array<std::uint64_t, 2>, kForms> words{};
  for (std::size_t i = 0; i < kForms; ++i) words[i] = {form_word(out.forms[i], 0), form_word(out.forms[i], 8)};
  for (out.multiplier = 0x9e37'79b9'7f4a'7c15;; out.multiplier += 0x1'0000'0002) { // until each has a slot of its own
    std::array<std::uint64_t, kFormSlots / 64> taken{};
    bool good = true;
    for (std::size_t i = 0; good && i < kForms; ++i) {
      const std::size_t slot = form_slot(words[i][0], words[i][1], out.multiplier);
      good = (taken[slot / 64] >> slot % 64 & 1) == 0;
      taken[slot / 64] |= std::uint64_t{1} << slot % 64;
    }
    if (good) break;
  }
  for (std::size_t i = 0; i < kForms; ++i)
    out.slots[form_slot(words[i][0], words[i][1], out.multiplier)] = static_cast<std::uint8_t>(i);
  return out;
}
inline constexpr AddressForms kAddressForms = make_address_forms();

} // namespace sipward::sip
