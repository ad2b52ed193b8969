// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/telemetry.h"

#include <rte_telemetry.h>

#include <charconv>
#include <mutex>
#include <string>
#include <string_view>

namespace sipward::dataplane {
namespace {

std::mutex lock;
Telemetry::Workers ask; // under the lock; empty: the workers are gone

std::vector<Counters> workers_now() {
  const std::lock_guard guard(lock);
  return ask ? ask() : std::vector<Counters>{};
}

void fill(rte_tel_data* answer, const Counters& counters) {
  rte_tel_data_start_dict(answer);
  const auto add = [&](const std::string& name, std::uint64_t value) {
    rte_tel_data_add_dict_u64(answer, name.c_str(), value);
  };
  add("received", counters.received);
  add("passed", counters.passed);
  add("dropped", counters.dropped);
  add("octets", counters.octets);
  add("truncated", counters.truncated);
  add("offences", counters.offences);
  add("lost_offences", counters.lost_offences);
  for (std::size_t why = 0; why < policy::kWhys; ++why)
    add("verdict_" + std::string(to_string(static_cast<policy::Why>(why))), counters.verdicts[why]);
}

int tell_counters(const char*, const char*, rte_tel_data* answer) {
  Counters sum;
  for (const Counters& each : workers_now()) sum = sum + each;
  fill(answer, sum);
  return 0;
}

int tell_workers(const char*, const char* parameters, rte_tel_data* answer) {
  const auto workers = workers_now();
  if (parameters == nullptr) {
    rte_tel_data_start_array(answer, RTE_TEL_INT_VAL);
    for (std::size_t i = 0; i < workers.size(); ++i) rte_tel_data_add_array_int(answer, static_cast<int>(i));
    return 0;
  }
  const std::string_view text = parameters;
  std::size_t number = 0;
  const auto [end, fault] = std::from_chars(text.begin(), text.end(), number);
  if (fault != std::errc() || end != text.end() || number >= workers.size()) return -1; // the answer is null
  fill(answer, workers[number]);
  return 0;
}

} // namespace

Telemetry::Telemetry(Workers workers) {
  {
    const std::lock_guard guard(lock);
    ask = std::move(workers);
  }
  rte_telemetry_register_cmd("/sipward/counters", tell_counters, "Counters of all workers. Takes no parameters");
  rte_telemetry_register_cmd("/sipward/workers", tell_workers, "Workers, or counters of one. Parameters: int worker");
}

Telemetry::~Telemetry() {
  const std::lock_guard guard(lock);
  ask = nullptr;
}

} // namespace sipward::dataplane
