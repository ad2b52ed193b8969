// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/first_look.h"

#include "sip/index.h"
#include "sip/simd.h"

namespace sipward::sip {

FirstLook first_look_by_index(std::string_view datagram, const Index& index) noexcept {
  FirstLook look;
  look.kind = index.kind;
  look.method = index.method;
  look.keepalive = index.keepalive;
  look.status = index.status;
  if (index.malformation == Malformation::BadRequestUri) look.kind = Kind::Request;
  if (index.malformation == Malformation::NoHeaders) look.kind = index.status != 0 ? Kind::Response : Kind::Request;
  look.user_agent = index.value(Header::UserAgent, datagram);
  return look;
}

FirstLook first_look_plain(std::string_view datagram) noexcept {
  Index index;
  index_plain(datagram, index);
  return first_look_by_index(datagram, index);
}

} // namespace sipward::sip
