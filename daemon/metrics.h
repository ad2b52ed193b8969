// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <expected>
#include <memory>
#include <string>

#include "daemon/figures.h"

namespace sipward::daemon {

// Figures in Prometheus' text format (version 0.0.4). Any thread.
std::string metrics_text(const Figures& figures);

// Answers Prometheus at http://ADDRESS/metrics with the figures published last. Threads of its own ask nobody: the
// workers and the control thread never wait for it.
class Metrics {
public:
  // `address`: "127.0.0.1:9560", "[::1]:9560". The error is a sentence that names the setting.
  static std::expected<std::unique_ptr<Metrics>, std::string> listen(const std::string& address);
  ~Metrics();

  void publish(Figures figures); // any thread

private:
  struct State;
  explicit Metrics(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace sipward::daemon
