// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "daemon/text.h"
#include "policy/block_list.h"

// What sipward remembers over restarts, as plain values. Times are the wall clock's: the monotonic one starts anew with
// every boot. A record says "this is so from now on", whatever was remembered under its key before.
namespace sipward::daemon {

struct BlockKey { // a host can be blocked and limited at once
  policy::Subject subject;
  bool limit = false;
  friend auto operator<=>(const BlockKey&, const BlockKey&) = default;
};
struct BlockRecord {
  policy::Block block; // its own `since` and `until` are a boot's, and are not kept
  WallTime since, until;
};
BlockRecord to_record(const policy::Block& block, const WallClock& clock);
policy::Block from_record(const BlockRecord& record, const WallClock& clock);
inline constexpr WallClock kUnixClock; // of blocks whose times are the wall clock's already

// How far an offender has climbed.
struct LadderRecord { // key: subject
  policy::Subject subject;
  std::uint32_t step = 0;
  WallTime last; // when it was reached
};

// A few octets whose meaning is the trust book's own.
struct Sketch {
  static constexpr std::size_t kCapacity = 64;
  std::uint8_t size = 0;
  std::array<std::uint8_t, kCapacity> octets{};

  Sketch() = default;
  explicit Sketch(std::span<const std::uint8_t> from) noexcept { // what is beyond the capacity is left out
    for (; size < from.size() && size < kCapacity; ++size) octets[size] = from[size];
  }
  std::span<const std::uint8_t> view() const noexcept { return {octets.data(), size}; }
};

// A source that succeeded.
struct TrustRecord { // key: source
  policy::Prefix source;
  WallTime last_success;
  std::uint32_t users = 0;   // registered, estimated
  double answered_per_s = 0; // requests answered with success
  Sketch sketch;
};

// A user who succeeded, for provisional trust at a new address. `hash` is what the ledger keeps of his, keyed with
// ledger_secret(StateContents::secret): its upper 36 bits, and which bucket it is in.
struct UserRecord { // key: hash
  std::uint64_t hash = 0;
  WallTime last_success;
};

// An address that the operator has taken out of judgement for a while.
enum class ExemptionKind : std::uint8_t { Allowed, Immune }; // `allow ADDR`, and after `unblock ADDR --immune`
std::string_view to_string(ExemptionKind kind) noexcept;
struct Exemption { // key: kind and prefix
  ExemptionKind kind = ExemptionKind::Allowed;
  policy::Prefix prefix;
  std::optional<WallTime> until; // nothing: until it is taken back
};

struct OffSwitch { // `sipward off`; there is one
  bool off = false;
  WallTime since;
  std::optional<WallTime> until; // nothing: until `on`
  std::string reason;
};

struct Learning { // there is one
  std::optional<WallTime> started;
  bool armed = false; // by hand, before its time
};

// One decision, as history tells it.
struct HistoryRecord {
  std::int64_t id = 0; // ascending in the order of the decisions; given by the database
  WallTime at;
  std::string event;                               // as the block log calls it: "block", "unlimit", "alert"
  std::optional<BlockRecord> block = {};           // nothing for an alert
  policy::Ending ending = policy::Ending::Expired; // of a block that ended
  std::string text = {};                           // of an alert
  std::optional<policy::Subject> about = {};       // whom an alert concerns, if it is one
  std::uint64_t user = 0;                          // the hash of the user it concerns; 0: none
};
// Where a reader of history is. It begins with the time from which on he wants to know.
struct HistoryPlace {
  WallTime at;
  std::int64_t id = 0;
};

inline BlockKey key_of(const policy::Block& block) noexcept { return {block.subject, block.limit.has_value()}; }
inline BlockKey key_of(const BlockRecord& record) noexcept { return key_of(record.block); }
inline const policy::Subject& key_of(const LadderRecord& record) noexcept { return record.subject; }
inline const policy::Prefix& key_of(const TrustRecord& record) noexcept { return record.source; }
inline std::uint64_t key_of(const UserRecord& record) noexcept { return record.hash; }
inline std::pair<ExemptionKind, policy::Prefix> key_of(const Exemption& record) noexcept {
  return {record.kind, record.prefix};
}
template<class Record>
using Key = std::remove_cvref_t<decltype(key_of(std::declval<const Record&>()))>;

template<class Record>
struct Gone { // the record under this key is no more
  Key<Record> key;
};
template<class Record>
struct AllGone {};

// Everything remembered of these addresses but the blocks that stand: trust, ladder, history.
struct Forget {
  policy::Prefix addresses;
};
// A user, and the history that concerns him.
struct ForgetUser {
  std::uint64_t hash = 0;
};

// What is older than these is forgotten. Only to be said while the wall clock can be believed.
struct Retention {
  WallTime now; // blocks, exemptions that ended before are gone
  std::chrono::seconds history = std::chrono::hours(24 * 30);
  std::chrono::seconds trust = std::chrono::hours(24 * 14); // and users
  std::chrono::seconds ladder = std::chrono::hours(24 * 30);
};

using StateChange =
    std::variant<BlockRecord, Gone<BlockRecord>, AllGone<BlockRecord>, LadderRecord, Gone<LadderRecord>,
                 AllGone<LadderRecord>, TrustRecord, Gone<TrustRecord>, UserRecord, Gone<UserRecord>, Exemption,
                 Gone<Exemption>, OffSwitch, Learning, HistoryRecord, Forget, ForgetUser, Retention>;
using StateChanges = std::vector<StateChange>; // carried out in this order, all or none

// What one change of the block list means for the state: the block itself, and a line of history.
void append(StateChanges& to, const policy::BlockChange& change, policy::Time at, const WallClock& clock);

// How many rows a table may have; beyond, the oldest go.
struct StateLimits {
  std::size_t ladder = std::size_t{1} << 18;
  std::size_t trust = std::size_t{1} << 18;
  std::size_t users = std::size_t{1} << 20;
  std::size_t history = 200'000;
};

// Everything that was on file.
using StateSecret = std::array<std::uint8_t, 16>;
struct StateContents {
  std::vector<BlockRecord> blocks; // those whose end has passed, too: it may be the clock that is wrong
  std::vector<LadderRecord> ladder;
  std::vector<TrustRecord> trust;
  std::vector<UserRecord> users;
  std::vector<Exemption> exemptions;
  OffSwitch off;
  Learning learning;
  StateSecret secret{};             // of the users' hashes; drawn once, when the file is made
  std::optional<WallTime> saved_at; // what the wall clock last said; it ought to be later now. Nothing: a new file
  std::uint64_t unreadable = 0;     // rows that make no sense, left out
};

} // namespace sipward::daemon
