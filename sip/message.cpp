// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/message.h"

namespace sipward::sip {

std::string_view to_string(Method method) noexcept {
  switch (method) {
  case Method::Register: return "REGISTER";
  case Method::Invite: return "INVITE";
  case Method::Ack: return "ACK";
  case Method::Bye: return "BYE";
  case Method::Cancel: return "CANCEL";
  case Method::Options: return "OPTIONS";
  case Method::Subscribe: return "SUBSCRIBE";
  case Method::Notify: return "NOTIFY";
  case Method::Publish: return "PUBLISH";
  case Method::Message: return "MESSAGE";
  case Method::Info: return "INFO";
  case Method::Prack: return "PRACK";
  case Method::Update: return "UPDATE";
  case Method::Refer: return "REFER";
  case Method::Other: break;
  }
  return "other";
}

std::string_view to_string(Keepalive keepalive) noexcept {
  switch (keepalive) {
  case Keepalive::None: break;
  case Keepalive::Crlf: return "crlf";
  case Keepalive::DoubleCrlf: return "double_crlf";
  case Keepalive::Stun: return "stun";
  case Keepalive::Zeros: return "zeros";
  case Keepalive::Text: return "text";
  }
  return "none";
}

std::string_view to_string(Malformation malformation) noexcept {
  switch (malformation) {
  case Malformation::None: break;
  case Malformation::Empty: return "empty";
  case Malformation::NotSip: return "not_sip";
  case Malformation::NoHeaders: return "no_headers";
  case Malformation::UnsupportedVersion: return "unsupported_version";
  case Malformation::BadRequestUri: return "bad_request_uri";
  case Malformation::BadStatus: return "bad_status";
  case Malformation::NoVia: return "no_via";
  case Malformation::NoFrom: return "no_from";
  case Malformation::NoTo: return "no_to";
  case Malformation::NoCallId: return "no_call_id";
  case Malformation::NoCSeq: return "no_cseq";
  case Malformation::RepeatedHeader: return "repeated_header";
  case Malformation::BadVia: return "bad_via";
  case Malformation::BadFrom: return "bad_from";
  case Malformation::BadTo: return "bad_to";
  case Malformation::BadCSeq: return "bad_cseq";
  case Malformation::CSeqOverflow: return "cseq_overflow";
  case Malformation::CSeqMismatch: return "cseq_mismatch";
  case Malformation::BadContentLength: return "bad_content_length";
  case Malformation::ConflictingContentLength: return "conflicting_content_length";
  case Malformation::TruncatedBody: return "truncated_body";
  case Malformation::TooManyParameters: return "too_many_parameters";
  }
  return "none";
}

} // namespace sipward::sip
