// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>

namespace sipward::daemon {

// A bar on standard error for work that takes long: only if that is a terminal, and only after kPatience. It is gone
// again when the object is. One thread.
class Progress {
public:
  explicit Progress(std::uint64_t total); // 0: unknown, no bar
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(std::uint64_t done); // cheap enough for every thousandth step

private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kPatience = std::chrono::milliseconds(300);
  static constexpr auto kRedraw = std::chrono::milliseconds(100);

  std::uint64_t total_;
  bool wanted_;
  bool drawn_ = false;
  Clock::time_point next_ = Clock::now() + kPatience;
};

} // namespace sipward::daemon
