// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state_export.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "daemon/block_json.h"
#include "daemon/state_columns.h"

namespace sipward::daemon {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kExportVersion = 1;
constexpr std::size_t kLongestLine = 65536;
constexpr auto kSkew = std::chrono::hours(1); // by which two hosts' clocks may differ

std::string hex(std::span<const std::uint8_t> octets) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const auto octet : octets) {
    text += kDigits[octet >> 4];
    text += kDigits[octet & 15];
  }
  return text;
}

std::string hash_text(std::uint64_t hash) {
  std::array<std::uint8_t, 8> octets{};
  for (auto octet = octets.rbegin(); octet != octets.rend(); ++octet, hash >>= 8)
    *octet = static_cast<std::uint8_t>(hash);
  return hex(octets);
}

std::optional<std::vector<std::uint8_t>> octets_of(std::string_view text) {
  std::vector<std::uint8_t> octets;
  for (; text.size() >= 2; text.remove_prefix(2)) {
    std::uint8_t octet = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + 2, octet, 16);
    if (error != std::errc() || end != text.data() + 2) return std::nullopt;
    octets.push_back(octet);
  }
  return text.empty() ? std::optional(octets) : std::nullopt;
}

// One line, whose keys are asked for one by one. The first fault sticks.
class Line {
public:
  explicit Line(const Json& json) : json_(json) {
    if (!json_.is_object()) fail("is no JSON object");
  }

  bool ok() const noexcept { return error_.empty(); }
  const std::string& error() const noexcept { return error_; }
  void fail(const std::string& error) {
    if (error_.empty()) error_ = error;
  }

  std::string text(const char* key) {
    const Json* value = find(key);
    if (value != nullptr && !value->is_string()) fail(quoted(key) + " is no text");
    return ok() ? value->get<std::string>() : std::string();
  }
  template<std::unsigned_integral T>
  T count(const char* key) {
    const Json* value = find(key);
    if (value != nullptr && (!value->is_number_unsigned() || !std::in_range<T>(value->get<std::uint64_t>())))
      fail(quoted(key) + " is no whole number, or too large");
    return ok() ? static_cast<T>(value->get<std::uint64_t>()) : T();
  }
  double rate(const char* key) {
    const Json* value = find(key);
    if (value != nullptr && !(value->is_number() && value->get<double>() >= 0)) fail(quoted(key) + " is no rate");
    return ok() ? value->get<double>() : 0;
  }
  bool flag(const char* key) {
    const Json* value = find(key);
    if (value != nullptr && !value->is_boolean()) fail(quoted(key) + " is neither true nor false");
    return ok() && value->get<bool>();
  }
  WallTime time(const char* key) {
    const auto time = parse_rfc3339(text(key));
    if (!time) fail(quoted(key) + " is no time such as 2026-11-22T01:02:03.123456Z");
    return time.value_or(WallTime());
  }
  WallTime past(const char* key, WallTime now) {
    const auto then = time(key);
    if (then > now + kSkew) fail(quoted(key) + " is in the future; are both hosts' clocks right?");
    return then;
  }
  std::vector<std::uint8_t> octets(const char* key, std::size_t least, std::size_t most) {
    const auto octets = octets_of(text(key));
    if (!octets || octets->size() < least || octets->size() > most) fail(quoted(key) + " is not as long as it must be");
    return octets.value_or(std::vector<std::uint8_t>());
  }
  template<class Enum>
  Enum name(const char* key) {
    const auto value = named<Enum>(text(key));
    if (!value) fail(quoted(key) + " is none of the known names");
    return value.value_or(Enum());
  }
  Line object(const char* key) {
    static const Json kNothing = Json::object();
    const Json* value = find(key);
    return Line(ok() ? *value : kNothing);
  }

  bool has(const char* key) const { return json_.is_object() && json_.contains(key); }
  void ends() { // no key but those asked for
    if (ok() && json_.size() != asked_) fail("has a key that has no meaning here, or one twice");
  }

private:
  static std::string quoted(const char* key) { return "\"" + std::string(key) + "\""; }
  const Json* find(const char* key) {
    if (!ok()) return nullptr;
    const auto at = json_.find(key);
    if (at == json_.end()) {
      fail("lacks " + quoted(key));
      return nullptr;
    }
    ++asked_;
    return &*at;
  }

  const Json& json_;
  std::size_t asked_ = 0;
  std::string error_;
};

TrustRecord read_trust(Line& line, WallTime now) {
  TrustRecord record;
  const auto source = policy::Prefix::parse(line.text("trust"));
  if (!source) line.fail("\"trust\" is no address or prefix");
  record.source = source.value_or(policy::Prefix());
  record.last_success = line.past("last_success", now);
  record.users = line.count<std::uint32_t>("users");
  record.answered_per_s = line.rate("answered_per_s");
  record.sketch = Sketch(line.octets("sketch", 0, Sketch::kCapacity));
  line.ends();
  return record;
}

UserRecord read_user(Line& line, WallTime now) {
  UserRecord record;
  for (const auto octet : line.octets("user", 8, 8)) record.hash = record.hash << 8 | octet;
  record.last_success = line.past("last_success", now);
  line.ends();
  return record;
}

// "198.51.100.66:5061", "[2001:db8::1]:5061"
std::optional<policy::Subject> endpoint_of(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto host = text.substr(0, colon);
  const auto digits = text.substr(colon + 1);
  const bool bracketed = host.starts_with('[') && host.ends_with(']') && host.size() > 2;
  if (bracketed) host = host.substr(1, host.size() - 2);
  const auto address = policy::Address::parse(host);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (!address || error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (bracketed != (address->family == policy::Family::V6)) return std::nullopt;
  return policy::Subject{policy::SubjectKind::Endpoint, policy::Prefix::host(*address), port};
}

std::optional<policy::Subject> subject_of(policy::SubjectKind kind, const std::string& text) {
  if (kind == policy::SubjectKind::Endpoint) return endpoint_of(text);
  const auto prefix = policy::Prefix::parse(text);
  return prefix ? std::optional(policy::Subject{kind, *prefix, 0}) : std::nullopt;
}

// Evidence is for people: what it tells beyond what is known here is left out.
void read_evidence(Line line, BlockRecord& record, Line& block_line) {
  auto& evidence = record.block.evidence;
  evidence.user_agent = policy::Excerpt(line.text("user_agent"));
  evidence.method = policy::Excerpt(line.text("method"));
  evidence.rate_per_s = line.rate("rate_per_s");
  evidence.limit_per_s = line.rate("limit_per_s");
  evidence.users = line.count<std::uint32_t>("users");
  evidence.failures = line.count<std::uint32_t>("failures");
  evidence.successes = line.count<std::uint32_t>("successes");
  if (line.has("mark")) evidence.mark = policy::Excerpt(line.text("mark"));
  if (line.has("offenders")) evidence.offenders = line.count<std::uint32_t>("offenders");
  if (line.has("note")) record.block.note = line.text("note");
  if (!line.ok()) block_line.fail("\"evidence\" " + line.error());
}

policy::Rate read_limit(Line line, Line& block_line) {
  policy::Rate limit;
  limit.per_second = line.rate("rate_per_s");
  limit.burst = line.count<std::uint32_t>("burst");
  line.ends();
  if (!line.ok()) block_line.fail("\"limit\" " + line.error());
  return limit;
}

BlockRecord read_block(Line& outer, WallTime now) {
  BlockRecord record;
  auto line = outer.object("block");
  const auto kind = line.name<policy::SubjectKind>("kind");
  const auto subject = subject_of(kind, line.text("subject"));
  if (!subject) line.fail("\"subject\" is no " + std::string(to_string(kind)));
  record.block.subject = subject.value_or(policy::Subject());
  record.block.reason = line.name<policy::Reason>("reason");
  record.since = line.past("since", now);
  record.until = line.time("until");
  record.block.step = line.count<std::uint32_t>("step");
  record.block.proven = line.flag("proven");
  const auto action = line.text("action");
  record.block.dry_run = action.starts_with("would_");
  if (action == "limit" || action == "would_limit")
    record.block.limit = read_limit(line.object("limit"), line);
  else if (action != "block" && action != "would_block")
    line.fail("\"action\" is no action on a block");
  if (line.has("scope")) {
    record.block.wholly = line.text("scope") == "all";
    if (!record.block.wholly) line.fail("\"scope\" is none of the known names");
  }
  record.block.packets_before = line.count<std::uint32_t>("packets_before");
  record.block.packets_dropped = line.count<std::uint64_t>("packets_dropped");
  read_evidence(line.object("evidence"), record, line);
  if (!line.ok()) outer.fail("\"block\" " + line.error());
  outer.ends();
  return record;
}

std::string at_line(std::size_t number, const std::string& what) { return std::to_string(number) + ": " + what; }

// Returns whether this was the last line.
bool read_line(Line& line, std::size_t number, StateExport& state, WallTime now) {
  if (number == 1) {
    if (!line.has("sipward_state")) line.fail("is not the beginning of an exported state");
    const auto version = line.count<std::uint32_t>("sipward_state");
    if (line.ok() && version != kExportVersion)
      line.fail("is version " + std::to_string(version) + "; this sipward knows " + std::to_string(kExportVersion));
    line.time("written");
    std::ranges::copy(line.octets("secret", state.secret.size(), state.secret.size()), state.secret.begin());
    line.ends();
  } else if (line.has("trust")) {
    state.trust.push_back(read_trust(line, now));
  } else if (line.has("user")) {
    state.users.push_back(read_user(line, now));
  } else if (line.has("block")) {
    state.blocks.push_back(read_block(line, now));
  } else if (line.has("end")) {
    if (line.count<std::uint64_t>("end") != number - 2) line.fail("counts other lines than there are");
    line.ends();
    return true;
  } else {
    line.fail("is neither trust, user, block nor end");
  }
  return false;
}

} // namespace

std::string export_text(const StateExport& state, WallTime now) {
  std::string text;
  const auto add = [&text](const Json& line) { text += line.dump() + "\n"; };
  add({{"sipward_state", kExportVersion}, {"written", rfc3339(now)}, {"secret", hex(state.secret)}});
  for (const auto& record : state.trust)
    add({{"trust", to_string(record.source)},
         {"last_success", rfc3339(record.last_success)},
         {"users", record.users},
         {"answered_per_s", record.answered_per_s},
         {"sketch", hex(record.sketch.view())}});
  for (const auto& record : state.users)
    add({{"user", hash_text(record.hash)}, {"last_success", rfc3339(record.last_success)}});
  for (const auto& record : state.blocks) add({{"block", block_json(from_record(record, kUnixClock), kUnixClock)}});
  add({{"end", state.trust.size() + state.users.size() + state.blocks.size()}});
  return text;
}

std::expected<StateExport, std::string> parse_export(std::string_view text, WallTime now) {
  StateExport state;
  bool ended = false;
  std::size_t number = 0;
  while (!text.empty()) {
    ++number;
    if (ended) return std::unexpected(at_line(number, "comes after the end"));
    const auto end = text.find('\n');
    if (end == std::string_view::npos) return std::unexpected(at_line(number, "has no line end: the file is cut"));
    if (end > kLongestLine) return std::unexpected(at_line(number, "is too long"));
    const auto json = Json::parse(text.substr(0, end), nullptr, false);
    if (json.is_discarded()) return std::unexpected(at_line(number, "is no JSON"));
    Line line(json);
    ended = read_line(line, number, state, now);
    if (!line.ok()) return std::unexpected(at_line(number, line.error()));
    text.remove_prefix(end + 1);
  }
  if (!ended) return std::unexpected(at_line(number + 1, "is missing: the file has no end"));
  return state;
}

std::expected<void, std::string> write_export(const std::filesystem::path& file, const StateExport& state,
                                              WallTime now) {
  const auto text = export_text(state, now);
  const auto part = std::filesystem::path(file) += ".part";
  std::error_code ignored;
  const auto failed = [&] {
    std::string why = file.string() + ": " + std::strerror(errno);
    std::filesystem::remove(part, ignored);
    return std::unexpected(std::move(why));
  };
  std::filesystem::remove(part, ignored); // left over from one that was killed
  const int fd = open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return failed();
  for (std::size_t done = 0; done < text.size();) {
    const auto written = write(fd, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int error = errno;
      close(fd);
      errno = error;
      return failed();
    }
    done += static_cast<std::size_t>(written);
  }
  const bool on_disk = fsync(fd) == 0;
  if (close(fd) != 0 || !on_disk || rename(part.c_str(), file.c_str()) != 0) return failed();
  return {};
}

std::expected<StateExport, std::string> read_export(const std::filesystem::path& file, WallTime now) {
  std::ifstream stream(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream.is_open() || stream.bad()) return std::unexpected(file.string() + ": " + std::strerror(errno));
  auto state = parse_export(text, now);
  if (!state) return std::unexpected(file.string() + ":" + state.error());
  return state;
}

} // namespace sipward::daemon
