// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "sip/index_simd.h"
#include "sip/reader.h"
#include "sip/values_simd.h"

// The whole message, 64 octets at a time. For files compiled for AVX2 and BMI only.
namespace sipward::sip {
namespace {

// `out` is as made.
[[gnu::always_inline]] inline void parse_simd(std::string_view datagram, Message& out) noexcept {
  const std::size_t size = datagram.size() < 65'535 ? datagram.size() : 65'535;
  const char* data = datagram.data();
  std::size_t readable = size;
  char padded[kBlock];
  if (size < kBlock) [[unlikely]] {
    std::memset(padded, 0, sizeof padded);
    std::memcpy(padded, data, size);
    data = padded;
    readable = kBlock;
  }
  Index index;
  index_simd({data, size}, index);
  const SimdValues values({data, size}, readable, index);
  Reader<SimdValues>({data, size}, index, values, out).read();
}

} // namespace
} // namespace sipward::sip
