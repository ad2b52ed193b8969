// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>

namespace sipward::daemon {
namespace {

constexpr std::string_view kBegin = "\x1b[?1049h\x1b[?25l"; // the other screen, no cursor
constexpr std::string_view kEnd = "\x1b[?25h\x1b[?1049l";

void put(std::string_view text) {
  while (!text.empty()) {
    const auto written = write(STDOUT_FILENO, text.data(), text.size());
    if (written <= 0) return; // nobody looks any more
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

} // namespace

bool colours_wanted() {
  const char* never = std::getenv("NO_COLOR");
  const char* kind = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && (never == nullptr || *never == '\0') && kind != nullptr && *kind != '\0' &&
         std::string_view(kind) != "dumb";
}

TerminalSize terminal_size() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {};
  return {size.ws_col, size.ws_row};
}

Screen::Screen() {
  sigset_t ending;
  sigemptyset(&ending);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH}) sigaddset(&ending, signal);
  sigprocmask(SIG_BLOCK, &ending, nullptr);
  signals_ = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
  tcgetattr(STDIN_FILENO, &before_);
  termios raw = before_;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  raw.c_cc[VMIN] = 1, raw.c_cc[VTIME] = 0;
  raw.c_cc[VSUSP] = _POSIX_VDISABLE; // stopped, it would leave the terminal as it is now
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  put(kBegin);
}

Screen::~Screen() {
  put(kEnd);
  tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  if (signals_ >= 0) close(signals_);
}

void Screen::show(std::string_view text) const {
  std::string frame = "\x1b[H"; // home; each line clears what was behind it, so that nothing flickers
  for (const char c : text) {
    if (c == '\n') frame += "\x1b[K\r";
    frame += c;
  }
  put(frame + "\x1b[J");
}

char Screen::wait_key(std::chrono::milliseconds patience) const {
  std::array<pollfd, 2> ready{{{STDIN_FILENO, POLLIN, 0}, {signals_, POLLIN, 0}}};
  if (poll(ready.data(), ready.size(), static_cast<int>(patience.count())) <= 0) return '\0';
  signalfd_siginfo signal{};
  if (read(signals_, &signal, sizeof signal) == sizeof signal) return signal.ssi_signo == SIGWINCH ? '\0' : 'q';
  char key = '\0';
  return read(STDIN_FILENO, &key, 1) == 1 ? key : 'q'; // the terminal is gone
}

} // namespace sipward::daemon
