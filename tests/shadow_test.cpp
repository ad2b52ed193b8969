// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/shadow.h"

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>
#include <sstream>

#include "captures.h"

// Other settings beside the present ones, on the same capture.
using namespace sipward;
using namespace sipward::captures;
using namespace sipward::daemon;

namespace {

const Endpoint kServer{"192.0.2.10", 5060};
const Endpoint kScanner{"198.51.100.66", 5060};
const Endpoint kCaller{"203.0.113.1", 5062};

// A scanner's first packet, and a hundred calls a second for two seconds, never answered.
std::filesystem::path scan_and_calls(const Folder& folder) {
  Pcap pcap(101);
  pcap.add(1'700'000'000, 0, udp(kScanner, kServer, request("OPTIONS", "100", "friendly-scanner")));
  for (unsigned i = 0; i < 200; ++i)
    pcap.add(1'700'000'001 + i / 100, i % 100 * 10'000,
             udp(kCaller, kServer, request("INVITE", std::to_string(i), "a dialler")));
  return folder.file("calls.pcap", pcap.octets);
}

ReplayReport judged(const std::filesystem::path& file, const config::Settings& present, const config::Settings& other) {
  ReplayOptions options;
  options.captures = {file};
  options.servers = {*policy::Address::parse(kServer.address)};
  options.settings = present;
  options.shadow = other;
  options.shadow_file = "new.yaml";
  auto report = judge_captures(options);
  REQUIRE(report);
  REQUIRE(report->shadow);
  return std::move(*report);
}

} // namespace

TEST_CASE("who is blocked only by the new settings is told as more, and only by the present ones as less") {
  const Folder folder;
  const auto file = scan_and_calls(folder);
  config::Settings strict, lax;
  strict.detect.invite_flood.limit = {10, 50};
  lax.detect.invite_flood.action = policy::Action::Off;
  lax.detect.scanner.action = policy::Action::Block;
  const auto stricter = judged(file, lax, strict);
  const auto more = compare(stricter, *stricter.shadow);
  REQUIRE(more.more.size() == 1);
  CHECK(to_string(more.more[0]->subject) == "203.0.113.1/32");
  CHECK(more.less.empty());
  CHECK(more.otherwise.empty());
  CHECK(more.dropped_then > more.dropped_now);
  const auto laxer = judged(file, strict, lax);
  const auto less = compare(laxer, *laxer.shadow);
  CHECK(less.more.empty());
  REQUIRE(less.less.size() == 1);
  CHECK(to_string(less.less[0]->subject) == "203.0.113.1/32");
}

TEST_CASE("who is blocked by both, but later, is told as that") {
  const Folder folder;
  const auto file = scan_and_calls(folder);
  config::Settings early, late;
  early.detect.invite_flood.limit = {10, 20};
  late.detect.invite_flood.limit = {10, 80};
  const auto report = judged(file, early, late);
  const auto difference = compare(report, *report.shadow);
  CHECK(difference.more.empty());
  CHECK(difference.less.empty());
  REQUIRE(difference.otherwise.size() == 1);
  CHECK(difference.otherwise[0].then->since > difference.otherwise[0].now->since);
}

TEST_CASE("the report of other settings is there in JSON and for people") {
  const Folder folder;
  config::Settings strict;
  strict.detect.invite_flood.limit = {10, 50};
  config::Settings present;
  present.detect.invite_flood.action = policy::Action::Off;
  const auto report = judged(scan_and_calls(folder), present, strict);
  std::ostringstream json, text;
  write_json(report, *sort_key("requests"), json);
  const auto object = nlohmann::json::parse(json.str());
  CHECK(object["shadow"]["more"].size() == 1);
  CHECK(object["shadow"]["more"][0]["known"] == false);
  write_text(report, *sort_key("requests"), text);
  CHECK(text.str().find("with new.yaml instead: 1 more blocked, 0 of them known to the servers") != std::string::npos);
}
