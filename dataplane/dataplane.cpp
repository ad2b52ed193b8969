// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/dataplane.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <iterator>

#include "dataplane/flow_nic.h"
#include "dataplane/table_memory.h"
#include "dataplane/telemetry.h"
#include "dataplane/worker.h"

namespace sipward::dataplane {

// Members are destroyed in reverse order: workers before what they point to, everything before the environment.
struct Dataplane::State {
  std::unique_ptr<Environment> environment;
  TableMemory ledger_memory;
  std::uint32_t capacity = 0;
  policy::Secret secret{}, user_secret{};
  std::unique_ptr<policy::Ledger> ledger;
  std::unique_ptr<RulesCell> rules;
  std::shared_ptr<SecondJudge> second;
  int offence_event = -1;
  std::vector<std::unique_ptr<Port>> ports; // outside ports first, then the inside one
  bool forwards = false;                    // inline
  Stations stations;
  std::unique_ptr<DropRules> drop_rules;
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<std::string> notes;
  std::unique_ptr<Telemetry> telemetry;

  using Ready = std::expected<void, std::string>;
  Ready open_ports(const Options& options);
  Ready make_ledger(const Options& options);
  Ready start_ports(const Options& options, const Shares& shares);
  void probe_drop_rules(const Options& options);
  void hire(const Options& options, const Shares& shares, std::unique_ptr<const policy::Rules> by);

  ~State() {
    telemetry.reset();
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
          .block_everything = settings.nftables.scope == config::Scope::All,
          .source_capacity = settings.sources.capacity,
          .user_secret = {},
          .run_folder = {}};
}

bool is_interface(const std::string& port) { return kind_of(port) == PortKind::Interface; }

Dataplane::State::Ready Dataplane::State::open_ports(const Options& options) {
  forwards = !options.inside.empty();
  const auto open = [&](const char* key, const std::string& name) -> Ready {
    const Port* model = ports.empty() ? nullptr : ports.front().get();
    auto port = Port::open(key, name, static_cast<unsigned>(ports.size()), options, model, *environment);
    if (!port) return std::unexpected(port.error());
    ports.push_back(std::move(*port));
    return {};
  };
  for (const auto& name : options.outside)
    if (auto opened = open("ports.outside", name); !opened) return opened;
  return forwards ? open("ports.inside", options.inside) : Ready{};
}

// One table for all workers. In the memory of the first port's NUMA node, if there is enough.
Dataplane::State::Ready Dataplane::State::make_ledger(const Options& options) {
  const std::size_t octets = policy::Ledger::octets(options.source_capacity);
  if (octets <= options.memory_bytes)
    ledger_memory = table_memory(octets, ports.front()->node(), environment->on_hugepages());
  if (!ledger_memory)
    return std::unexpected("sources.capacity " + std::to_string(options.source_capacity) + " needs " +
                           std::to_string(octets >> 20) + " MiB, and memory.size is " +
                           std::to_string(options.memory_bytes >> 20) + " MiB: raise it");
  if (getrandom(&secret, sizeof secret, 0) != sizeof secret) return std::unexpected("the kernel has no random numbers");
  capacity = options.source_capacity;
  user_secret = options.user_secret.value_or(secret);
  ledger = std::make_unique<policy::Ledger>(std::span(ledger_memory.get(), octets), capacity, secret, user_secret);
  return {};
}

Dataplane::State::Ready Dataplane::State::start_ports(const Options& options, const Shares& shares) {
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::uint16_t receive = shares.receive[i];
    const auto transmit = forwards ? static_cast<std::uint16_t>(shares.workers()) : receive;
    if (auto started = ports[i]->start(receive, transmit, options, *environment); !started) return started;
    if (receive < options.cores.size())
      notes.push_back(ports[i]->name() + " has " + std::to_string(receive) + " of the " +
                      std::to_string(options.cores.size()) + " receive queues that cores asks for");
  }
  if (shares.workers() < options.cores.size())
    notes.push_back("cores names " + std::to_string(options.cores.size()) + " CPUs, and the ports have queues for " +
                    std::to_string(shares.workers()) + ": so many workers run, on the first ones");
  return {};
}

// What comes in from outside, and only where we stand in its way: of a copy there is nothing to drop.
void Dataplane::State::probe_drop_rules(const Options& options) {
  std::vector<std::unique_ptr<DropRules::Nic>> nics;
  if (forwards)
    for (std::size_t i = 0; i + 1 < ports.size(); ++i)
      if (auto nic = flow_nic(ports[i]->id())) nics.push_back(std::move(nic));
  drop_rules = std::make_unique<DropRules>(std::move(nics),
                                           options.block_everything ? std::vector<std::uint16_t>{} : options.sip_ports);
}

void Dataplane::State::hire(const Options& options, const Shares& shares, std::unique_ptr<const policy::Rules> by) {
  std::vector<Port*> outside;
  if (forwards)
    for (std::size_t i = 0; i + 1 < ports.size(); ++i) outside.push_back(ports[i].get());
  const auto path = [&](const Shares::Queue& queue) -> Path {
    Port* from = ports[queue.port].get();
    if (!forwards) return {from, queue.number, {}, policy::Side::Unknown};
    if (from == ports.back().get()) return {from, queue.number, outside, policy::Side::Inside};
    return {from, queue.number, {ports.back().get()}, policy::Side::Outside};
  };
  rules = std::make_unique<RulesCell>(static_cast<unsigned>(shares.workers()), std::move(by));
  offence_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  for (const auto& served : shares.served) {
    std::vector<Path> paths;
    std::ranges::transform(served, std::back_inserter(paths), path);
    workers.push_back(std::make_unique<Worker>(static_cast<unsigned>(workers.size()), std::move(paths), *rules, *ledger,
                                               stations, offence_event, options.idle));
  }
  for (std::size_t i = 0; i < workers.size(); ++i)
    workers[i]->start(options.cores.empty() ? -1 : static_cast<int>(options.cores[i]));
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
  if (const auto opened = state->open_ports(options); !opened) return std::unexpected(opened.error());
  if (const auto made = state->make_ledger(options); !made) return std::unexpected(made.error());

  std::vector<QueueLimits> limits;
  for (const auto& port : state->ports) limits.push_back(port->limits());
  const Shares shares = share_out(limits, options.cores.size(), state->forwards);
  if (const auto started = state->start_ports(options, shares); !started) return std::unexpected(started.error());
  state->probe_drop_rules(options);
  state->hire(options, shares, std::move(rules));
  std::unique_ptr<Dataplane> plane(new Dataplane(std::move(state)));
  if (!plane->telemetry_socket().empty())
    plane->state_->telemetry = std::make_unique<Telemetry>([&plane = *plane] { return plane.counters_by_worker(); });
  return plane;
}

Dataplane::Dataplane(std::unique_ptr<State> state) : state_(std::move(state)) {}
Dataplane::~Dataplane() = default;

void Dataplane::publish(std::unique_ptr<const policy::Rules> rules) { state_->rules->publish(std::move(rules)); }

std::expected<void, std::string> Dataplane::set_scope(std::span<const std::uint16_t> sip_ports, bool block_everything) {
  for (const auto& port : state_->ports)
    if (auto heard = port->hear(sip_ports); !heard) return heard;
  state_->drop_rules->set_ports(block_everything ? std::vector<std::uint16_t>{}
                                                 : std::vector<std::uint16_t>(sip_ports.begin(), sip_ports.end()));
  return {};
}

int Dataplane::offence_event() const noexcept { return state_->offence_event; }

void Dataplane::drain(const std::function<void(const policy::Offence&)>& take) {
  std::uint64_t bells = 0;
  [[maybe_unused]] const auto got =
      read(state_->offence_event, &bells, sizeof bells); // before the rings: a later bell rings again
  policy::Offence offence;
  for (auto& worker : state_->workers)
    for (std::size_t i = 0; i < kOffenceRing && worker->offences().pop(offence); ++i) take(offence);
  state_->rules->free_old();
}

std::expected<void, std::string> Dataplane::begin_second(std::unique_ptr<const policy::Rules> rules) {
  auto& s = *state_;
  const auto now_s = static_cast<std::uint32_t>(
      std::chrono::floor<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
  auto second =
      SecondJudge::begin(s.workers.size(), *s.ledger, s.capacity, s.secret, s.user_secret, std::move(rules), now_s);
  if (!second) return std::unexpected("there is no memory for the sources of a second judge");
  s.second = second;
  s.rules->publish_second(std::move(second));
  return {};
}

void Dataplane::end_second() {
  state_->second.reset();
  state_->rules->publish_second(nullptr);
}

bool Dataplane::has_second() const noexcept { return state_->second != nullptr; }

void Dataplane::publish_second(std::unique_ptr<const policy::Rules> rules) {
  state_->rules->retire(state_->second->publish(std::move(rules)));
}

void Dataplane::drain_second(const std::function<void(const policy::Offence&)>& take) { state_->second->drain(take); }

SecondCounters Dataplane::second_counters() const { return state_->second->counters(); }

policy::Ledger& Dataplane::second_ledger() noexcept { return state_->second->ledger(); }

Counters Dataplane::counters() const {
  Counters sum;
  for (const auto& worker : state_->workers) sum = sum + worker->counters().read();
  return sum;
}

std::vector<Counters> Dataplane::counters_by_worker() const {
  std::vector<Counters> each;
  for (const auto& worker : state_->workers) each.push_back(worker->counters().read());
  return each;
}

std::vector<std::uint64_t> Dataplane::rounds() const {
  std::vector<std::uint64_t> each;
  for (const auto& worker : state_->workers) each.push_back(worker->rounds());
  return each;
}

void Dataplane::drop_early(const policy::Prefix& source, double rate_per_s) {
  state_->drop_rules->add(source, rate_per_s);
}

void Dataplane::let_in(const policy::Prefix& source) { state_->drop_rules->remove(source); }

std::uint64_t Dataplane::dropped_early(const policy::Prefix& source) const {
  return state_->drop_rules->dropped(source);
}

Dataplane::Early Dataplane::early() const {
  const DropRules& rules = *state_->drop_rules;
  return {rules.nics(), rules.sources(), rules.refused()};
}

const std::vector<std::string>& Dataplane::notes() const noexcept { return state_->notes; }

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

const std::filesystem::path& Dataplane::telemetry_socket() const noexcept {
  return state_->environment->telemetry_socket();
}

bool Dataplane::on_hugepages() const noexcept { return state_->environment->on_hugepages(); }

void Dataplane::stop() {
  for (auto& worker : state_->workers) worker->stop();
}

} // namespace sipward::dataplane
