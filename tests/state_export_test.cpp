// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state_export.h"

#include <unistd.h>

#include "tests/state_lab.h"

using namespace sipward;
using namespace sipward::state_lab;

namespace {

StateExport sample() {
  StateExport state;
  for (std::size_t i = 0; i < state.secret.size(); ++i) state.secret[i] = static_cast<std::uint8_t>(i * 17);
  state.trust = {trusted("198.51.100.7/32", kNow - 1h, 3), trusted("2001:db8:1:2::/64", kNow - 2h, 4'000'000'000)};
  state.trust[0].answered_per_s = 1.5;
  const std::uint8_t sketch[] = {0x0a, 0xff};
  state.trust[0].sketch = Sketch(sketch);
  state.users = {UserRecord{0xfedcba9876543210, kNow - 3h}, UserRecord{1, kNow - 4h}};
  state.blocks = {blocked(host("203.0.113.9")), blocked({policy::SubjectKind::Endpoint, prefix("2001:db8::9"), 5062}),
                  blocked({policy::SubjectKind::Endpoint, prefix("203.0.113.9"), 5060}),
                  blocked({policy::SubjectKind::Prefix, prefix("203.0.113.0/24"), 0}), blocked(host("203.0.113.9"))};
  state.blocks[1].block.evidence.users = 12;
  state.blocks[1].block.evidence.mark = policy::Excerpt("mark");
  state.blocks[1].block.note = "a \"note\"";
  state.blocks[1].block.dry_run = true;
  state.blocks[3].block.reason = policy::Reason::Prefix;
  state.blocks[3].block.evidence.offenders = 4;
  state.blocks[4].block.limit = policy::Rate{2.5, 7};
  return state;
}

std::string line(const std::string& text, std::size_t number) { // from 1
  std::size_t at = 0;
  for (; number > 1; --number) at = text.find('\n', at) + 1;
  return text.substr(at, text.find('\n', at) - at);
}
std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const auto at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), by);
}

StateExport only_trust(const std::string& source, WallTime last, std::uint32_t users) {
  StateExport state;
  state.trust = {trusted(source, last, users)};
  return state;
}

} // namespace

TEST_CASE("the text is what its description says") {
  const auto text = export_text(sample(), kNow);
  CHECK(line(text, 1) == R"({"sipward_state":1,"written":"2026-11-22T01:02:03.123456Z",)"
                         R"("secret":"00112233445566778899aabbccddeeff"})");
  CHECK(line(text, 2) == R"({"trust":"198.51.100.7/32","last_success":"2026-11-22T00:02:03.123456Z","users":3,)"
                         R"("answered_per_s":1.5,"sketch":"0aff"})");
  CHECK(line(text, 4) == R"({"user":"fedcba9876543210","last_success":"2026-11-21T22:02:03.123456Z"})");
  CHECK(line(text, 6).starts_with(R"({"block":{"subject":"203.0.113.9/32","kind":"host","reason":"scanner",)"));
  CHECK(line(text, 11) == R"({"end":9})");
}

TEST_CASE("what was written is read back, and gives the same text again") {
  const auto text = export_text(sample(), kNow);
  const auto state = parse_export(text, kNow);
  REQUIRE(state);
  CHECK(export_text(*state, kNow) == text);
  CHECK(state->secret == sample().secret);
  CHECK(state->blocks[1].block.subject == sample().blocks[1].block.subject);
  CHECK(state->blocks[1].block.note == "a \"note\"");
  CHECK(state->blocks[4].block.limit == policy::Rate{2.5, 7});
}

TEST_CASE("what is not quite right is refused, with its line") {
  struct Row {
    const char* name;
    const char* what;
    const char* by;
    const char* error;
  };
  const Row row = GENERATE(
      Row{"another version", R"("sipward_state":1)", R"("sipward_state":2)", "1: is version 2; this sipward knows 1"},
      Row{"no beginning", "{\"sipward_state\"", "{\"state\"", "1: is not the beginning of an exported state"},
      Row{"a secret too short", "ddeeff", "ddee", "1: \"secret\" is not as long as it must be"},
      Row{"no JSON", R"({"trust":"198)", R"("trust":"198)", "2: is no JSON"},
      Row{"no address", "198.51.100.7/32", "198.51.100.7/33", "2: \"trust\" is no address or prefix"},
      Row{"bits after the length", "198.51.100.7/32", "198.51.100.7/24", "2: \"trust\" is no address or prefix"},
      Row{"a number that is none", R"("users":3)", R"("users":-3)", "2: \"users\" is no whole number, or too large"},
      Row{"a number too large", R"("users":3)", R"("users":4294967296)",
          "2: \"users\" is no whole number, or too large"},
      Row{"a rate that is none", "1.5", "-1.5", "2: \"answered_per_s\" is no rate"},
      Row{"odd hex digits", "0aff", "0af", "2: \"sketch\" is not as long as it must be"},
      Row{"no hex digits", "0aff", "0afg", "2: \"sketch\" is not as long as it must be"},
      Row{"a key too many", R"("users":3)", R"("users":3,"friends":4)",
          "2: has a key that has no meaning here, or one twice"},
      Row{"a key too few", R"("users":3,)", "", "2: lacks \"users\""},
      Row{"no time", "2026-11-22T00:02", "2026-11-22 00:02",
          "2: \"last_success\" is no time such as 2026-11-22T01:02:03.123456Z"},
      Row{"the future", "2026-11-22T00:02", "2036-11-22T00:02",
          "2: \"last_success\" is in the future; are both hosts' clocks right?"},
      Row{"a hash too long", "fedcba9876543210", "fedcba987654321000", "4: \"user\" is not as long as it must be"},
      Row{"a kind that is none", R"("kind":"host")", R"("kind":"guest")",
          "6: \"block\" \"kind\" is none of the known names"},
      Row{"a reason that is none", R"("reason":"scanner")", R"("reason":"unknown")",
          "6: \"block\" \"reason\" is none of the known names"},
      Row{"a port that is none", "[2001:db8::9]:5062", "[2001:db8::9]:65536",
          "7: \"block\" \"subject\" is no endpoint"},
      Row{"evidence that is none", R"("user_agent":"friendly-scanner")", R"("user_agent":7)",
          "6: \"block\" \"evidence\" \"user_agent\" is no text"},
      Row{"an action that is none", R"("action":"limit")", R"("action":"pardon")",
          "10: \"block\" \"action\" is no action on a block"},
      Row{"a limit without its rate", R"("rate_per_s":2.5,)", "", "10: \"block\" \"limit\" lacks \"rate_per_s\""},
      Row{"something else", "{\"end\":9}", "{\"start\":9}", "11: is neither trust, user, block nor end"},
      Row{"a wrong count", "{\"end\":9}", "{\"end\":8}", "11: counts other lines than there are"},
      Row{"something after the end", "{\"end\":9}\n", "{\"end\":9}\n\n", "12: comes after the end"});
  INFO(row.name);
  const auto state = parse_export(replaced(export_text(sample(), kNow), row.what, row.by), kNow);
  REQUIRE_FALSE(state);
  CHECK(state.error() == row.error);
}

TEST_CASE("half a file is refused, wherever it is cut") {
  const auto text = export_text(sample(), kNow);
  for (std::size_t size = 0; size < text.size(); ++size)
    if (parse_export(text.substr(0, size), kNow)) FAIL("cut to " << size << " octets");
  CHECK(parse_export(text, kNow));
}

TEST_CASE("header text of an attacker survives the way as UTF-8") {
  StateExport state;
  state.blocks = {blocked(host("203.0.113.9"))};
  state.blocks[0].block.evidence.user_agent = policy::Excerpt("evil\xff\x1b[31m\n{\"end\":0}");
  const auto read = parse_export(export_text(state, kNow), kNow);
  REQUIRE(read);
  CHECK(read->blocks[0].block.evidence.user_agent.view().starts_with("evil\xef\xbf\xbd"));
}

TEST_CASE("a standby that never ran takes everything over, the secret too") {
  const Folder folder;
  const auto state = sample();
  const auto imported = import_state(folder.file(), state, {}, kNow);
  REQUIRE(imported);
  CHECK(imported->trust == 2);
  CHECK(imported->users == 2);
  CHECK(imported->blocks == 5);
  CHECK(imported->secret_taken_over);
  const auto read = read_state(folder.file());
  REQUIRE(read);
  CHECK(read->secret == state.secret);
  CHECK(read->trust.size() == 2);
  CHECK(read->users.size() == 2);
  CHECK(read->blocks.size() == 5);
}

TEST_CASE("the later success counts, be it theirs or ours") {
  const Folder folder;
  put(folder.file(), {trusted("198.51.100.7/32", kNow - 1h, 10)});
  const auto users = [&] { return contents(folder.file()).trust.at(0).users; };
  auto imported = import_state(folder.file(), only_trust("198.51.100.7/32", kNow - 2h, 20), {}, kNow);
  REQUIRE(imported);
  CHECK(imported->trust == 0);
  CHECK(users() == 10);
  imported = import_state(folder.file(), only_trust("198.51.100.7/32", kNow - 30min, 30), {}, kNow);
  REQUIRE(imported);
  CHECK(imported->trust == 1);
  CHECK(users() == 30);
}

TEST_CASE("a block is taken over if it still stands, and ends at the later of both ends") {
  const Folder folder;
  put(folder.file(), {blocked(host("203.0.113.1"), kNow + 10min)});
  StateExport state;
  state.blocks = {blocked(host("203.0.113.1"), kNow + 5min), blocked(host("203.0.113.2"), kNow - 1s),
                  blocked(host("203.0.113.3"), kNow + 1s)};
  const auto imported = import_state(folder.file(), state, {}, kNow);
  REQUIRE(imported);
  CHECK(imported->blocks == 1);
  const auto read = contents(folder.file());
  REQUIRE(read.blocks.size() == 2);
  CHECK(read.blocks[0].until == kNow + 10min);
}

TEST_CASE("users' hashes of another secret are left out where there are users, and taken over where there are none") {
  const bool has_users = GENERATE(true, false);
  const Folder folder;
  put(folder.file(), has_users ? StateChanges{UserRecord{7, kNow}} : StateChanges{});
  const auto before = contents(folder.file()).secret;
  auto imported = import_state(folder.file(), sample(), {}, kNow);
  REQUIRE(imported);
  CHECK(imported->users == (has_users ? 0 : 2));
  CHECK(imported->users_left_out == (has_users ? 2 : 0));
  CHECK(imported->secret_taken_over != has_users);
  CHECK(contents(folder.file()).secret == (has_users ? before : sample().secret));
  CHECK(contents(folder.file()).users.size() == (has_users ? 1 : 2));
  if (has_users) return;
  imported = import_state(folder.file(), sample(), {}, kNow); // again, a day later: now the secrets are the same
  REQUIRE(imported);
  CHECK(imported->users_left_out == 0);
  CHECK_FALSE(imported->secret_taken_over);
}

TEST_CASE("an import goes on beside a daemon that writes") {
  const Folder folder;
  const auto state = must_open(folder.file());
  state->write({trusted("198.51.100.1/32")}, kNow);
  REQUIRE(state->flush(10s));
  REQUIRE(import_state(folder.file(), sample(), {}, kNow));
  state->write({trusted("198.51.100.2/32")}, kNow);
  REQUIRE(state->flush(10s));
  CHECK(contents(folder.file()).trust.size() == 4);
}

TEST_CASE("an import into a full table keeps the latest") {
  const Folder folder;
  StateExport state;
  for (unsigned i = 0; i < 500; ++i) state.trust.push_back(trusted(to_string(numbered(i).prefix), kNow - i * 1s));
  REQUIRE(import_state(folder.file(), state, {.trust = 128}, kNow));
  const auto read = contents(folder.file());
  CHECK(read.trust.size() <= 128);
  for (const auto& record : read.trust) CHECK(record.last_success > kNow - 128s);
}

TEST_CASE("an import that fails changes nothing") {
  const Folder folder;
  put(folder.file(), {trusted("198.51.100.1/32")});
  Outsider outsider(folder.file());
  outsider.run("CREATE TRIGGER t BEFORE INSERT ON block BEGIN SELECT RAISE(ABORT, 'no'); END");
  CHECK_FALSE(import_state(folder.file(), sample(), {}, kNow));
  CHECK(outsider.ask("SELECT count(*) FROM trust") == "1,");
  CHECK(outsider.ask("SELECT count(*) FROM user") == "0,");
}

TEST_CASE("an exported file is for its owner only, is there as a whole, and is read back") {
  const Folder folder;
  const auto file = folder.path() / "trust.jsonl";
  std::ofstream(file) << "an earlier one";
  REQUIRE(write_export(file, sample(), kNow));
  CHECK(std::filesystem::status(file).permissions() == std::filesystem::perms(0600));
  CHECK(octets_of(file) == export_text(sample(), kNow));
  REQUIRE(read_export(file, kNow));
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);

  const auto nowhere = folder.path() / "none" / "trust.jsonl";
  CHECK(write_export(nowhere, sample(), kNow).error() == nowhere.string() + ": No such file or directory");
  CHECK(read_export(nowhere, kNow).error() == nowhere.string() + ": No such file or directory");
  std::ofstream(file) << "x\n";
  CHECK(read_export(file, kNow).error() == file.string() + ":1: is no JSON");
}
