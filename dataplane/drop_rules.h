// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "policy/address.h"

namespace sipward::dataplane {

// The worst talkers among the blocked, dropped by the NICs that can: those packets cost this host nothing at all, and
// are in no worker's counters. The workers drop the same sources, so a rule that a NIC refuses is no loss but of time.
// NICs have few rules: of more sources the faster ones have them. Control thread only.
class DropRules {
public:
  // What one rule drops: UDP from `source` to a port. (TCP, and UDP in fragments, stay the workers'.)
  struct Rule {
    policy::Prefix source;
    std::uint16_t port = 0; // 0: whatever it sends
  };
  // A port's NIC, or a test's.
  class Nic {
  public:
    virtual ~Nic() = default;
    virtual bool takes(policy::Family family) const = 0;
    virtual void* install(const Rule& rule) = 0; // null: refused
    virtual void remove(void* installed) = 0;
    virtual std::uint64_t dropped(void* installed) const = 0; // 0, where it does not count
  };

  static constexpr std::size_t kMost = 1024; // sources

  // `ports`: the SIP ports; none: the blocked lose everything.
  DropRules(std::vector<std::unique_ptr<Nic>> nics, std::vector<std::uint16_t> ports, std::size_t most = kMost);
  DropRules(const DropRules&) = delete;
  DropRules& operator=(const DropRules&) = delete;
  ~DropRules();

  // Anew, or for a source that has its rules: what they dropped is counted from here on. `rate_per_s`: how fast it
  // talks, as far as that is known.
  void add(const policy::Prefix& source, double rate_per_s);
  void remove(const policy::Prefix& source);
  // Other SIP ports from now on, for all that stand: what their rules dropped is still counted.
  void set_ports(std::vector<std::uint16_t> ports);
  // Packets of a source that its rules dropped since it was added.
  std::uint64_t dropped(const policy::Prefix& source) const;

  std::size_t nics() const noexcept { return nics_.size(); }
  std::size_t sources() const noexcept { return talkers_.size(); }
  std::uint64_t refused() const noexcept { return refused_; } // sources that found no room

private:
  struct Installed {
    Nic* nic;
    void* rule;
  };
  struct Talker {
    double rate_per_s = 0;
    std::vector<Installed> rules;
    std::uint64_t before = 0; // dropped before it was added once more
  };
  bool install(const policy::Prefix& source, Talker& talker);
  static void uninstall(Talker& talker);
  static std::uint64_t count(const Talker& talker);

  const std::vector<std::unique_ptr<Nic>> nics_;
  std::vector<std::uint16_t> ports_;
  std::size_t most_; // falls to what the NICs turn out to hold
  std::map<policy::Prefix, Talker> talkers_;
  std::uint64_t refused_ = 0;
};

} // namespace sipward::dataplane
