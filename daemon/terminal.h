// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <termios.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

// What the commands know of the terminal they write to. Main thread.
namespace sipward::daemon {

// Is standard output a terminal that shows colours, and are they wanted (NO_COLOR, see no-color.org)?
bool colours_wanted();

struct TerminalSize {
  std::size_t columns = 80, rows = 24;
};
TerminalSize terminal_size();

// A screen of our own on the terminal, as top has it; the terminal is as it was when this ends, also if a signal asks
// for that. Standard input and output are terminals.
class Screen {
public:
  Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen();

  void show(std::string_view text) const; // lines with their ends; in place of what was there
  // The next key, or '\0' if none came in time or the window has another size now; 'q' also for a signal to end.
  char wait_key(std::chrono::milliseconds patience) const;

private:
  termios before_{};
  int signals_ = -1;
};

} // namespace sipward::daemon
