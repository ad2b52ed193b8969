// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "policy/address.h"

// Private to this layer. The kinds of values that a key can have: what is allowed, how it is read, how it is printed.
namespace sipward::config {

// Why a text is refused, when `allowed` alone would not help; empty: `"TEXT" is not ALLOWED` says it all.
using Objection = std::string;

template<class T>
struct Kind {
  using Value = T;
  std::string allowed; // fits behind "is not": "a whole number from 1 to 65535"
  std::function<std::expected<T, Objection>(const std::string& text)> read;
  std::function<std::string(const T& value)> print; // a YAML scalar that read() takes; the same value again
};

Kind<std::uint64_t> whole(std::uint64_t least, std::uint64_t most);
Kind<bool> flag();
Kind<std::chrono::seconds> duration(std::chrono::seconds least, std::chrono::seconds most);
Kind<double> rate(); // per second
Kind<std::uint64_t> size(std::uint64_t least, std::uint64_t most);
Kind<std::string> port(); // of the dataplane
Kind<std::string> file_path(std::size_t longest);
Kind<std::string> group();
Kind<std::string> listen_address();
Kind<std::string> user_agent();
Kind<policy::Address> address();
Kind<policy::Prefix> prefix();
Kind<std::string> allow_entry(); // an address, a range, a name or file:PATH, as written; names in lower case
Kind<std::string> or_empty(Kind<std::string> kind, const std::string& meaning); // or "", which means that

inline constexpr std::string_view kFileMark = "file:";
// Octets, of the settings or a list that they name; 65,536 allowed ranges fit four times.
inline constexpr std::uintmax_t kLargestFile = std::uintmax_t{16} << 20;

template<class E>
using Name = std::pair<std::string_view, E>;
// How many octets of UTF-8 (RFC 3629) the first character takes; 0: it is none, or a control character other than tab
// and line ends.
std::size_t character_size(std::string_view text);
std::string join(std::span<const std::string> words, std::string_view between);
std::string in_quotes(std::string_view text);   // for messages: in quotes, shortened, nothing unprintable
std::string yaml_text(const std::string& text); // quoted where YAML needs it

// One of a few names. The names must outlive the kind.
template<class E, std::size_t N>
Kind<E> choice(const Name<E> (&names)[N]) {
  std::vector<std::string> words;
  for (const auto& name : names) words.emplace_back(name.first);
  return {"one of " + join(words, ", "),
          [&names](const std::string& text) -> std::expected<E, Objection> {
            for (const auto& [name, value] : names)
              if (name == text) return value;
            return std::unexpected(Objection{});
          },
          [&names](const E& value) {
            for (const auto& [name, named] : names)
              if (named == value) return std::string(name);
            return std::string{};
          }};
}

// Many values of one kind.
template<class T>
struct List {
  Kind<T> entry;
  std::size_t least = 0;
  std::size_t most = 0;
  enum class Repeats : std::uint8_t { Allowed, Refused } repeats = Repeats::Allowed;
  enum class Single : std::uint8_t {
    Refused,
    Allowed
  } single = Single::Refused; // may one entry stand without brackets?
};

} // namespace sipward::config
