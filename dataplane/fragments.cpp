// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/fragments.h"

#include <algorithm>

namespace sipward::dataplane {
namespace {

using Octets = std::span<const std::uint8_t>;
using policy::Side;
using policy::Why;

constexpr std::uint8_t kUdp = 17;
constexpr std::uint8_t kFragmentHeader = 44;
constexpr std::size_t kIpv6Header = 40;
constexpr std::uint32_t kLongestData = 65535;

std::uint16_t u16(Octets octets, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(octets[at] << 8 | octets[at + 1]);
}

bool is_v6(const policy::Datagram& packet) noexcept {
  return !packet.payload.empty() && static_cast<std::uint8_t>(packet.payload[0]) >> 4 == 6;
}

// RFC 791: the sum over a header with its checksum is all ones.
bool is_intact(Octets ipv4_header) noexcept {
  std::uint32_t sum = 0;
  for (std::size_t at = 0; at < ipv4_header.size(); at += 2) sum += u16(ipv4_header, at);
  while (sum > 0xffff) sum = (sum >> 16) + (sum & 0xffff);
  return sum == 0xffff;
}

// The length of an IPv6 extension header that may stand before UDP or a fragment header; 0: it is none of these.
std::size_t extension_length(std::uint8_t header, Octets octets) noexcept {
  switch (header) {
  case 0:
  case 43:
  case 60:
  case 135: return (octets[1] + std::size_t{1}) * 8;
  case 51: return (octets[1] + std::size_t{2}) * 4;
  default: return 0;
  }
}

// Could a packet between these two be SIP, by what is known without the ports?
bool may_concern(const policy::Rules& rules, policy::Datagram packet) noexcept {
  if (rules.ports.empty()) return false;
  packet.source_port = packet.destination_port = rules.ports.front();
  return policy::way_of(rules, packet) != policy::Way::Aside;
}

// Tricks are dropped where they would reach a server of ours; a copy is only counted, and a dry run drops nothing.
policy::Verdict refusal(Why why, const policy::Rules& rules, Side side) noexcept {
  return {.why = why, .drop = rules.drop_convicting && side == Side::Outside};
}

void write16(std::span<std::uint8_t> octets, std::size_t at, std::size_t value) noexcept {
  octets[at] = static_cast<std::uint8_t>(value >> 8);
  octets[at + 1] = static_cast<std::uint8_t>(value);
}

} // namespace

Fragments::Release Fragments::join(const Frame& frame, const policy::Datagram& packet, const policy::Rules& rules,
                                   policy::Time now) noexcept {
  if (!may_concern(rules, packet)) return alone(frame, packet, {});
  const auto fragment = read(packet);
  if (!fragment) return alone(frame, packet, {}, FrameKind::Bad);
  if (packet.truncated)
    return packet.side == Side::Outside ? alone(frame, packet, refusal(Why::TooLong, rules, packet.side))
                                        : alone(frame, packet, {});

  const Key key{packet.source, packet.destination, fragment->number, is_v6(packet), packet.side};
  const std::uint64_t hashed = hash(key);
  const Class kind = class_of(*fragment, packet, rules);
  const Memory* memory = recall(hashed, now);
  Place place = find(key, hashed);
  if (memory != nullptr && memory->kind == Class::Unknown)
    return alone(frame, packet, refusal(memory->why, rules, packet.side));
  if (kind == Class::Tiny) return refuse(place, hashed, frame, packet, Why::FragmentTiny, rules, now);
  if (memory != nullptr && kind != Class::Unknown && kind != memory->kind)
    return refuse(place, hashed, frame, packet, Why::FragmentOverlap, rules, now);
  if (memory != nullptr && memory->kind == Class::Other) return alone(frame, packet, {});

  if (place != kNone) {
    const Fit fits = fit(slots_[place], *fragment);
    if (fits == Fit::Copy) return alone(frame, packet, refusal(Why::FragmentCopy, rules, packet.side));
    if (fits == Fit::Contradicts) return refuse(place, hashed, frame, packet, Why::FragmentOverlap, rules, now);
    if (kind == Class::Sip || kind == Class::Unknown)
      if (slots_[place].count == kMostFragments)
        return refuse(place, hashed, frame, packet, Why::FragmentExcess, rules, now);
  } else if (kind != Class::Other) {
    if (fit({}, *fragment) != Fit::Fits) return refuse(kNone, hashed, frame, packet, Why::FragmentOverlap, rules, now);
    place = open(key, hashed, now);
  }
  if (kind == Class::Other) {
    remember(hashed, Class::Other, Why::Fragment, now);
    return place == kNone ? alone(frame, packet, {}) : close(place, &frame, packet, {});
  }

  Slot& slot = slots_[place];
  slot.pieces[slot.count] = *fragment;
  slot.frames[slot.count++] = frame;
  slot.octets += static_cast<std::uint32_t>(fragment->data.size());
  if (!fragment->more) slot.total = fragment->end();
  ++held_;
  if (slot.octets == slot.total) return whole(place, rules, now); // without overlaps, that is all of it
  return {};
}

Fragments::Release Fragments::leave(const policy::Rules& rules, policy::Time now) noexcept {
  if (oldest_ == kNone) return {};
  const Slot& slot = slots_[oldest_];
  const bool overdue = now - kPatience >= slot.since;
  if (!overdue && datagrams_ <= kMostDatagrams && held_ <= kMostHeld) return {};
  policy::Datagram packet;
  packet.source = slot.key.source;
  packet.destination = slot.key.destination;
  packet.side = slot.key.side;
  const Why why = overdue ? Why::FragmentOverdue : Why::FragmentDisplaced;
  return close(oldest_, nullptr, packet, refusal(why, rules, packet.side));
}

// `packet`, by what parse_frame has checked already: the IP header is whole, and the lengths are right.
std::optional<Fragments::Fragment> Fragments::read(const policy::Datagram& packet) noexcept {
  const Octets octets(reinterpret_cast<const std::uint8_t*>(packet.payload.data()), packet.payload.size());
  Fragment fragment;
  if (!is_v6(packet)) {
    const std::size_t size = octets.empty() ? 0 : (octets[0] & 0x0fu) * 4u;
    if (size < 20 || octets.size() < size || !is_intact(octets.first(size))) return std::nullopt;
    fragment.header = octets.first(size);
    fragment.data = octets.subspan(size);
    fragment.next = kUdp;
    fragment.number = u16(octets, 4);
    fragment.offset = (u16(octets, 6) & 0x1fffu) * 8;
    fragment.more = (u16(octets, 6) & 0x2000) != 0;
    return fragment;
  }
  std::size_t at = kIpv6Header, next_at = 6;
  while (octets[next_at] != kFragmentHeader) {
    if (octets.size() < at + 8) return std::nullopt;
    const std::size_t length = extension_length(octets[next_at], octets.subspan(at));
    if (length == 0) return std::nullopt;
    next_at = at;
    at += length;
  }
  if (octets.size() < at + 8) return std::nullopt;
  fragment.header = octets.first(at);
  fragment.data = octets.subspan(at + 8);
  fragment.next_at = next_at;
  fragment.next = octets[at];
  fragment.offset = u16(octets, at + 2) & 0xfff8u;
  fragment.more = (u16(octets, at + 2) & 1) != 0;
  fragment.number = std::uint32_t{u16(octets, at + 4)} << 16 | u16(octets, at + 6);
  return fragment;
}

// What a first fragment says of its datagram.
Fragments::Class Fragments::class_of(const Fragment& fragment, const policy::Datagram& packet,
                                     const policy::Rules& rules) noexcept {
  if (fragment.offset != 0) return Class::Unknown;
  Octets data = fragment.data;
  std::uint8_t next = fragment.next;
  while (next != kUdp) {
    if (next == kFragmentHeader) return Class::Tiny; // fragments of fragments: no ports either
    if (data.size() < 8) return Class::Tiny;
    const std::size_t length = extension_length(next, data);
    if (length == 0) return Class::Other;
    if (length > data.size()) return Class::Tiny;
    next = data[0];
    data = data.subspan(length);
  }
  if (data.size() < 8) return Class::Tiny;
  policy::Datagram datagram = packet;
  datagram.source_port = u16(data, 0);
  datagram.destination_port = u16(data, 2);
  return policy::way_of(rules, datagram) != policy::Way::Aside ? Class::Sip : Class::Other;
}

Fragments::Fit Fragments::fit(const Slot& slot, const Fragment& fragment) noexcept {
  if (fragment.data.empty() || fragment.end() > kLongestData) return Fit::Contradicts;
  if (fragment.more && fragment.data.size() % 8 != 0) return Fit::Contradicts;
  const std::span pieces = std::span(slot.pieces).first(slot.count);
  for (const Fragment& piece : pieces) {
    if (fragment.offset >= piece.end() || piece.offset >= fragment.end()) continue;
    const bool copy = fragment.offset == piece.offset && fragment.more == piece.more && fragment.next == piece.next &&
                      std::ranges::equal(fragment.data, piece.data);
    return copy ? Fit::Copy : Fit::Contradicts;
  }
  if (slot.total != 0 && (!fragment.more || fragment.end() > slot.total)) return Fit::Contradicts;
  if (!fragment.more &&
      std::ranges::any_of(pieces, [&](const Fragment& piece) { return piece.end() > fragment.end(); }))
    return Fit::Contradicts;
  return Fit::Fits;
}

std::uint64_t Fragments::hash(const Key& key) const noexcept {
  std::uint64_t hashed = secret_;
  const auto mix = [&](std::uint64_t word) {
    hashed = (hashed ^ word) * 0x9e3779b97f4a7c15;
    hashed = (hashed ^ hashed >> 32) * 0xd6e8feb86659fd93;
    hashed ^= hashed >> 29;
  };
  for (const auto* address : {&key.source, &key.destination})
    for (std::size_t at = 0; at < 16; at += 8) {
      std::uint64_t word = 0;
      for (std::size_t i = 0; i < 8; ++i) word = word << 8 | address->octets[at + i];
      mix(word);
    }
  mix(std::uint64_t{key.number} << 16 | static_cast<std::uint64_t>(key.side) << 8 | static_cast<unsigned>(key.v6));
  return hashed;
}

Fragments::Memory* Fragments::recall(std::uint64_t hashed, policy::Time now) noexcept {
  const std::size_t set = hashed % (kRemembered / kWays) * kWays;
  for (std::size_t i = set; i < set + kWays; ++i)
    if (memories_[i].hash == hashed && memories_[i].until > now) return &memories_[i];
  return nullptr;
}

void Fragments::remember(std::uint64_t hashed, Class kind, Why why, policy::Time now) noexcept {
  const std::span set = std::span(memories_).subspan(hashed % (kRemembered / kWays) * kWays, kWays);
  Memory* memory = recall(hashed, now);
  if (memory == nullptr)
    memory = &*std::ranges::min_element(set, {}, &Memory::until); // which has run out, or will first
  *memory = {hashed, now + (kind == Class::Unknown ? kPatience : kServersPatience), kind, why};
}

void Fragments::forget_all() noexcept {
  buckets_.fill(kNone);
  for (std::size_t i = 0; i < slots_.size(); ++i)
    slots_[i].in_bucket = i + 1 == slots_.size() ? kNone : static_cast<Place>(i + 1);
  free_ = 0;
}

Fragments::Place Fragments::find(const Key& key, std::uint64_t hashed) const noexcept {
  Place place = buckets_[hashed % kBuckets];
  while (place != kNone && (slots_[place].hash != hashed || slots_[place].key != key)) place = slots_[place].in_bucket;
  return place;
}

// There is a free slot: leave() keeps one.
Fragments::Place Fragments::open(const Key& key, std::uint64_t hashed, policy::Time now) noexcept {
  const Place place = free_;
  Slot& slot = slots_[place];
  free_ = slot.in_bucket;
  slot.key = key;
  slot.hash = hashed;
  slot.since = now;
  slot.count = 0;
  slot.octets = slot.total = 0;
  Place& bucket = buckets_[hashed % kBuckets];
  slot.in_bucket = bucket;
  bucket = place;
  slot.older = youngest_;
  slot.younger = kNone;
  (youngest_ == kNone ? oldest_ : slots_[youngest_].younger) = place;
  youngest_ = place;
  ++datagrams_;
  return place;
}

Fragments::Release Fragments::alone(const Frame& frame, const policy::Datagram& packet,
                                    std::optional<policy::Verdict> verdict, FrameKind kind) noexcept {
  released_[0] = frame;
  return {std::span(released_).first(1), verdict, kind, packet};
}

// Gives up a slot: what is held in it, and the fragment that came last, if it is not.
Fragments::Release Fragments::close(Place place, const Frame* last, const policy::Datagram& packet,
                                    std::optional<policy::Verdict> verdict) noexcept {
  Slot& slot = slots_[place];
  std::size_t count = slot.count;
  std::copy_n(slot.frames.begin(), count, released_.begin());
  if (last != nullptr) released_[count++] = *last;
  held_ -= slot.count;
  --datagrams_;
  (slot.older == kNone ? oldest_ : slots_[slot.older].younger) = slot.younger;
  (slot.younger == kNone ? youngest_ : slots_[slot.younger].older) = slot.older;
  Place* link = &buckets_[slot.hash % kBuckets];
  while (*link != place) link = &slots_[*link].in_bucket;
  *link = slot.in_bucket;
  slot.in_bucket = free_;
  free_ = place;
  return {std::span(released_).first(count), verdict, FrameKind::Fragment, packet};
}

Fragments::Release Fragments::refuse(Place place, std::uint64_t hashed, const Frame& frame,
                                     const policy::Datagram& packet, Why why, const policy::Rules& rules,
                                     policy::Time now) noexcept {
  remember(hashed, Class::Unknown, why, now);
  const policy::Verdict verdict = refusal(why, rules, packet.side);
  return place == kNone ? alone(frame, packet, verdict) : close(place, &frame, packet, verdict);
}

// Puts the packet together as if it had never been in pieces, and reads it like any other.
Fragments::Release Fragments::whole(Place place, const policy::Rules& rules, policy::Time now) noexcept {
  const Slot& slot = slots_[place];
  const std::span pieces = std::span(slot.pieces).first(slot.count);
  const Fragment& first = *std::ranges::find(pieces, 0u, &Fragment::offset); // whole: it is there
  const std::size_t header = first.header.size();
  const std::size_t size = header + slot.total;
  const bool v6 = slot.key.v6;
  policy::Datagram datagram;
  datagram.source = slot.key.source;
  datagram.destination = slot.key.destination;
  datagram.side = slot.key.side;
  const auto contradiction = [&] {
    remember(slot.hash, Class::Unknown, Why::FragmentOverlap, now);
    return close(place, nullptr, datagram, refusal(Why::FragmentOverlap, rules, slot.key.side));
  };
  if (size > kLongestData + (v6 ? kIpv6Header : 0)) return contradiction();

  std::ranges::copy(first.header, packet_.begin());
  for (const Fragment& piece : pieces)
    std::ranges::copy(piece.data, packet_.begin() + static_cast<std::ptrdiff_t>(header + piece.offset));
  const std::span packet = std::span(packet_).first(size);
  if (v6) {
    write16(packet, 4, size - kIpv6Header);
    packet[first.next_at] = first.next;
  } else {
    write16(packet, 2, size);
    write16(packet, 6, 0);
  }
  const FrameKind kind = parse_ip(packet, size, datagram);
  datagram.side = slot.key.side;
  remember(slot.hash, Class::Sip, Why::Fragment, now);
  Release release = close(place, nullptr, datagram, {});
  release.kind = kind;
  return release;
}

} // namespace sipward::dataplane
