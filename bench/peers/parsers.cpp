// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/peers/parsers.h"

#include <immintrin.h>
#include <osipparser2/osip_parser.h>
#include <sofia-sip/msg_addr.h>
#include <sofia-sip/sip.h>
#include <sofia-sip/sip_header.h>
#include <sofia-sip/sip_parser.h>
#include <sofia-sip/sip_protos.h>

#include <array>
#include <cstring>

namespace sipward::bench::peers {
namespace {

osip_message_t* parse_osip(std::string_view datagram) {
  static const int ready = parser_init();
  osip_message_t* message = nullptr;
  if (ready != 0 || osip_message_init(&message) != 0) return nullptr;
  if (osip_message_parse(message, datagram.data(), datagram.size()) == 0) return message;
  osip_message_free(message);
  return nullptr;
}

Answer read_osip(std::string_view datagram) {
  osip_message_t* message = parse_osip(datagram);
  if (!message) return {};
  Answer answer{message->sip_method, message->from->url->username, message->call_id->number};
  if (message->call_id->host) answer.call_id += std::string("@") + message->call_id->host;
  osip_message_free(message);
  return answer;
}

std::uint64_t time_osip(std::string_view datagram) {
  osip_message_t* message = parse_osip(datagram);
  if (message) osip_message_free(message);
  return message != nullptr;
}

msg_t* parse_sofia(std::string_view datagram) {
  return msg_make(sip_default_mclass(), 0, datagram.data(), static_cast<ssize_t>(datagram.size()));
}

Answer read_sofia(std::string_view datagram) {
  msg_t* message = parse_sofia(datagram);
  Answer answer;
  if (const sip_t* sip = sip_object(message))
    answer = {sip->sip_request->rq_method_name, sip->sip_from->a_url->url_user, sip->sip_call_id->i_id};
  msg_destroy(message);
  return answer;
}

std::uint64_t time_sofia(std::string_view datagram) {
  msg_t* message = parse_sofia(datagram);
  const bool good = message && sip_object(message);
  if (message) msg_destroy(message);
  return good;
}

constexpr std::array kParsers{Parser{"libosip2", read_osip, time_osip}, Parser{"sofia-sip", read_sofia, time_sofia}};

} // namespace

std::span<const Parser> parsers() { return kParsers; }

std::uint64_t read_avx2(std::string_view datagram) {
  __m256i sum = _mm256_setzero_si256();
  std::size_t i = 0;
  for (; i + 32 <= datagram.size(); i += 32)
    sum = _mm256_add_epi64(sum, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(datagram.data() + i)));
  if (datagram.size() >= 32)
    sum = _mm256_add_epi64(
        sum, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(datagram.data() + datagram.size() - 32)));
  alignas(32) std::array<std::uint64_t, 4> parts;
  _mm256_store_si256(reinterpret_cast<__m256i*>(parts.data()), sum);
  return parts[0] + parts[1] + parts[2] + parts[3];
}

std::uint64_t lines(std::string_view datagram) {
  const char* at = datagram.data();
  const char* const end = at + datagram.size();
  std::uint64_t count = 0;
  while (at < end) {
    const auto* lf = static_cast<const char*>(std::memchr(at, '\n', static_cast<std::size_t>(end - at)));
    if (!lf) break;
    ++count;
    if (lf == at || (lf == at + 1 && *at == '\r')) break;
    at = lf + 1;
  }
  return count;
}

std::uint64_t lines_plain(std::string_view datagram) {
  std::uint64_t count = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < datagram.size(); ++i) {
    if (datagram[i] != '\n') continue;
    ++count;
    if (i == begin || (i == begin + 1 && datagram[begin] == '\r')) break;
    begin = i + 1;
  }
  return count;
}

} // namespace sipward::bench::peers
