// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "config/config.h"
#include "daemon/event_ring.h"
#include "daemon/text.h"
#include "policy/block_list.h"

// The block log: `TIME EVENT SUBJECT key=value...`, one line per decision, made to be read aloud.
namespace sipward::daemon {

struct ShadowLine; // shadow_line.h

// Events of the log: "block", "would_block" (dry run), "unblock".
std::string_view event_name(const policy::BlockChange& change) noexcept;

// One line without its end. Header text is quoted and escaped: nothing that an attacker wrote can end a line or move a
// cursor.
std::string block_line(const policy::BlockChange& change, policy::Time at, const WallClock& clock);

// Control thread only.
class BlockLog {
public:
  static constexpr unsigned kLinesPerSecond = 20; // above that, one summary line a second

  // Makes the file's folder if the folder above it exists. The error names the file. A file that is moved or removed
  // later (by logrotate, say) is made anew within a second of summarise(); what is written until then goes with it.
  static std::expected<std::unique_ptr<BlockLog>, std::string> open(const std::filesystem::path& file,
                                                                    config::LogFormat format);
  ~BlockLog();

  // One decision. Beyond kLinesPerSecond it is only counted, for the summary.
  void write(const policy::BlockChange& change, policy::Time at, const WallClock& clock);
  // What other settings would have decided. These have kLinesPerSecond, and a summary, of their own.
  void write_shadow(const ShadowLine& line, policy::Time at, const WallClock& clock);
  // Writes the summary that is due, if one is. To be called now and then.
  void summarise(policy::Time at, const WallClock& clock);
  // Whom to tell of each line, too.
  void tell(std::function<void(LoggedEvent)> listener);
  // An event that is no block: "alert", with its text as key=value pairs.
  void alert(std::string_view text, policy::Time at, const WallClock& clock);
  void note(std::string_view text, policy::Time at, const WallClock& clock); // the same, of which nobody else is told
  // Is told of every alert as well: history remembers them.
  using Heard = std::function<void(std::string_view text, policy::Time at)>;
  void set_heard(Heard heard);

private:
  struct State;
  explicit BlockLog(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace sipward::daemon
