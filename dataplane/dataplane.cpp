// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/dataplane.h"

#include <rte_malloc.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstddef>

#include "dataplane/worker.h"

namespace sipward::dataplane {

// Members are destroyed in reverse order: workers before what they point to, everything before the environment.
struct Dataplane::State {
  std::unique_ptr<Environment> environment;
  std::unique_ptr<std::byte, decltype(&rte_free)> table_memory{nullptr, rte_free};
  std::unique_ptr<policy::SourceTable> table;
  std::unique_ptr<RulesCell> rules;
  int offence_event = -1;
  std::vector<std::unique_ptr<Worker>> workers;

  ~State() {
    workers.clear();
    if (offence_event >= 0) close(offence_event);
  }
};

Options options(const config::Settings& settings) {
  return {settings.ports.outside, settings.cores,     settings.memory.hugepages, settings.memory.size_bytes,
          settings.idle,          settings.sip.ports, settings.sources.capacity};
}

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

  const std::size_t octets = policy::SourceTable::octets(options.source_capacity);
  state->table_memory.reset(static_cast<std::byte*>(rte_zmalloc("sources", octets, 64)));
  if (!state->table_memory)
    return std::unexpected("sources.capacity " + std::to_string(options.source_capacity) + " needs " +
                           std::to_string(octets >> 20) + " MiB, and memory.size is " +
                           std::to_string(options.memory_bytes >> 20) + " MiB: raise it");
  policy::SourceTable::Secret secret{};
  if (getrandom(&secret, sizeof secret, 0) != sizeof secret) return std::unexpected("the kernel has no random numbers");
  state->table = std::make_unique<policy::SourceTable>(std::span(state->table_memory.get(), octets),
                                                       options.source_capacity, secret);

  state->offence_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const auto count = static_cast<unsigned>(options.outside.size());
  state->rules = std::make_unique<RulesCell>(count, std::move(rules));
  for (unsigned i = 0; i < count; ++i) {
    auto port = Port::open(options.outside[i], i, options, *state->environment);
    if (!port) return std::unexpected(port.error());
    state->workers.push_back(std::make_unique<Worker>(i, std::move(*port), *state->rules, *state->table,
                                                      state->offence_event, options.idle));
  }
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
  for (const auto& worker : state_->workers) {
    lost.rx += worker->port().lost();
    lost.offences += worker->counters().read().lost_offences;
  }
  return lost;
}

std::string Dataplane::gone() const {
  for (const auto& worker : state_->workers)
    if (worker->port().gone()) return worker->port().name();
  return {};
}

policy::SourceTable& Dataplane::sources() noexcept { return *state_->table; }

bool Dataplane::on_hugepages() const noexcept { return state_->environment->on_hugepages(); }

void Dataplane::stop() {
  for (auto& worker : state_->workers) worker->stop();
}

} // namespace sipward::dataplane
