// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/reload.h"

#include <algorithm>

#include "config/keys.h"
#include "config/kinds.h"

namespace sipward::config {
namespace {

// Keys, or whole sections. Whoever adds one takes its value over in keep_opened(), too (a test holds the two together).
constexpr std::string_view kOpenedOnce[] = {"mode",    "ports", "cores",   "memory", "idle",
                                            "sources", "state", "control", "metrics"};

void keep_opened(Settings& next, const Settings& running) {
  take(next, running, &Settings::mode, &Settings::ports, &Settings::cores, &Settings::memory, &Settings::idle,
       &Settings::sources, &Settings::state, &Settings::control, &Settings::metrics);
}

} // namespace

bool needs_restart(std::string_view key) noexcept {
  return std::ranges::any_of(kOpenedOnce, [&](std::string_view name) {
    return key.starts_with(name) && (key.size() == name.size() || key[name.size()] == '.');
  });
}

std::expected<Succession, std::string> succeed(const Settings& running, const Settings& wanted) {
  Succession next{wanted, {}, {}};
  keep_opened(next.settings, running);
  for (const auto& key : keys())
    if (key.print(running) != key.print(wanted))
      (needs_restart(key.name) ? next.for_restart : next.changed).push_back(key.name);
  if (const auto broken = violations(next.settings); !broken.empty())
    return std::unexpected(broken.front().names.front() + ": " + broken.front().message +
                           "; as this needs a restart (" + join(next.for_restart, ", ") + "), nothing was changed");
  return next;
}

} // namespace sipward::config
