// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/dataplane.h"

#include <rte_malloc.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

#include "dataplane/worker.h"

namespace sipward::dataplane {

// Members are destroyed in reverse order: workers before what they point to, everything before the environment.
struct Dataplane::State {
  std::unique_ptr<Environment> environment;
  std::unique_ptr<std::byte, decltype(&rte_free)> ledger_memory{nullptr, rte_free};
  std::unique_ptr<policy::Ledger> ledger;
  std::unique_ptr<RulesCell> rules;
  int offence_event = -1;
  std::vector<std::unique_ptr<Port>> ports; // outside ports first, then the inside one
  bool forwards = false;                    // inline
  std::vector<std::unique_ptr<Worker>> workers;

  ~State() {
    workers.clear();
    if (offence_event >= 0) close(offence_event);
  }
};

Options options(const config::Settings& settings) {
  return {.outside = settings.ports.outside,
          .inside = settings.mode == config::Mode::Inline ? settings.ports.inside : "",
          .cores = settings.cores,
          .hugepages = settings.memory.hugepages,
          .memory_bytes = settings.memory.size_bytes,
          .idle = settings.idle,
          .sip_ports = settings.sip.ports,
          .source_capacity = settings.sources.capacity,
          .run_folder = {}};
}

bool is_interface(const std::string& port) { return kind_of(port) == PortKind::Interface; }

namespace {

// What each worker serves. Monitor: a port of its own. Inline: the ways between all of them, so that each transmit
// queue has one user.
std::vector<std::vector<Path>> paths_of(const std::vector<std::unique_ptr<Port>>& ports, bool forwards) {
  std::vector<std::vector<Path>> workers;
  if (!forwards) {
    for (const auto& port : ports) workers.push_back({{port.get(), {}, policy::Side::Unknown}});
    return workers;
  }
  Port* inside = ports.back().get();
  std::vector<Path> paths;
  std::vector<Port*> outside;
  for (std::size_t i = 0; i + 1 < ports.size(); ++i) {
    paths.push_back({ports[i].get(), {inside}, policy::Side::Outside});
    outside.push_back(ports[i].get());
  }
  paths.push_back({inside, outside, policy::Side::Inside});
  workers.push_back(std::move(paths));
  return workers;
}

} // namespace

std::expected<std::unique_ptr<Dataplane>, std::string>
Dataplane::start(const Options& options, std::unique_ptr<const policy::Rules> rules, Log log) {
  cpu_set_t own;
  CPU_ZERO(&own);
  sched_getaffinity(0, sizeof own, &own);
  for (const unsigned core : options.cores)
    if (core >= CPU_SETSIZE || !CPU_ISSET(core, &own))
      return std::unexpected("cores: this process has no CPU " + std::to_string(core));
  auto state = std::make_unique<State>();
  auto environment = Environment::start(options, std::move(log));
  if (!environment) return std::unexpected(environment.error());
  state->environment = std::move(*environment);

  const std::size_t octets = policy::Ledger::octets(options.source_capacity);
  state->ledger_memory.reset(static_cast<std::byte*>(rte_zmalloc("sources", octets, 64)));
  if (!state->ledger_memory)
    return std::unexpected("sources.capacity " + std::to_string(options.source_capacity) + " needs " +
                           std::to_string(octets >> 20) + " MiB, and memory.size is " +
                           std::to_string(options.memory_bytes >> 20) + " MiB: raise it");
  policy::Secret secret{};
  if (getrandom(&secret, sizeof secret, 0) != sizeof secret) return std::unexpected("the kernel has no random numbers");
  state->ledger =
      std::make_unique<policy::Ledger>(std::span(state->ledger_memory.get(), octets), options.source_capacity, secret);

  state->offence_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  state->forwards = !options.inside.empty();
  const auto open = [&](const char* key, const std::string& name) -> std::expected<void, std::string> {
    const auto index = static_cast<unsigned>(state->ports.size());
    const Port* model = index == 0 ? nullptr : state->ports.front().get();
    auto port = Port::open(key, name, index, options, model, *state->environment);
    if (!port) return std::unexpected(port.error());
    state->ports.push_back(std::move(*port));
    return {};
  };
  for (const auto& name : options.outside)
    if (const auto opened = open("ports.outside", name); !opened) return std::unexpected(opened.error());
  if (state->forwards)
    if (const auto opened = open("ports.inside", options.inside); !opened) return std::unexpected(opened.error());

  auto paths = paths_of(state->ports, state->forwards);
  const auto count = static_cast<unsigned>(paths.size());
  state->rules = std::make_unique<RulesCell>(count, std::move(rules));
  for (unsigned i = 0; i < count; ++i)
    state->workers.push_back(std::make_unique<Worker>(i, std::move(paths[i]), *state->rules, *state->ledger,
                                                      state->offence_event, options.idle));
  for (unsigned i = 0; i < count; ++i)
    state->workers[i]->start(options.cores.empty() ? -1 : static_cast<int>(options.cores[i % options.cores.size()]));
  return std::unique_ptr<Dataplane>(new Dataplane(std::move(state)));
}

Dataplane::Dataplane(std::unique_ptr<State> state) : state_(std::move(state)) {}
Dataplane::~Dataplane() = default;

void Dataplane::publish(std::unique_ptr<const policy::Rules> rules) { state_->rules->publish(std::move(rules)); }

int Dataplane::offence_event() const noexcept { return state_->offence_event; }

void Dataplane::drain(const std::function<void(const policy::Offence&)>& take) {
  std::uint64_t bells = 0;
  [[maybe_unused]] const auto got =
      read(state_->offence_event, &bells, sizeof bells); // before the rings: a later bell rings again
  policy::Offence offence;
  for (auto& worker : state_->workers)
    for (std::size_t i = 0; i < kOffenceRing && worker->offences().pop(offence); ++i) take(offence);
}

Counters Dataplane::counters() const {
  Counters sum;
  for (const auto& worker : state_->workers) sum = sum + worker->counters().read();
  return sum;
}

Lost Dataplane::lost() const {
  Lost lost;
  for (const auto& port : state_->ports) lost.rx += port->lost();
  for (const auto& worker : state_->workers) lost.offences += worker->counters().read().lost_offences;
  return lost;
}

std::string Dataplane::gone() const {
  for (const auto& port : state_->ports)
    if (port->gone()) return port->name();
  return {};
}

void Dataplane::follow_interfaces() {
  if (!state_->forwards) return;
  for (const auto& port : state_->ports) port->follow_mtu();
  const auto& inside = state_->ports.back();
  inside->show_link(
      std::any_of(state_->ports.begin(), state_->ports.end() - 1, [](auto& port) { return port->link(); }));
}

policy::Ledger& Dataplane::ledger() noexcept { return *state_->ledger; }

bool Dataplane::on_hugepages() const noexcept { return state_->environment->on_hugepages(); }

void Dataplane::stop() {
  for (auto& worker : state_->workers) worker->stop();
}

} // namespace sipward::dataplane
