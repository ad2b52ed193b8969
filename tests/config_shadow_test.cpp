// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/shadow.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>

// A second settings file: what of it counts, and what is wrong with it.
namespace sipward::config {
namespace {

struct File {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("config_shadow_test-" + std::to_string(getpid()) + ".yaml");
  explicit File(std::string_view text) { std::ofstream(path) << text; }
  ~File() { std::filesystem::remove(path); }
};

Settings present(const std::filesystem::path& shadow) {
  auto settings = parse("ports: {outside: eth1}\nsip: {ports: [5062]}\ndetect: {register_flood: {burst: 30}}\n", "now");
  settings->shadow = shadow;
  return *settings;
}

TEST_CASE("a shadow file says how to judge, and the present settings say the rest") {
  const File file("ports: {outside: eth1}\nsip: {ports: [5060]}\nidle: busy\ndetect: {register_flood: {burst: 5}}\n"
                  "prefix: {offenders: 2}\nallow: [203.0.113.0/24]\ntrust: {remember: 1d}\n");
  const auto now = present(file.path);
  const auto shadow = load_shadow(now);
  REQUIRE(shadow);
  CHECK(shadow->settings.detect.register_flood.limit.burst == 5);
  CHECK(shadow->settings.prefix.offenders == 2);
  CHECK(shadow->settings.allow.size() == 1);
  CHECK(shadow->settings.trust.remember == std::chrono::hours(24));
  CHECK(shadow->settings.sip == now.sip);
  CHECK(shadow->settings.idle == Idle::Adaptive);
  CHECK(shadow->in_vain == std::vector<std::string>{"idle", "sip.ports"});
}

TEST_CASE("what is wrong with a shadow file is told with its place") {
  const File file("ports: {outside: eth1}\ndetect: {register_flood: {bursts: 5}}\n");
  const auto wrong = load_shadow(present(file.path));
  REQUIRE_FALSE(wrong);
  CHECK_THAT(wrong.error(), Catch::StartsWith(file.path.string() + ":2:27: "));
  const auto absent = load_shadow(present("/nowhere/new.yaml"));
  REQUIRE_FALSE(absent);
  CHECK(absent.error() == "/nowhere/new.yaml: No such file or directory");
}

TEST_CASE("a shadow file that does not go with what stays is refused") {
  const File file("ports: {outside: eth1}\nprefix: {ipv6: 60}\n");
  auto now = present(file.path);
  now.sources.ipv6_prefix = 56;
  const auto wrong = load_shadow(now);
  REQUIRE_FALSE(wrong);
  CHECK_THAT(wrong.error(), Catch::StartsWith(file.path.string() + ": prefix.ipv6: "));
}

} // namespace
} // namespace sipward::config
