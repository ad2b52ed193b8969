// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <expected>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "policy/address.h"

// Lists of those who are never blocked, beside the settings: files that others write, a carrier's or a script's.
namespace sipward::config {

struct AllowList {
  std::vector<policy::Prefix> ranges;
  std::vector<std::string> names; // in lower case
  friend bool operator==(const AllowList&, const AllowList&) = default;
};

// Any thread, all of it. One entry a line: an address, a range or a name; '#' begins a comment.
std::expected<AllowList, Error> parse_allow_lines(std::string_view text, const std::string& file);
// YAML: a list of such entries, by itself or under the one key `allow`.
std::expected<AllowList, Error> parse_allow_yaml(std::string_view text, const std::string& file);
// By the file's name: YAML if it ends in .yaml or .yml.
std::expected<AllowList, Error> load_allow(const std::filesystem::path& file);

} // namespace sipward::config
