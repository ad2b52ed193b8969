// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "dataplane/counters.h"
#include "policy/judge.h"
#include "policy/rules.h"

// The dataplane as the daemon sees it: ports, workers and the source table behind a face that names no DPDK type.
// It has no opinion: workers ask policy::decide and obey.
namespace sipward::dataplane {

struct Options {
  std::vector<std::string> outside; // interface names, PCI addresses, tap:NAME, or vdev:STRING
  std::string inside;               // the same; empty: monitor, nothing is forwarded
  std::vector<unsigned> cores;      // worker i runs on cores[i], a worker for each; empty: shares.h, and anywhere
  config::Hugepages hugepages = config::Hugepages::Auto;
  std::uint64_t memory_bytes = std::uint64_t{256} << 20;
  config::Idle idle = config::Idle::Adaptive;
  std::vector<std::uint16_t> sip_ports;
  bool block_everything = false; // the blocked lose every packet, not only SIP
  std::uint32_t source_capacity = 262144;
  std::optional<policy::Secret> user_secret; // of users' hashes in the ledger; nothing: one of this run's own
  std::filesystem::path run_folder;          // for what must be known after a crash, and for telemetry; empty: nowhere
};
Options options(const config::Settings& settings);

// Does a port's name in the settings name an interface of the kernel's?
bool is_interface(const std::string& port);

// Packets that nobody judged, by cause.
struct Lost {
  std::uint64_t rx = 0;       // the receive ring was full
  std::uint64_t offences = 0; // the ring to the control thread was full
};

// What a second judge made of the same datagrams (second_judge.h). Figures, each by itself.
struct SecondCounters {
  std::uint64_t judged = 0;        // datagrams to or from a protected server's SIP port
  std::uint64_t dropped = 0;       // of these, it would have dropped
  std::uint64_t more = 0;          // of these, the first judge did not
  std::uint64_t less = 0;          // the first judge dropped, and it would not have
  std::uint64_t offences = 0;      // sent to the control thread
  std::uint64_t lost_offences = 0; // not sent: its ring was full
};

class Dataplane {
public:
  // Called with what DPDK says while it starts and runs, a line at a time. Any thread.
  using Log = std::function<void(std::string_view line)>;

  // Takes the ports and starts the workers, one for each of the cores as far as the ports have queues (shares.h). Main
  // thread, once per process (DPDK's environment is process-wide). The error names the interface, capability or memory
  // that is missing, and what to do.
  static std::expected<std::unique_ptr<Dataplane>, std::string>
  start(const Options& options, std::unique_ptr<const policy::Rules> rules, Log log);
  ~Dataplane(); // stop()

  // Everything below: control thread only.

  // From its next burst on, each worker judges by these rules; the old ones are freed once every worker has moved on.
  void publish(std::unique_ptr<const policy::Rules> rules);

  // Other SIP ports, or another scope of blocks, from the next packet on; the rules are to be published besides. The
  // error names the port that refuses.
  std::expected<void, std::string> set_scope(std::span<const std::uint16_t> sip_ports, bool block_everything);

  // Readable (an eventfd) when offences wait.
  int offence_event() const noexcept;
  // Hands out what the workers reported since last time.
  void drain(const std::function<void(const policy::Offence&)>& take);

  Counters counters() const; // the sum of the workers' consistent snapshots
  std::vector<Counters> counters_by_worker() const;
  // How often each worker has gone round its loop; one that stands still for a second is stuck.
  std::vector<std::uint64_t> rounds() const;

  // Inline: a blocked host, dropped by the NICs that take rules for it (drop_rules.h), until it is let in again; for
  // others nothing happens. `rate_per_s`: how fast it talks; 0: unknown.
  void drop_early(const policy::Prefix& source, double rate_per_s);
  void let_in(const policy::Prefix& source);
  // Its packets that were dropped so; the workers' counters know nothing of them.
  std::uint64_t dropped_early(const policy::Prefix& source) const;
  struct Early {
    std::size_t nics = 0;      // ports that take such rules
    std::size_t sources = 0;   // dropped there now
    std::uint64_t refused = 0; // sources that found no room
  };
  Early early() const;

  // What could not be as the options have it, one sentence each: fewer workers than cores, say.
  const std::vector<std::string>& notes() const noexcept;
  Lost lost() const;
  // The interface that was deleted (perhaps made anew since) under its worker, by name; empty: none. Its packets are no
  // longer seen until the process starts again.
  std::string gone() const;
  // Inline: lets ports follow what happened to the interfaces, their links and MTUs.
  void follow_interfaces();
  policy::Ledger& ledger() noexcept;
  bool on_hugepages() const noexcept;
  // DPDK's telemetry socket, which has our counters too (telemetry.h); empty: there is none.
  const std::filesystem::path& telemetry_socket() const noexcept;

  // A second judge, whom nobody obeys, judges the same datagrams by other rules (of the same ports, servers and IPv6
  // prefix). It begins with what the first one remembers of honest parties. One that is there already ends. The error
  // says that there is no memory for it.
  std::expected<void, std::string> begin_second(std::unique_ptr<const policy::Rules> rules);
  void end_second();
  bool has_second() const noexcept;
  // These four: while there is one.
  void publish_second(std::unique_ptr<const policy::Rules> rules);
  void drain_second(const std::function<void(const policy::Offence&)>& take); // offence_event() rings for them, too
  SecondCounters second_counters() const;
  policy::Ledger& second_ledger() noexcept;

  // Workers empty their receive rings once more and end; offences may still be drained afterwards.
  void stop();

private:
  struct State;
  explicit Dataplane(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace sipward::dataplane
