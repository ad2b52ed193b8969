// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <pcap/pcap.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <thread>
#include <utility>

#include "dataplane/dataplane.h"
#include "tests/frames.h"

// What the tests of the running dataplane share: rules, options, a capture to read.
namespace sipward::test {

namespace fs = std::filesystem;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// A capture file that net_pcap plays once; after its end the port is silent.
class Capture {
public:
  Capture() {
    static int number = 0;
    path_ =
        fs::temp_directory_path() / ("sipward-" + std::to_string(getpid()) + "-" + std::to_string(number++) + ".pcap");
    auto* handle = pcap_open_dead(DLT_EN10MB, 65535);
    dumper_ = pcap_dump_open(handle, path_.c_str());
    pcap_close(handle);
    REQUIRE(dumper_ != nullptr);
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  ~Capture() {
    close();
    std::error_code error;
    fs::remove(path_, error);
  }

  void add(const Octets& frame) {
    const auto size = static_cast<bpf_u_int32>(frame.size());
    const pcap_pkthdr header{{1, 0}, size, size};
    pcap_dump(reinterpret_cast<u_char*>(dumper_), &header, frame.data());
    ++frames_;
  }
  std::uint64_t frames() const { return frames_; }
  const fs::path& path() const { return path_; }
  // The port that plays it; nothing can be added any more.
  std::string port() {
    close();
    return "vdev:net_pcap0,rx_pcap=" + path_.string();
  }

private:
  void close() {
    if (dumper_ != nullptr) pcap_dump_close(std::exchange(dumper_, nullptr));
  }
  fs::path path_;
  pcap_dumper_t* dumper_ = nullptr;
  std::uint64_t frames_ = 0;
};

// 192.0.2.10:5060 is protected, REGISTERs are limited to 10/s with a burst of 75.
inline std::unique_ptr<policy::Rules> rules() {
  auto made = std::make_unique<policy::Rules>();
  made->ports = {5060};
  made->servers = {policy::Address::v4(192, 0, 2, 10)};
  made->set(policy::Class::Register, {{10, 75}, policy::Action::Block});
  made->marks = std::make_shared<const sip::Marks>();
  return made;
}

inline dataplane::Options options(const std::string& port) {
  dataplane::Options made;
  made.outside = {port};
  made.hugepages = config::Hugepages::Off;
  made.memory_bytes = std::uint64_t{64} << 20;
  made.sip_ports = {5060};
  made.source_capacity = 4096;
  return made;
}

inline std::unique_ptr<dataplane::Dataplane> started(const dataplane::Options& options) {
  auto plane = dataplane::Dataplane::start(options, rules(), [](std::string_view line) { std::cerr << line << '\n'; });
  if (!plane) FAIL(plane.error());
  return std::move(*plane);
}

// Waits until something becomes true, at most so long.
inline bool within(std::chrono::milliseconds limit, const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < end) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

// Ends this process as a test that could not run, with the reason (CTest's SKIP_RETURN_CODE).
[[noreturn]] inline void skip(const std::string& reason) {
  std::cout << "skipped: " << reason << std::endl;
  std::_Exit(77);
}

} // namespace sipward::test
