// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/resolver.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <resolv.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>

namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
using std::chrono::seconds;

constexpr int kMostQuestions = 64;
constexpr std::size_t kMostAddresses = 4096;
constexpr seconds kUnknownTtl = 5min; // of an answer that is empty

// One name's look-up: what is still to be asked, and what was found.
class Search {
public:
  explicit Search(res_state state) : state_(state) {}

  Resolved run(const std::string& name) {
    if (name.starts_with('_')) {
      ask(name, ns_t_srv);
    } else {
      if (!ask(name, ns_t_naptr))
        for (const char* service : {"_sip._udp.", "_sip._tcp.", "_sips._tcp."}) ask(service + name, ns_t_srv);
      ask_addresses(name);
    }
    std::ranges::sort(found_.addresses);
    const auto rest = std::ranges::unique(found_.addresses);
    found_.addresses.erase(rest.begin(), rest.end());
    found_.ttl = ttl_.value_or(kUnknownTtl);
    return std::move(found_);
  }

private:
  void ask_addresses(const std::string& host) {
    ask(host, ns_t_a);
    ask(host, ns_t_aaaa);
  }

  // Each name and type once; where one leads to the next, no further. True: there were such records.
  bool ask(const std::string& name, ns_type type) {
    if (!asked_.emplace(name, type).second) return false;
    if (is_deaf_ || asked_.size() > kMostQuestions) {
      found_.whole = false;
      return false;
    }
    std::vector<std::uint8_t> answer(NS_MAXMSG);
    errno = 0;
    const int size = res_nquery(state_, name.c_str(), ns_c_in, type, answer.data(), static_cast<int>(answer.size()));
    if (size < 0) {
      is_deaf_ =
          errno == ETIMEDOUT || errno == ECONNREFUSED; // no server is there: the next question would wait as long
      // No such name, or none of that type: an answer as good as any.
      found_.whole &= state_->res_h_errno == HOST_NOT_FOUND || state_->res_h_errno == NO_DATA;
      return false;
    }
    ns_msg message{};
    if (ns_initparse(answer.data(), std::min(size, static_cast<int>(answer.size())), &message) != 0) {
      found_.whole = false;
      return false;
    }
    bool any = false;
    for (int i = 0; i < ns_msg_count(message, ns_s_an); ++i) {
      ns_rr record{};
      if (ns_parserr(&message, ns_s_an, i, &record) != 0) {
        found_.whole = false;
        return any;
      }
      if (ns_rr_type(record) != type) continue; // an alias on the way
      const seconds ttl(ns_rr_ttl(record));
      ttl_ = std::min(ttl_.value_or(ttl), ttl);
      any |= take(message, record, type);
    }
    return any;
  }

  bool take(const ns_msg& message, const ns_rr& record, ns_type type) {
    const auto* data = ns_rr_rdata(record);
    const std::size_t size = ns_rr_rdlen(record);
    switch (type) {
    case ns_t_a:
    case ns_t_aaaa:
      if (size != (type == ns_t_a ? 4u : 16u) || found_.addresses.size() >= kMostAddresses) return false;
      found_.addresses.push_back(policy::Address::from_wire({data, size}));
      return true;
    case ns_t_srv: return size > 6 && follow(message, data + 6, [this](const auto& host) { ask_addresses(host); });
    case ns_t_naptr: return take_naptr(message, data, size);
    default: return false;
    }
  }

  // Order, preference; then flags, service and regular expression, each behind its length; then the next name.
  bool take_naptr(const ns_msg& message, const std::uint8_t* data, std::size_t size) {
    std::array<std::string, 3> texts;
    std::size_t at = 4;
    for (auto& text : texts) {
      if (at >= size || at + 1 + data[at] > size) return false;
      text.assign(reinterpret_cast<const char*>(data + at + 1), data[at]);
      at += 1u + data[at];
    }
    const auto& [flags, service, expression] = texts;
    if (at >= size || !expression.empty() || !(service.starts_with("SIP") || service.starts_with("sip"))) return false;
    if (flags == "s" || flags == "S")
      return follow(message, data + at, [this](const auto& next) { ask(next, ns_t_srv); });
    if (flags == "a" || flags == "A")
      return follow(message, data + at, [this](const auto& host) { ask_addresses(host); });
    return false;
  }

  bool follow(const ns_msg& message, const std::uint8_t* compressed, const auto& next) {
    std::array<char, NS_MAXDNAME> name{};
    if (ns_name_uncompress(ns_msg_base(message), ns_msg_end(message), compressed, name.data(), name.size()) < 0)
      return false;
    if (name[0] != '\0') next(std::string(name.data())); // else it says that there is no such service
    return true;
  }

  res_state state_;
  std::set<std::pair<std::string, ns_type>> asked_;
  std::optional<seconds> ttl_;
  Resolved found_;
  bool is_deaf_ = false;
};

} // namespace

Resolved Resolver::resolve(const std::string& name) const {
  struct __res_state state {};
  if (res_ninit(&state) != 0) return {.addresses = {}, .ttl = kUnknownTtl, .whole = false};
  state.retrans = 1; // seconds; the second time twice that
  state.retry = 2;
  if (local_port_) {
    state.nscount = 1;
    state.nsaddr_list[0] = {};
    state.nsaddr_list[0].sin_family = AF_INET;
    state.nsaddr_list[0].sin_port = htons(*local_port_);
    state.nsaddr_list[0].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  auto found = Search(&state).run(name);
  res_nclose(&state);
  return found;
}

} // namespace sipward::daemon
