// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <vector>

#include "policy/judge.h"
#include "tests/captures.h"

// Ten million forged senders, one packet each, as fast as they can be judged; among them ten real floods and a thousand
// honest phones. The clock is the story's own: how long the machine takes changes nothing.
namespace sipward::policy {
namespace {

using namespace std::chrono_literals;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint32_t kForged = 500'000, kCapacity = 1 << 16; // as many to a line, with what watches memory
#else
constexpr std::uint32_t kForged = 10'000'000, kCapacity = 1 << 20;
#endif
constexpr Duration kLong = 5s;
constexpr std::uint32_t kFloods = 10, kPhones = 1'000;
constexpr Rate kLimit{10, 75};
constexpr unsigned kFloodRate = 100; // a second, of each
constexpr std::size_t kBurst = 32;

// Memory that is counted by the page.
class Pages {
public:
  explicit Pages(std::size_t octets)
      : octets_(octets),
        begin_(mmap(nullptr, octets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)) {
    REQUIRE(begin_ != MAP_FAILED);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { munmap(begin_, octets_); }
  std::span<std::byte> all() const { return {static_cast<std::byte*>(begin_), octets_}; }

private:
  std::size_t octets_;
  void* begin_;
};

// What this process holds of the machine's memory.
std::size_t resident_octets() {
  std::size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * 4096;
}

// Who sent a packet, by his address: the floods from 198.51.100.0, the phones from 203.0.113.0 on, the rest forged.
constexpr std::uint32_t kFloodsFrom = 0xc633'6400, kPhonesFrom = 0xcb00'7100, kServer = 0xc000'020a;
Address address(std::uint32_t number) {
  const auto octet = [number](unsigned shift) { return static_cast<std::uint8_t>(number >> shift); };
  return Address::v4(octet(24), octet(16), octet(8), octet(0));
}

struct Packet {
  Duration at; // since the start
  std::uint32_t source;
  const std::string* payload;
};

// The story's requests, in the order of their times.
class Traffic {
public:
  Traffic() {
    for (unsigned i = 0; i < 256; ++i) {
      floods_.push_back(captures::request("REGISTER", "2000", "Yealink SIP-T46U 108.86.0.20", i));
      forged_.push_back(captures::request("REGISTER", std::to_string(i), "Zoiper rv2.10.19.4", i));
      phones_.push_back(captures::request(i % 3 == 0 ? "OPTIONS" : "REGISTER", "5" + std::to_string(i)));
    }
    for (std::uint32_t flood = 0; flood < kFloods; ++flood)
      for (unsigned i = 0; i < kLong / 1s * kFloodRate; ++i)
        real_.push_back({i * 1s / kFloodRate + flood * 1ms, kFloodsFrom + flood, &floods_[i % 256]});
    // Back after an outage, all within the first second; then every second something.
    for (std::uint32_t phone = 0; phone < kPhones; ++phone)
      for (unsigned i = 0; i < kLong / 1s; ++i)
        real_.push_back({i * 1s + phone * 999us, kPhonesFrom + phone, &phones_[(phone + i) % 256]});
    std::ranges::sort(real_, {}, &Packet::at);
  }

  // The next packet; the forged ones come evenly. False: that was all.
  bool next(Packet& packet) {
    const Duration forged_at = kLong * forged_count_ / kForged;
    if (real_count_ < real_.size() && (forged_count_ == kForged || real_[real_count_].at <= forged_at)) {
      packet = real_[real_count_++];
      return true;
    }
    if (forged_count_ == kForged) return false;
    // An odd factor: in 2^32 turns every number once. No multicast, and not those who are real.
    std::uint32_t source = 0;
    do source = turn_ += 0x9e37'79b1;
    while (source >= 0xc000'0000 || source < 0x0100'0000);
    packet = {forged_at, source, &forged_[forged_count_ % 256]};
    ++forged_count_;
    return true;
  }

private:
  std::vector<std::string> floods_, forged_, phones_;
  std::vector<Packet> real_;
  std::size_t real_count_ = 0;
  std::uint32_t forged_count_ = 0, turn_ = 0;
};

Rules shipped_rules() {
  Rules rules;
  rules.ports = {5060};
  rules.servers = {address(kServer)};
  rules.marks = std::make_shared<const sip::Marks>();
  const Detect detect;
  rules.set(Class::Register, {kLimit, Action::Block});
  rules.set(Class::Invite, detect.invite_flood);
  rules.set(Class::Options, detect.options_flood);
  rules.set(Class::Request, detect.request_flood);
  rules.set(Class::Malformed, detect.malformed);
  rules.enumeration = detect.enumeration;
  rules.set_auth_failure(detect.auth_failure);
  rules.drop_convicting = true;
  return rules;
}

TEST_CASE("ten million forged senders hide no flood, limit no phone and cost no memory") {
  const Pages memory(Ledger::octets(kCapacity));
  Ledger ledger(memory.all(), kCapacity, {1234567, 7654321, 2345671, 6543217});
  const Rules rules = shipped_rules();
  sip::AgentCache names;
  Offence offence;
  Traffic traffic;

  std::array<Duration, kFloods> convicted;
  convicted.fill(Duration::max());
  std::uint64_t judged = 0, forged_convicted = 0, phones_dropped = 0, phones_served = 0;
  [[maybe_unused]] const std::size_t before = resident_octets();
  std::array<Packet, kBurst> packets;
  std::array<Case, kBurst> cases;
  for (std::size_t count = kBurst; count == kBurst; judged += count) {
    for (count = 0; count < kBurst && traffic.next(packets[count]); ++count) {
      cases[count].datagram = {address(packets[count].source), address(kServer), 5060, 5060, *packets[count].payload};
      open(rules, ledger, cases[count]);
    }
    for (std::size_t i = 0; i < count; ++i) fetch(ledger, cases[i]);
    for (std::size_t i = 0; i < count; ++i) {
      const Now now(Time(1000s + packets[i].at));
      const Verdict verdict = decide(rules, ledger, names, cases[i], now, offence);
      const std::uint32_t source = packets[i].source;
      if (source >= kPhonesFrom) {
        ++phones_served;
        phones_dropped += verdict.drop || verdict.offence;
      } else if (source >= kFloodsFrom) {
        auto& when = convicted[source - kFloodsFrom];
        if (verdict.why == Why::RegisterFlood && verdict.offence) when = std::min(when, packets[i].at);
      } else {
        forged_convicted += verdict.offence;
      }
    }
  }

  CHECK(judged == kForged + kFloods * kFloodRate * (kLong / 1s) + kPhones * (kLong / 1s));
  CHECK(phones_served == kPhones * (kLong / 1s));
  CHECK(phones_dropped == 0);
  CHECK(forged_convicted == 0);
  // Its burst is used up, and what drained meanwhile: then one more is over the limit.
  const Duration threshold = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(kLimit.burst / (kFloodRate - kLimit.per_second)));
  for (std::uint32_t flood = 0; flood < kFloods; ++flood) {
    INFO("flood " << flood << " after " << convicted[flood] / 1ms << " ms, threshold at " << threshold / 1ms);
    CHECK(convicted[flood] <= threshold + 1s);
  }
  CHECK(ledger.sources.occupancy().used <= ledger.sources.capacity());
  CHECK(ledger.sources.occupancy().pinned == 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(resident_octets() < before + (1 << 20)); // the table was there before; nothing came with the packets
#endif
}

} // namespace
} // namespace sipward::policy
