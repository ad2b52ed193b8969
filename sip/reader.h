// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>

#include "sip/index.h"
#include "sip/message.h"
#include "sip/values.h"

// From an index to a message. `Values` reads single values: octet by octet (parser.cpp) or 64 at a time
// (values_simd.h). Internal linkage: a copy for one processor must never serve another. Private to sip/.
namespace sipward::sip {
namespace {

static_assert(offsetof(Message, from_tag) == offsetof(Message, from_display) + 3 * sizeof(Span)); // as Party has it
static_assert(offsetof(Message, to_tag) == offsetof(Message, to_display) + 3 * sizeof(Span));
static_assert(offsetof(Message, via_rport) ==
              offsetof(Message, via_transport) + 3 * sizeof(Span)); // as ViaParts has it

// Judges as it reads: the first thing found wrong is what the message is called.
template<class Values>
class Reader {
public:
  // `message`: as made; it is filled in.
  Reader(std::string_view datagram, const Index& index, const Values& values, Message& message) noexcept
      : datagram_(datagram), index_(index), values_(values), message_(message) {}

  [[gnu::always_inline]] void read() noexcept {
    message_.kind = index_.kind;
    message_.method = index_.method;
    message_.malformation = index_.malformation;
    message_.keepalive = index_.keepalive;
    message_.status = index_.status;
    message_.method_token = index_.method_token;
    message_.request_uri = index_.request_uri;
    message_.header_count = static_cast<std::uint8_t>(index_.header_count);
    std::copy_n(index_.counts.begin(), kHeaderKinds, message_.counts.begin());
    if (index_.header_count == 0) return;
    judge_presence();
    read_via_header();
    read_parties();
    read_cseq_header();
    read_rest();
    read_body();
    if (limit_.exceeded) blame(Malformation::TooManyParameters);
  }

private:
  [[gnu::always_inline]] Span value(Header header) const noexcept {
    return has(header) ? values_.value(index_, header) : Span{};
  }
  bool has(Header header) const noexcept { return index_.first[static_cast<std::size_t>(header)] != 0; }

  void blame(Malformation cause) noexcept {
    if (message_.malformation == Malformation::None) message_.malformation = cause;
    message_.kind = Kind::Malformed;
  }

  [[gnu::always_inline]] void judge_presence() noexcept {
    if (!has(Header::Via)) blame(Malformation::NoVia);
    if (!has(Header::From)) blame(Malformation::NoFrom);
    if (!has(Header::To)) blame(Malformation::NoTo);
    if (!has(Header::CallId)) blame(Malformation::NoCallId);
    if (!has(Header::CSeq)) blame(Malformation::NoCSeq);
    if ((index_.count(Header::From) | index_.count(Header::To) | index_.count(Header::CallId) |
         index_.count(Header::CSeq)) > 1)
      blame(Malformation::RepeatedHeader);
  }

  [[gnu::always_inline]] void read_via_header() noexcept {
    if (!has(Header::Via)) return;
    message_.via = value(Header::Via);
    const ViaParts parts{message_.via_transport, message_.via_sent_by, message_.via_branch, message_.via_rport,
                         message_.via_received};
    if (!values_.via(message_.via, parts, limit_)) blame(Malformation::BadVia);
  }

  [[gnu::always_inline]] void read_parties() noexcept {
    Message& m = message_;
    if (has(Header::From)) {
      m.from = value(Header::From);
      if (!values_.address(m.from, {m.from_display, m.from_user, m.from_host, m.from_tag}, limit_))
        blame(Malformation::BadFrom);
    }
    if (has(Header::To)) {
      m.to = value(Header::To);
      if (!values_.address(m.to, {m.to_display, m.to_user, m.to_host, m.to_tag}, limit_)) blame(Malformation::BadTo);
    }
    if (has(Header::Contact)) {
      struct {
        Span display, user, host, tag;
      } contact;
      ParamLimit limit; // its parameters are of no interest, nor is its shape
      m.contact = value(Header::Contact);
      values_.address(m.contact, {contact.display, contact.user, contact.host, contact.tag, false}, limit);
      m.contact_user = contact.user;
      m.contact_host = contact.host;
    }
    message_.call_id = value(Header::CallId);
  }

  [[gnu::always_inline]] void read_cseq_header() noexcept {
    if (!has(Header::CSeq)) return;
    Message& m = message_;
    if (!values_.cseq(value(Header::CSeq), m.method_token, m.method, m.cseq, m.cseq_method_token, m.cseq_method))
      return blame(Malformation::BadCSeq);
    if (m.cseq >= 0x8000'0000) blame(Malformation::CSeqOverflow);
    if (!message_.method_token.present()) return;
    if (message_.cseq_method != message_.method ||
        (message_.method == Method::Other &&
         message_.cseq_method_token.in(datagram_) != message_.method_token.in(datagram_)))
      blame(Malformation::CSeqMismatch);
  }

  [[gnu::always_inline]] void read_rest() noexcept {
    message_.server = value(Header::Server);
    message_.user_agent = has(Header::UserAgent) ? value(Header::UserAgent) : message_.server;
    message_.content_type = value(Header::ContentType);
    if (has(Header::MaxForwards)) values_.number(value(Header::MaxForwards), message_.max_forwards);
    if (has(Header::Expires)) values_.number(value(Header::Expires), message_.expires);
    if (message_.method_token.present()) {
      read_digest_header(Header::Authorization, message_.authorization);
      read_digest_header(Header::ProxyAuthorization, message_.proxy_authorization);
    } else {
      read_digest_header(Header::WwwAuthenticate, message_.www_authenticate);
      read_digest_header(Header::ProxyAuthenticate, message_.proxy_authenticate);
    }
  }
  [[gnu::always_inline]] void read_digest_header(Header header, Digest& out) noexcept {
    if (has(header)) out = values_.digest(value(header), limit_);
  }

  [[gnu::always_inline]] void read_body() noexcept {
    if (has(Header::ContentLength)) read_content_length();
    if (index_.body == 0) return;
    const std::size_t rest = datagram_.size() - index_.body;
    const std::size_t length = std::min<std::size_t>(rest, message_.content_length);
    message_.body = std::bit_cast<Span>(static_cast<std::uint32_t>(index_.body | (index_.body + length) << 16));
    if (message_.content_length != Message::kAbsent && message_.content_length > rest)
      blame(Malformation::TruncatedBody);
  }

  [[gnu::always_inline]] void read_content_length() noexcept {
    if (!values_.number(value(Header::ContentLength), message_.content_length))
      return blame(Malformation::BadContentLength);
    constexpr std::uint8_t kMaxLengths = 8; // so many are compared; more are no accident
    const std::uint8_t count = index_.count(Header::ContentLength);
    if (count == 1) [[likely]]
      return;
    if (count > kMaxLengths) return blame(Malformation::ConflictingContentLength);
    for (std::size_t i = 1; i <= index_.header_count; ++i) {
      std::uint32_t other = 0;
      if (index_.kinds[i] != Header::ContentLength) continue;
      if (!values_.number(values_.value(index_, i), other) || other != message_.content_length)
        return blame(Malformation::ConflictingContentLength);
    }
  }

  std::string_view datagram_;
  const Index& index_;
  const Values& values_;
  Message& message_;
  ParamLimit limit_;
};

} // namespace
} // namespace sipward::sip
