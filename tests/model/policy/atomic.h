// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <atomic>
#include <cstddef>

// Stands in for policy/atomic.h where the source table is compiled for its model check: each access to an atomic is a
// point where another thread of the model may get the turn (tests/model/schedule.h). One thread runs at a time, so that
// the order of accesses is all there is: memory orders weaker than that are for the thread sanitizer and for reading.
namespace sipward::model {

// Before an access. `reads_only`: it cannot change what is there.
void step(const void* address, bool reads_only) noexcept;
// After it: what it read, and what is there now.
void seen(std::size_t value) noexcept;
void changed(const void* address, std::size_t before, std::size_t after) noexcept;
void wait_for_a_change() noexcept;

} // namespace sipward::model

namespace sipward::policy {

template<typename T>
class Atomic {
public:
  constexpr Atomic() = default;
  constexpr Atomic(T value) : value_(value) {}
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  T load(std::memory_order = std::memory_order_seq_cst) const noexcept {
    model::step(this, true);
    model::seen(static_cast<std::size_t>(value_));
    return value_;
  }
  operator T() const noexcept { return load(); }
  void store(T value, std::memory_order = std::memory_order_seq_cst) noexcept {
    model::step(this, false);
    put(value);
  }
  T operator=(T value) noexcept {
    store(value);
    return value;
  }
  T fetch_add(T by, std::memory_order = std::memory_order_seq_cst) noexcept {
    return change([by](T old) { return static_cast<T>(old + by); });
  }
  T fetch_sub(T by, std::memory_order = std::memory_order_seq_cst) noexcept {
    return change([by](T old) { return static_cast<T>(old - by); });
  }
  T fetch_or(T by, std::memory_order = std::memory_order_seq_cst) noexcept {
    return change([by](T old) { return static_cast<T>(old | by); });
  }
  T fetch_and(T by, std::memory_order = std::memory_order_seq_cst) noexcept {
    return change([by](T old) { return static_cast<T>(old & by); });
  }
  T fetch_xor(T by, std::memory_order = std::memory_order_seq_cst) noexcept {
    return change([by](T old) { return static_cast<T>(old ^ by); });
  }
  bool compare_exchange_strong(T& expected, T wanted, std::memory_order = std::memory_order_seq_cst,
                               std::memory_order = std::memory_order_seq_cst) noexcept {
    model::step(this, value_ != expected);
    model::seen(static_cast<std::size_t>(value_));
    if (value_ != expected) {
      expected = value_;
      return false;
    }
    put(wanted);
    return true;
  }
  bool compare_exchange_weak(T& expected, T wanted, std::memory_order = std::memory_order_seq_cst,
                             std::memory_order = std::memory_order_seq_cst) noexcept {
    return compare_exchange_strong(expected, wanted);
  }

private:
  template<typename F>
  T change(F f) noexcept {
    model::step(this, false);
    const T old = value_;
    model::seen(static_cast<std::size_t>(old));
    put(f(old));
    return old;
  }
  void put(T value) noexcept {
    model::changed(this, static_cast<std::size_t>(value_), static_cast<std::size_t>(value));
    value_ = value;
  }
  T value_ = {};
};

inline void pause() noexcept { model::wait_for_a_change(); }

} // namespace sipward::policy
