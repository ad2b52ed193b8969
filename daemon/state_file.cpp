// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/state_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "daemon/folders.h"
#include "daemon/state_rows.h"
#include "daemon/state_schema.h"

namespace sipward::daemon {
namespace {

namespace fs = std::filesystem;
using Kind = StateFault::Kind;

std::unexpected<StateFault> fault(Kind kind, const fs::path& path, const std::string& what) {
  return std::unexpected(StateFault{kind, "state.path: " + path.string() + " " + what});
}

fs::path with_suffix(fs::path path, const std::string& suffix) { return path += suffix; }

// The file holds the secret of users' hashes, and who called whom: nobody else's business. SQLite gives the files
// beside it the same mode. A file that is there is not opened here: closing it again would drop the locks that another
// connection of this process holds on it.
std::expected<void, StateFault> make_file(const fs::path& path) {
  if (const auto made = make_folder_for(path); !made) {
    std::error_code error;
    const bool is_nowhere = !fs::is_directory(path.parent_path().parent_path(), error);
    return std::unexpected(StateFault{is_nowhere ? Kind::Refused : Kind::Disturbed, "state.path: " + made.error()});
  }
  struct stat there {};
  if (stat(path.c_str(), &there) == 0) {
    if (!S_ISREG(there.st_mode)) return fault(Kind::Refused, path, "is no file");
    if ((there.st_mode & 077) != 0) chmod(path.c_str(), 0600);
    return {};
  }
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return fault(Kind::Disturbed, path, std::string("cannot be made: ") + std::strerror(errno));
  close(fd);
  return {};
}

// Is it ours, and no later sipward's? Returns whether it is still empty.
std::expected<bool, StateFault> check_version(Database& database, const fs::path& path) {
  const auto version = database.number("PRAGMA user_version");
  const auto mark = database.number("PRAGMA application_id");
  const auto tables = database.number("SELECT count(*) FROM sqlite_schema");
  if (auto error = database.take_error()) return std::unexpected(fault_of(*error, path));
  if (*version == 0 && (*mark == 0 || *mark == kStateMark) && *tables == 0) return true;
  std::optional<std::string> refusal;
  const auto latest = static_cast<std::int64_t>(state_steps().size());
  if (*mark != kStateMark) refusal = "is another program's database";
  if (!refusal && *version > latest)
    refusal = "was written by a later sipward (version " + std::to_string(*version) + "; this one knows up to " +
              std::to_string(latest) + ")";
  if (!refusal) return false;
  database.leave_log();
  return fault(Kind::Refused, path, *refusal);
}

void prepare_to_write(Database& database, const StateSecret& secret, bool empty) {
  // synchronous = FULL: what was committed is there after a power cut. secure_delete: what was forgotten is not.
  database.run("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;"
               "PRAGMA journal_size_limit = 16777216");
  if (empty) database.run(("PRAGMA application_id = " + std::to_string(kStateMark)).c_str());
  const auto steps = state_steps();
  if (database.number("PRAGMA user_version").value_or(0) < static_cast<std::int64_t>(steps.size()))
    migrate(database, steps);
  if (database.number("SELECT count(*) FROM setting WHERE name = 'secret'") == 0) write_secret(database, secret);
}

bool has_log(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(with_suffix(path, "-wal"), error);
  return !error && size > 0;
}

} // namespace

StateFault fault_of(const DatabaseError& error, const fs::path& path) {
  using Error = DatabaseError::Kind;
  const std::string file = "state.path: " + path.string() + " ";
  switch (error.kind) {
  case Error::Locked: return {Kind::Disturbed, file + "is locked by another process"};
  case Error::Full: return {Kind::Disturbed, file + "has no room: the disk is full"};
  case Error::NotWritable: return {Kind::Disturbed, file + "cannot be written: " + error.message};
  case Error::Corrupt: return {Kind::Corrupt, file + "is corrupt: " + error.message};
  case Error::Other: break;
  }
  return {Kind::Disturbed, file + "fails: " + error.message};
}

std::optional<FileNumber> file_number(const fs::path& path) noexcept {
  struct stat there {};
  if (stat(path.c_str(), &there) != 0) return std::nullopt;
  return FileNumber{there.st_dev, there.st_ino};
}

std::expected<int, StateFault> claim_state(const fs::path& path) {
  if (!make_folder_for(path)) return -1; // told when the file itself is made
  const int fd = open(with_suffix(path, ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  const bool is_taken = errno == EWOULDBLOCK;
  close(fd);
  if (is_taken) return fault(Kind::Refused, path, "is in use by another sipward; each needs one of its own");
  return -1;
}

std::expected<StateFile, StateFault> open_state_file(const fs::path& path, const StateSecret& secret,
                                                     std::chrono::milliseconds patience) {
  if (const auto made = make_file(path); !made) return std::unexpected(made.error());
  const auto number = file_number(path);
  auto database = Database::open(path, Database::Access::Write, patience);
  if (!database) return std::unexpected(fault_of(database.error(), path));
  const auto empty = check_version(*database, path);
  if (!empty) return std::unexpected(empty.error());
  prepare_to_write(*database, secret, *empty);
  if (const auto error = database->take_error()) return std::unexpected(fault_of(*error, path));
  return StateFile{std::move(*database), number.value_or(FileNumber{}), *empty};
}

std::expected<Database, StateFault> open_state_to_read(const fs::path& path, std::chrono::milliseconds patience) {
  // The log needs an index beside it; where that cannot be made, a file without a log can still be read as it is.
  for (const auto access : {Database::Access::Read, Database::Access::ReadFrozen}) {
    auto database = Database::open(path, access, patience);
    if (!database) return std::unexpected(fault_of(database.error(), path));
    const auto empty = check_version(*database, path);
    if (!empty) {
      if (access == Database::Access::Read && empty.error().kind == Kind::Disturbed && !has_log(path)) continue;
      return std::unexpected(empty.error());
    }
    if (*empty) return fault(Kind::Disturbed, path, "is empty");
    if (database->number("PRAGMA user_version") == static_cast<std::int64_t>(state_steps().size()))
      return std::move(*database);
    return fault(Kind::Disturbed, path, "is of an earlier sipward and cannot be brought up to date yet");
  }
  return fault(Kind::Disturbed, path, "cannot be read");
}

std::expected<fs::path, StateFault> move_state_aside(const fs::path& path, WallTime now) {
  std::string stamp = rfc3339(now); // as digits, which sort by time
  std::erase_if(stamp, [](char character) { return character == '-' || character == ':'; });
  const auto aside = with_suffix(path, ".corrupt-" + stamp);
  std::error_code error;
  fs::rename(path, aside, error);
  if (error) return fault(Kind::Disturbed, path, "is corrupt and cannot be moved aside: " + error.message());
  fs::rename(with_suffix(path, "-wal"), with_suffix(aside, "-wal"), error); // there may be none
  fs::remove(with_suffix(path, "-shm"), error);

  const auto beginning = path.filename().string() + ".corrupt-";
  std::vector<fs::path> earlier;
  for (const auto& entry : fs::directory_iterator(path.parent_path(), error))
    if (const auto name = entry.path().filename().string(); name.starts_with(beginning) && !name.ends_with("-wal"))
      earlier.push_back(entry.path());
  std::ranges::sort(earlier, std::greater());
  for (std::size_t i = kCorruptFilesKept; i < earlier.size(); ++i) {
    fs::remove(earlier[i], error);
    fs::remove(with_suffix(earlier[i], "-wal"), error);
  }
  return aside;
}

} // namespace sipward::daemon
