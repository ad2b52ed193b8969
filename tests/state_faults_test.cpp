// SPDX-License-Identifier: GPL-2.0-or-later
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>

#include "daemon/state_schema.h"
#include "tests/state_lab.h"

// What can happen to the state's file, short of the disk (state_disk_test.cpp) and of death (state_kill_test.cpp).
using namespace sipward;
using namespace sipward::state_lab;
namespace fs = std::filesystem;

namespace {

std::vector<fs::path> corrupt_files(const Folder& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder.file().parent_path()))
    if (entry.path().string().find(".corrupt-") != std::string::npos) found.push_back(entry.path());
  return found;
}

void overwrite(const fs::path& path, std::streamoff at, const std::string& octets) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(at);
  file << octets;
}

StateChanges many_blocks(unsigned count) {
  StateChanges changes;
  for (unsigned i = 0; i < count; ++i) changes.emplace_back(blocked(numbered(i)));
  return changes;
}

bool readable(int fd) {
  pollfd poll_fd{fd, POLLIN, 0};
  return poll(&poll_fd, 1, 0) == 1;
}

} // namespace

TEST_CASE("a corrupt file is moved aside and told, and a new one begun") {
  struct Row {
    const char* name;
    void (*damage)(const fs::path&);
  };
  const Row row = GENERATE(
      Row{"its first octets are others", [](const fs::path& path) { overwrite(path, 0, "this is no database"); }},
      Row{"it is a text", [](const fs::path& path) { std::ofstream(path) << std::string(5000, 'x'); }},
      Row{"it is cut", [](const fs::path& path) { fs::resize_file(path, 5 * 4096); }},
      Row{"pages are overwritten",
          [](const fs::path& path) { overwrite(path, 4096, std::string(fs::file_size(path) - 4096, '\xa5')); }});
  INFO(row.name);
  const Folder folder;
  put(folder.file(), many_blocks(2000));
  row.damage(folder.file());
  const auto damaged = octets_of(folder.file());

  const auto state = must_open(folder.file());
  CHECK(state->load().blocks.empty());
  CHECK(state->trouble().empty());
  const auto news = state->take_news();
  REQUIRE(news.size() == 1);
  CHECK(news[0].find(" is corrupt: ") != std::string::npos);
  CHECK(news[0].find("it was moved to ") != std::string::npos);
  const auto aside = corrupt_files(folder);
  REQUIRE(aside.size() == 1);
  CHECK(octets_of(aside[0]) == damaged);
  state->write({blocked(host("198.51.100.1"))}, kNow);
  REQUIRE(state->flush(10s));
  CHECK(contents(folder.file()).blocks.size() == 1);
}

TEST_CASE("a file that is found corrupt at work is moved aside, and all is asked for") {
  constexpr unsigned kBlocks = 60000; // more than the cache of pages holds
  const Folder folder;
  put(folder.file(), many_blocks(kBlocks));
  const auto state = must_open(folder.file());
  const auto read = state->load();
  overwrite(folder.file(), 100, std::string(fs::file_size(folder.file()) - 100, '\xa5'));
  StateChanges changes;
  for (unsigned i = 0; i < kBlocks; ++i) changes.emplace_back(blocked(numbered(i), kNow + 1h));
  state->write(std::move(changes), kNow);
  REQUIRE(soon([&] { return state->wants_all(); }));
  REQUIRE(state->flush(10s));
  CHECK(corrupt_files(folder).size() == 1);
  auto all = StateChanges{AllGone<BlockRecord>{}};
  for (const auto& record : read.blocks) all.emplace_back(record);
  state->write(std::move(all), kNow);
  REQUIRE(state->flush(10s));
  CHECK_FALSE(state->wants_all());
  const auto again = contents(folder.file());
  CHECK(again.blocks.size() == kBlocks);
  CHECK(again.secret == read.secret);
}

TEST_CASE("of corrupt files the latest four are kept") {
  const Folder folder;
  for (int i = 0; i < 7; ++i) {
    put(folder.file(), {});
    overwrite(folder.file(), 0, "this is no database, for the time number " + std::to_string(i));
    must_open(folder.file());
  }
  const auto kept = corrupt_files(folder);
  CHECK(kept.size() == 4);
  for (const auto& path : kept) CHECK(octets_of(path)[41] >= '3');
}

TEST_CASE("a file of a later sipward, or of another program, is refused and not touched") {
  struct Row {
    const char* name;
    const char* sql;
    const char* complaint;
  };
  const Row row = GENERATE(
      Row{"later", "PRAGMA user_version = 99", " was written by a later sipward (version 99; this one knows up to "},
      Row{"other", "PRAGMA application_id = 7", " is another program's database"});
  INFO(row.name);
  const Folder folder;
  put(folder.file(), {blocked(host("198.51.100.1"))});
  Outsider(folder.file()).run(row.sql);
  const auto before = octets_of(folder.file());
  const auto state = State::open(folder.file(), quick());
  REQUIRE_FALSE(state);
  CHECK(state.error().starts_with("state.path: " + folder.file().string() + row.complaint));
  CHECK(octets_of(folder.file()) == before);
  CHECK(corrupt_files(folder).empty());
}

TEST_CASE("what a later sipward left in its log stays there") {
  const Folder folder;
  put(folder.file(), {});
  Outsider outsider(folder.file()); // holds the log open
  outsider.run("PRAGMA wal_autocheckpoint = 0; PRAGMA user_version = 99; CREATE TABLE later (a)");
  const auto file = octets_of(folder.file()), log = octets_of(folder.file().string() + "-wal");
  fs::create_directory(folder.path() / "copy"); // as after a power cut
  const auto copy = folder.path() / "copy" / "sipward.db";
  std::ofstream(copy, std::ios::binary) << file;
  std::ofstream(copy.string() + "-wal", std::ios::binary) << log;
  CHECK_FALSE(State::open(copy, quick()));
  CHECK(octets_of(copy) == file);
  CHECK(octets_of(copy.string() + "-wal") == log);
}

TEST_CASE("a path that leads nowhere is refused") {
  const Folder folder;
  const auto nowhere = State::open(folder.path() / "a" / "b" / "sipward.db", quick());
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().find("there is no folder ") != std::string::npos);
  const auto no_file = State::open(folder.path(), quick());
  REQUIRE_FALSE(no_file);
  CHECK(no_file.error() == "state.path: " + folder.path().string() + " is no file");
}

TEST_CASE("two daemons cannot have one file, and the second is told so") {
  const Folder folder;
  auto first = must_open(folder.file());
  const auto second = State::open(folder.file(), quick());
  REQUIRE_FALSE(second);
  CHECK(second.error() ==
        "state.path: " + folder.file().string() + " is in use by another sipward; each needs one of its own");
  first.reset();
  CHECK(State::open(folder.file(), quick()));
}

TEST_CASE("without a state nobody waits, and the reason is told") {
  const auto state = State::without("there is none");
  CHECK(state->load().blocks.empty());
  const auto batch = state->write({blocked(host("198.51.100.1"))}, kNow);
  CHECK(state->settled() == batch);
  CHECK(state->committed() < batch);
  CHECK(state->trouble() == "there is none");
  CHECK_FALSE(state->flush(1ms));
  CHECK_FALSE(state->wants_all());
  CHECK_FALSE(readable(state->event()));
}

TEST_CASE("while another process has the file, nobody waits and nothing is lost") {
  const Folder folder;
  const auto state = must_open(folder.file());
  Outsider outsider(folder.file());
  outsider.run("BEGIN IMMEDIATE");
  const auto first = state->write({blocked(host("198.51.100.1")), alert("first")}, kNow);
  REQUIRE(soon([&] { return !state->trouble().empty(); }));
  CHECK(state->trouble() == "state.path: " + folder.file().string() + " is locked by another process");
  CHECK(readable(state->event()));
  state->clear_event();
  CHECK(state->committed() < first);
  CHECK(state->settled() == first);
  state->write({Gone<BlockRecord>{{host("198.51.100.1")}}, blocked(host("198.51.100.2")), alert("second")}, kNow);
  CHECK_FALSE(state->flush(100ms));
  outsider.run("COMMIT");
  REQUIRE(state->flush(10s));
  CHECK(state->trouble().empty());
  CHECK(readable(state->event()));
  const auto news = state->take_news();
  REQUIRE(news.size() == 1);
  CHECK(news[0].find(" is written again, after ") != std::string::npos);
  CHECK_FALSE(state->wants_all());
  const auto read = contents(folder.file());
  REQUIRE(read.blocks.size() == 1);
  CHECK(read.blocks[0].block.subject == host("198.51.100.2"));
  CHECK(history(folder.file()).size() == 2);
}

TEST_CASE("a file that is locked at start is read, and written later") {
  const Folder folder;
  put(folder.file(), {blocked(host("198.51.100.1"))});
  Outsider outsider(folder.file());
  outsider.run("BEGIN IMMEDIATE");
  const auto state = must_open(folder.file());
  CHECK(state->load().blocks.size() == 1);
  state->write({blocked(host("198.51.100.2"))}, kNow);
  CHECK_FALSE(state->flush(100ms));
  outsider.run("COMMIT");
  CHECK(state->flush(10s));
  CHECK(contents(folder.file()).blocks.size() == 2);
}

TEST_CASE("a file that cannot even be read because of a lock is refused") {
  const Folder folder;
  put(folder.file(), {blocked(host("198.51.100.1"))});
  Outsider outsider(folder.file());
  outsider.run("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; UPDATE block SET step = 2; COMMIT");
  const auto state = State::open(folder.file(), quick());
  REQUIRE_FALSE(state);
  CHECK(state.error() == "state.path: " + folder.file().string() + " is locked by another process");
}

TEST_CASE("a disk that fails at work is trouble until it works again, and nothing is lost") {
  const Folder folder;
  const auto state = must_open(folder.file());
  state->write(many_blocks(100), kNow);
  REQUIRE(state->flush(10s));
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit small{fs::file_size(folder.file().string() + "-wal") + 5000, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0); // from here on the disk says EFBIG
  const auto batch = state->write(many_blocks(1000), kNow);
  const bool told = soon([&] { return !state->trouble().empty(); });
  setrlimit(RLIMIT_FSIZE, &before);
  CHECK(told);
  REQUIRE(state->flush(10s));
  CHECK(state->committed() == batch);
  CHECK(state->trouble().empty());
  CHECK_FALSE(state->wants_all());
  CHECK(contents(folder.file()).blocks.size() == 1000);
}

TEST_CASE("a disk that does not answer is trouble after a while, and nobody waits any longer") {
  const Folder folder;
  auto options = quick();
  options.lock_wait = 60s; // the writer hangs in there, as in a disk's own patience
  options.patience = 100ms;
  const auto state = must_open(folder.file(), options);
  Outsider outsider(folder.file());
  outsider.run("BEGIN IMMEDIATE");
  const auto batch = state->write({blocked(host("198.51.100.1"))}, kNow);
  CHECK(state->settled() < batch);
  CHECK(state->trouble().empty());
  REQUIRE(soon([&] { return state->settled() == batch; }));
  CHECK(state->trouble().find(" takes nothing: the disk has not answered for ") != std::string::npos);
  outsider.run("COMMIT");
  REQUIRE(state->flush(60s));
  CHECK(state->trouble().empty());
}

TEST_CASE("what is handed over while the disk hangs is bounded, counted, and asked for again") {
  const Folder folder;
  auto options = quick();
  options.lock_wait = 60s;
  const auto state = must_open(folder.file(), options);
  Outsider outsider(folder.file());
  outsider.run("BEGIN IMMEDIATE");
  for (int i = 0; i < 8; ++i) {
    StateChanges changes;
    for (unsigned n = 0; n < 40'000; ++n) changes.emplace_back(UserRecord{n, kNow});
    state->write(std::move(changes), kNow);
  }
  CHECK(state->lost().records > 0);
  outsider.run("COMMIT");
  REQUIRE(state->flush(60s));
  CHECK(state->wants_all());
  CHECK_FALSE(state->wants_all()); // told once
}

TEST_CASE("a file that is taken away or replaced is begun anew, and all is asked for") {
  const bool removed = GENERATE(true, false);
  const Folder folder;
  const auto state = must_open(folder.file());
  const auto secret = state->load().secret;
  state->write({blocked(host("198.51.100.1"))}, kNow);
  REQUIRE(state->flush(10s));
  if (removed) {
    fs::remove_all(folder.file().parent_path());
  } else {
    const Folder other;
    put(other.file(), {blocked(host("198.51.100.9"))});
    for (const char* suffix : {"-wal", "-shm"}) fs::remove(folder.file().string() + suffix);
    fs::copy_file(other.file(), folder.path() / "new");
    fs::rename(folder.path() / "new", folder.file());
  }
  state->write({blocked(host("198.51.100.2"))}, kNow);
  REQUIRE(state->flush(10s));
  CHECK(state->wants_all());
  const auto news = state->take_news();
  REQUIRE(news.size() == 1);
  CHECK(news[0].find(" was taken away or replaced") != std::string::npos);
  state->write({AllGone<BlockRecord>{}, blocked(host("198.51.100.1")), blocked(host("198.51.100.2"))}, kNow);
  REQUIRE(state->flush(10s));
  const auto read = contents(folder.file());
  CHECK(read.blocks.size() == 2);
  if (removed) CHECK(read.secret == secret);
}

TEST_CASE("what nobody waits for is gathered, and goes along with the next that somebody does") {
  const Folder folder;
  auto options = quick();
  options.gather = 60s;
  const auto state = must_open(folder.file(), options);
  const auto later = state->write({trusted("198.51.100.1/32")}, kNow, State::Urgency::Later);
  poll(nullptr, 0, 100);
  CHECK(state->committed() < later);
  CHECK(state->trouble().empty());
  const auto now = state->write({blocked(host("198.51.100.1"))}, kNow);
  CHECK(soon([&] { return state->committed() == now; }));
  CHECK(contents(folder.file()).trust.size() == 1);
}

TEST_CASE("what is gathered is on file after a while, and at the latest at the end") {
  const Folder folder;
  auto options = quick();
  options.gather = 50ms;
  {
    const auto state = must_open(folder.file(), options);
    const auto batch = state->write({trusted("198.51.100.1/32")}, kNow, State::Urgency::Later);
    CHECK(soon([&] { return state->committed() == batch; }));
  }
  options.gather = 60s;
  must_open(folder.file(), options)->write({trusted("198.51.100.2/32")}, kNow, State::Urgency::Later);
  CHECK(contents(folder.file()).trust.size() == 2);
}

TEST_CASE("two thousand batches come on file in their order, each told when it is there") {
  const Folder folder;
  const auto state = must_open(folder.file());
  std::uint64_t last = 0;
  for (unsigned i = 0; i < 2000; ++i) {
    last = state->write({blocked(numbered(i % 50), kNow + i * 1s), alert(std::to_string(i))}, kNow);
    if (i % 100 == 0) {
      REQUIRE(soon([&] { return state->committed() == last; }));
      REQUIRE(history(folder.file()).size() == i + 1); // a reader beside the writer
    }
  }
  REQUIRE(soon([&] { return state->settled() == last; }));
  CHECK(state->committed() == last);
  const auto lines = history(folder.file());
  REQUIRE(lines.size() == 2000);
  for (unsigned i = 0; i < 2000; ++i) REQUIRE(lines[i].text == std::to_string(i));
  for (const auto& record : contents(folder.file()).blocks) CHECK(record.until >= kNow + 1950s);
}

TEST_CASE("an older file is brought up to date step by step, all or nothing") {
  const Folder folder;
  put(folder.file(), {});
  Outsider(folder.file()).run("PRAGMA user_version = 1; CREATE TABLE one (a); INSERT INTO one VALUES (7)");
  auto database = Database::open(folder.file(), Database::Access::Write, 1s);
  REQUIRE(database);
  const char* wrong[] = {"SYNTAX", "ALTER TABLE one ADD COLUMN b DEFAULT 8", "INSERT INTO nowhere VALUES (1)"};
  migrate(*database, wrong);
  CHECK(database->take_error());
  CHECK(database->number("PRAGMA user_version") == 1);
  CHECK(database->number("SELECT count(*) FROM pragma_table_info('one')") == 1);
  const char* right[] = {"SYNTAX", "ALTER TABLE one ADD COLUMN b DEFAULT 8", "UPDATE one SET a = a + b"};
  migrate(*database, right);
  CHECK(database->ok());
  CHECK(database->number("PRAGMA user_version") == 3);
  CHECK(database->number("SELECT a FROM one") == 15);
}
