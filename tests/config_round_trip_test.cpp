// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include <algorithm>
#include <random>

#include "config/config.h"

using namespace sipward;
using namespace sipward::config;
using policy::Action;
using policy::Address;
using policy::Prefix;
using std::chrono::seconds;
using namespace std::literals;

namespace {

// Settings drawn at random from everything that parse() takes.
class Dice {
  bool coin() { return number(0, 1) == 1; }
  template<class T, class... More>
  T one_of(T first, More... more) {
    const T values[] = {first, more...};
    return values[number(0, sizeof...(more))];
  }
  template<class Make>
  auto some(std::size_t least, Make make) {
    std::vector<decltype(make())> values(number(least, least + 4));
    std::ranges::generate(values, make);
    return values;
  }
  Address address(std::uint8_t last) {
    return coin() ? Address::v4(192, 0, 2, last)
                  : Address{policy::Family::V6, {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}};
  }
  Prefix range() {
    const auto base = address(static_cast<std::uint8_t>(number(0, 255)));
    return Prefix::of(base, static_cast<std::uint8_t>(number(0, policy::bits(base.family))));
  }
  Action action() { return one_of(Action::Off, Action::Log, Action::Limit, Action::Block); }
  void detect(policy::Detect& d) {
    d.scanner.action = action();
    for (auto* policy : {&d.register_flood, &d.invite_flood, &d.options_flood, &d.request_flood, &d.malformed})
      *policy = {{static_cast<double>(number(1, 10'000)) / static_cast<double>(number(1, 60)),
                  static_cast<std::uint32_t>(number(1, 60))},
                 action()};
    for (auto* policy : {&d.enumeration, &d.auth_failure})
      *policy = {static_cast<std::uint32_t>(number(1, 200)), seconds(number(1, 3600)), action()};
  }

  std::mt19937_64 random_;
  unsigned distinct_ = 0; // for lists that refuse the same entry twice

public:
  explicit Dice(std::uint64_t seed) : random_(seed) {}

  std::uint64_t number(std::uint64_t least, std::uint64_t most) { return least + random_() % (most - least + 1); }

  Settings settings() {
    Settings s;
    s.mode = one_of(Mode::Monitor, Mode::Inline);
    s.ports.outside = some(1, [&] { return "eth" + std::to_string(distinct_++); });
    if (s.mode == Mode::Inline) s.ports.inside = one_of("tap:sip0", "0000:01:00.0", "vdev:net_null0,size=\"64\"\\");
    s.cores = some(0, [&] { return distinct_++ % 1024; });
    s.memory = {one_of(Hugepages::Auto, Hugepages::On, Hugepages::Off),
                number(32, 4096) * one_of(1u << 20, 1'048'577u)};
    s.idle = one_of(Idle::Adaptive, Idle::Busy);
    s.sip.ports = some(1, [&] { return static_cast<std::uint16_t>(5000 + distinct_++ % 60000); });
    s.sip.servers = some(0, [&] { return address(static_cast<std::uint8_t>(1 + distinct_++ % 255)); });
    s.sources = {static_cast<std::uint32_t>(number(1024, 1 << 26)), 64};
    detect(s.detect);
    s.scanners.user_agents = some(0, [&] {
      return std::string(one_of("evil \"one\"*", "*\\back: #slash*", "s\xc3\xafp scanner", "null", "- dash", "true"));
    });
    s.prefix = {static_cast<std::uint8_t>(number(8, 24)),    static_cast<std::uint8_t>(number(16, 63)),
                static_cast<std::uint32_t>(number(1, 256)),  seconds(number(60, 86400 * 30)),
                static_cast<std::uint32_t>(number(1, 8192)), coin()};
    s.block = {some(1, [&] { return seconds(number(1, 86400 * 365)); }), coin(),
               static_cast<std::uint32_t>(number(1, 1 << 20)), static_cast<std::uint32_t>(number(1, 100000))};
    std::ranges::sort(s.block.ladder);
    s.allow = some(0, [&] { return range(); });
    std::ranges::sort(s.allow);
    s.allow.erase(std::ranges::unique(s.allow).begin(), s.allow.end());
    for (std::size_t i = 0; i < s.allow.size() && coin(); ++i) // those with a limit come first
      s.allow_limits.push_back({s.allow[i], static_cast<double>(number(1, 10000))});
    s.allow_names =
        some(0, [&] { return std::string(one_of("sip.example.net", "_sip._udp.example.org", "localhost")); });
    s.allow_files = some(0, [&] { return std::filesystem::path(one_of("/etc/carriers.list", "/with blank/# x")); });
    s.trust = {seconds(number(0, 86400 * 90)), seconds(number(0, 86400 * 365)), some(0, [&] { return range(); })};
    s.nftables = {one_of(Hook::Ingress, Hook::Prerouting), one_of(Scope::Sip, Scope::All),
                  one_of(OnStop::Keep, OnStop::Remove)};
    s.log = {one_of("/var/log/a.log", "/with blank/# not a comment", "/quote\"d"),
             one_of(LogFormat::Text, LogFormat::Json),
             one_of(LogLevel::Error, LogLevel::Warning, LogLevel::Info, LogLevel::Debug),
             one_of(LogUsers::Full, LogUsers::Hash, LogUsers::Off)};
    s.state.path = one_of("/s.db", "/var/lib/sipward/sipward.db");
    s.control = {one_of("/run/c.sock", "/c: d"), one_of("sipward", "root", "null")};
    s.metrics.listen = one_of("", "127.0.0.1:9560", "[::]:1");
    s.shadow = one_of("", "/etc/sipward/new.yaml");
    return s;
  }
};

} // namespace

TEST_CASE("what describe() says is read as the same settings, whatever they are") {
  Dice dice(7);
  for (int i = 0; i < 500; ++i) {
    const auto settings = dice.settings();
    const auto text = describe(settings);
    const auto again = parse(text, "described");
    INFO(text);
    if (!again) FAIL(to_string(again.error()));
    REQUIRE(describe(*again) == text);
    REQUIRE(*again == settings);
  }
}

TEST_CASE("a damaged file yields settings or an error with a place, never a crash") {
  Dice dice(11);
  const auto odd = "{}[]:,&*!|>'\"%@`#-? \n\t\r\0\x80\xff\x30"sv;
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    auto text = describe(dice.settings());
    for (auto changes = dice.number(1, 4); changes > 0; --changes) {
      const auto at = dice.number(0, text.size() - 1);
      switch (dice.number(0, 2)) {
      case 0: text[at] = odd[dice.number(0, odd.size() - 1)]; break;
      case 1: text.erase(at, dice.number(1, 20)); break;
      default: text.insert(at, 1, odd[dice.number(0, odd.size() - 1)]);
      }
      if (text.empty()) text = " ";
    }
    const auto settings = parse(text, "damaged");
    INFO(text);
    if (settings) {
      REQUIRE(parse(describe(*settings), "described") == *settings);
      continue;
    }
    ++refused;
    REQUIRE(!settings.error().message.empty());
    REQUIRE(settings.error().line >= 0);
    REQUIRE(settings.error().line <= std::ranges::count(text, '\n') + std::ranges::count(text, '\r') + 1);
  }
  CHECK(refused > 1000);
}
