// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/capabilities.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace sipward::daemon {
namespace {

constexpr std::uint64_t kKept = 1u << 12 | 1u << 1; // CAP_NET_ADMIN, CAP_DAC_OVERRIDE

// Of a thread of this process: all that it may have.
std::uint64_t permitted(const std::filesystem::path& task) {
  std::ifstream status(task / "status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("CapPrm:")) return std::stoull(line.substr(7), nullptr, 16);
  return ~std::uint64_t{0};
}

// In a process of its own: what is dropped does not come back. How many threads kept more than they should.
int threads_with_more(unsigned others) {
  std::atomic<bool> ended = false;
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < others; ++i)
    threads.emplace_back([&ended, i] {
      while (!ended)
        if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10)); // asleep or busy
    });
  const bool dropped = drop_capabilities().has_value();
  int more = 0, seen = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    ++seen;
    more += (permitted(task.path()) & ~kKept) != 0;
  }
  ended = true;
  return !dropped || seen < static_cast<int>(others) + 1 ? 100 : more;
}

TEST_CASE("every thread gives up what was only needed to start") {
  if (permitted("/proc/self/task/" + std::to_string(gettid())) == 0) WARN("no capabilities to drop: not run as root");
  for (const unsigned others : {0u, 1u, 6u}) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) _exit(threads_with_more(others));
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
}

} // namespace
} // namespace sipward::daemon
