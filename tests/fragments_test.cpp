// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/fragments.h"

#include <catch2/catch.hpp>
#include <list>
#include <memory>
#include <numeric>
#include <random>

#include "sip/marks.h"
#include "tests/pieces.h"

namespace sipward::dataplane {
namespace {

using namespace std::chrono_literals;
using policy::Side;
using policy::Why;
using test::long_request;
using test::Octets;
using test::piece;
using test::Pieces;
using test::pieces;
using test::udp;

// What became of a frame: its number, in the order of release, with the reason; Clean stands for "judge it".
struct Fate {
  std::size_t frame;
  Why why;
  bool drop;
  friend bool operator==(const Fate&, const Fate&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Fate& fate) {
    return out << fate.frame << ": " << to_string(fate.why) << (fate.drop ? ", dropped" : "");
  }
};
using Fates = std::vector<Fate>;

// The fragments of an inline worker, with a clock by hand.
class Desk {
public:
  explicit Desk(Side side = Side::Outside) : side_(side) {
    rules.ports = {5060};
    rules.servers = {policy::Address::v4(192, 0, 2, 10), policy::Address::parse("2001:db8:10::5").value()};
    rules.drop_convicting = true;
    std::ranges::sort(rules.servers);
  }

  // What one more frame sets free. Frames are numbered from 0.
  Fates join(const Octets& frame, std::size_t cut = 0) {
    // An exact copy, so that the address sanitizer sees a read of one octet more.
    Octets& kept = kept_.emplace_back(frame.begin(), frame.end() - static_cast<std::ptrdiff_t>(cut));
    kept.shrink_to_fit();
    policy::Datagram packet;
    REQUIRE(parse_frame(kept, frame.size(), packet) == FrameKind::Fragment);
    packet.side = side_;
    numbers_.push_back(numbers_.size());
    Fates fates = note(fragments->join({&numbers_.back(), &kept}, packet, rules, now));
    for (auto more = leave(); !more.empty(); more = leave()) fates.insert(fates.end(), more.begin(), more.end());
    return fates;
  }
  Fates join(const std::vector<Octets>& frames) {
    Fates fates;
    for (const auto& frame : frames) {
      const auto more = join(frame);
      fates.insert(fates.end(), more.begin(), more.end());
    }
    return fates;
  }
  Fates leave() { return note(fragments->leave(rules, now)); }

  policy::Rules rules;
  policy::Time now = policy::Time(1000h);
  std::unique_ptr<Fragments> fragments = std::make_unique<Fragments>(42);
  std::vector<std::string> payloads; // of what became whole

private:
  Fates note(const Fragments::Release& release) {
    Fates fates;
    if (!release.verdict && release.kind == FrameKind::Udp) payloads.emplace_back(release.datagram.payload);
    const policy::Verdict verdict = release.verdict                  ? *release.verdict
                                    : release.kind == FrameKind::Udp ? policy::Verdict{Why::Clean}
                                                                     : policy::Verdict{why_not_judged(release.kind)};
    for (const auto& frame : release.frames)
      fates.push_back({*static_cast<const std::size_t*>(frame.frame), verdict.why, verdict.drop});
    if (!release.frames.empty()) {
      CHECK(release.datagram.side == side_);
    }
    return fates;
  }
  const Side side_;
  std::list<Octets> kept_;
  std::list<std::size_t> numbers_;
};

Fates all(std::size_t count, Why why, bool drop = false, std::size_t from = 0) {
  Fates fates;
  for (std::size_t i = from; i < from + count; ++i) fates.push_back({i, why, drop});
  return fates;
}

const std::vector<std::pair<std::string, Pieces>> kKinds = {
    {"IPv4", {}}, {"IPv6", {.v6 = true}}, {"IPv6 behind hop-by-hop options", {.v6 = true, .behind_options = true}}};

TEST_CASE("a message in fragments is judged whole, and they leave as they came") {
  const std::string text = long_request("a phone");
  for (const auto& [name, of] : kKinds)
    for (const std::size_t count : {2u, 3u, 8u})
      for (const auto* order : {"in order", "reversed", "shuffled"}) {
        INFO(name << ", " << count << " fragments " << order);
        auto frames = pieces(of, udp(5062, 5060, text), count);
        REQUIRE(frames.size() == count);
        std::mt19937 random(static_cast<unsigned>(count));
        if (*order == 'r') std::ranges::reverse(frames);
        if (*order == 's') std::ranges::shuffle(frames, random);
        Desk desk;
        CHECK(desk.join(frames) == all(count, Why::Clean));
        CHECK(desk.payloads == std::vector{text});
        CHECK_FALSE(desk.fragments->any());
        CHECK(desk.fragments->held() == 0);
      }
}

TEST_CASE("datagrams do not mix, though their fragments do") {
  const std::string first = long_request("first", 900), second = long_request("second", 2000);
  for (const auto& [name, of] : kKinds) {
    INFO(name);
    Pieces another = of;
    another.number = 8;
    const auto a = pieces(of, udp(5062, 5060, first), 3), b = pieces(another, udp(5062, 5060, second), 3);
    Desk desk;
    CHECK(desk.join({a[0], b[0], b[2], a[2]}).empty());
    CHECK(desk.join({a[1]}) == Fates{{0, Why::Clean, false}, {3, Why::Clean, false}, {4, Why::Clean, false}});
    CHECK(desk.join({b[1]}) == Fates{{1, Why::Clean, false}, {2, Why::Clean, false}, {5, Why::Clean, false}});
    CHECK(desk.payloads == std::vector{first, second});
  }
}

TEST_CASE("what stands behind the fragment header belongs to the datagram") {
  const std::string text = long_request("a phone");
  const Octets whole = test::extension(17, 0, 8, udp(5062, 5060, text));
  Desk desk;
  CHECK(desk.join(pieces({.v6 = true}, whole, 3, 60)) == all(3, Why::Clean));
  CHECK(desk.payloads == std::vector{text});
}

TEST_CASE("media passes at once, from its first fragment on, whatever is lost of it") {
  for (const auto& [name, of] : kKinds) {
    INFO(name);
    Desk desk;
    auto frames = pieces(of, udp(10000, 10002, std::string(20'000, 'm')), 14);
    frames.erase(frames.begin() + 5);
    for (std::size_t i = 0; i < frames.size(); ++i) CHECK(desk.join(frames[i]) == Fates{{i, Why::Fragment, false}});
  }
}

TEST_CASE("media whose first fragment is late waits for it, and leaves as it came") {
  for (const auto& [name, of] : kKinds) {
    INFO(name);
    Desk desk;
    auto frames = pieces(of, udp(10000, 10002, std::string(8000, 'm')), 6);
    std::swap(frames[0], frames[4]);
    CHECK(desk.join(frames) == all(6, Why::Fragment));
    CHECK_FALSE(desk.fragments->any());
  }
}

TEST_CASE("what is not UDP, or not for a server, passes at once in any order") {
  const auto reversed = [](auto frames) {
    std::ranges::reverse(frames);
    return frames;
  };
  Desk desk;
  CHECK(desk.join(pieces({.v6 = true}, Octets(8900, 0), 6, 58)) == all(6, Why::Fragment)); // a ping
  CHECK(desk.join(pieces({.v6 = true, .number = 9}, Octets(8900, 0), 6, 50)) == all(6, Why::Fragment, false, 6));
  const Octets whole = udp(5062, 5060, long_request("a phone"));
  CHECK(desk.join(reversed(pieces({.destination = "192.0.2.11"}, whole, 6))) == all(6, Why::Fragment, false, 12));
  CHECK_FALSE(desk.fragments->any());
}

TEST_CASE("tricks are named, and drop the datagram") {
  struct Row {
    std::string name;
    std::vector<Octets> frames;
    Why why;
  };
  for (const auto& [kind, of] : kKinds) {
    const Octets whole = udp(5062, 5060, long_request("friendly-scanner"));
    const auto good = pieces(of, whole, 3);
    const auto at = [&](std::size_t begin, std::size_t end) {
      return Octets(whole.begin() + static_cast<std::ptrdiff_t>(begin),
                    whole.begin() + static_cast<std::ptrdiff_t>(end));
    };
    const std::size_t size = whole.size();
    Octets other = at(400, 800);
    other[0] ^= 1;
    const std::vector<Row> rows = {
        {"teardrop", {piece(of, at(0, 400), 0, true), piece(of, at(200, 208), 200, false)}, Why::FragmentOverlap},
        {"an overlap of eight octets",
         {piece(of, at(0, 400), 0, true), piece(of, at(392, 800), 392, true)},
         Why::FragmentOverlap},
        {"one around another",
         {piece(of, at(400, 800), 400, true), piece(of, at(0, size), 0, true)},
         Why::FragmentOverlap},
        {"the second copy differs",
         {piece(of, at(0, 400), 0, true), piece(of, at(400, 800), 400, true), piece(of, other, 400, true)},
         Why::FragmentOverlap},
        {"the second copy says it is the last",
         {piece(of, at(0, 400), 0, true), piece(of, at(400, 800), 400, true), piece(of, at(400, 800), 400, false)},
         Why::FragmentOverlap},
        {"two ends", {piece(of, at(800, 808), 800, false), piece(of, at(400, 408), 400, false)}, Why::FragmentOverlap},
        {"more behind the end",
         {piece(of, at(400, 408), 400, false), piece(of, at(800, 808), 800, true)},
         Why::FragmentOverlap},
        {"an end before what is there",
         {piece(of, at(800, 808), 800, true), piece(of, at(400, 408), 400, false)},
         Why::FragmentOverlap},
        {"not a multiple of eight", {piece(of, at(0, 401), 0, true)}, Why::FragmentOverlap},
        {"an empty one", {piece(of, at(0, 400), 0, true), piece(of, {}, 400, false)}, Why::FragmentOverlap},
        {"the ping of death",
         {piece(of, at(0, 400), 0, true), piece(of, Octets(100, 0), 65528, false)},
         Why::FragmentOverlap},
        {"a first one without all of the UDP header",
         {piece(of, at(8, 400), 8, true), piece(of, at(0, 4), 0, true)},
         Why::FragmentTiny},
        {"one more than there may be", pieces(of, whole, 9), Why::FragmentExcess},
    };
    for (const auto& row : rows) {
      INFO(kind << ", " << row.name);
      Desk desk;
      CHECK(desk.join(row.frames) == all(row.frames.size(), row.why, true));
      CHECK_FALSE(desk.fragments->any());
      // What follows under the same number has the same fate.
      CHECK(desk.join(good) == all(3, row.why, true, row.frames.size()));
      desk.now += kPatience;
      CHECK(desk.join(good) == all(3, Why::Clean, false, row.frames.size() + 3));
    }
  }
}

TEST_CASE("a first fragment that is all extension headers is tiny") {
  Desk desk;
  const Octets whole = test::extension(60, 0, 8, test::extension(17, 0, 8, udp(5062, 5060, long_request("x"))));
  const auto first = piece({.v6 = true}, Octets(whole.begin(), whole.begin() + 16), 0, true, 60);
  CHECK(desk.join(first) == Fates{{0, Why::FragmentTiny, true}});
  Desk nested;
  CHECK(nested.join(piece({.v6 = true}, test::ipv6_fragment(17, 1, udp(5062, 5060, "12345678")), 0, true, 44)) ==
        Fates{{0, Why::FragmentTiny, true}});
}

TEST_CASE("a second copy with the same octets is dropped by itself") {
  for (const auto& [name, of] : kKinds) {
    INFO(name);
    Desk desk;
    const auto frames = pieces(of, udp(5062, 5060, long_request("a phone")), 3);
    CHECK(desk.join({frames[0], frames[1], frames[1], frames[0]}) ==
          Fates{{2, Why::FragmentCopy, true}, {3, Why::FragmentCopy, true}});
    CHECK(desk.join({frames[2]}) == Fates{{0, Why::Clean, false}, {1, Why::Clean, false}, {4, Why::Clean, false}});
  }
}

TEST_CASE("the eighth fragment is not one too many") {
  Desk desk;
  CHECK(desk.join(pieces({}, udp(5062, 5060, long_request("a phone")), kMostFragments)) ==
        all(kMostFragments, Why::Clean));
}

TEST_CASE("fragments of SIP, or of nobody knows what, never pass because time is up") {
  for (const auto& [name, of] : kKinds)
    for (const std::size_t missing : {0u, 1u, 2u}) {
      INFO(name << " without fragment " << missing);
      Desk desk;
      auto frames = pieces(of, udp(5062, 5060, long_request("friendly-scanner")), 3);
      const Octets late = frames[missing];
      frames.erase(frames.begin() + static_cast<std::ptrdiff_t>(missing));
      CHECK(desk.join(frames).empty());
      desk.now += kPatience - 1ns;
      CHECK(desk.leave().empty());
      desk.now += 1ns;
      CHECK(desk.leave() == all(2, Why::FragmentOverdue, true));
      CHECK(desk.leave().empty());
      CHECK(desk.join(late).empty()); // and waits in vain
      desk.now += kPatience;
      CHECK(desk.leave() == all(1, Why::FragmentOverdue, true, 2));
    }
}

TEST_CASE("a number that stood for other traffic does not stand for SIP while the server may hold leftovers") {
  const auto media = pieces({}, udp(10000, 10002, std::string(3000, 'm')), 3);
  const auto sip = pieces({}, udp(5062, 5060, long_request("a phone")), 3);
  Desk desk;
  CHECK(desk.join({media[0], media[1]}) == all(2, Why::Fragment));
  desk.now += kServersPatience - 1ns;
  CHECK(desk.join(sip) == all(3, Why::FragmentOverlap, true, 2));
  desk.now += kPatience;
  CHECK(desk.join(sip) == all(3, Why::Clean, false, 5));
  desk.now += kServersPatience - 1ns;
  CHECK(desk.join(media) == all(3, Why::FragmentOverlap, true, 8));
  desk.now += kServersPatience;
  CHECK(desk.join(media) == all(3, Why::Fragment, false, 11));
}

TEST_CASE("a fragment that the server drops for its header's checksum is none to us") {
  auto frames = pieces({}, udp(5062, 5060, long_request("a phone")), 3);
  Octets decoy = pieces({}, udp(10000, 10002, std::string(3000, 'm')), 3)[0];
  decoy[14 + 8] ^= 1; // its TTL
  Desk desk;
  CHECK(desk.join(decoy) == all(1, Why::BadFrame));
  CHECK(desk.join(frames) == all(3, Why::Clean, false, 1));
}

TEST_CASE("a fragment that did not reach us whole") {
  const auto frames = pieces({}, udp(5062, 5060, long_request("a phone")), 3);
  Desk inline_mode;
  CHECK(inline_mode.join(frames[1], 10) == Fates{{0, Why::TooLong, true}});
  Desk monitor(Side::Unknown);
  CHECK(monitor.join(frames[1], 10) == Fates{{0, Why::Fragment, false}});
}

TEST_CASE("copies, dry runs and what comes from inside are counted, not dropped") {
  const auto trick = pieces({}, udp(5062, 5060, long_request("a phone")), 9);
  Desk monitor(Side::Unknown);
  monitor.rules.drop_convicting = false;
  CHECK(monitor.join(trick) == all(9, Why::FragmentExcess));
  Desk dry_run;
  dry_run.rules.drop_convicting = false;
  CHECK(dry_run.join(trick) == all(9, Why::FragmentExcess));
  Desk inside(Side::Inside);
  const auto answer =
      pieces({.source = "192.0.2.10", .destination = "198.51.100.66"}, udp(5060, 5062, std::string(3000, 'a')), 9);
  CHECK(inside.join(answer) == all(9, Why::FragmentExcess));
  CHECK(inside.join(pieces({.number = 8, .source = "192.0.2.10", .destination = "198.51.100.66"},
                           udp(5060, 5062, test::answer(200, "INVITE") + std::string(3000, 'a')), 3)) ==
        all(3, Why::Clean, false, 9));
}

TEST_CASE("when there is no room the oldest goes, and nothing grows") {
  Desk desk;
  const Octets whole = udp(5062, 5060, long_request("a phone"));
  Fates fates;
  constexpr std::uint16_t kFlood = 5000;
  for (std::uint16_t i = 0; i < kFlood; ++i) {
    const auto more = desk.join(pieces({.number = i}, whole, 3)[i % 3]);
    fates.insert(fates.end(), more.begin(), more.end());
    REQUIRE(desk.fragments->datagrams() == std::min<std::size_t>(i + 1u, kMostDatagrams));
  }
  CHECK(fates == all(kFlood - kMostDatagrams, Why::FragmentDisplaced, true));
  // Amid the flood a message whose fragments come one behind the other is whole.
  CHECK(desk.join(pieces({.number = 60'000}, whole, 3)).back() == Fate{kFlood + 2, Why::Clean, false});
  desk.now += kPatience;
  fates.clear();
  for (auto more = desk.leave(); !more.empty(); more = desk.leave())
    fates.insert(fates.end(), more.begin(), more.end());
  CHECK(fates.size() == kMostDatagrams - 1); // one had to go for the message
  CHECK_FALSE(desk.fragments->any());
  CHECK(desk.fragments->held() == 0);
}

TEST_CASE("frames are bounded as well as datagrams") {
  Desk desk;
  const Octets whole = udp(5062, 5060, long_request("a phone"));
  std::size_t released = 0;
  for (std::uint16_t i = 0; i < 1000; ++i) {
    auto frames = pieces({.number = i}, whole, 8);
    frames.pop_back();
    const auto fates = desk.join(frames);
    released += fates.size();
    for (const auto& fate : fates) REQUIRE(fate.why == Why::FragmentDisplaced);
    REQUIRE(desk.fragments->held() <= kMostHeld);
    REQUIRE(released + desk.fragments->held() == (i + 1u) * 7);
  }
  CHECK(desk.fragments->held() > kMostHeld - 8);
}

TEST_CASE("whatever chance sends, each frame has one fate, and no octet is read that is not there") {
  std::mt19937 random(4);
  Desk desk;
  std::vector<int> seen;
  const auto note = [&](const Fates& fates) {
    for (const auto& fate : fates) {
      seen.resize(std::max(seen.size(), fate.frame + 1));
      ++seen[fate.frame];
    }
  };
  std::size_t sent = 0;
  std::array<bool, policy::kWhys> reasons{};
  for (int i = 0; i < 60'000; ++i) {
    Pieces of{.v6 = random() % 2 == 0,
              .behind_options = random() % 4 == 0,
              .number = static_cast<std::uint16_t>(random() % 900)};
    const std::size_t offset = random() % 6 * 8;
    const Octets data = random() % 2 == 0 ? udp(5062, 5060, std::string(random() % 5 * 8, 'x'))
                                          : Octets(random() % 40, static_cast<std::uint8_t>(random() % 256));
    const bool more = offset == 0 || random() % 3 != 0;
    const auto fates = desk.join(piece(of, data, offset, more, random() % 8 == 0 && of.v6 ? 60 : 17));
    for (const auto& fate : fates) reasons[static_cast<std::size_t>(fate.why)] = true;
    note(fates);
    ++sent;
    if (random() % 64 == 0) desk.now += 100ms;
    REQUIRE(desk.fragments->held() <= kMostHeld);
  }
  desk.now = policy::Time::max();
  for (auto more = desk.leave(); !more.empty(); more = desk.leave()) note(more);
  CHECK(seen.size() == sent);
  CHECK(std::ranges::all_of(seen, [](int times) { return times == 1; }));
  for (const Why why :
       {Why::Clean, Why::Fragment, Why::FragmentTiny, Why::FragmentOverlap, Why::FragmentCopy, Why::FragmentOverdue}) {
    INFO(to_string(why));
    CHECK(reasons[static_cast<std::size_t>(why)]);
  }
}

} // namespace
} // namespace sipward::dataplane
