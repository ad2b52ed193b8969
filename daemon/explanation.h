// SPDX-License-Identifier: GPL-2.0-or-later
// Private to this layer.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

// What is known of an address, told to the operator: where it stands, what it has done, what would come next.
namespace sipward::daemon {

struct Paragraph {
  std::string title;
  std::vector<std::string> lines; // sentences, or rows of figures; safe to print
};

// `facts`: as the daemon answers `explain`. Pure.
std::vector<Paragraph> explanation(const nlohmann::ordered_json& facts);

} // namespace sipward::daemon
