// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/database.h"

#include <sqlite3.h>

#include <array>
#include <cstdio>

namespace sipward::daemon {
namespace {

DatabaseError::Kind kind_of(int code) noexcept {
  switch (code & 0xff) { // the rest says more exactly where
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
  case SQLITE_PROTOCOL: return DatabaseError::Kind::Locked;
  case SQLITE_FULL: return DatabaseError::Kind::Full;
  case SQLITE_READONLY:
  case SQLITE_CANTOPEN:
  case SQLITE_PERM:
  case SQLITE_AUTH: return DatabaseError::Kind::NotWritable;
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB: return DatabaseError::Kind::Corrupt;
  case SQLITE_IOERR: // how a full disk shows while the log's index is made
    return code == SQLITE_IOERR_SHMSIZE ? DatabaseError::Kind::Full : DatabaseError::Kind::Other;
  default: return DatabaseError::Kind::Other;
  }
}

// RFC 3986's percent signs, so that no character of a path is taken for the query.
std::string uri(const std::filesystem::path& file, Database::Access access) {
  std::string uri = "file:";
  for (const char character : file.native()) {
    const auto octet = static_cast<unsigned char>(character);
    if (octet > ' ' && octet < 0x7f && character != '%' && character != '?' && character != '#') {
      uri += character;
      continue;
    }
    std::array<char, 4> escaped{};
    std::snprintf(escaped.data(), escaped.size(), "%%%02X", octet);
    uri += escaped.data();
  }
  switch (access) {
  case Database::Access::Write: return uri + "?mode=rw";
  case Database::Access::Read: return uri + "?mode=ro";
  case Database::Access::ReadFrozen: return uri + "?mode=ro&immutable=1";
  }
  return uri;
}

} // namespace

std::expected<Database, DatabaseError> Database::open(const std::filesystem::path& file, Access access,
                                                      std::chrono::milliseconds patience) {
  sqlite3* handle = nullptr;
  const int flags = SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
                    (access == Access::Write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
  const int code = sqlite3_open_v2(uri(file, access).c_str(), &handle, flags, nullptr);
  if (handle == nullptr) return std::unexpected(DatabaseError{DatabaseError::Kind::Other, "out of memory"});
  Database database(handle);
  if (code != SQLITE_OK) {
    database.fail(code);
    return std::unexpected(*database.take_error());
  }
  if (access == Access::Write &&
      sqlite3_db_readonly(handle, "main") == 1) // SQLite makes do with less, and says nothing
    return std::unexpected(DatabaseError{DatabaseError::Kind::NotWritable, "it is read-only"});
  sqlite3_busy_timeout(handle, static_cast<int>(patience.count()));
  return database;
}

void Database::Close::operator()(sqlite3* handle) const noexcept { sqlite3_close_v2(handle); }

void Database::fail(int code) { fail(DatabaseError{kind_of(code), sqlite3_errmsg(handle_.get())}); }
void Database::fail(DatabaseError error) {
  if (!error_) error_ = std::move(error);
}

void Database::run(const char* sql) {
  if (error_) return;
  if (const int code = sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr); code != SQLITE_OK) fail(code);
}

std::optional<std::int64_t> Database::number(const std::string& sql) {
  auto statement = prepare(sql);
  if (!statement.row()) return std::nullopt;
  return statement.integer(0);
}

Statement Database::prepare(const std::string& sql) {
  sqlite3_stmt* handle = nullptr;
  if (!error_) {
    const int code = sqlite3_prepare_v2(handle_.get(), sql.c_str(), static_cast<int>(sql.size()) + 1, &handle, nullptr);
    if (code != SQLITE_OK) fail(code);
  }
  return {*this, handle};
}

std::uint64_t Database::changed() const noexcept {
  return static_cast<std::uint64_t>(sqlite3_changes64(handle_.get()));
}

bool Database::commit() {
  run("COMMIT");
  // A failure may have undone all by itself already.
  if (error_ && sqlite3_get_autocommit(handle_.get()) == 0)
    sqlite3_exec(handle_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
  return ok();
}

void Database::leave_log() noexcept { sqlite3_db_config(handle_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr); }

void Statement::Finalize::operator()(sqlite3_stmt* handle) const noexcept { sqlite3_finalize(handle); }

void Statement::check(int code) {
  if (code != SQLITE_OK && database_->ok()) database_->fail(code);
}

void Statement::bind(int at, std::int64_t value) {
  if (handle_) check(sqlite3_bind_int64(handle_.get(), at, value));
}
void Statement::bind(int at, double value) {
  if (handle_) check(sqlite3_bind_double(handle_.get(), at, value));
}
void Statement::bind(int at, std::string_view text) {
  // A null pointer would be NULL, and an empty view may have one.
  const char* octets = text.empty() ? "" : text.data();
  if (handle_) check(sqlite3_bind_text64(handle_.get(), at, octets, text.size(), SQLITE_STATIC, SQLITE_UTF8));
}
void Statement::bind(int at, std::span<const std::uint8_t> octets) {
  const void* data = octets.empty() ? static_cast<const void*>("") : octets.data();
  if (handle_) check(sqlite3_bind_blob64(handle_.get(), at, data, octets.size(), SQLITE_STATIC));
}
void Statement::bind_null(int at) {
  if (handle_) check(sqlite3_bind_null(handle_.get(), at));
}

bool Statement::row() {
  if (!handle_ || !database_->ok()) return false;
  const int code = sqlite3_step(handle_.get());
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) database_->fail(code);
  return false;
}

void Statement::run() {
  while (row()) {
  }
  if (handle_) sqlite3_reset(handle_.get());
}

std::int64_t Statement::integer(int column) { return sqlite3_column_int64(handle_.get(), column); }
double Statement::real(int column) { return sqlite3_column_double(handle_.get(), column); }
std::string_view Statement::text(int column) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(handle_.get(), column));
  return text == nullptr
             ? std::string_view()
             : std::string_view(text, static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), column)));
}
std::span<const std::uint8_t> Statement::octets(int column) {
  const auto* octets = static_cast<const std::uint8_t*>(sqlite3_column_blob(handle_.get(), column));
  if (octets == nullptr) return {};
  return {octets, static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), column))};
}
bool Statement::null(int column) { return sqlite3_column_type(handle_.get(), column) == SQLITE_NULL; }

} // namespace sipward::daemon
