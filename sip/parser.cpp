// SPDX-License-Identifier: GPL-2.0-or-later
#include "sip/parser.h"

#include <algorithm>

#include "sip/start_line.h"
#include "sip/text.h"
#include "sip/values.h"

namespace sipward::sip {
namespace {

using namespace text;

// Judges as it reads: the first thing found wrong is what the message is called.
class Reader {
public:
  Reader(std::string_view datagram, const Index& index) noexcept : datagram_(datagram), index_(index) {}

  Message read() noexcept {
    message_.kind = index_.kind;
    message_.method = index_.method;
    message_.malformation = index_.malformation;
    message_.keepalive = index_.keepalive;
    message_.status = index_.status;
    message_.method_token = index_.method_token;
    message_.request_uri = index_.request_uri;
    message_.header_count = static_cast<std::uint8_t>(index_.header_count);
    message_.counts = index_.counts;
    if (index_.header_count == 0) return message_;
    judge_presence();
    read_via_header();
    read_parties();
    read_cseq_header();
    read_rest();
    read_body();
    return message_;
  }

private:
  Span value(Header header) const noexcept { return index_.value(header, datagram_); }

  void blame(Malformation cause) noexcept {
    if (message_.malformation == Malformation::None) message_.malformation = cause;
    message_.kind = Kind::Malformed;
  }

  void judge_presence() noexcept {
    if (message_.count(Header::Via) == 0) blame(Malformation::NoVia);
    if (message_.count(Header::From) == 0) blame(Malformation::NoFrom);
    if (message_.count(Header::To) == 0) blame(Malformation::NoTo);
    if (message_.count(Header::CallId) == 0) blame(Malformation::NoCallId);
    if (message_.count(Header::CSeq) == 0) blame(Malformation::NoCSeq);
    for (const Header header : {Header::From, Header::To, Header::CallId, Header::CSeq})
      if (message_.count(header) > 1) blame(Malformation::RepeatedHeader);
  }

  void read_via_header() noexcept {
    message_.via = value(Header::Via);
    if (!message_.via.present()) return;
    const Via via = read_via(datagram_, message_.via);
    message_.via_transport = via.transport;
    message_.via_sent_by = via.sent_by;
    message_.via_branch = via.branch;
    message_.via_rport = via.rport;
    message_.via_received = via.received;
    if (!via.good) blame(Malformation::BadVia);
  }

  void read_parties() noexcept {
    message_.from = value(Header::From);
    message_.to = value(Header::To);
    const Address from = read_address(datagram_, message_.from);
    message_.from_display = from.display;
    message_.from_user = from.user;
    message_.from_host = from.host;
    message_.from_tag = read_param(datagram_, from.params, message_.from.end, "tag");
    if (!from.good) blame(Malformation::BadFrom);
    const Address to = read_address(datagram_, message_.to);
    message_.to_display = to.display;
    message_.to_user = to.user;
    message_.to_host = to.host;
    message_.to_tag = read_param(datagram_, to.params, message_.to.end, "tag");
    if (!to.good) blame(Malformation::BadTo);
    message_.contact = value(Header::Contact);
    const Address contact = read_address(datagram_, message_.contact);
    message_.contact_user = contact.user;
    message_.contact_host = contact.host;
    message_.call_id = value(Header::CallId);
  }

  void read_cseq_header() noexcept {
    const Span at = value(Header::CSeq);
    if (!at.present()) return;
    const CSeq cseq = read_cseq(datagram_, at);
    message_.cseq = cseq.number;
    message_.cseq_method_token = cseq.method;
    message_.cseq_method = method_of(cseq.method.in(datagram_));
    if (!cseq.good) return blame(Malformation::BadCSeq);
    if (cseq.number >= 0x8000'0000) blame(Malformation::CSeqOverflow);
    if (!message_.method_token.present()) return;
    if (message_.cseq_method != message_.method ||
        (message_.method == Method::Other && cseq.method.in(datagram_) != message_.method_token.in(datagram_)))
      blame(Malformation::CSeqMismatch);
  }

  void read_rest() noexcept {
    message_.server = value(Header::Server);
    message_.user_agent = value(message_.count(Header::UserAgent) > 0 ? Header::UserAgent : Header::Server);
    message_.content_type = value(Header::ContentType);
    number(value(Header::MaxForwards).in(datagram_), message_.max_forwards);
    number(value(Header::Expires).in(datagram_), message_.expires);
    if (message_.count(Header::Authorization) > 0)
      message_.authorization = read_digest(datagram_, value(Header::Authorization));
    if (message_.count(Header::ProxyAuthorization) > 0)
      message_.proxy_authorization = read_digest(datagram_, value(Header::ProxyAuthorization));
    if (message_.count(Header::WwwAuthenticate) > 0)
      message_.www_authenticate = read_digest(datagram_, value(Header::WwwAuthenticate));
    if (message_.count(Header::ProxyAuthenticate) > 0)
      message_.proxy_authenticate = read_digest(datagram_, value(Header::ProxyAuthenticate));
  }

  void read_body() noexcept {
    if (message_.count(Header::ContentLength) > 0) read_content_length();
    if (index_.body == 0) return;
    const std::size_t rest = datagram_.size() - index_.body;
    const std::size_t length = std::min<std::size_t>(rest, message_.content_length);
    message_.body = span(index_.body, index_.body + length);
    if (message_.content_length != Message::kAbsent && message_.content_length > rest)
      blame(Malformation::TruncatedBody);
  }

  void read_content_length() noexcept {
    if (!number(value(Header::ContentLength).in(datagram_), message_.content_length))
      return blame(Malformation::BadContentLength);
    if (message_.count(Header::ContentLength) == 1) return;
    for (std::size_t i = 1; i <= index_.header_count; ++i) {
      std::uint32_t other = 0;
      if (index_.lines[i].header != Header::ContentLength) continue;
      if (!number(Index::value(index_.lines[i], datagram_).in(datagram_), other) || other != message_.content_length)
        return blame(Malformation::ConflictingContentLength);
    }
  }

  std::string_view datagram_;
  const Index& index_;
  Message message_;
};

} // namespace

Message parse_plain(std::string_view datagram) noexcept {
  datagram = datagram.substr(0, 65'535);
  Index index;
  index_plain(datagram, index);
  return Reader(datagram, index).read();
}

Message parse(std::string_view datagram) noexcept {
  datagram = datagram.substr(0, 65'535);
  Index index_of_headers;
  index(datagram, index_of_headers);
  return Reader(datagram, index_of_headers).read();
}

} // namespace sipward::sip
