// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/surge.h"

#include <catch2/catch.hpp>

namespace sipward::policy {
namespace {

using namespace std::chrono_literals;
using Event = Surge::Event;

constexpr std::uint64_t kOctets = 500; // of a usual message

// A server and its seconds: tells what was said, and when.
struct Story {
  Surge surge;
  std::int64_t now_s = 0;
  std::string said;

  template<typename PerSecond>
  Story& run(std::int64_t for_s, PerSecond traffic) {
    for (const auto end = now_s + for_s; now_s < end; ++now_s) say(surge.note(traffic(now_s), Time(now_s * 1s)));
    return *this;
  }
  Story& steady(std::int64_t for_s, std::uint64_t packets, std::uint64_t octets_each = kOctets) {
    return run(for_s, [=](std::int64_t) { return Traffic{packets, packets * octets_each}; });
  }
  void say(Event event) {
    static constexpr std::string_view kNames[] = {"", "rising", "over", "settled"};
    if (event == Event::None) return;
    said += (said.empty() ? "" : ", ") + std::string(kNames[static_cast<std::size_t>(event)]) + " at " +
            std::to_string(now_s);
  }
};

TEST_CASE("a flood over a server's usual traffic is told once as it rises, and once when it is over") {
  Story story;
  story.steady(1000, 200).steady(600, 5000).steady(600, 200);
  CHECK(story.said == "rising at 1002, over at 1629");
  CHECK_FALSE(story.surge.lasts());
}

TEST_CASE("a surge says how much it is, and what was usual") {
  Story story;
  story.steady(1000, 200).steady(10, 5000);
  CHECK(story.surge.lasts());
  CHECK(story.surge.present().packets_per_s == Approx(5000));
  CHECK(story.surge.present().octets_per_s == Approx(5000 * kOctets));
  CHECK(story.surge.usual().packets_per_s == Approx(200));
  CHECK(story.surge.usual().octets_per_s == Approx(200 * kOctets));
}

TEST_CASE("what is no surge") {
  struct Row {
    const char* name;
    std::uint64_t usual, then, octets_each;
    std::int64_t for_s;
  };
  static constexpr Row kRows[] = {
      {"three times as much", 200, 600, kOctets, 600},
      {"ten times as much, for two seconds", 200, 2000, kOctets, 2},
      {"many keepalives of four octets", 200, 5000, 4, 600},
      {"few large messages", 200, 300, 8000, 600},
      {"an idle server's first phones", 0, 90, kOctets, 600},
      {"an idle server, and then nothing still", 0, 0, kOctets, 600},
  };
  for (const auto& row : kRows) {
    INFO(row.name);
    Story story;
    story.steady(1000, row.usual).steady(row.for_s, row.then, row.octets_each).steady(100, row.usual);
    CHECK(story.said.empty());
  }
}

TEST_CASE("an idle server's flood is a surge") {
  Story story;
  CHECK(story.steady(1000, 0).steady(60, 150).steady(60, 0).said == "rising at 1002, over at 1089");
}

TEST_CASE("nothing is told in the first minute: what is usual is not known yet") {
  Story story;
  CHECK(story.steady(30, 10).steady(30, 5000).steady(600, 5000).said.empty());
}

TEST_CASE("a server whose phones come in rounds is used to them") {
  Story story; // each minute, five seconds long, twelve times the average
  story.run(3600, [](std::int64_t now_s) {
    const std::uint64_t packets = now_s % 60 < 5 ? 1200 : 10;
    return Traffic{packets, packets * kOctets};
  });
  CHECK(story.said.empty());
  CHECK(story.steady(10, 20'000).said.starts_with("rising at"));
}

TEST_CASE("a day's slow rise and fall is no surge") {
  Story story;
  story.run(86'400, [](std::int64_t now_s) { // from 20 to 2,000 a second by noon, and back
    const auto to_noon_s = std::abs(43'200 - now_s);
    const auto packets = static_cast<std::uint64_t>(2000 - 1980 * to_noon_s / 43'200);
    return Traffic{packets, packets * kOctets};
  });
  CHECK(story.said.empty());
}

TEST_CASE("a flood that pauses for less than half a minute is one surge") {
  Story story;
  story.steady(1000, 200);
  for (int i = 0; i < 10; ++i) story.steady(60, 5000).steady(29, 200);
  story.steady(60, 200);
  CHECK(story.said == "rising at 1002, over at 1890");
}

TEST_CASE("a flood is not over while it is above twice the usual") {
  Story story;
  story.steady(1000, 200).steady(10, 5000).steady(300, 450).steady(30, 350);
  CHECK(story.said == "rising at 1002, over at 1339");
}

TEST_CASE("a flood is not learnt: the next one is told as well") {
  Story story;
  story.steady(1000, 200).steady(1800, 5000).steady(60, 200);
  CHECK(story.surge.usual().packets_per_s == Approx(200).epsilon(0.01));
  story.said.clear();
  CHECK(story.steady(5, 900).said == "rising at 2862");
}

TEST_CASE("after an hour a surge is the new usual") {
  Story story; // a second site was moved to this server
  story.steady(1000, 200).steady(3700, 2000);
  CHECK(story.said == "rising at 1002, settled at 4599");
  CHECK(story.surge.usual().packets_per_s == Approx(2000));
  story.said.clear();
  CHECK(story.steady(100, 2000).steady(10, 9000).said.starts_with("rising at"));
}

TEST_CASE("seconds that were missed count as they were: a rate is by time") {
  Surge surge;
  for (std::int64_t s = 0; s < 1000; s += 5) CHECK(surge.note({1000, 500'000}, Time(s * 1s)) == Event::None);
  CHECK(surge.usual().packets_per_s == Approx(200));
  CHECK(surge.note({1000, 500'000}, Time(995s)) == Event::None); // no time has passed
  CHECK(surge.note({25'000, 12'500'000}, Time(1000s)) == Event::Rising);
}

// --- all servers

Address server(unsigned n) {
  return Address::v4(192, 0, static_cast<std::uint8_t>(n / 256), static_cast<std::uint8_t>(n % 256));
}

TEST_CASE("each server has its own usual, and keeps it when others come and go") {
  Surges surges;
  surges.set_servers(std::vector{server(2), server(1)});
  for (std::int64_t s = 0; s < 100; ++s) {
    surges.find(server(1))->note({1000, 500'000}, Time(s * 1s));
    surges.find(server(2))->note({10, 5'000}, Time(s * 1s));
  }
  surges.set_servers(std::vector{server(3), server(1)});
  CHECK(surges.find(server(1))->usual().packets_per_s == Approx(1000));
  CHECK(surges.find(server(3))->usual().packets_per_s == 0);
  CHECK(surges.find(server(2)) == nullptr);
}

TEST_CASE("no more servers are watched than there is room for") {
  Surges surges;
  std::vector<Address> many;
  for (unsigned n = 0; n < 300; ++n) many.push_back(server(n));
  surges.set_servers(many);
  CHECK(surges.size() == Surges::kMaxServers);
  CHECK(surges.find(server(299)) == nullptr);
}

} // namespace
} // namespace sipward::policy
