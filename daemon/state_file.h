// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <sys/types.h>

#include "daemon/database.h"
#include "daemon/state_records.h"

// The file of the state database: found, made, checked, moved aside.
namespace sipward::daemon {

// Why there is none, in a sentence that names the file.
struct StateFault {
  enum class Kind : std::uint8_t {
    Refused,  // not ours to touch: a later sipward's, another program's, or a folder that is nowhere
    Corrupt,  // can be moved aside
    Disturbed // locked, full, read-only, failing: may pass
  };
  Kind kind = Kind::Disturbed;
  std::string message;
};
StateFault fault_of(const DatabaseError& error, const std::filesystem::path& path);

// A file by its number, not its name: somebody may put another one under the same name.
struct FileNumber {
  dev_t device = 0;
  ino_t file = 0;
  friend bool operator==(const FileNumber&, const FileNumber&) = default;
};
std::optional<FileNumber> file_number(const std::filesystem::path& path) noexcept;

struct StateFile {
  Database database;
  FileNumber number;
  bool made = false; // it was not there, or empty
};

// The file of a daemon's own while the descriptor is open: two would undo each other's work. It is the lock of a file
// beside it, PATH.lock; where that cannot be made the descriptor is -1, and nothing is held.
std::expected<int, StateFault> claim_state(const std::filesystem::path& path);

// Ready to be written: made if need be (mode 0600, with this secret), of the present version, in WAL mode.
std::expected<StateFile, StateFault> open_state_file(const std::filesystem::path& path, const StateSecret& secret,
                                                     std::chrono::milliseconds patience);
// Ready to be read, of the present version, be it on a disk that cannot be written. Nothing is made.
std::expected<Database, StateFault> open_state_to_read(const std::filesystem::path& path,
                                                       std::chrono::milliseconds patience);

// Renames a corrupt file to PATH.corrupt-TIME, with its log, for those who might save something; of earlier ones the
// latest stay. Returns the new name.
std::expected<std::filesystem::path, StateFault> move_state_aside(const std::filesystem::path& path, WallTime now);
inline constexpr std::size_t kCorruptFilesKept = 4;

} // namespace sipward::daemon
