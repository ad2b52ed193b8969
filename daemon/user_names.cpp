// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/user_names.h"

#include <fmt/format.h>

#include <bit>

#include "daemon/text.h"

namespace sipward::daemon {
namespace {

// Octets as a little-endian number, whatever the machine.
std::uint64_t word_of(const auto* octets, std::size_t size) noexcept {
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < size; ++i) word |= std::uint64_t{static_cast<std::uint8_t>(octets[i])} << (8 * i);
  return word;
}

struct SipState {
  std::uint64_t a, b, c, d;

  void round() noexcept {
    a += b, c += d;
    b = std::rotl(b, 13) ^ a, d = std::rotl(d, 16) ^ c;
    a = std::rotl(a, 32);
    c += b, a += d;
    b = std::rotl(b, 17) ^ c, d = std::rotl(d, 21) ^ a;
    c = std::rotl(c, 32);
  }
  void take(std::uint64_t word) noexcept {
    d ^= word;
    round(), round();
    a ^= word;
  }
};

} // namespace

std::uint64_t siphash(std::string_view text, const StateSecret& key) noexcept {
  const std::uint64_t low = word_of(key.data(), 8), high = word_of(key.data() + 8, 8);
  SipState state{low ^ 0x736f6d6570736575, high ^ 0x646f72616e646f6d, low ^ 0x6c7967656e657261,
                 high ^ 0x7465646279746573};
  const std::uint64_t size = text.size();
  for (; text.size() >= 8; text.remove_prefix(8)) state.take(word_of(text.data(), 8));
  state.take(word_of(text.data(), text.size()) | size << 56);
  state.c ^= 0xff;
  for (int i = 0; i < 4; ++i) state.round();
  return state.a ^ state.b ^ state.c ^ state.d;
}

policy::Secret ledger_secret(const StateSecret& key) noexcept {
  return {siphash("known user a", key), siphash("known user b", key), siphash("known user c", key),
          siphash("known user d", key)};
}

std::string UserNames::shown(std::string_view name) const {
  switch (how_) {
  case config::LogUsers::Full: return in_quotes(name);
  case config::LogUsers::Hash: return fmt::format("hash:{:016x}", hash(name));
  case config::LogUsers::Off: break;
  }
  return "-";
}

} // namespace sipward::daemon
