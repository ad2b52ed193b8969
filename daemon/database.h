// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

struct sqlite3; // SQLite's, known to database.cpp only
struct sqlite3_stmt;

// SQLite without its manners: a connection and its statements, one thread each.
namespace sipward::daemon {

struct DatabaseError {
  enum class Kind : std::uint8_t {
    Locked,      // somebody else has it
    Full,        // the disk is
    NotWritable, // read-only, or not to be opened or made
    Corrupt,     // or no database at all
    Other,       // a failing disk, no memory, a slip in a statement
  };
  Kind kind = Kind::Other;
  std::string message; // SQLite's own words
};

class Statement;

// The first failure sticks: whatever is asked after it does nothing, until the error is taken. So a train of statements
// needs one look at the end.
class Database {
public:
  enum class Access : std::uint8_t {
    Write,      // an existing file; nothing is made
    Read,       // needs the files beside it (-shm), which it may have to make
    ReadFrozen, // a file that nobody writes, and that has no -wal: nothing but the file itself is looked at
  };
  // The file is only looked at by the first statement.
  static std::expected<Database, DatabaseError> open(const std::filesystem::path& file, Access access,
                                                     std::chrono::milliseconds patience);

  bool ok() const noexcept { return !error_; }
  std::optional<DatabaseError> take_error() { return std::exchange(error_, std::nullopt); }
  void fail(DatabaseError error); // for those who find fault with what they read

  void run(const char* sql);                                  // one or more statements whose rows are not wanted
  std::optional<std::int64_t> number(const std::string& sql); // the one value of the one row
  Statement prepare(const std::string& sql);
  std::uint64_t changed() const noexcept; // rows, by the last statement

  // A transaction that writes: begin, and end by commit if all went well, else nothing of it remains.
  void begin() { run("BEGIN IMMEDIATE"); }
  bool commit();

  void leave_log() noexcept; // closing shall not move the log (-wal) into the file

private:
  friend class Statement;
  struct Close {
    void operator()(sqlite3* handle) const noexcept;
  };
  explicit Database(sqlite3* handle) : handle_(handle) {}
  void fail(int code);

  std::unique_ptr<sqlite3, Close> handle_;
  std::optional<DatabaseError> error_;
};

// A prepared statement; its Database stays where it is meanwhile. Parameters and columns count from 1 and 0, as in
// SQLite.
class Statement {
public:
  void bind(int at, std::int64_t value);
  void bind(int at, double value);
  void bind(int at, std::string_view text);                // not copied: valid until run() or the last row()
  void bind(int at, std::span<const std::uint8_t> octets); // likewise
  void bind_null(int at);

  bool row(); // the next one; false: no more, or a failure
  void run(); // to its end; then it can be bound anew

  std::int64_t integer(int column);
  double real(int column);
  std::string_view text(int column); // valid until the next row()
  std::span<const std::uint8_t> octets(int column);
  bool null(int column);

private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* handle) const noexcept;
  };
  Statement(Database& database, sqlite3_stmt* handle) : database_(&database), handle_(handle) {}
  void check(int code);

  Database* database_;
  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
};

} // namespace sipward::daemon
