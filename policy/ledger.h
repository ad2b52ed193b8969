// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "policy/recent_set.h"
#include "policy/source_sketch.h"
#include "policy/source_table.h"
#include "policy/trust.h"
#include "policy/wellbeing.h"

// What the judge remembers, all of it, in memory that the caller hands in. Shared by all workers.
namespace sipward::policy {

// Distinct sources that something happened to since somebody last asked. Workers note, the control thread takes.
class Distinct {
public:
  void note(std::uint64_t hash) noexcept {
    auto& word = words_[hash >> 62];
    const std::uint64_t bit = std::uint64_t{1} << (hash >> 56 & 63);
    if ((word.load(std::memory_order_relaxed) & bit) == 0) word.fetch_or(bit, std::memory_order_relaxed);
  }
  SourceSketch take() noexcept {
    SourceSketch taken;
    for (std::size_t i = 0; i < words_.size(); ++i) taken.words[i] = words_[i].exchange(0, std::memory_order_relaxed);
    return taken;
  }

private:
  std::array<Atomic<std::uint64_t>, SourceSketch::kBits / 64> words_{};
};

// How our server and those whom it serves fare, for whoever judges that (wellbeing.h).
struct Pulse {
  Distinct asking, answered, served, failed; // trusted sources
  Distinct sources;                          // everybody outside
};

// What reached a protected server, for the surge warning. Two workers may lose one of a count.
struct Load {
  Atomic<std::uint64_t> packets = 0, octets = 0;
  void add(std::size_t size) noexcept {
    packets.store(packets.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    octets.store(octets.load(std::memory_order_relaxed) + size, std::memory_order_relaxed);
  }
};

class Ledger {
public:
  // Octets of memory that a ledger of `capacity` sources needs, a multiple of 64.
  static std::size_t octets(std::uint32_t capacity) noexcept {
    return SourceTable::octets(capacity) + 3 * SourceTable::octets(few(capacity)) + TrustTable::octets(some(capacity)) +
           RecentSet::octets(capacity) + 2 * RecentSet::octets(some(capacity));
  }

  // `memory`: at least octets(capacity), aligned to 64, zeroed, kept by the caller for as long as the ledger lives.
  // `users`: the secret of users' hashes alone, which may outlast this ledger.
  Ledger(std::span<std::byte> memory, std::uint32_t capacity, Secret secret) noexcept
      : Ledger(memory, capacity, secret, secret) {}
  Ledger(std::span<std::byte> memory, std::uint32_t capacity, Secret secret, Secret users) noexcept
      : sources(part(memory, SourceTable::octets(capacity)), capacity, secret),
        endpoints(part(memory, SourceTable::octets(few(capacity))), few(capacity), secret),
        trust(part(memory, TrustTable::octets(some(capacity))), some(capacity), secret),
        transactions(part(memory, RecentSet::octets(capacity)), capacity),
        echoes(part(memory, RecentSet::octets(some(capacity))), some(capacity)),
        known_users(part(memory, RecentSet::octets(some(capacity))), some(capacity)),
        targets(part(memory, SourceTable::octets(few(capacity))), few(capacity), secret),
        networks(part(memory, SourceTable::octets(few(capacity))), few(capacity), secret), secret_(secret),
        users_(users) {}

  SourceTable sources;
  SourceTable endpoints; // one address and port each, of trusted sources: by endpoint_key()
  TrustTable trust;
  RecentSet transactions; // requests lately seen, in seconds; with the notes below
  RecentSet echoes;       // what our server sent that only its receiver can repeat: nonces, tags, branches; in seconds
  RecentSet known_users;  // who registered with success, and from which ports; in minutes
  SourceTable targets;    // users whose password was guessed wrong, by target_key(); their `users` are the guessers
  SourceTable networks;   // of strangers, by prefix_key(): their meters only
  Pulse pulse;
  static constexpr std::size_t kMaxLoads = 64;
  std::array<Load, kMaxLoads>
      loads; // by the server's place in Rules::servers, 0 if none are named; beyond: not watched

  static constexpr std::uint8_t kUser = 1; // note of a known user; a known port's is 0
  // Notes of a transaction. Credentialed: for a nonce of ours. Settled: its final answer was seen. Refunded: it was
  // given back to the meter. Light: it weighed little from the start. Count: its retransmissions, or the guesses in it
  // that wait for their answers.
  static constexpr std::uint8_t kCredentialed = 0x80, kSettled = 0x40, kRefunded = 0x20, kLight = 0x10, kCount = 0x0f;
  // Notes of an echo: a tag that makes a dialogue; of a call with success; which was credited to its caller.
  static constexpr std::uint8_t kDialogue = 0x40, kAnswered = 0x80, kCredited = 0x20;
  static constexpr std::uint32_t kTransactionS = 32;     // RFC 3261, section 17: 64 * T1
  static constexpr std::uint32_t kEchoS = 4 * 3600;      // nonces live for minutes, calls for hours
  static constexpr std::uint32_t kPortMinutes = 24 * 60; // registrations are refreshed within hours

  // Control thread. Takes over what another ledger of the same capacity and secret remembers of honest parties: whom it
  // trusts, users, ports, and the calls and transactions under way. Not how much anybody has sent.
  void inherit(const Ledger& other, std::uint32_t now_s) noexcept {
    trust.copy(other.trust, now_s);
    transactions.copy(other.transactions);
    echoes.copy(other.echoes);
    known_users.copy(other.known_users);
  }

  // Control thread. What the pulse has noted since it was last asked, with what was counted elsewhere.
  LastSecond take_second(std::uint64_t requests, std::uint64_t answers) noexcept {
    return {pulse.asking.take(),
            pulse.answered.take(),
            pulse.served.take(),
            pulse.failed.take(),
            pulse.sources.take(),
            requests,
            answers};
  }

  // The ports that somebody of this source registered from, or called, within a day. Control thread: it asks for every
  // port that there is, some milliseconds.
  std::vector<std::uint16_t> known_ports(SourceKey source, std::uint32_t now_s) const {
    std::vector<std::uint16_t> ports;
    for (std::uint32_t port = 1; port <= UINT16_MAX; ++port)
      if (known_users.find(port_hash(source, static_cast<std::uint16_t>(port)), now_s / 60, kPortMinutes))
        ports.push_back(static_cast<std::uint16_t>(port));
    return ports;
  }

  // A keyed hash of a text, together with a number.
  std::uint64_t hash(std::string_view text, std::uint64_t with = 0) const noexcept {
    return text_hash(text, with, secret_);
  }
  std::uint64_t user_hash(std::string_view name) const noexcept { return text_hash(name, 0, users_); }
  static SourceKey target_key(std::uint64_t user) noexcept { return user >> 16 | 1; } // no first octet of ff
  SourceKey endpoint_key(SourceKey source, std::uint16_t port) const noexcept {
    return keyed_hash(source ^ std::uint64_t{port} << 40, secret_) >> 16 | 1; // no first octet of ff
  }

  std::uint64_t port_hash(SourceKey source, std::uint16_t port) const noexcept { // among known_users
    return hash({}, endpoint_key(source, port));
  }

private:
  static std::uint32_t few(std::uint32_t capacity) noexcept { return std::max(capacity / 16, 1024u); }
  static std::uint32_t some(std::uint32_t capacity) noexcept { return std::max(capacity / 4, 1024u); }
  static std::span<std::byte> part(std::span<std::byte>& memory, std::size_t octets) noexcept {
    const auto first = memory.first(octets);
    memory = memory.subspan(octets);
    return first;
  }
  Secret secret_, users_;
};

} // namespace sipward::policy
