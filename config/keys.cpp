// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/keys.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdio>

#include "config/kinds.h"
#include "config/units.h"
#include "policy/meter.h"

namespace sipward::config {
namespace {

using policy::Action;
using policy::Detect;
using std::chrono::hours, std::chrono::minutes, std::chrono::seconds;

constexpr Name<Mode> kModes[] = {{"monitor", Mode::Monitor}, {"inline", Mode::Inline}};
constexpr Name<Idle> kIdles[] = {{"adaptive", Idle::Adaptive}, {"busy", Idle::Busy}};
constexpr Name<Hugepages> kHugepages[] = {{"auto", Hugepages::Auto}, {"on", Hugepages::On}, {"off", Hugepages::Off}};
constexpr Name<Hook> kHooks[] = {{"ingress", Hook::Ingress}, {"prerouting", Hook::Prerouting}};
constexpr Name<Scope> kScopes[] = {{"sip", Scope::Sip}, {"all", Scope::All}};
constexpr Name<OnStop> kOnStops[] = {{"keep", OnStop::Keep}, {"remove", OnStop::Remove}};
constexpr Name<LogFormat> kLogFormats[] = {{"text", LogFormat::Text}, {"json", LogFormat::Json}};
constexpr Name<LogLevel> kLogLevels[] = {
    {"error", LogLevel::Error}, {"warning", LogLevel::Warning}, {"info", LogLevel::Info}, {"debug", LogLevel::Debug}};
constexpr Name<LogUsers> kLogUsers[] = {{"full", LogUsers::Full}, {"hash", LogUsers::Hash}, {"off", LogUsers::Off}};
constexpr Name<Action> kActions[] = {
    {"off", Action::Off}, {"log", Action::Log}, {"limit", Action::Limit}, {"block", Action::Block}};

constexpr std::size_t kMostPorts = 32;       // DPDK's own limit (RTE_MAX_ETHPORTS)
constexpr std::size_t kMostCores = 128;      // DPDK's own limit (RTE_MAX_LCORE)
constexpr std::size_t kMostPrefixes = 65536; // of allow and trust.peers
constexpr std::size_t kMostLimits = 256;     // of allow: each is looked at for every packet of somebody allowed
constexpr std::size_t kLongestPath = 4095;   // PATH_MAX without its zero
constexpr std::size_t kLongestSocket = 107;  // sockaddr_un's path without its zero
constexpr std::uint64_t kLeastMemory = std::uint64_t{32} << 20, kMostMemory = std::uint64_t{1} << 40; // octets
constexpr std::uint64_t kMostUsers = 200; // distinct ones are estimated, up to 266 (policy::Source)
constexpr seconds kYear = hours(24 * 365);

// --- reading one value ---

// A kind's own type to the field's, and back: integers of other widths (the kind's range fits), durations, paths.
template<class To, class From>
To as(const From& value) {
  if constexpr (requires { std::chrono::duration_cast<To>(value); })
    return std::chrono::duration_cast<To>(value);
  else
    return static_cast<To>(value);
}

std::string subject(const YAML::Node& node) {
  switch (node.Type()) {
  case YAML::NodeType::Scalar: return in_quotes(node.Scalar());
  case YAML::NodeType::Sequence: return "a list";
  case YAML::NodeType::Map: return "a map";
  default: return "an empty value";
  }
}

Fault refusal(const YAML::Node& node, const std::string& allowed) {
  return {node.Mark(), subject(node) + " is not " + allowed};
}

// Plain and quoted scalars carry the tags "?" and "!"; whatever else was written out by hand.
bool has_foreign_tag(const YAML::Node& node) { return !node.Tag().empty() && node.Tag() != "?" && node.Tag() != "!"; }

template<class T>
std::expected<T, Fault> read_value(const YAML::Node& node, const Kind<T>& kind) {
  if (has_foreign_tag(node))
    return std::unexpected(Fault{node.Mark(), "the tag " + in_quotes(node.Tag()) + " has no meaning here"});
  if (!node.IsScalar()) return std::unexpected(refusal(node, kind.allowed));
  auto value = kind.read(node.Scalar());
  if (value) return std::move(*value);
  if (value.error().empty()) return std::unexpected(refusal(node, kind.allowed));
  return std::unexpected(Fault{node.Mark(), value.error()});
}

template<class T, class Field>
std::optional<Fault> read_list(const YAML::Node& node, const List<T>& list, std::vector<Field>& field) {
  std::vector<Field> values;
  const auto read_entry = [&](const YAML::Node& entry) -> std::optional<Fault> {
    auto value = read_value(entry, list.entry);
    if (!value) return std::move(value.error());
    auto converted = as<Field>(*value);
    if (list.repeats == List<T>::Repeats::Refused && std::ranges::find(values, converted) != values.end())
      return Fault{entry.Mark(), subject(entry) + " is there twice"};
    values.push_back(std::move(converted));
    return std::nullopt;
  };
  if (node.IsScalar() && list.single == List<T>::Single::Allowed) {
    if (auto fault = read_entry(node)) return fault;
  } else if (!node.IsSequence()) {
    return refusal(node, "a list, in brackets or one entry a line, each entry being " + list.entry.allowed);
  } else {
    for (const auto& entry : node)
      if (auto fault = read_entry(entry)) return fault;
  }
  if (values.size() < list.least)
    return Fault{node.Mark(), "an empty list: at least one entry is needed, being " + list.entry.allowed};
  if (values.size() > list.most)
    return Fault{node.Mark(),
                 std::to_string(values.size()) + " entries; at most " + std::to_string(list.most) + " are allowed"};
  field = std::move(values);
  return std::nullopt;
}

// --- the table ---

// `field` maps Settings& and const Settings& to the field's reference.
template<class T>
Key key(std::string name, auto field, Kind<T> kind) {
  return {std::move(name),
          [=](const YAML::Node& node, Settings& settings) -> std::optional<Fault> {
            auto value = read_value(node, kind);
            if (!value) return std::move(value.error());
            auto& place = field(settings);
            place = as<std::remove_reference_t<decltype(place)>>(*value);
            return std::nullopt;
          },
          [=](const Settings& settings) { return kind.print(as<T>(field(settings))); }};
}

template<class T>
Key key(std::string name, auto field, List<T> list) {
  return {std::move(name),
          [=](const YAML::Node& node, Settings& settings) { return read_list(node, list, field(settings)); },
          [=](const Settings& settings) {
            const auto& values = field(settings);
            std::vector<std::string> words;
            for (const auto& value : values) words.push_back(list.entry.print(as<T>(value)));
            if (words.size() == 1 && list.single == List<T>::Single::Allowed) return words.front();
            return "[" + join(words, ", ") + "]";
          }};
}

// The way from the settings to a field: at(&Settings::sources, &Settings::Sources::capacity).
// clang-format off
auto at(auto... members) { return [=](auto& settings) -> auto& { return (settings .* ... .* members); }; }
// clang-format on

std::vector<Key> rate_policy(const std::string& name, policy::RatePolicy Detect::*policy) {
  const auto field = [=](auto... members) { return at(&Settings::detect, policy, members...); };
  using policy::Rate, policy::RatePolicy;
  return {
      key(name + ".rate", field(&RatePolicy::limit, &Rate::per_second), rate()),
      key(name + ".burst", field(&RatePolicy::limit, &Rate::burst), whole(1, 1'000'000)),
      key(name + ".action", field(&RatePolicy::action), choice(kActions)),
  };
}

std::vector<Key> count_policy(const std::string& name, const std::string& counted, std::uint64_t most,
                              policy::CountPolicy Detect::*policy) {
  const auto field = [=](auto member) { return at(&Settings::detect, policy, member); };
  using policy::CountPolicy;
  return {
      key(name + "." + counted, field(&CountPolicy::count), whole(1, most)),
      key(name + ".within", field(&CountPolicy::within), duration(seconds(1), hours(1))),
      key(name + ".action", field(&CountPolicy::action), choice(kActions)),
  };
}

std::vector<Key> dataplane() {
  using S = Settings;
  using Ports = List<std::string>;
  using Numbers = List<std::uint64_t>;
  using Addresses = List<policy::Address>;
  return {
      key("mode", at(&S::mode), choice(kModes)),
      key("ports.outside", at(&S::ports, &S::Ports::outside),
          Ports{port(), 1, kMostPorts, Ports::Repeats::Refused, Ports::Single::Allowed}),
      key("ports.inside", at(&S::ports, &S::Ports::inside), or_empty(port(), "none")),
      key("cores", at(&S::cores), Numbers{whole(0, 1023), 0, kMostCores, Numbers::Repeats::Refused}),
      key("memory.hugepages", at(&S::memory, &S::Memory::hugepages), choice(kHugepages)),
      key("memory.size", at(&S::memory, &S::Memory::size_bytes), size(kLeastMemory, kMostMemory)),
      key("idle", at(&S::idle), choice(kIdles)),
      key("sip.ports", at(&S::sip, &S::Sip::ports), Numbers{whole(1, 65535), 1, 32, Numbers::Repeats::Refused}),
      key("sip.servers", at(&S::sip, &S::Sip::servers), Addresses{address(), 0, 1024, Addresses::Repeats::Refused}),
      key("sources.capacity", at(&S::sources, &S::Sources::capacity), whole(1024, 1 << 26)),
      key("sources.ipv6_prefix", at(&S::sources, &S::Sources::ipv6_prefix), whole(32, 64)),
  };
}

std::vector<Key> scanner() {
  return {key("detect.scanner.action", at(&Settings::detect, &Detect::scanner, &policy::MarkPolicy::action),
              choice(kActions))};
}

// {address: RANGE, limit: RATE}, of the list below.
std::expected<Settings::AllowLimit, Fault> read_allow_limit(const YAML::Node& node) {
  std::optional<policy::Prefix> range;
  std::optional<double> per_second;
  for (const auto& part : node) {
    const auto name = part.first.IsScalar() ? part.first.Scalar() : std::string();
    if (name == "address") {
      const auto read = read_value(part.second, prefix());
      if (!read) return std::unexpected(read.error());
      range = *read;
    } else if (name == "limit") {
      const auto read = read_value(part.second, rate());
      if (!read) return std::unexpected(read.error());
      per_second = *read;
    } else {
      return std::unexpected(Fault{part.first.Mark(), "an entry in braces has an address and a limit, such as "
                                                      "{address: 203.0.113.10, limit: 200/s}"});
    }
  }
  if (range && per_second) return Settings::AllowLimit{*range, *per_second};
  return std::unexpected(Fault{node.Mark(), std::string("the entry has no ") + (range ? "limit" : "address") +
                                                ": {address: 203.0.113.10, limit: 200/s}, or the address alone"});
}

std::string allow_text(const policy::Prefix& range, const Settings& settings) {
  const auto limit = std::ranges::find(settings.allow_limits, range, &Settings::AllowLimit::range);
  const auto text = prefix().print(range);
  if (limit == settings.allow_limits.end()) return text;
  return "{address: " + text + ", limit: " + rate().print(limit->per_second) + "}";
}

// One list in the file; several in the settings, by what has to be done about an entry.
Key allow() {
  using Entries = List<std::string>;
  return {"allow",
          [](const YAML::Node& node, Settings& settings) -> std::optional<Fault> {
            std::vector<std::string> entries;
            std::vector<Settings::AllowLimit> limits;
            YAML::Node plain(YAML::NodeType::Sequence); // the entries without a limit
            if (node.IsSequence() && node.size() > 0) {
              for (const auto& entry : node) {
                if (!entry.IsMap()) {
                  plain.push_back(entry);
                  continue;
                }
                const auto limit = read_allow_limit(entry);
                if (!limit) return limit.error();
                if (std::ranges::find(limits, limit->range, &Settings::AllowLimit::range) != limits.end())
                  return Fault{entry.Mark(), to_string(limit->range) + " has a limit already"};
                if (limits.size() == kMostLimits)
                  return Fault{entry.Mark(), "at most " + std::to_string(kMostLimits) + " entries may have a limit"};
                limits.push_back(*limit);
              }
            }
            const auto& rest = limits.empty() ? node : plain;
            if (auto fault = read_list(rest, Entries{allow_entry(), 0, kMostPrefixes}, entries)) return fault;
            settings.allow.clear(), settings.allow_names.clear(), settings.allow_files.clear();
            for (const auto& limit : limits) settings.allow.push_back(limit.range);
            settings.allow_limits = std::move(limits);
            for (const auto& entry : entries) {
              if (const auto range = policy::Prefix::parse(entry))
                settings.allow.push_back(*range);
              else if (entry.starts_with(kFileMark))
                settings.allow_files.emplace_back(entry.substr(kFileMark.size()));
              else
                settings.allow_names.push_back(entry);
            }
            return std::nullopt;
          },
          [](const Settings& settings) {
            std::vector<std::string> words;
            for (const auto& range : settings.allow) words.push_back(allow_text(range, settings));
            for (const auto& name : settings.allow_names) words.push_back(yaml_text(name));
            for (const auto& file : settings.allow_files)
              words.push_back(yaml_text(std::string(kFileMark) + file.string()));
            return "[" + join(words, ", ") + "]";
          }};
}

std::vector<Key> blocking() {
  using S = Settings;
  using Prefixes = List<policy::Prefix>;
  return {
      key("scanners.user_agents", at(&S::scanners, &S::Scanners::user_agents),
          List<std::string>{user_agent(), 0, 1024}),
      key("prefix.ipv4", at(&S::prefix, &S::PrefixRule::ipv4), whole(8, 31)),
      key("prefix.ipv6", at(&S::prefix, &S::PrefixRule::ipv6), whole(16, 63)),
      key("prefix.offenders", at(&S::prefix, &S::PrefixRule::offenders), whole(1, 65536)),
      key("prefix.within", at(&S::prefix, &S::PrefixRule::within), duration(minutes(1), hours(24 * 30))),
      key("prefix.fuse", at(&S::prefix, &S::PrefixRule::fuse), whole(1, 8192)),
      key("prefix.proven_only", at(&S::prefix, &S::PrefixRule::proven_only), flag()),
      key("block.ladder", at(&S::block, &S::Blocking::ladder), List<seconds>{duration(seconds(1), kYear), 1, 16}),
      key("block.dry_run", at(&S::block, &S::Blocking::dry_run), flag()),
      key("block.max_entries", at(&S::block, &S::Blocking::max_entries), whole(1, 1 << 20)),
      key("block.max_per_second", at(&S::block, &S::Blocking::max_per_second), whole(1, 100'000)),
      allow(),
      key("trust.learning", at(&S::trust, &S::Trust::learning), duration(seconds(0), hours(24 * 90))),
      key("trust.remember", at(&S::trust, &S::Trust::remember), duration(seconds(0), kYear)),
      key("trust.peers", at(&S::trust, &S::Trust::peers), Prefixes{prefix(), 0, kMostPrefixes}),
  };
}

std::vector<Key> process() {
  using S = Settings;
  return {
      key("nftables.hook", at(&S::nftables, &S::Nftables::hook), choice(kHooks)),
      key("nftables.scope", at(&S::nftables, &S::Nftables::scope), choice(kScopes)),
      key("nftables.on_stop", at(&S::nftables, &S::Nftables::on_stop), choice(kOnStops)),
      key("log.file", at(&S::log, &S::Log::file), file_path(kLongestPath)),
      key("log.format", at(&S::log, &S::Log::format), choice(kLogFormats)),
      key("log.level", at(&S::log, &S::Log::level), choice(kLogLevels)),
      key("log.users", at(&S::log, &S::Log::users), choice(kLogUsers)),
      key("state.path", at(&S::state, &S::State::path), file_path(kLongestPath)),
      key("control.socket", at(&S::control, &S::Control::socket), file_path(kLongestSocket)),
      key("control.group", at(&S::control, &S::Control::group), group()),
      key("metrics.listen", at(&S::metrics, &S::Metrics::listen), or_empty(listen_address(), "off")),
      key("shadow", at(&S::shadow), or_empty(file_path(kLongestPath), "none")),
  };
}

// --- rules that bind several keys together ---

void check_ports(const Settings& s, std::vector<Violation>& found) {
  if (s.ports.outside.empty())
    found.push_back(
        {{"ports.outside"}, "missing; name the interface that faces the internet, such as ports: {outside: eth0}"});
  if (s.mode == Mode::Inline && s.ports.inside.empty())
    found.push_back({{"mode"}, "inline forwards between two ports and needs ports.inside"});
  if (s.mode == Mode::Monitor && !s.ports.inside.empty())
    found.push_back({{"ports.inside"}, "is for mode: inline only; monitor forwards nothing"});
  if (!s.ports.inside.empty() && std::ranges::find(s.ports.outside, s.ports.inside) != s.ports.outside.end())
    found.push_back({{"ports.inside"}, in_quotes(s.ports.inside) + " is an outside port already"});
}

// A meter's ticks go round: a debt that takes longer than the horizon to drain would be misread as none.
void check_drain(const Settings& s, std::vector<Violation>& found) {
  constexpr std::pair<std::string_view, policy::RatePolicy Detect::*> kMetered[] = {
      {"register_flood", &Detect::register_flood}, {"invite_flood", &Detect::invite_flood},
      {"options_flood", &Detect::options_flood},   {"request_flood", &Detect::request_flood},
      {"malformed", &Detect::malformed},
  };
  constexpr auto kHorizon_s = std::chrono::duration_cast<seconds>(policy::kHorizon).count();
  for (const auto& [name, policy] : kMetered) {
    const policy::Rate& limit = (s.detect.*policy).limit;
    const auto drain_s = std::lround(limit.burst / limit.per_second);
    if (drain_s <= kHorizon_s) continue;
    const auto section = "detect." + std::string(name);
    found.push_back({{section + ".burst", section + ".rate"},
                     std::to_string(limit.burst) + " at " + rate_text(limit.per_second) + " takes " +
                         duration_text(seconds(drain_s)) +
                         " to drain; at most 1h is allowed: lower the burst or raise the rate"});
  }
}

void check_prefixes(const Settings& s, std::vector<Violation>& found) {
  if (s.prefix.ipv6 >= s.sources.ipv6_prefix)
    found.push_back({{"prefix.ipv6", "sources.ipv6_prefix"},
                     std::to_string(s.prefix.ipv6) + " must be less than sources.ipv6_prefix (" +
                         std::to_string(s.sources.ipv6_prefix) + "): a prefix holds several sources"});
  const auto hosts = std::uint64_t{1} << (32 - s.prefix.ipv4);
  if (s.prefix.offenders > hosts)
    found.push_back({{"prefix.offenders", "prefix.ipv4"},
                     std::to_string(s.prefix.offenders) + " can never be reached: a /" + std::to_string(s.prefix.ipv4) +
                         " has " + std::to_string(hosts) + " addresses"});
}

void check_ladder(const Settings& s, std::vector<Violation>& found) {
  if (!std::ranges::is_sorted(s.block.ladder))
    found.push_back({{"block.ladder"}, "a ladder climbs: no step may be shorter than the one before it"});
}

// One of them would overwrite, or even remove, the other.
void check_files(const Settings& s, std::vector<Violation>& found) {
  const std::pair<std::string_view, const std::filesystem::path&> files[] = {{"log.file", s.log.file},
                                                                             {"state.path", s.state.path},
                                                                             {"control.socket", s.control.socket},
                                                                             {"shadow", s.shadow}};
  for (std::size_t i = 0; i < std::size(files); ++i)
    for (std::size_t k = 0; k < i; ++k)
      if (files[i].second == files[k].second)
        found.push_back({{std::string(files[i].first), std::string(files[k].first)},
                         "is the same file as " + std::string(files[k].first)});
}

} // namespace

const std::vector<Key>& keys() {
  static const std::vector<Key> all_keys = [] {
    std::vector<Key> all;
    for (const auto& part : {
             dataplane(),
             scanner(),
             rate_policy("detect.register_flood", &Detect::register_flood),
             rate_policy("detect.invite_flood", &Detect::invite_flood),
             rate_policy("detect.options_flood", &Detect::options_flood),
             rate_policy("detect.request_flood", &Detect::request_flood),
             rate_policy("detect.malformed", &Detect::malformed),
             count_policy("detect.enumeration", "users", kMostUsers, &Detect::enumeration),
             count_policy("detect.auth_failure", "failures", 65535, &Detect::auth_failure),
             blocking(),
             process(),
         })
      all.insert(all.end(), part.begin(), part.end());
    return all;
  }();
  return all_keys;
}

std::vector<Violation> violations(const Settings& settings) {
  std::vector<Violation> found;
  check_ports(settings, found);
  check_drain(settings, found);
  check_prefixes(settings, found);
  check_ladder(settings, found);
  check_files(settings, found);
  return found;
}

} // namespace sipward::config
