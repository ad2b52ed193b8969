// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <expected>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/control.h"

// Private to this layer. What the control socket answers. A request is {"command": NAME, ...}; an answer is {"ok":
// true, "result": ...} or
// {"ok": false, "error": SENTENCE}. A new command is one more function here and one line in control_answers.cpp's
// table.
namespace sipward::daemon {

// The commands, one function each. They run in the control thread, between two rounds of its loop.
std::string_view trust_name(std::uint8_t level) noexcept; // "home"

class Answers {
public:
  explicit Answers(Control& control) : control_(control) {}
  ControlSocket::Reply answer(std::string_view line); // line in, line out

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

  // What is tried: answers_shadow.cpp.
  Result shadow(const Json& request);
  Json shadow_json() const;

  Result reload(const Json& request); // answers_reload.cpp
  Result doctor(const Json& request); // answers_doctor.cpp
  Result top(const Json& request);    // answers_top.cpp
  Json standing_of(const policy::Prefix& source) const;
  Json sender_row(policy::SourceKey key, double rate_per_s, const policy::Now& now) const;

  Result events(const Json& request); // answers_events.cpp

  // Of one address: answers_explain.cpp.
  Result explain(const Json& request);
  std::optional<std::string> spared_for(const policy::Address& address) const;
  Json activity_json(const policy::Address& address, const policy::Rules& rules, const policy::Now& now) const;
  Json trust_json(const policy::Address& address, const policy::Rules& rules, const policy::Now& now) const;
  Json ladder_json(const policy::Subject& host, policy::Time now) const;
  Json history_json(const policy::Prefix& host) const;

  // Blocking: answers_block.cpp.
  Result block(const Json& request);
  Result unblock(const Json& request);
  Result flush(const Json& request);
  Result arm(const Json& request);
  Result confirm(const Json& request); // answers_orders.cpp, with the next
  Result allow(const Json& request);
  Result allowed(const Json& request);
  Result disallow(const Json& request);

  // Remembering: answers_memory.cpp.
  Result saved(const Json& request);
  Result history(const Json& request);
  Result import_state(const Json& request);
  Result forget(const Json& request);

  // The off switch: answers_off.cpp.
  Result off(const Json& request);
  Result on(const Json& request);
  Json off_json() const; // null: it is on

  Control& control_;
  std::optional<std::uint64_t> follow_; // the request asked for what comes after its answer, from this event on
};

} // namespace sipward::daemon
