// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "bench/frames.h"
#include "dataplane/dataplane.h"

// What bench/dataplane measures, each in a process of its own: DPDK's environment is once per process.
namespace sipward::bench {

// What a process does with the frames.
enum class Work {
  Receive, // rx_burst and free, a loop of our own
  Osip,    // each message through libosip2, each sender through rte_hash
  Worker,  // the real one
};

struct Subject {
  std::string name;
  Work work = Work::Receive;
  Traffic traffic = Traffic::Registers;
  std::uint32_t sources = 0; // senders that the frames are given; 0: as they are in the file
  std::uint32_t blocked = 0; // so many of the senders stand blocked
  bool limited = false;      // REGISTERs are over the limit from the second on
  bool allowed = false;      // the senders stand on the allow list
  // The verdict that so many must have.
  policy::Why verdict = policy::Why::Clean;
  double share = 0.999;
  unsigned workers = 1;       // each with a queue of its own, that plays the same capture
  std::uint32_t capacity = 0; // of the source table; 0: three times the sources
};

struct Reading {
  double cpu_ns = 0; // of the threads that do the work
  std::uint64_t packets = 0;
  dataplane::Counters counters{};
};

// A subject at work, until the process ends.
class Running {
public:
  virtual ~Running() = default;
  virtual Reading read() const = 0;
};

// Starts a subject on a CPU. Once per process; ends it, with words, if something fails.
std::unique_ptr<Running> start(const Subject& subject, const std::filesystem::path& capture, unsigned cpu,
                               bool hugepages);

// The real dataplane of a subject, its senders blocked and its frames rewritten as the subject says. Once per process.
std::unique_ptr<dataplane::Dataplane> start_dataplane(const Subject& subject, const std::filesystem::path& capture,
                                                      unsigned cpu, bool hugepages);
std::unique_ptr<policy::Rules> rules_for(const Subject& subject);

// Octets of memory that a subject asks DPDK for.
std::uint64_t memory_octets(const Subject& subject);

[[noreturn]] void fail(const std::string& what);

} // namespace sipward::bench
