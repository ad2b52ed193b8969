// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/shadow.h"

#include "config/keys.h"

namespace sipward::config {
std::expected<Shadow, std::string> load_shadow(const Settings& present) {
  const auto wanted = load(present.shadow);
  if (!wanted) return std::unexpected(to_string(wanted.error()));
  Shadow shadow{present, {}};
  take(shadow.settings, *wanted, &Settings::detect, &Settings::scanners, &Settings::prefix, &Settings::block,
       &Settings::allow, &Settings::allow_limits, &Settings::allow_names, &Settings::allow_files, &Settings::trust);
  if (const auto broken = violations(shadow.settings); !broken.empty())
    return std::unexpected(present.shadow.string() + ": " + broken.front().names.front() + ": " +
                           broken.front().message);
  for (const auto& key : keys())
    if (key.name != "shadow" && key.print(*wanted) != key.print(shadow.settings)) shadow.in_vain.push_back(key.name);
  return shadow;
}

} // namespace sipward::config
