// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <numeric>

#include "tests/dataplane_lab.h"

// Forwarding from capture files to capture files: what the tests of inline mode share.
namespace sipward::test {

using Frames = std::vector<Octets>;

// A port that plays one capture and records into another what leaves by it.
class Tape {
public:
  explicit Tape(int number) : number_(number) {}
  void add(const Octets& frame) {
    played_.add(frame);
    frames_.push_back(frame);
  }
  const Frames& played() const { return frames_; }
  std::string port(const std::string& more = "") {
    played_.port();
    const auto number = std::to_string(number_);
    return "vdev:net_pcap" + number + ",rx_pcap=" + played_.path().string() + ",tx_pcap=" + record().string() + more;
  }
  // What left by the port, once the dataplane is gone.
  Frames recorded() const {
    std::array<char, PCAP_ERRBUF_SIZE> error{};
    const std::unique_ptr<pcap_t, void (*)(pcap_t*)> file(pcap_open_offline(record().c_str(), error.data()),
                                                          pcap_close);
    REQUIRE(file != nullptr);
    Frames frames;
    pcap_pkthdr* header = nullptr;
    const u_char* octets = nullptr;
    while (pcap_next_ex(file.get(), &header, &octets) == 1) frames.emplace_back(octets, octets + header->caplen);
    fs::remove(record());
    return frames;
  }

  // Where it is recorded.
  fs::path record() const { return played_.path().string() + ".sent"; }

private:
  const int number_;
  Capture played_;
  Frames frames_;
};

inline std::unique_ptr<dataplane::Dataplane> between(const std::vector<std::string>& outside, const std::string& inside,
                                                     std::unique_ptr<policy::Rules> by = rules()) {
  auto wanted = options(outside.front());
  wanted.outside = outside;
  wanted.inside = inside;
  wanted.memory_bytes = std::uint64_t{128} << 20;
  by->drop_convicting = true;
  auto plane =
      dataplane::Dataplane::start(wanted, std::move(by), [](std::string_view line) { std::cerr << line << '\n'; });
  if (!plane) FAIL(plane.error());
  return std::move(*plane);
}

inline std::uint64_t verdicts(const dataplane::Dataplane& plane, policy::Why why) {
  return plane.counters().verdicts[static_cast<std::size_t>(why)];
}
inline void check_algebra(const dataplane::Dataplane& plane) {
  const auto c = plane.counters();
  CHECK(c.received == c.passed + c.dropped);
  CHECK(c.received == std::accumulate(c.verdicts.begin(), c.verdicts.end(), std::uint64_t{0}));
}

} // namespace sipward::test
