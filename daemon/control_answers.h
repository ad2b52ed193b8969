// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <expected>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "daemon/control.h"

// Private to this layer. What the control socket answers. A request is {"command": NAME, ...}; an answer is {"ok":
// true, "result": ...} or
// {"ok": false, "error": SENTENCE}. A new command is one more function here and one line in control_answers.cpp's
// table.
namespace sipward::daemon {

// The commands, one function each. They run in the control thread, between two rounds of its loop.
class Answers {
public:
  explicit Answers(Control& control) : control_(control) {}
  std::string answer(std::string_view line); // line in, line out

private:
  using Json = nlohmann::ordered_json;
  struct Refused {
    std::string why;
  };
  using Result = std::expected<Json, Refused>;
  static constexpr std::int64_t kLongestBlockS = 366 * 24 * 3600;
  static std::expected<policy::Prefix, Refused> subject_of(const Json& request);

  // Looking: answers_look.cpp.
  Result status(const Json& request);
  Result blocks(const Json& request);

  Result reload(const Json& request); // answers_reload.cpp

  // Blocking: answers_block.cpp.
  Result block(const Json& request);
  Result unblock(const Json& request);
  Result flush(const Json& request);
  Result arm(const Json& request);

  // Remembering: answers_memory.cpp.
  Result saved(const Json& request);
  Result history(const Json& request);
  Result import_state(const Json& request);
  Result forget(const Json& request);

  Control& control_;
};

} // namespace sipward::daemon
