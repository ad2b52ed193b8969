// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

namespace sipward::daemon {

Progress::Progress(std::uint64_t total) : total_(total), wanted_(total > 0 && isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
}

void Progress::show(std::uint64_t done) {
  if (!wanted_) return;
  const auto now = Clock::now();
  if (now < next_) return;
  next_ = now + kRedraw;
  constexpr std::uint64_t kWidth = 40;
  const auto share = std::min(static_cast<double>(done) / static_cast<double>(total_), 1.0);
  const auto filled = static_cast<std::size_t>(share * kWidth);
  const std::string bar = std::string(filled, '#') + std::string(kWidth - filled, '.');
  std::fprintf(stderr, "\rreading [%s] %3.0f %%", bar.c_str(), share * 100);
  drawn_ = true;
}

} // namespace sipward::daemon
