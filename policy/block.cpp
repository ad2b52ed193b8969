// SPDX-License-Identifier: GPL-2.0-or-later
#include "policy/block.h"

namespace sipward::policy {

std::string_view to_string(Reason reason) noexcept {
  switch (reason) {
  case Reason::Scanner: return "scanner";
  case Reason::RegisterFlood: return "register_flood";
  case Reason::InviteFlood: return "invite_flood";
  case Reason::OptionsFlood: return "options_flood";
  case Reason::RequestFlood: return "request_flood";
  case Reason::Malformed: return "malformed";
  case Reason::Enumeration: return "enumeration";
  case Reason::AuthFailure: return "auth_failure";
  case Reason::Prefix: return "prefix";
  case Reason::Manual: return "manual";
  }
  return "unknown";
}

std::string_view to_string(SubjectKind kind) noexcept {
  switch (kind) {
  case SubjectKind::Host: return "host";
  case SubjectKind::Prefix: return "prefix";
  case SubjectKind::Endpoint: return "endpoint";
  }
  return "unknown";
}

std::string to_string(const Subject& subject) {
  if (subject.kind != SubjectKind::Endpoint) return to_string(subject.prefix);
  const auto address = to_string(subject.prefix.base);
  const auto port = ":" + std::to_string(subject.port);
  return subject.prefix.base.family == Family::V4 ? address + port : "[" + address + "]" + port;
}

} // namespace sipward::policy
