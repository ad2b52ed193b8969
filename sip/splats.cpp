// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/splats.h"

namespace sipward::sip {
namespace {

consteval std::array<Splat, 128> make_splats() {
  std::array<Splat, 128> splats{};
  for (std::size_t c = 0; c < splats.size(); ++c)
    for (char& octet : splats[c].octets) octet = static_cast<char>(c);
  return splats;
}

} // namespace

constinit const std::array<Splat, 128> kSplats = make_splats();

} // namespace sipward::sip
