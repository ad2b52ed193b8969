// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

// The usual forms of an address, and of a Via, told from the delimiters in it alone. Private to sip/.
//
//   "Ann" <sip:ann@example.com:5060>;tag=1
//   "   " <   :   @           :    >;   =  end
//   0   123   4   5           6    78   9  10
//
//   UDP 192.0.2.1:5060;branch=z9hG4bK1;rport
//      |         |    |      |        |     end
//      0         1    2      3        4     5
//
// Each part stands behind one of them, up to another: from the places of the delimiters, a table makes all parts at
// once.
namespace sipward::sip {

struct alignas(64) ValueForm {
  char delimiters[16];  // and zeroes behind them
  std::uint8_t at[16];  // of display, user, host and tag, where each begins and ends; of "sip:" and of "tag=", where it
                        // begins: as numbers of delimiters (kNowhere: at 0). Of a Via: transport, sent-by, branch and
                        // rport; "rport" and "branch=".
  std::uint8_t add[16]; // to that: 1 behind it
  std::uint8_t has[8];  // 0xff, by begins and ends: the part is there
  std::uint32_t tag;    // ones, where a tag is
  std::uint8_t first;   // where the first delimiter stands
};

inline constexpr std::uint8_t kNowhere = 0x80;
inline constexpr std::size_t kSchemeAt = 8, kTagAt = 9;   // in `at`
inline constexpr std::size_t kRportAt = 8, kBranchAt = 9; // of a Via
inline constexpr std::size_t kFormSlots = 512;

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
  // Part `which` is what stands before delimiter `end`.
  constexpr void front(std::size_t which, std::uint8_t end) noexcept {
    form_.at[2 * which + 1] = end;
    form_.has[2 * which] = form_.has[2 * which + 1] = 0xff;
  }
  // Part `which` is empty, and stands at this delimiter.
  constexpr void nothing(std::size_t which, std::uint8_t delimiter) noexcept {
    form_.at[2 * which] = form_.at[2 * which + 1] = delimiter;
    form_.has[2 * which] = form_.has[2 * which + 1] = 0xff;
  }
  constexpr void behind(std::size_t place, std::uint8_t delimiter) noexcept {
    form_.at[place] = delimiter, form_.add[place] = 1;
  }
  constexpr void tag() noexcept { form_.tag = ~0u; }
  constexpr void first(std::uint8_t place) noexcept { form_.first = place; }
  constexpr const ValueForm& form() const noexcept { return form_; }

private:
  ValueForm form_{};
  std::uint8_t count_ = 0;
};

// Which of its optional things a form has.
struct FormParts {
  bool brackets, display, display_space, space, user, port, uri_parameter, tag;
};

consteval ValueForm write_form(const FormParts& parts) {
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

template<std::size_t Forms>
struct FormTable {
  std::array<ValueForm, Forms> forms{};
  std::array<std::uint8_t, kFormSlots> slots{}; // by form_slot()
  std::uint64_t multiplier = 0;
};

consteval std::uint64_t form_word(const ValueForm& form, std::size_t begin) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < 8; ++i)
    out |= static_cast<std::uint64_t>(static_cast<unsigned char>(form.delimiters[begin + i])) << (8 * i);
  return out;
}

template<std::size_t Forms>
consteval FormTable<Forms> make_form_table(const std::array<ValueForm, Forms>& forms) {
  FormTable<Forms> out;
  out.forms = forms;
  std::array<std::array<std::uint64_t, 2>, Forms> words{};
  for (std::size_t i = 0; i < Forms; ++i) words[i] = {form_word(forms[i], 0), form_word(forms[i], 8)};
  for (out.multiplier = 0x9e37'79b9'7f4a'7c15;; out.multiplier += 0x1'0000'0002) { // until each has a slot of its own
    std::array<std::uint64_t, kFormSlots / 64> taken{};
    bool good = true;
    for (std::size_t i = 0; good && i < Forms; ++i) {
      const std::size_t slot = form_slot(words[i][0], words[i][1], out.multiplier);
      good = (taken[slot / 64] >> slot % 64 & 1) == 0;
      taken[slot / 64] |= std::uint64_t{1} << slot % 64;
    }
    if (good) break;
  }
  for (std::size_t i = 0; i < Forms; ++i)
    out.slots[form_slot(words[i][0], words[i][1], out.multiplier)] = static_cast<std::uint8_t>(i);
  return out;
}

consteval std::array<ValueForm, 88> address_forms() {
  std::array<ValueForm, 88> out{};
  std::size_t count = 0;
  for (unsigned bits = 0; bits < 256; ++bits) {
    const auto bit = [bits](unsigned i) { return (bits >> i & 1) != 0; };
    const FormParts parts{bit(7), bit(6), bit(5), bit(4), bit(3), bit(2), bit(1), bit(0)};
    if ((!parts.brackets && (parts.display || parts.uri_parameter)) ||
        (!parts.display && (parts.display_space || parts.space)))
      continue;
    out[count++] = write_form(parts);
  }
  return out;
}

enum class Rport : std::uint8_t { None, First, Last };

consteval ValueForm write_via_form(bool port, Rport rport) {
  FormWriter out;
  const auto put_rport = [&out] {
    out.put(";");
    out.behind(kRportAt, out.last());
    out.nothing(3, out.next());
  };
  out.put(" ");
  out.front(0, 0);
  if (port) out.put(":");
  out.part(1, 0, out.next());
  if (rport == Rport::First) put_rport();
  out.put(";=");
  out.behind(kBranchAt, static_cast<std::uint8_t>(out.last() - 1));
  out.part(2, out.last(), out.next());
  if (rport == Rport::Last) put_rport();
  return out.form();
}
consteval std::array<ValueForm, 6> via_forms() {
  return {write_via_form(false, Rport::None), write_via_form(false, Rport::First), write_via_form(false, Rport::Last),
          write_via_form(true, Rport::None),  write_via_form(true, Rport::First),  write_via_form(true, Rport::Last)};
}

inline constexpr FormTable kAddressForms = make_form_table(address_forms());
inline constexpr FormTable kViaForms = make_form_table(via_forms());

} // namespace sipward::sip
