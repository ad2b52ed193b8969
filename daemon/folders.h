// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstring>
#include <expected>
#include <filesystem>
#include <string>

namespace sipward::daemon {

// Makes the folder that `file` is to stand in, if the folder above that exists; a longer way is more likely a slip of
// the pen.
inline std::expected<void, std::string> make_folder_for(const std::filesystem::path& file) {
  const auto folder = file.parent_path();
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return {};
  if (!std::filesystem::is_directory(folder.parent_path(), error))
    return std::unexpected("there is no folder " + folder.parent_path().string() + " to make " + folder.string() +
                           " in");
  std::filesystem::create_directory(folder, error);
  if (error) return std::unexpected("cannot make the folder " + folder.string() + ": " + error.message());
  return {};
}

} // namespace sipward::daemon
