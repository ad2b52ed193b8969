// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <yaml-cpp/yaml.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

// Private to this layer. Every key there is, described once: reading, printing and suggesting all walk this table.
namespace sipward::config {

// What is wrong with a value, and where.
struct Fault {
  YAML::Mark mark;
  std::string message;
};

struct Key {
  std::string name; // dotted: "sources.capacity"
  std::function<std::optional<Fault>(const YAML::Node& node, Settings& settings)> read;
  std::function<std::string(const Settings& settings)> print; // as a YAML value on one line
};

// In the order of the shipped file. Any thread.
const std::vector<Key>& keys();

// Rules that bind several keys together: what the settings break.
struct Violation {
  std::vector<std::string>
      names; // the keys at odds; the first is the one to name, and any that the file sets may be at fault
  std::string message;
};
std::vector<Violation> violations(const Settings& settings);

// Takes over some of the settings.
void take(Settings& to, const Settings& from, auto... members) { ((to.*members = from.*members), ...); }

} // namespace sipward::config
