// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/frame.h"
#include "policy/judge.h"

// SIP messages that come in IP fragments (RFC 791, RFC 8200 section 4.5) are judged whole, and let through as they
// came. Pure: no DPDK and no clock here, replay puts its captures together with the same code. One thread.
//
//   frame ─ parse_frame ─ Fragment ─ join ─┬─ of no interest: released at once
//                                          ├─ part of what may be SIP: held, until ─┬─ the datagram is whole: judge it
//                                          │                                        ├─ its first fragment shows other
//                                          │                                        │  ports: all of it is let by
//                                          │                                        └─ time is up, no room: dropped
//                                          └─ a trick: it and what is held of its datagram dropped, by name
//
// What is held, and what not. Media, tunnels, pings and every other thing of IPv4 that is not UDP pass at once, and so
// does what is not between the outside and a protected server. Of the rest the first fragment decides, for it has the
// ports: if they are not SIP's, it passes, and whatever follows of the same datagram. Senders send it first, so
// nothing but SIP waits, and a fragment lost on the way stops nobody. In IPv6 the first fragment also says what the
// datagram is (the others name a header, but receivers do not look): until it comes, all are held.
//
// What must not blind us. The server keeps fragments for 30 s or 60 s and puts together whatever arrives:
// - A fragment of SIP, or one whose first is still missing, never passes because time is up: it is dropped. Whoever
//   sends the last one first and waits has lost it. For honest senders nothing is lost by that: their datagram is not
//   whole, and their next try is a new one.
// - Fragments that overlap or contradict each other mean one thing to us and another to the server: all are dropped,
//   and so is what follows under their number (RFC 5722). A second copy with the same octets is no contradiction.
// - A first fragment without the ports is dropped (RFC 7112), and a datagram of more than kMostFragments.
// - A number that stood for one kind of datagram (SIP, or not) cannot stand for the other kind while the server may
//   hold leftovers: that is remembered for as long.
// - The server drops a fragment with a wrong IPv4 header checksum: it is none to us.
// What it cannot see: a fragment that dies between here and the server, where routers stand between them (its TTL was
// made so), leaves others waiting there that are then completed by those of another datagram, clean by itself.
//
// Why not rte_ip_frag. It writes into the packets that it puts together (in IPv6 the headers are moved over the
// fragment header), so held originals would have to be copies, octet by octet, not clones; it forgets the overdue and
// the displaced without a word, so a second table, of the originals, would have to guess what the first one does; it
// checks no overlaps, knows no extension header before the fragment header, leaves a chain that must be copied once
// more to be parsed, and cannot run in replay. What it would save is the adding up of lengths.
namespace sipward::dataplane {

// The limits, of each worker. Held frames come out of the ports' packet pools, which have room for them (port.cpp).
inline constexpr std::size_t kMostFragments = 8;   // of a datagram
inline constexpr std::size_t kMostDatagrams = 512; // held; one more, and the oldest goes
inline constexpr std::size_t kMostHeld = 1024;     // frames held; one more, and the oldest datagram goes
inline constexpr std::size_t kRemembered = 4096;   // numbers of datagrams gone by; the first to run out goes
inline constexpr policy::Duration kPatience = std::chrono::seconds(2); // with a datagram that is not whole
inline constexpr policy::Duration kServersPatience = std::chrono::seconds(60);

class Fragments {
public:
  // A frame of the caller's, and the way it came: handed back as they were given.
  struct Frame {
    void* frame;
    const void* path;
  };
  // Frames that wait no longer, in the order in which they came (none: the new one is held), and what becomes of them
  // all. Valid until the next call.
  struct Release {
    std::span<const Frame> frames;
    std::optional<policy::Verdict> verdict; // if there is none yet: judge the datagram, as if it had come in one frame
    FrameKind kind = FrameKind::Fragment;   // Udp: whole now; Fragment: let by; Bad
    policy::Datagram datagram;
  };

  // `secret`: nobody who knows it not can aim at one bucket.
  explicit Fragments(std::uint64_t secret) noexcept : secret_(secret) { forget_all(); }

  // `packet`: what parse_frame said of a FrameKind::Fragment, with its side. The octets that it points to must stay for
  // as long as the frame is held.
  Release join(const Frame& frame, const policy::Datagram& packet, const policy::Rules& rules,
               policy::Time now) noexcept;

  // After join(), and while any(): the oldest held datagram, if it must go because its time is up or there is no room.
  // Again and again until it gives no frames. With Time::max() everything goes.
  Release leave(const policy::Rules& rules, policy::Time now) noexcept;

  bool any() const noexcept { return datagrams_ != 0; }
  std::size_t datagrams() const noexcept { return datagrams_; }
  std::size_t held() const noexcept { return held_; }

private:
  // What makes fragments belong together, at the receiver's too: it does not ask for VLANs, nor do we.
  struct Key {
    policy::Address source, destination;
    std::uint32_t number = 0; // the IP header's identification
    bool v6 = false;
    policy::Side side = policy::Side::Unknown;
    friend bool operator==(const Key&, const Key&) = default;
  };
  //   ┌──────────┬───────────────────┬─────────────────────┬──────┐
  //   │ Ethernet │ header            │ (fragment header)   │ data │   in the whole packet `data` stands at `offset`
  //   └──────────┴───────────────────┴─────────────────────┴──────┘   behind the first fragment's `header`
  struct Fragment {
    std::span<const std::uint8_t> header, data;
    std::size_t next_at = 0;  // IPv6: where in the header it says what follows it
    std::uint8_t next = 0;    // what follows the fragment header; IPv4: UDP
    std::uint32_t offset = 0; // octets
    bool more = false;        // others come behind it
    std::uint32_t number = 0; // identification
    std::uint32_t end() const noexcept { return offset + static_cast<std::uint32_t>(data.size()); }
  };
  enum class Class : std::uint8_t { Unknown, Sip, Other, Tiny }; // Unknown: not a first fragment
  enum class Fit : std::uint8_t { Fits, Copy, Contradicts };
  // Slots are named by their place; kNone ends a chain.
  using Place = std::uint16_t;
  static constexpr Place kNone = 0xffff;
  struct Slot {
    Key key;
    std::uint64_t hash = 0;
    policy::Time since;
    std::array<Fragment, kMostFragments> pieces;
    std::array<Frame, kMostFragments> frames;
    std::uint8_t count = 0;
    std::uint32_t octets = 0; // of data
    std::uint32_t total = 0;  // octets of data of the whole; 0: not known yet
    Place in_bucket = kNone;  // the next of the same bucket; or the next free one
    Place older = kNone, younger = kNone;
  };
  struct Memory {
    std::uint64_t hash = 0; // of the key; all 64 bits stand for it
    policy::Time until = policy::Time::min();
    Class kind = Class::Unknown;             // Sip or Other; Unknown: refused
    policy::Why why = policy::Why::Fragment; // it was refused
  };
  static constexpr std::size_t kBuckets = 1024;
  static constexpr std::size_t kWays = 4; // places in which a memory can be
  static constexpr std::size_t kLongest = 40 + 8 * 8 + 65535;

  static std::optional<Fragment> read(const policy::Datagram& packet) noexcept;
  static Class class_of(const Fragment& fragment, const policy::Datagram& packet, const policy::Rules& rules) noexcept;
  static Fit fit(const Slot& slot, const Fragment& fragment) noexcept;

  std::uint64_t hash(const Key& key) const noexcept;
  Memory* recall(std::uint64_t hash, policy::Time now) noexcept;
  void remember(std::uint64_t hash, Class kind, policy::Why why, policy::Time now) noexcept;

  Place find(const Key& key, std::uint64_t hash) const noexcept;
  Place open(const Key& key, std::uint64_t hash, policy::Time now) noexcept;
  void forget_all() noexcept;
  Release alone(const Frame& frame, const policy::Datagram& packet, std::optional<policy::Verdict> verdict,
                FrameKind kind = FrameKind::Fragment) noexcept;
  Release close(Place place, const Frame* last, const policy::Datagram& packet,
                std::optional<policy::Verdict> verdict) noexcept;
  Release refuse(Place place, std::uint64_t hash, const Frame& frame, const policy::Datagram& packet, policy::Why why,
                 const policy::Rules& rules, policy::Time now) noexcept;
  Release whole(Place place, const policy::Rules& rules, policy::Time now) noexcept;

  const std::uint64_t secret_;
  std::size_t datagrams_ = 0;
  std::size_t held_ = 0; // frames
  Place free_ = kNone, oldest_ = kNone, youngest_ = kNone;
  std::array<Place, kBuckets> buckets_;
  std::array<Slot, kMostDatagrams + 1> slots_;
  std::array<Memory, kRemembered> memories_;
  std::array<Frame, kMostFragments + 1> released_;
  std::array<std::uint8_t, kLongest> packet_; // the whole one
};

} // namespace sipward::dataplane
