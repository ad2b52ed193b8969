// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/config.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

using namespace sipward;
using namespace sipward::config;
using policy::Action;
using policy::Address;
using policy::Prefix;
using std::chrono::hours, std::chrono::minutes, std::chrono::seconds;

namespace {

constexpr auto kSmallest = "ports: {outside: eth1}\n";

constexpr auto kFuller = R"(mode: monitor                 # monitor | inline
ports: {outside: eth1}        # inline also: inside: eth2, or tap:sip0
memory: {hugepages: auto, size: 256 MiB}
idle: adaptive
sip: {ports: [5060], servers: [192.0.2.10]}
sources: {capacity: 262144, ipv6_prefix: 64}
prefix: {ipv4: 24, ipv6: 48, offenders: 4, within: 24h}
block: {ladder: [5m, 30m, 2h, 24h], dry_run: false}
allow: [203.0.113.10, 203.0.113.128/25]
nftables: {hook: ingress, scope: sip, on_stop: remove}
trust: {learning: 0s, remember: 14d, peers: []}
log: {file: /var/log/sipward/block.log, format: text, level: info}
state: {path: /var/lib/sipward/sipward.db}
control: {socket: /run/sipward/control.sock, group: sipward}
metrics: {listen: "127.0.0.1:9560"}        # "" turns it off
)";

Settings defaults_on(const std::string& outside) {
  Settings settings;
  settings.ports.outside = {outside};
  return settings;
}

Settings parsed(const std::string& text) {
  const auto settings = parse(text, "test.yaml");
  INFO(text);
  if (!settings) FAIL(to_string(settings.error()));
  return *settings;
}

std::string shipped_text() {
  std::ifstream file(std::string(SIPWARD_SOURCE_DIR) + "/config/sipward.yaml");
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

// One line "name: ..." of a file in block style: its dotted name, and the comment that belongs to it, beside it or
// above.
struct Line {
  std::string name;
  std::string comment;
  bool is_section;
};

// A reader of its own, so that neither file is judged by the code under test. Two blanks a level; no lists over lines.
std::vector<Line> lines_of(const std::string& text) {
  std::vector<Line> lines;
  std::vector<std::string> path;
  std::string above;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    const auto indent = line.find_first_not_of(' ');
    if (indent == line.npos) {
      above.clear();
      continue;
    }
    if (line[indent] == '#') {
      above = line.substr(indent);
      continue;
    }
    const auto colon = line.find(':', indent);
    REQUIRE(colon != line.npos);
    path.resize(indent / 2);
    path.push_back(line.substr(indent, colon - indent));
    std::string name;
    for (const auto& word : path) name += (name.empty() ? "" : ".") + word;
    const auto beside = line.find("  #");
    lines.push_back({name, beside == line.npos ? above : line.substr(beside), colon + 1 == line.size()});
    above.clear();
  }
  return lines;
}

std::vector<std::string> keys_of(const std::string& text) {
  std::vector<std::string> names;
  for (const auto& line : lines_of(text))
    if (!line.is_section) names.push_back(line.name);
  return names;
}

} // namespace

TEST_CASE("the shipped file parses to the defaults in the code") {
  const auto shipped = load(std::string(SIPWARD_SOURCE_DIR) + "/config/sipward.yaml");
  REQUIRE(shipped);
  CHECK(*shipped == defaults_on("eth0"));
  CHECK(describe(*shipped) == describe(defaults_on("eth0"))); // says which key differs
}

TEST_CASE("the shipped file shows every key there is, in order, with a comment, and no other") {
  const auto text = shipped_text();
  CHECK(keys_of(text) == keys_of(describe(defaults_on("eth0"))));
  CHECK(keys_of(text).size() > 50);
  for (const auto& line : lines_of(text)) {
    INFO(line.name);
    if (line.is_section) continue;
    CHECK(line.comment.size() > 20);
    CHECK((line.comment.find("efault") != std::string::npos));
  }
}

TEST_CASE("the smallest file is enough, and leaves every default") { CHECK(parsed(kSmallest) == defaults_on("eth1")); }

TEST_CASE("the fuller file is read key by key") {
  const auto settings = parsed(kFuller);
  auto expected = defaults_on("eth1");
  expected.sip.servers = {Address::v4(192, 0, 2, 10)};
  expected.allow = {*Prefix::parse("203.0.113.10"), *Prefix::parse("203.0.113.128/25")};
  expected.nftables.on_stop = OnStop::Remove;
  expected.trust.learning = seconds(0);
  CHECK(settings == expected);
}

TEST_CASE("values are read as written") {
  struct {
    const char* name;
    const char* text; // behind the smallest file
    bool (*holds)(const Settings&);
  } const kRows[] = {
      {"idle", "idle: busy", [](const Settings& s) { return s.idle == Idle::Busy; }},
      {"cores", "cores: [2, 3, 0]",
       [](const Settings& s) {
         return s.cores == std::vector<unsigned>{2, 3, 0};
       }},
      {"hugepages", "memory: {hugepages: on}", [](const Settings& s) { return s.memory.hugepages == Hugepages::On; }},
      {"binary size", "memory: {size: 1 GiB}", [](const Settings& s) { return s.memory.size_bytes == 1u << 30; }},
      {"decimal size", "memory: {size: 64MB}", [](const Settings& s) { return s.memory.size_bytes == 64'000'000; }},
      {"ports", "sip: {ports: [5060, 65535]}",
       [](const Settings& s) {
         return s.sip.ports == std::vector<std::uint16_t>{5060, 65535};
       }},
      {"IPv6 server, unquoted", "sip: {servers: [2001:db8::1]}",
       [](const Settings& s) { return s.sip.servers == std::vector{*Address::parse("2001:db8::1")}; }},
      {"greatest capacity", "sources: {capacity: 67108864}",
       [](const Settings& s) { return s.sources.capacity == 67108864; }},
      {"least capacity", "sources: {capacity: 1024}", [](const Settings& s) { return s.sources.capacity == 1024; }},
      {"scanner action", "detect: {scanner: {action: log}}",
       [](const Settings& s) { return s.detect.scanner.action == Action::Log; }},
      {"a whole rate policy", "detect: {register_flood: {rate: 50 per 10s, burst: 20, action: limit}}",
       [](const Settings& s) {
         return s.detect.register_flood == policy::RatePolicy{{5, 20}, Action::Limit};
       }},
      {"each rate policy has its own place", "detect: {malformed: {rate: 600/min}, request_flood: {burst: 7}}",
       [](const Settings& s) {
         return s.detect.malformed.limit.per_second == 10 && s.detect.request_flood.limit.burst == 7;
       }},
      {"a burst that drains in just an hour", "detect: {options_flood: {rate: 1/min, burst: 60}}",
       [](const Settings& s) {
         return s.detect.options_flood.limit == policy::Rate{1.0 / 60, 60};
       }},
      {"enumeration", "detect: {enumeration: {users: 5, within: 90s, action: off}}",
       [](const Settings& s) {
         return s.detect.enumeration == policy::CountPolicy{5, seconds(90), Action::Off};
       }},
      {"auth_failure", "detect: {auth_failure: {failures: 6, within: 10m}}",
       [](const Settings& s) {
         return s.detect.auth_failure == policy::CountPolicy{6, minutes(10), Action::Block};
       }},
      {"user agents", "scanners: {user_agents: [evil, \"evil/*\", \"*evil*\"]}",
       [](const Settings& s) {
         return s.scanners.user_agents == std::vector<std::string>{"evil", "evil/*", "*evil*"};
       }},
      {"prefix", "prefix: {ipv4: 20, ipv6: 56, offenders: 1, within: 1w, fuse: 1, proven_only: true}",
       [](const Settings& s) { return s.prefix == Settings::PrefixRule{20, 56, 1, hours(168), 1, true}; }},
      {"ladder in words",
       "block: {ladder: [0h90s, 1h30m, 2 days], dry_run: true, max_entries: 1048576, max_per_second: 5}",
       [](const Settings& s) {
         return s.block == Settings::Blocking{{seconds(90), minutes(90), hours(48)}, true, 1048576, 5};
       }},
      {"allow, one a line", "allow:\n  - 203.0.113.10\n  - 2001:db8::/48\n  - '::1'",
       [](const Settings& s) {
         return s.allow ==
                std::vector{*Prefix::parse("203.0.113.10"), *Prefix::parse("2001:db8::/48"), *Prefix::parse("::1")};
       }},
      {"allow, whatever it takes",
       "allow: [SIP.Example.net, 203.0.113.10, 'file:/etc/carriers.list', _sip._udp.example.org]",
       [](const Settings& s) {
         return s.allow == std::vector{*Prefix::parse("203.0.113.10")} &&
                s.allow_names == std::vector<std::string>{"sip.example.net", "_sip._udp.example.org"} &&
                s.allow_files == std::vector<std::filesystem::path>{"/etc/carriers.list"};
       }},
      {"allow, with a limit", "allow: [203.0.113.9, {address: 203.0.113.0/25, limit: 200/s}, sip.example.net]",
       [](const Settings& s) {
         return s.allow == std::vector{*Prefix::parse("203.0.113.0/25"), *Prefix::parse("203.0.113.9")} &&
                s.allow_limits == std::vector<Settings::AllowLimit>{{*Prefix::parse("203.0.113.0/25"), 200}} &&
                s.allow_names == std::vector<std::string>{"sip.example.net"};
       }},
      {"trust", "trust: {learning: 0s, remember: 1w, peers: [198.51.100.0/24]}",
       [](const Settings& s) {
         return s.trust == Settings::Trust{seconds(0), hours(168), {*Prefix::parse("198.51.100.0/24")}};
       }},
      {"nftables", "nftables: {hook: prerouting, scope: all, on_stop: remove}",
       [](const Settings& s) {
         return s.nftables == Settings::Nftables{Hook::Prerouting, Scope::All, OnStop::Remove};
       }},
      {"log", "log: {file: /tmp/b.log, format: json, level: debug, users: hash}",
       [](const Settings& s) {
         return s.log == Settings::Log{"/tmp/b.log", LogFormat::Json, LogLevel::Debug, LogUsers::Hash};
       }},
      {"state and control", "state: {path: /s.db}\ncontrol: {socket: /c.sock, group: root}",
       [](const Settings& s) {
         return s.state.path == "/s.db" && s.control == Settings::Control{"/c.sock", "root"};
       }},
      {"metrics off", "metrics: {listen: \"\"}", [](const Settings& s) { return s.metrics.listen.empty(); }},
      {"metrics on IPv6", "metrics: {listen: '[::1]:9560'}",
       [](const Settings& s) { return s.metrics.listen == "[::1]:9560"; }},
      {"shadow", "shadow: /etc/sipward/new.yaml",
       [](const Settings& s) { return s.shadow == "/etc/sipward/new.yaml"; }},
      {"a section whose keys are all commented out", "sip:\n#  ports: [5062]\nidle: busy",
       [](const Settings& s) { return s.sip == Settings::Sip{} && s.idle == Idle::Busy; }},
  };
  for (const auto& row : kRows) {
    INFO(row.name);
    CHECK(row.holds(parsed(kSmallest + std::string(row.text))));
  }
}

TEST_CASE("ports of every form are taken") {
  for (const char* port : {"eth1", "eth0.100", "enp1s0f0np0", "01:00.0", "0000:af:00.1", "tap:sip0",
                           "vdev:net_pcap0,rx_pcap=x.pcap,infinite_rx=1"}) {
    CHECK(parsed("ports:\n  outside: " + std::string(port)).ports.outside == std::vector<std::string>{port});
  }
  CHECK(parsed("ports: {outside: [eth1, eth2]}").ports.outside == std::vector<std::string>{"eth1", "eth2"});
  const auto settings = parsed("mode: inline\nports: {outside: eth1, inside: 'tap:sip0'}");
  CHECK(settings.mode == Mode::Inline);
  CHECK(settings.ports.inside == "tap:sip0");
}

TEST_CASE("a wrong file is refused with the place and what is allowed") {
  struct {
    const char* name;
    const char* text;
    int line, column; // 0: the file as a whole
    const char* message;
  } const kRows[] = {
      {"unknown section", "ports: {outside: eth1}\nblok: {}\n", 2, 1, "did you mean block?"},
      {"letters swapped", "ports: {outside: eth1}\nsip: {prots: [5060]}\n", 2, 7, "did you mean ports?"},
      {"known elsewhere", "ports: {outside: eth1}\ncapacity: 4096\n", 2, 1, "did you mean sources.capacity?"},
      {"not like any key", "ports: {outside: eth1}\nlog: {zzzzzzzz: 1}\n", 2, 7,
       "there are: file, format, level, users"},
      {"unknown policy", "ports: {outside: eth1}\ndetect:\n  scaner: {action: off}\n", 3, 3, "did you mean scanner?"},
      {"dotted key", "ports: {outside: eth1}\nsip.ports: [5060]\n", 2, 1, "no key \"sip.ports\""},
      {"set twice", "ports: {outside: eth1}\nidle: busy\nidle: busy\n", 3, 1, "set twice, first in line 2"},
      {"section twice", "ports: {outside: eth1}\nsip: {}\nidle: busy\nsip: {}\n", 4, 1, "set twice, first in line 2"},
      {"twice in a flow map", "ports: {outside: eth1, outside: eth2}\n", 1, 24, "ports.outside: set twice"},

      {"no outside port", "mode: monitor\n", 0, 0, "ports.outside: missing"},
      {"empty file", "", 0, 0, "ports.outside: missing"},
      {"only a comment", "# nothing\n", 0, 0, "ports.outside: missing"},
      {"section without it", "mode: monitor\nports: {}\n", 2, 1, "ports.outside: missing"},
      {"no ports at all", "ports: {outside: []}\n", 1, 18, "at least one"},
      {"port twice", "ports: {outside: [eth1, eth1]}\n", 1, 25, "there twice"},
      {"name too long for an interface", "ports: {outside: a234567890123456}\n", 1, 18, "an interface"},
      {"name with a slash", "ports: {outside: eth/1}\n", 1, 18, "an interface"},
      {"not quite a PCI address", "ports:\n  outside: 0000:0x:00.0\n", 2, 12, "a PCI address"},
      {"tap without a name", "ports:\n  outside: 'tap:'\n", 2, 12, "tap:NAME"},
      {"inline without inside", "ports: {outside: eth1}\nmode: inline\n", 2, 7, "needs ports.inside"},
      {"inside in monitor mode", "ports: {outside: eth1, inside: eth2}\n", 1, 32, "inline only"},
      {"inside is outside too", "mode: inline\nports: {outside: [eth1, eth2], inside: eth2}\n", 2, 40,
       "outside port already"},

      {"word for a number", "ports: {outside: eth1}\nsources:\n  capacity: many\n", 3, 13,
       "a whole number from 1024 to 67108864"},
      {"below the range", "ports: {outside: eth1}\nsources: {capacity: 1023}\n", 2, 21, "from 1024"},
      {"above the range", "ports: {outside: eth1}\nsources: {capacity: 67108865}\n", 2, 21, "to 67108864"},
      {"would wrap around in 64 bits", "ports: {outside: eth1}\nsources: {capacity: 18446744073709555712}\n", 2, 21,
       "a whole number"},
      {"negative", "ports: {outside: eth1}\nsources: {capacity: -1}\n", 2, 21, "a whole number"},
      {"fraction", "ports: {outside: eth1}\nsources: {capacity: 4096.5}\n", 2, 21, "a whole number"},
      {"hexadecimal", "ports: {outside: eth1}\nsources: {capacity: 0x4000}\n", 2, 21, "a whole number"},
      {"list for a number", "ports: {outside: eth1}\nsources: {capacity: [4096]}\n", 2, 21,
       "a list is not a whole number"},
      {"map for a number", "ports: {outside: eth1}\nsources: {capacity: {a: 1}}\n", 2, 21,
       "a map is not a whole number"},
      {"nothing for a number", "ports: {outside: eth1}\nsources:\n  capacity:\nidle: busy\n", 3, 3,
       "an empty value is not"},
      {"value for a section", "ports: {outside: eth1}\nsources: 5\n", 2, 10, "there are: capacity, ipv6_prefix"},
      {"list for a section", "ports: {outside: eth1}\nlog: [a]\n", 2, 6, "a section"},
      {"number for a list", "ports: {outside: eth1}\ncores: 2\n", 2, 8, "a list, in brackets"},
      {"core twice", "ports: {outside: eth1}\ncores: [2, 02]\n", 2, 12, "there twice"},
      {"list in a list", "ports: {outside: eth1}\ncores: [[2]]\n", 2, 9, "a list is not a whole number"},
      {"yes for true", "ports: {outside: eth1}\nblock: {dry_run: yes}\n", 2, 18, "true, false"},
      {"capitals", "ports: {outside: eth1}\nmode: Monitor\n", 2, 7, "one of monitor, inline"},
      {"tag", "ports: {outside: eth1}\nidle: !!str busy\n", 2, 7, "has no meaning here"},
      {"port 0", "ports: {outside: eth1}\nsip: {ports: [5060, 0]}\n", 2, 21, "from 1 to 65535"},
      {"port 65536", "ports: {outside: eth1}\nsip: {ports: [65536]}\n", 2, 15, "from 1 to 65535"},
      {"no SIP port", "ports: {outside: eth1}\nsip: {ports: []}\n", 2, 14, "at least one"},

      {"unknown unit", "ports: {outside: eth1}\nblock: {ladder: [5 parsecs]}\n", 2, 18, "a duration from 1s to 365d"},
      {"no unit", "ports: {outside: eth1}\nblock: {ladder: [5m, 300]}\n", 2, 22, "such as 90s"},
      {"step of no time", "ports: {outside: eth1}\nblock: {ladder: [0s]}\n", 2, 18, "from 1s"},
      {"no step", "ports: {outside: eth1}\nblock: {ladder: []}\n", 2, 17, "at least one"},
      {"one file for two", "ports: {outside: eth1}\nlog: {file: /tmp/x}\ncontrol: {socket: /tmp/x}\n", 3, 19,
       "same file"},
      {"ladder going down", "ports: {outside: eth1}\nblock: {ladder: [30m, 5m]}\n", 2, 17, "climbs"},
      {"too many entries", "ports: {outside: eth1}\nblock: {max_entries: 1048577}\n", 2, 22, "to 1048576"},
      {"size without a unit", "ports: {outside: eth1}\nmemory: {size: 256}\n", 2, 16, "such as 256 MiB"},
      {"size in bits", "ports: {outside: eth1}\nmemory: {size: 256 Mbit}\n", 2, 16, "such as 256 MiB"},
      {"rate of nothing", "ports: {outside: eth1}\ndetect: {malformed: {rate: 0/s}}\n", 2, 28, "a rate from 1/h"},
      {"rate without a period", "ports: {outside: eth1}\ndetect: {malformed: {rate: 10}}\n", 2, 28, "such as 10/s"},
      {"rate above what is measured", "ports: {outside: eth1}\ndetect: {malformed: {rate: 10001/s}}\n", 2, 28,
       "to 10000/s"},
      {"burst of nothing", "ports: {outside: eth1}\ndetect: {malformed: {burst: 0}}\n", 2, 29, "from 1 to 1000000"},
      {"burst that never drains", "ports: {outside: eth1}\ndetect:\n  register_flood: {rate: 1/min, burst: 61}\n", 3,
       40, "61 at 1/min takes 1h1m to drain; at most 1h"},
      {"rate too low for the default burst", "ports: {outside: eth1}\ndetect:\n  invite_flood: {rate: 1/h}\n", 3, 24,
       "to drain"},
      {"count over too long", "ports: {outside: eth1}\ndetect: {enumeration: {within: 61m}}\n", 2, 32, "from 1s to 1h"},
      {"unknown action", "ports: {outside: eth1}\ndetect: {scanner: {action: drop}}\n", 2, 28,
       "one of off, log, limit, block"},

      {"prefix as long as a host", "ports: {outside: eth1}\nprefix: {ipv4: 32}\n", 2, 16, "from 8 to 31"},
      {"prefix as long as a source", "ports: {outside: eth1}\nsources: {ipv6_prefix: 48}\n", 2, 24,
       "less than sources.ipv6_prefix"},
      {"prefix too long for the default offenders", "ports: {outside: eth1}\nprefix: {ipv4: 31}\n", 2, 16,
       "a /31 has 2 addresses"},
      {"offenders beyond the prefix", "ports: {outside: eth1}\nprefix: {ipv4: 30, offenders: 5}\n", 2, 31,
       "a /30 has 4 addresses"},
      {"source prefix beyond 64", "ports: {outside: eth1}\nsources: {ipv6_prefix: 65}\n", 2, 24, "from 32 to 64"},

      {"no name in allow", "ports: {outside: eth1}\nallow: [203.0.113.1, sip..example.net]\n", 2, 22,
       "is not an address (203.0.113.10), a range"},
      {"mistyped address in allow", "ports: {outside: eth1}\nallow:\n- 203.0.113.1000\n", 3, 3, "is not an address"},
      {"relative file in allow", "ports: {outside: eth1}\nallow: ['file:allow.txt']\n", 2, 9, "an absolute path"},
      {"name in trust.peers", "ports: {outside: eth1}\ntrust: {peers: [carrier]}\n", 2, 17, "names are not resolved"},
      {"name in sip.servers", "ports: {outside: eth1}\nsip: {servers: [localhost]}\n", 2, 17, "names are not resolved"},
      {"not an address", "ports: {outside: eth1}\nallow: [203.0.113.300]\n", 2, 9,
       "is not an address (203.0.113.10), a range"},
      {"host bits set", "ports: {outside: eth1}\nallow: [203.0.113.10/24]\n", 2, 9,
       "write 203.0.113.0/24 for the range, or 203.0.113.10 for the host"},
      {"length beyond the address", "ports: {outside: eth1}\nallow: [203.0.113.0/33]\n", 2, 9, "a range"},
      {"address with a port", "ports: {outside: eth1}\nsip: {servers: [\"192.0.2.1:5060\"]}\n", 2, 17,
       "an IPv4 or IPv6 address"},
      {"range as a server", "ports: {outside: eth1}\nsip: {servers: [192.0.2.0/24]}\n", 2, 17,
       "an IPv4 or IPv6 address"},
      {"nobody as a server", "ports: {outside: eth1}\nsip: {servers: [0.0.0.0]}\n", 2, 17, "nobody's address"},

      {"pattern too short", "ports: {outside: eth1}\nscanners: {user_agents: [\"*ab*\"]}\n", 2, 26,
       "at least three characters"},
      {"pattern of stars", "ports: {outside: eth1}\nscanners: {user_agents: [\"***\"]}\n", 2, 26,
       "at least three characters"},
      {"relative log file", "ports: {outside: eth1}\nlog: {file: block.log}\n", 2, 13, "the absolute path of a file"},
      {"folder as a log file", "ports: {outside: eth1}\nlog: {file: /var/log/}\n", 2, 13,
       "the absolute path of a file"},
      {"empty log file", "ports: {outside: eth1}\nlog: {file: \"\"}\n", 2, 13, "the absolute path of a file"},
      {"newline in a path", "ports: {outside: eth1}\nlog: {file: \"/a\\nb\"}\n", 2, 13, "\"/a?b\" is not"},
      {"terminal escape in a path", "ports: {outside: eth1}\nlog: {file: \"/\\x9b\"}\n", 2, 13,
       "is not the absolute path"},
      {"an allowed one without its limit", "ports: {outside: eth1}\nallow: [{address: 203.0.113.9}]\n", 2, 9,
       "no limit"},
      {"a limit of nobody", "ports: {outside: eth1}\nallow: [{limit: 20/s}]\n", 2, 9, "no address"},
      {"a limit that is none", "ports: {outside: eth1}\nallow: [{address: 203.0.113.9, limit: much}]\n", 2, 39, "much"},
      {"a key beside the limit", "ports: {outside: eth1}\nallow: [{addresses: 203.0.113.9}]\n", 2, 10, "in braces"},
      {"two limits", "ports: {outside: eth1}\nallow: [{address: ::1, limit: 1/s}, {address: '::1', limit: 2/s}]\n", 2,
       37, "has a limit already"},
      {"relative shadow", "ports: {outside: eth1}\nshadow: new.yaml\n", 2, 9, "or \"\" for none"},
      {"metrics without a port", "ports: {outside: eth1}\nmetrics: {listen: 127.0.0.1}\n", 2, 19,
       "an address and a port"},
      {"metrics on a bare IPv6 address", "ports: {outside: eth1}\nmetrics: {listen: \"::1:9560\"}\n", 2, 19,
       "[::1]:9560"},
      {"group with a blank", "ports: {outside: eth1}\ncontrol: {group: a b}\n", 2, 18, "the name of a group"},

      {"list never closed", "ports: [\n", 2, 1, "not YAML"},
      {"quote never closed", "ports: {outside: \"eth1}\n", 2, 1, "not YAML"},
      {"unknown anchor", "ports: {outside: *nic}\n", 1, 18, "not YAML"},
      {"not UTF-8", "ports: {outside: eth1}\nshadow: /a\xff\n", 2, 11, "not UTF-8"},
      {"a letter cut short", "ports: {outside: eth1}\nshadow: /\xe2\x82", 2, 10, "not UTF-8"},
      {"an overlong slash", "ports: {outside: eth1}\nshadow: \xc0\xaf\n", 2, 9, "not UTF-8"},
      {"what yaml-cpp takes for the end", "ports: {outside: eth1}\n\x04\nblok: 1\n", 2, 1, "control character"},
      {"a list instead of settings", "- ports\n", 1, 1, "must hold settings"},
      {"two documents", "ports: {outside: eth1}\n---\nblok: 1\n", 3, 1, "second YAML document"},
      {"an empty second document", "ports: {outside: eth1}\n---\n", 3, 1, "second YAML document"},
      {"comma first", ",ports: {outside: eth1}\n", 1, 1, "not YAML"},
      {"a key that is a list", "ports: {outside: eth1}\n? [a]\n: 1\n", 2, 3, "a key must be a word"},
      {"first of several, in the file's order", "idle: lazy\nmode: odd\nblok: 1\n", 1, 7, "idle"},
  };
  for (const auto& row : kRows) {
    INFO(row.name);
    const auto settings = parse(row.text, "bad.yaml");
    REQUIRE_FALSE(settings);
    const auto& error = settings.error();
    CHECK(error.file == "bad.yaml");
    CHECK(error.line == row.line);
    CHECK(error.column == row.column);
    CHECK_THAT(error.message, Catch::Contains(row.message));
    CHECK(error.message.find('\n') == std::string::npos); // one line, whatever the file holds
  }
}

TEST_CASE("a socket's path that the kernel would cut off is refused") {
  const auto with = [](std::size_t octets) {
    return parse(kSmallest + ("control: {socket: /" + std::string(octets - 1, 's')) + "}\n", "f");
  };
  CHECK(with(107));
  CHECK_FALSE(with(108));
}

TEST_CASE("an error names its place, as far as it has one") {
  CHECK(to_string(Error{"a.yaml", 3, 13, "wrong"}) == "a.yaml:3:13: wrong");
  CHECK(to_string(Error{"a.yaml", 0, 0, "wrong"}) == "a.yaml: wrong");
}

TEST_CASE("line ends of other systems and a byte order mark do no harm") {
  CHECK(parsed("\xef\xbb\xbfports: {outside: eth1}\r\nidle: busy\r\n").idle == Idle::Busy);
  const auto wrong = parse("ports: {outside: eth1}\r\nidle: lazy\r\n", "f");
  REQUIRE_FALSE(wrong);
  CHECK(wrong.error().line == 2);
  CHECK(wrong.error().column == 7);
}

TEST_CASE("loading says what is wrong with the file itself") {
  const auto folder =
      std::filesystem::temp_directory_path() / ("sipward-config-test-" + std::to_string(std::random_device{}()));
  std::filesystem::create_directory(folder);
  const auto file = folder / "sipward.yaml";
  const auto absent = load(file);
  REQUIRE_FALSE(absent);
  CHECK(to_string(absent.error()) == file.string() + ": No such file or directory");
  const auto not_a_file = load(folder);
  REQUIRE_FALSE(not_a_file);
  CHECK_THAT(not_a_file.error().message, Catch::Contains("not a regular file"));

  std::ofstream(file) << kSmallest << "idle: lazy\n";
  const auto wrong = load(file);
  REQUIRE_FALSE(wrong);
  CHECK_THAT(to_string(wrong.error()), Catch::StartsWith(file.string() + ":2:7: idle: "));
  std::ofstream(file) << kSmallest << "idle: busy\n";
  const auto right = load(file);
  std::filesystem::remove_all(folder);
  REQUIRE(right);
  CHECK(right->idle == Idle::Busy);
}
