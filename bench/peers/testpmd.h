// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

// dpdk-testpmd, which receives frames and frees them: DPDK's own measure of what receiving costs.
namespace sipward::bench::peers {

class Testpmd {
public:
  // Plays a capture over and over, on one CPU. `memory_mib`: of DPDK's.
  Testpmd(const std::filesystem::path& capture, unsigned cpu, bool hugepages, unsigned memory_mib);
  Testpmd(const Testpmd&) = delete;
  Testpmd& operator=(const Testpmd&) = delete;
  ~Testpmd();

  struct Reading {
    double cpu_ns; // of the thread that received
    std::uint64_t packets;
  };
  // Lets it receive for so long.
  Reading receive(unsigned ms);

private:
  std::string until_prompt();
  void say(const std::string& command);
  double worker_ns() const;

  int terminal_ = -1;
  int process_ = -1;
  std::filesystem::path worker_; // in /proc
};

} // namespace sipward::bench::peers
