// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "policy/address.h"
#include "policy/rules.h"

// The settings file, /etc/sipward/sipward.yaml: text to plain structs, strictly. This is the only code that knows YAML.
//
// Unknown keys, wrong units and impossible values are errors with file, line and column; nothing is guessed. The
// defaults are the initialisers below, and the shipped config/sipward.yaml shows every one of them, with its range
// (held equal by a test). A new key is a member here, a line in keys.cpp, and a line in the shipped file.
namespace sipward::config {

using Seconds = std::chrono::seconds;

enum class Mode : std::uint8_t { Monitor, Inline };
enum class Idle : std::uint8_t { Adaptive, Busy };
enum class Hugepages : std::uint8_t { Auto, On, Off };
enum class Hook : std::uint8_t { Ingress, Prerouting };
enum class Scope : std::uint8_t { Sip, All };
enum class OnStop : std::uint8_t { Keep, Remove };
enum class LogFormat : std::uint8_t { Text, Json };
enum class LogLevel : std::uint8_t { Error, Warning, Info, Debug };
enum class LogUsers : std::uint8_t { Full, Hash, Off };

struct Settings {
  Mode mode = Mode::Monitor;
  struct Ports {
    std::vector<std::string> outside; // required; interface names, PCI addresses, tap:NAME or vdev:STRING
    std::string inside;               // inline mode only
    friend bool operator==(const Ports&, const Ports&) = default;
  } ports;
  std::vector<unsigned> cores; // CPUs, a worker for each; empty: few workers, wherever the scheduler puts them
  struct Memory {
    Hugepages hugepages = Hugepages::Auto;
    std::uint64_t size_bytes = std::uint64_t{256} << 20;
    friend bool operator==(const Memory&, const Memory&) = default;
  } memory;
  Idle idle = Idle::Adaptive;
  struct Sip {
    std::vector<std::uint16_t> ports = {5060};
    std::vector<policy::Address> servers; // who is protected; empty: the interfaces' own addresses; inline: all inside
    friend bool operator==(const Sip&, const Sip&) = default;
  } sip;
  struct Sources {
    std::uint32_t capacity = 262144;
    std::uint8_t ipv6_prefix = 64;
    friend bool operator==(const Sources&, const Sources&) = default;
  } sources;
  policy::Detect detect;
  struct Scanners {
    std::vector<std::string> user_agents; // patterns beside the shipped ones: text, text*, *text*
    friend bool operator==(const Scanners&, const Scanners&) = default;
  } scanners;
  struct PrefixRule {
    std::uint8_t ipv4 = 24;
    std::uint8_t ipv6 = 48;
    std::uint32_t offenders = 4;
    Seconds within = std::chrono::hours(24);
    std::uint32_t fuse = 12; // new prefixes a minute
    bool proven_only = false;
    friend bool operator==(const PrefixRule&, const PrefixRule&) = default;
  } prefix;
  struct Blocking {
    std::vector<Seconds> ladder = {std::chrono::minutes(5), std::chrono::minutes(30), std::chrono::hours(2),
                                   std::chrono::hours(24)};
    bool dry_run = false;
    std::uint32_t max_entries = 131072;
    std::uint32_t max_per_second = 200; // new hosts
    friend bool operator==(const Blocking&, const Blocking&) = default;
  } block;
  std::vector<policy::Prefix> allow; // who is never blocked: addresses and ranges
  struct AllowLimit {
    policy::Prefix range; // of `allow`
    double per_second = 0;
    friend bool operator==(const AllowLimit&, const AllowLimit&) = default;
  };
  std::vector<AllowLimit> allow_limits;           // of those, each address may send no more than this
  std::vector<std::string> allow_names;           // the same, as DNS knows their addresses; lower case
  std::vector<std::filesystem::path> allow_files; // the same, in lists that may change meanwhile (allow.h)
  std::filesystem::path allow_folder; // no key: its *.yaml are such lists as well; for whoever reads a file to set
  struct Trust {
    Seconds learning = std::chrono::hours(24);
    Seconds remember = std::chrono::hours(24 * 14);
    std::vector<policy::Prefix> peers;
    friend bool operator==(const Trust&, const Trust&) = default;
  } trust;
  struct Nftables {
    Hook hook = Hook::Ingress;
    Scope scope = Scope::Sip;
    OnStop on_stop = OnStop::Keep;
    friend bool operator==(const Nftables&, const Nftables&) = default;
  } nftables;
  struct Log {
    std::filesystem::path file = "/var/log/sipward/block.log";
    LogFormat format = LogFormat::Text;
    LogLevel level = LogLevel::Info;
    LogUsers users = LogUsers::Full;
    friend bool operator==(const Log&, const Log&) = default;
  } log;
  struct State {
    std::filesystem::path path = "/var/lib/sipward/sipward.db";
    friend bool operator==(const State&, const State&) = default;
  } state;
  struct Control {
    std::filesystem::path socket = "/run/sipward/control.sock";
    std::string group = "sipward";
    friend bool operator==(const Control&, const Control&) = default;
  } control;
  struct Metrics {
    std::string listen = "127.0.0.1:9560"; // "": off
    friend bool operator==(const Metrics&, const Metrics&) = default;
  } metrics;
  std::filesystem::path shadow; // a second settings file to judge by, blocking nothing; "": off

  friend bool operator==(const Settings&, const Settings&) = default;
};

// What is wrong with a file and where; line and column count from 1, 0 when the file as a whole is at fault.
struct Error {
  std::string file;
  int line = 0;
  int column = 0;
  std::string message;
};
std::string to_string(const Error& error); // "FILE:LINE:COLUMN: message", or "FILE: message"

// Everything below: any thread.
//
// The first fault ends it, in the file's order; rules that bind several keys together are looked at last. `file` is
// only used to name the place in errors.
std::expected<Settings, Error> parse(std::string_view text, const std::string& file);
std::expected<Settings, Error> load(const std::filesystem::path& file);

// The effective settings as YAML, every key, in the order of the shipped file; parse() of it gives equal settings.
std::string describe(const Settings& settings);

} // namespace sipward::config
