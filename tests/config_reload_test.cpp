// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>

#include "config/reload.h"

using namespace sipward::config;

namespace {

// Every key set to something else than its default.
constexpr std::string_view kAllElse = R"(
mode: inline
ports: {outside: eth7, inside: eth8}
cores: [1]
memory: {hugepages: off, size: 64 MiB}
idle: busy
sip: {ports: [5062], servers: [192.0.2.10]}
sources: {capacity: 2048, ipv6_prefix: 60}
detect:
  scanner: {action: limit}
  register_flood: {rate: 11/s, burst: 12, action: limit}
  invite_flood: {rate: 13/s, burst: 14, action: limit}
  options_flood: {rate: 15/s, burst: 16, action: limit}
  request_flood: {rate: 17/s, burst: 18, action: limit}
  malformed: {rate: 19/s, burst: 21, action: block}
  enumeration: {users: 22, within: 23m, action: log}
  auth_failure: {failures: 24, within: 25m, action: log}
scanners: {user_agents: ["evil*"]}
prefix: {ipv4: 25, ipv6: 49, offenders: 5, within: 12h, fuse: 13, proven_only: true}
block: {ladder: [1m], dry_run: true, max_entries: 1000, max_per_second: 300}
allow: [203.0.113.10]
trust: {learning: 1h, remember: 7d, peers: [203.0.113.20]}
nftables: {hook: prerouting, scope: all, on_stop: remove}
log: {file: /var/log/else.log, format: json, level: debug, users: hash}
state: {path: /var/lib/else.db}
control: {socket: /run/else.sock, group: root}
metrics: {listen: ""}
shadow: /etc/sipward/else.yaml
)";

Settings settings(std::string_view text) {
  const auto read = parse(text, "test");
  if (!read) FAIL(to_string(read.error()));
  return *read;
}

// "sip.ports" -> "[5060]", of all keys.
std::map<std::string, std::string> values(const Settings& of) {
  std::map<std::string, std::string> found;
  std::string section[4];
  const std::string text = describe(of);
  for (std::size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    const auto indent = line.find_first_not_of(' ');
    const auto colon = line.find(':');
    const auto level = indent / 2;
    section[level] = line.substr(indent, colon - indent);
    if (colon + 1 == line.size()) continue; // a section begins
    std::string name;
    for (std::size_t i = 0; i <= level; ++i) name += (i == 0 ? "" : ".") + section[i];
    found[name] = line.substr(colon + 2);
  }
  return found;
}

} // namespace

TEST_CASE("each key of a new file either comes into force or is named as waiting for a restart") {
  const auto running = settings("ports: {outside: eth0}"), wanted = settings(kAllElse);
  const auto next = succeed(running, wanted);
  REQUIRE(next);
  const auto before = values(running), asked = values(wanted), after = values(next->settings);
  for (const auto& [name, value] : before) {
    INFO(name);
    REQUIRE(asked.at(name) != value); // a new key: give it another value in kAllElse
    const bool changed = std::ranges::count(next->changed, name) == 1;
    const bool waits = std::ranges::count(next->for_restart, name) == 1;
    CHECK(changed != waits);
    CHECK(waits == needs_restart(name));
    CHECK(after.at(name) == (waits ? value : asked.at(name)));
  }
  CHECK(next->changed.size() + next->for_restart.size() == before.size());
}

TEST_CASE("what is opened once needs a restart, and names that only begin alike do not") {
  for (const auto* name : {"mode", "ports.outside", "memory.size", "sources.capacity", "state.path", "control.group"})
    CHECK(needs_restart(name));
  for (const auto* name : {"sip.ports", "detect.scanner.action", "allow", "block.dry_run", "log.file", "mod", "model"})
    CHECK_FALSE(needs_restart(name));
}

TEST_CASE("the same file again changes nothing") {
  const auto running = settings(kAllElse);
  const auto next = succeed(running, running);
  REQUIRE(next);
  CHECK(next->changed.empty());
  CHECK(next->for_restart.empty());
  CHECK(next->settings == running);
}

TEST_CASE("new values that fit only together with what needs a restart are refused whole") {
  const auto running = settings("{ports: {outside: eth0}, sources: {ipv6_prefix: 56}}");
  const auto next = succeed(running, settings("{ports: {outside: eth0}, prefix: {ipv6: 60}}"));
  REQUIRE_FALSE(next);
  CHECK(next.error().starts_with("prefix.ipv6: 60 must be less than sources.ipv6_prefix (56)"));
  CHECK(next.error().find("needs a restart (sources.ipv6_prefix)") != std::string::npos);
}
