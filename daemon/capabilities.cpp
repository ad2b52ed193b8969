// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/capabilities.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
using Sets = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

constexpr auto kPatience = 2s; // of a busy machine

Sets kept;                             // written before the first signal is sent
std::atomic<unsigned> obeyed, refused; // threads

// By each thread for itself; safe within a signal handler.
bool apply() noexcept {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return syscall(SYS_capset, &header, kept.data()) == 0;
}

void on_signal(int) {
  const int before = errno;
  ++(apply() ? obeyed : refused);
  errno = before;
}

// The others of this process, those that are known already left out.
std::set<pid_t> new_threads(const std::set<pid_t>& known) {
  std::set<pid_t> found;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error))
    if (const auto id = static_cast<pid_t>(std::stol(task.path().filename())); id != gettid() && !known.contains(id))
      found.insert(id);
  return found;
}

} // namespace

int capability_signal() noexcept { return SIGRTMIN; }

std::expected<void, std::string> drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  if (syscall(SYS_capget, &header, kept.data()) != 0)
    return std::unexpected(std::string("cannot read capabilities: ") + std::strerror(errno));
  constexpr std::uint32_t kWanted = 1u << CAP_NET_ADMIN | 1u << CAP_DAC_OVERRIDE;
  kept[0] = {kept[0].effective & kWanted, kept[0].permitted & kWanted, 0};
  kept[1] = {};

  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(capability_signal(), &action, nullptr);
  std::set<pid_t> asked;
  unsigned gone = 0; // ended before the signal came
  // A thread that was not asked yet may have started another: until there is none left.
  for (auto threads = new_threads(asked); !threads.empty(); threads = new_threads(asked)) {
    for (const auto id : threads) gone += syscall(SYS_tgkill, getpid(), id, capability_signal()) != 0;
    asked.insert(threads.begin(), threads.end());
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (obeyed + refused + gone < asked.size() && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(1ms);
  }
  action.sa_handler = SIG_IGN;
  sigaction(capability_signal(), &action, nullptr);
  const bool done = apply();
  const auto left = asked.size() - obeyed - gone;
  if (done && left == 0) return {};
  return std::unexpected("capabilities that are needed no more are kept by " + std::to_string(left + !done) +
                         " threads");
}

} // namespace sipward::daemon
