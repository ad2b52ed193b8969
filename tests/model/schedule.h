// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

// Runs the threads of a small model in every order of their accesses to atomics (tests/model/policy/atomic.h).
//
// Depth first: each run repeats the choices of the one before up to the last that has an alternative. A thread is a
// function of what it has read; so a state is the memory and what each thread has read so far, and whoever comes to a
// state where somebody has been before turns back. Reading what nobody writes while the threads run is no choice;
// which places are written is found out on the way, and with each new one all begins again.
namespace sipward::model {

struct Case {
  std::function<void()> prepare;              // makes the same state each time
  std::vector<std::function<void()>> threads; // deterministic; they meet in atomics only
  std::function<std::string()> check;         // what is wrong at the end; empty: nothing
  // Only orders in which at most so many times a thread loses the turn that could go on.
  std::size_t preemptions = ~std::size_t{0};
};

struct Outcome {
  std::string fault;      // of the first run that went wrong, with the order of its steps; empty: none did
  std::size_t states = 0; // different ones
  std::size_t runs = 0;   // that came to an end
};

Outcome explore(const Case& wanted);

// For a thread of a model: what it has found wrong.
void complain(const std::string& fault);

} // namespace sipward::model
