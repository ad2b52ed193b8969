// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft_elements.h"

#include <arpa/inet.h>
#include <endian.h>
#include <libmnl/libmnl.h>
#include <libnftnl/expr.h>
#include <libnftnl/set.h>
#include <libnftnl/udata.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>

namespace sipward::daemon::nft {
namespace {

using policy::Family;
using policy::SubjectKind;

// What one element adds to a message at most: an IPv6 endpoint with flags and timeout; and its limit and counter.
constexpr std::size_t kElementOctets = 52;
constexpr std::size_t kLimitOctets = 112;
// Even numbers, so that the beginning and the end of a range never part: the kernel wants them next to each other.
constexpr std::size_t kElementsPerMessage = 1024;
constexpr std::size_t kLimitsPerMessage = 256;
static_assert(kElementsPerMessage % 2 == 0 && kElementsPerMessage * kElementOctets + 256 < Batch::kRoom);
static_assert(kLimitsPerMessage % 2 == 0 && kLimitsPerMessage * (kElementOctets + kLimitOctets) + 256 < Batch::kRoom);

// How nft itself names the type of a set's key (nftables, include/datatype.h); the kernel only hands it back. The types
// of a key's parts stand one after the other, six bits each.
constexpr std::uint32_t kTypeIpv4 = 7;
constexpr std::uint32_t kTypeIpv6 = 8;
constexpr std::uint32_t kTypeProtocol = 12;
constexpr std::uint32_t kTypePort = 13;
constexpr std::uint32_t kTypeBits = 6;

constexpr std::uint16_t kSipTlsPort = 5061;

// Of an element that somebody else adds without saying how much. nft wants a set to have what its elements have.
constexpr Limit kLimitUnsaid{1, 5};

using Set = std::unique_ptr<nftnl_set, Freed<nftnl_set_free>>;
using Iterator = std::unique_ptr<nftnl_set_elems_iter, Freed<nftnl_set_elems_iter_destroy>>;
using Expr = std::unique_ptr<nftnl_expr, Freed<nftnl_expr_free>>;
using Userdata = std::unique_ptr<nftnl_udata_buf, Freed<nftnl_udata_buf_free>>;

// `limit rate over N/second burst M packets`: it matches what is too much. Or, without `over`, what is not.
Expr limit_expr(const Limit& limit, bool within) {
  Expr expr(made(nftnl_expr_alloc("limit")));
  nftnl_expr_set_u64(expr.get(), NFTNL_EXPR_LIMIT_RATE, limit.rate_per_s);
  nftnl_expr_set_u64(expr.get(), NFTNL_EXPR_LIMIT_UNIT, 1);
  nftnl_expr_set_u32(expr.get(), NFTNL_EXPR_LIMIT_BURST, limit.burst);
  nftnl_expr_set_u32(expr.get(), NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
  nftnl_expr_set_u32(expr.get(), NFTNL_EXPR_LIMIT_FLAGS, within ? 0 : NFT_LIMIT_F_INV);
  return expr;
}

struct SetShape {
  std::string name;
  std::uint32_t type;
  std::uint32_t key_octets;
  std::uint32_t flags = 0;
  std::vector<Expr> exprs{}; // each element is given these when it is made
  std::string comment{};
};

void put_set(Batch& batch, SetShape shape, std::uint32_t id) {
  const Set set(made(nftnl_set_alloc()));
  nftnl_set_set_str(set.get(), NFTNL_SET_TABLE, kTable);
  nftnl_set_set_str(set.get(), NFTNL_SET_NAME, shape.name.c_str());
  nftnl_set_set_u32(set.get(), NFTNL_SET_ID, id);
  nftnl_set_set_u32(set.get(), NFTNL_SET_KEY_TYPE, shape.type);
  nftnl_set_set_u32(set.get(), NFTNL_SET_KEY_LEN, shape.key_octets);
  nftnl_set_set_u32(set.get(), NFTNL_SET_FLAGS, shape.flags);
  for (auto& expr : shape.exprs) nftnl_set_add_expr(set.get(), expr.release());
  if (!shape.comment.empty()) {
    const Userdata userdata(made(nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN)));
    nftnl_udata_put_strz(userdata.get(), NFTNL_UDATA_SET_COMMENT, shape.comment.c_str());
    nftnl_set_set_data(set.get(), NFTNL_SET_USERDATA, nftnl_udata_buf_data(userdata.get()),
                       nftnl_udata_buf_len(userdata.get()));
  }
  nftnl_set_nlmsg_build_payload(batch.open(NFT_MSG_NEWSET, NLM_F_CREATE, "make the set " + shape.name), set.get());
  batch.close();
}

void put_element(nlmsghdr* message, const Key& key) {
  nlattr* element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
  if (key.flags != 0) mnl_attr_put_u32(message, NFTA_SET_ELEM_FLAGS, htonl(key.flags));
  if (key.timeout.count() > 0) {
    const auto timeout_ms = static_cast<std::uint64_t>(std::chrono::milliseconds(key.timeout).count());
    mnl_attr_put_u64(message, NFTA_SET_ELEM_TIMEOUT, htobe64(timeout_ms));
  }
  nlattr* value = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);
  mnl_attr_put(message, NFTA_DATA_VALUE, key.size, key.octets.data());
  mnl_attr_nest_end(message, value);
  if (key.limit) {
    // The limit first: where it does not match, the counter after it does not count.
    nlattr* exprs = mnl_attr_nest_start(message, NFTA_SET_ELEM_EXPRESSIONS);
    const Expr limit = limit_expr(*key.limit, key.within);
    const Expr counter(made(nftnl_expr_alloc("counter")));
    for (nftnl_expr* expr : {limit.get(), counter.get()}) {
      nlattr* nest = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
      nftnl_expr_build_payload(message, expr);
      mnl_attr_nest_end(message, nest);
    }
    mnl_attr_nest_end(message, exprs);
  }
  mnl_attr_nest_end(message, element);
}

policy::Subject subject_of(const SubjectSet& set, std::span<const std::uint8_t> key) {
  policy::Address base{set.family, {}};
  const auto octets = base.wire().size();
  std::ranges::copy(key.first(std::min(key.size(), octets)), base.octets.begin());
  policy::Subject subject{set.kind, {base, set.length}};
  if (set.kind == SubjectKind::Endpoint && key.size() >= octets + 2)
    subject.port = static_cast<std::uint16_t>(key[octets] << 8 | key[octets + 1]);
  return subject;
}

// For people: "198.51.100.66", "198.51.100.66:5061".
std::string text_of(const Key& key) {
  const bool endpoint = key.size == 8 || key.size == 20;
  SubjectSet shape{.kind = endpoint ? SubjectKind::Endpoint : SubjectKind::Host,
                   .family = key.size >= 16 ? Family::V6 : Family::V4};
  shape.length = policy::bits(shape.family);
  const auto subject = subject_of(shape, key.wire());
  return endpoint ? policy::to_string(subject) : policy::to_string(subject.prefix.base);
}

std::string describe(const char* verb, std::span<const Key> keys, const std::string& set) {
  const bool one = keys.size() == 1 && keys[0].size >= 4;
  return std::string(verb) + " " + (one ? text_of(keys[0]) : std::to_string(keys.size()) + " elements") + " in " + set;
}

int note_expr(nftnl_expr* expr, void* data) {
  auto& element = *static_cast<Element*>(data);
  const std::string_view name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);
  if (name == "counter") {
    element.packets = nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_PACKETS);
    element.octets = nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_BYTES);
  } else if (name == "limit") {
    element.limit.rate_per_s = static_cast<std::uint32_t>(nftnl_expr_get_u64(expr, NFTNL_EXPR_LIMIT_RATE));
    element.limit.burst = nftnl_expr_get_u32(expr, NFTNL_EXPR_LIMIT_BURST);
  }
  return 0;
}

int note_comment(const nftnl_udata* data, void* to) {
  if (nftnl_udata_type(data) != NFTNL_UDATA_SET_COMMENT) return 0;
  const auto* text = static_cast<const char*>(nftnl_udata_get(data));
  *static_cast<std::string_view*>(to) = std::string_view(text, strnlen(text, nftnl_udata_len(data)));
  return 0;
}

} // namespace

Key key_of(const policy::Address& address) {
  Key key{.size = static_cast<std::uint8_t>(address.wire().size())};
  std::ranges::copy(address.wire(), key.octets.begin());
  return key;
}

Key key_of(const policy::Subject& subject) {
  Key key = key_of(subject.prefix.base);
  if (subject.kind != SubjectKind::Endpoint) return key;
  key.octets[key.size] = static_cast<std::uint8_t>(subject.port >> 8);
  key.octets[key.size + 1U] = static_cast<std::uint8_t>(subject.port);
  key.size = static_cast<std::uint8_t>(key.size + 4);
  return key;
}

// The comment says what `nft list` could not: how many bits an element stands for.
void put_set(Batch& batch, const SubjectSet& set, std::uint32_t id) {
  const bool v4 = set.family == Family::V4;
  SetShape shape{name_of(set), v4 ? kTypeIpv4 : kTypeIpv6, v4 ? 4U : 16U, NFT_SET_TIMEOUT};
  if (set.kind == SubjectKind::Endpoint) {
    shape.type = shape.type << kTypeBits | kTypePort;
    shape.key_octets += 4;
  }
  if (set.effect == Effect::Limit || set.effect == Effect::Spare) {
    shape.flags |= NFT_SET_EXPR; // more than one
    shape.exprs.push_back(limit_expr(kLimitUnsaid, set.effect == Effect::Spare));
  }
  shape.exprs.emplace_back(made(nftnl_expr_alloc("counter")));
  if (set.length != policy::bits(set.family)) shape.comment = "/" + std::to_string(set.length);
  put_set(batch, std::move(shape), id);
}

void put_interval_set(Batch& batch, const char* name, Family family, std::uint32_t id) {
  const bool v4 = family == Family::V4;
  put_set(batch, {name, v4 ? kTypeIpv4 : kTypeIpv6, v4 ? 4U : 16U, NFT_SET_INTERVAL}, id);
}

void put_scope_sets(Batch& batch, const Layout& layout, std::uint32_t first_id) {
  put_set(batch, {kTransports, kTypeProtocol, 1}, first_id);
  const std::array<Key, 2> transports = {{{.octets = {IPPROTO_TCP}, .size = 1}, {.octets = {IPPROTO_UDP}, .size = 1}}};
  put_elements(batch, Verb::Add, kTransports, transports);
  if (layout.scope != config::Scope::Sip) return;

  put_set(batch, {kPorts, kTypePort, 2}, first_id + 1);
  auto ports = layout.ports;
  ports.push_back(kSipTlsPort);
  std::ranges::sort(ports);
  const auto repeated = std::ranges::unique(ports);
  ports.erase(repeated.begin(), repeated.end());
  std::vector<Key> keys;
  for (const auto port : ports)
    keys.push_back({.octets = {static_cast<std::uint8_t>(port >> 8), static_cast<std::uint8_t>(port)}, .size = 2});
  put_elements(batch, Verb::Add, kPorts, keys);
}

void remove_set(Batch& batch, const SubjectSet& set) {
  const Set gone(made(nftnl_set_alloc()));
  const auto name = name_of(set);
  nftnl_set_set_str(gone.get(), NFTNL_SET_TABLE, kTable);
  nftnl_set_set_str(gone.get(), NFTNL_SET_NAME, name.c_str());
  nftnl_set_nlmsg_build_payload(batch.open(NFT_MSG_DELSET, 0, "remove the set " + name), gone.get());
  batch.close();
}

void put_elements(Batch& batch, Verb verb, const std::string& set, std::span<const Key> keys) {
  const bool adds = verb != Verb::Delete;
  const std::uint16_t type = adds ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM;
  const std::uint16_t flags = !adds ? 0 : verb == Verb::AddNew ? NLM_F_CREATE | NLM_F_EXCL : NLM_F_CREATE;
  while (!keys.empty()) {
    const auto part = keys.first(std::min(keys.size(), keys[0].limit ? kLimitsPerMessage : kElementsPerMessage));
    nlmsghdr* message = batch.open(type, flags, describe(adds ? "add" : "delete", part, set));
    put_set_name(message, set);
    nlattr* list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
    for (const auto& key : part) put_element(message, key);
    mnl_attr_nest_end(message, list);
    batch.close();
    keys = keys.subspan(part.size());
  }
}

// A deletion without a list empties the set.
void put_flush(Batch& batch, const std::string& set) {
  put_set_name(batch.open(NFT_MSG_DELSETELEM, 0, "empty the set " + set), set);
  batch.close();
}

// An interval set holds beginnings and ends: a range is its first address, and the one after its last marked as an end.
// One that reaches the family's last address has no end.
void put_ranges(Batch& batch, const std::array<const char*, 2>& sets, const policy::PrefixSet& ranges) {
  std::array<std::vector<Key>, 2> keys;
  for (const auto& range : ranges.ranges()) {
    auto& into = keys[range.first.family == Family::V4 ? 0 : 1];
    into.push_back(key_of(range.first));
    Key end = key_of(range.last);
    end.flags = NFT_SET_ELEM_INTERVAL_END;
    auto octet = static_cast<int>(end.size) - 1;
    while (octet >= 0 && ++end.octets[static_cast<std::size_t>(octet)] == 0) --octet;
    if (octet >= 0) into.push_back(end);
  }
  for (std::size_t i = 0; i < sets.size(); ++i) put_elements(batch, Verb::Add, sets[i], keys[i]);
}

void put_set_name(nlmsghdr* message, const std::string& set) {
  mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, kTable);
  mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set.c_str());
}

void put_key(nlmsghdr* message, const Key& key) {
  nlattr* list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
  put_element(message, key);
  mnl_attr_nest_end(message, list);
}

std::vector<Element> elements_of(const nlmsghdr& message, const SubjectSet& set) {
  std::vector<Element> result;
  const Set parsed(made(nftnl_set_alloc()));
  if (nftnl_set_elems_nlmsg_parse(&message, parsed.get()) < 0) return result;
  const Iterator iterator(made(nftnl_set_elems_iter_create(parsed.get())));
  while (nftnl_set_elem* elem = nftnl_set_elems_iter_next(iterator.get())) {
    std::uint32_t size = 0;
    const auto* key = static_cast<const std::uint8_t*>(nftnl_set_elem_get(elem, NFTNL_SET_ELEM_KEY, &size));
    if (key == nullptr) continue;
    Element element{.subject = subject_of(set, {key, size}), .effect = set.effect};
    if (nftnl_set_elem_is_set(elem, NFTNL_SET_ELEM_EXPIRATION))
      element.remaining = std::chrono::milliseconds(nftnl_set_elem_get_u64(elem, NFTNL_SET_ELEM_EXPIRATION));
    nftnl_set_elem_expr_foreach(elem, note_expr, &element);
    result.push_back(element);
  }
  return result;
}

std::optional<SubjectSet> set_of(const nlmsghdr& message) {
  const Set parsed(made(nftnl_set_alloc()));
  if (nftnl_set_nlmsg_parse(&message, parsed.get()) < 0) return std::nullopt;
  const char* name = nftnl_set_get_str(parsed.get(), NFTNL_SET_NAME);
  if (name == nullptr) return std::nullopt;
  std::string_view comment;
  std::uint32_t size = 0;
  if (const void* userdata = nftnl_set_get_data(parsed.get(), NFTNL_SET_USERDATA, &size); userdata != nullptr)
    nftnl_udata_parse(userdata, size, note_comment, &comment);
  std::uint8_t length = 0;
  if (comment.starts_with('/')) std::from_chars(comment.data() + 1, comment.data() + comment.size(), length);
  return set_named(name, length > 0 ? std::optional(length) : std::nullopt);
}

} // namespace sipward::daemon::nft
