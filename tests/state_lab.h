// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <catch2/catch.hpp>

#include <poll.h>
#include <sqlite3.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>

#include "daemon/state.h"

// What the tests of the state share: a folder of their own, records to remember, and a look into the file that does not
// go through our code.
namespace sipward::state_lab {

using namespace daemon;
using namespace std::chrono_literals;

class Folder {
public:
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "sipward-state-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder to test in");
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path file() const { return path_ / "state" / "sipward.db"; }

private:
  std::filesystem::path path_;
};

inline const WallTime kNow(1795309323123456789ns); // 2026-11-22T01:02:03Z
inline policy::Prefix prefix(const std::string& text) { return policy::Prefix::parse(text).value(); }
inline policy::Subject host(const std::string& text) { return {policy::SubjectKind::Host, prefix(text), 0}; }
// 10.0.0.0 and the `number` addresses after it.
inline policy::Subject numbered(unsigned number) {
  const auto octet = [number](unsigned shift) { return static_cast<std::uint8_t>(number >> shift); };
  return {policy::SubjectKind::Host, policy::Prefix::host(policy::Address::v4(10, octet(16), octet(8), octet(0))), 0};
}

inline BlockRecord blocked(const policy::Subject& subject, WallTime until = kNow + 5min) {
  BlockRecord record;
  record.block.subject = subject;
  record.block.reason = policy::Reason::Scanner;
  record.block.evidence.user_agent = policy::Excerpt("friendly-scanner");
  record.since = kNow;
  record.until = until;
  return record;
}
inline TrustRecord trusted(const std::string& source, WallTime last = kNow, std::uint32_t users = 1) {
  TrustRecord record;
  record.source = prefix(source);
  record.last_success = last;
  record.users = users;
  return record;
}
inline HistoryRecord alert(const std::string& text, WallTime at = kNow) {
  HistoryRecord record;
  record.at = at;
  record.event = "alert";
  record.text = text;
  return record;
}
inline HistoryRecord decision(const BlockRecord& block, WallTime at = kNow) {
  HistoryRecord record;
  record.at = at;
  record.event = "block";
  record.block = block;
  return record;
}

// Waits until the condition holds, ten seconds at most.
inline bool soon(const auto& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    poll(nullptr, 0, 10);
  }
  return condition();
}

inline StateOptions quick() {
  StateOptions options;
  options.lock_wait = 20ms;
  options.first_retry = 10ms;
  options.last_retry = 50ms;
  return options;
}

inline std::unique_ptr<State> must_open(const std::filesystem::path& path, const StateOptions& options = quick()) {
  auto state = State::open(path, options);
  if (!state) throw std::runtime_error(state.error());
  return std::move(*state);
}

// Opens, writes, waits until it is on file, and ends.
inline void put(const std::filesystem::path& path, StateChanges changes, const StateOptions& options = quick()) {
  const auto state = must_open(path, options);
  state->write(std::move(changes), kNow);
  REQUIRE(state->flush(10s));
}
inline StateContents contents(const std::filesystem::path& path) {
  auto read = read_state(path);
  if (!read) throw std::runtime_error(read.error());
  return std::move(*read);
}
inline std::vector<HistoryRecord> history(const std::filesystem::path& path, WallTime since = {}) {
  const auto records = read_history(path, {since, 0}, 1'000'000);
  if (!records) throw std::runtime_error(records.error());
  return *records;
}

inline std::string octets_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Somebody else's connection: an operator's sqlite3, a backup.
class Outsider {
public:
  explicit Outsider(const std::filesystem::path& path) {
    sqlite3_open(path.c_str(), &handle_);
    sqlite3_busy_timeout(handle_, 5000);
  }
  Outsider(const Outsider&) = delete;
  Outsider& operator=(const Outsider&) = delete;
  ~Outsider() { sqlite3_close(handle_); }

  void run(const std::string& sql) {
    char* error = nullptr;
    if (sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, &error) != SQLITE_OK)
      throw std::runtime_error(sql + ": " + error);
  }
  // The first column of all rows, each with a comma after it.
  std::string ask(const std::string& sql) {
    std::string answer;
    const auto take = [](void* to, int, char** columns, char**) {
      *static_cast<std::string*>(to) += std::string(columns[0] == nullptr ? "null" : columns[0]) + ",";
      return 0;
    };
    char* error = nullptr;
    if (sqlite3_exec(handle_, sql.c_str(), take, &answer, &error) != SQLITE_OK)
      throw std::runtime_error(sql + ": " + error);
    return answer;
  }

private:
  sqlite3* handle_ = nullptr;
};

} // namespace sipward::state_lab
