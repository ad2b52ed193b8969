// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft_batch.h"

#include <arpa/inet.h>
#include <endian.h>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "daemon/nft_chains.h"

namespace sipward::daemon::nft {
namespace {

using policy::Family;
using policy::SubjectKind;

// Element by element a message grows by at most 48 octets (an IPv6 key with flags and timeout). An even number, so that
// the beginning and the end of a range never part: the kernel wants them next to each other.
constexpr std::size_t kElementsPerMessage = 1024;
static_assert(kElementsPerMessage % 2 == 0 && kElementsPerMessage * 48 + 256 < Batch::kRoom);

// How nft itself names the type of a set's key (nftables, include/datatype.h); the kernel only hands it back.
constexpr std::uint32_t kTypeIpv4 = 7;
constexpr std::uint32_t kTypeIpv6 = 8;
constexpr std::uint32_t kTypeProtocol = 12;
constexpr std::uint32_t kTypePort = 13;

constexpr std::uint16_t kSipTlsPort = 5061;

// An element that must outlive the transaction that makes it only to delete it.
constexpr std::chrono::seconds kPassing{3600};

using Table = std::unique_ptr<nftnl_table, Freed<nftnl_table_free>>;
using Set = std::unique_ptr<nftnl_set, Freed<nftnl_set_free>>;

void put_table(Batch& batch, std::uint16_t type, std::uint16_t flags, const char* what,
               std::uint16_t family = NFPROTO_INET) {
  const Table table(made(nftnl_table_alloc()));
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, kTable);
  nftnl_table_nlmsg_build_payload(batch.open(type, flags, what, family), table.get());
  batch.close();
}

struct SetShape {
  const char* name;
  std::uint32_t type;
  std::uint32_t key_octets;
  std::uint32_t flags;
  bool counted;
};

void put_set(Batch& batch, const SetShape& shape, std::uint32_t id) {
  const Set set(made(nftnl_set_alloc()));
  nftnl_set_set_str(set.get(), NFTNL_SET_TABLE, kTable);
  nftnl_set_set_str(set.get(), NFTNL_SET_NAME, shape.name);
  nftnl_set_set_u32(set.get(), NFTNL_SET_ID, id);
  nftnl_set_set_u32(set.get(), NFTNL_SET_KEY_TYPE, shape.type);
  nftnl_set_set_u32(set.get(), NFTNL_SET_KEY_LEN, shape.key_octets);
  nftnl_set_set_u32(set.get(), NFTNL_SET_FLAGS, shape.flags);
  // A set's own expression is given to each of its elements when it is made.
  if (shape.counted) nftnl_set_add_expr(set.get(), made(nftnl_expr_alloc("counter")));
  nftnl_set_nlmsg_build_payload(batch.open(NFT_MSG_NEWSET, NLM_F_CREATE, std::string("make the set ") + shape.name),
                                set.get());
  batch.close();
}

struct Key {
  std::array<std::uint8_t, 16> octets{};
  std::uint8_t size = 0;
  std::uint32_t flags = 0;
  std::chrono::seconds timeout{0};

  std::span<const std::uint8_t> wire() const noexcept { return {octets.data(), size}; }
};

Key key_of(const policy::Address& address) {
  return {.octets = address.octets, .size = static_cast<std::uint8_t>(address.wire().size())};
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
  mnl_attr_nest_end(message, element);
}

std::string describe(const char* verb, std::span<const Key> keys, const char* set) {
  std::string what = verb;
  if (keys.size() == 1 && keys[0].size >= 4)
    what += " " + policy::to_string(policy::Address::from_wire(keys[0].wire()));
  else
    what += " " + std::to_string(keys.size()) + " elements";
  return what + " in " + set;
}

// `type`: NFT_MSG_NEWSETELEM or NFT_MSG_DELSETELEM.
void put_elements(Batch& batch, std::uint16_t type, const char* set, std::span<const Key> keys) {
  const bool adds = type == NFT_MSG_NEWSETELEM;
  while (!keys.empty()) {
    const auto part = keys.first(std::min(keys.size(), kElementsPerMessage));
    nlmsghdr* message = batch.open(type, adds ? NLM_F_CREATE : 0, describe(adds ? "add" : "delete", part, set));
    put_set_name(message, set);
    nlattr* list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
    for (const auto& key : part) put_element(message, key);
    mnl_attr_nest_end(message, list);
    batch.close();
    keys = keys.subspan(part.size());
  }
}

// A deletion without a list empties the set.
void put_flush(Batch& batch, const char* set) {
  put_set_name(batch.open(NFT_MSG_DELSETELEM, 0, std::string("empty the set ") + set), set);
  batch.close();
}

// An interval set holds beginnings and ends: a range is its first address, and the one after its last marked as an end.
// One that reaches the family's last address has no end.
void put_ranges(Batch& batch, const char* set, Family family, const policy::PrefixSet& allowed) {
  std::vector<Key> keys;
  for (const auto& range : allowed.ranges()) {
    if (range.first.family != family) continue;
    keys.push_back(key_of(range.first));
    Key end = key_of(range.last);
    end.flags = NFT_SET_ELEM_INTERVAL_END;
    auto octet = static_cast<int>(end.size) - 1;
    while (octet >= 0 && ++end.octets[static_cast<std::size_t>(octet)] == 0) --octet;
    if (octet >= 0) keys.push_back(end);
  }
  put_elements(batch, NFT_MSG_NEWSETELEM, set, keys);
}

std::expected<void, Error> check(const Layout& layout) {
  for (const auto& set : kBlockedSets) {
    const auto length = length_of(set, layout);
    if (length < 1 || length > policy::bits(set.family))
      return std::unexpected(Error{EINVAL, std::string("nftables: a prefix length of ") + std::to_string(length) +
                                               " cannot be matched by " + set.name});
  }
  for (const auto& interface : layout.interfaces)
    if (interface.empty() || interface.size() >= IFNAMSIZ)
      return std::unexpected(Error{EINVAL, "nftables: '" + interface + "' cannot be an interface's name"});
  return {};
}

// What is left of a list of changes: per set, the last word on each subject.
struct Remaining {
  std::vector<Key> adds, deletes;
};
std::expected<std::array<Remaining, kBlockedSets.size()>, Error> net_effect(const Layout& layout,
                                                                            std::span<const Change> changes) {
  struct Entry {
    const BlockedSet* set;
    const Change* change;
  };
  std::vector<Entry> entries;
  entries.reserve(changes.size());
  for (const auto& change : changes) {
    const auto set = set_of(change.subject, layout);
    if (!set) return std::unexpected(set.error());
    entries.push_back({*set, &change});
  }
  std::ranges::stable_sort(entries, {}, [](const Entry& entry) { return entry.change->subject; });
  std::array<Remaining, kBlockedSets.size()> result;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto& [set, change] = entries[i];
    if (i + 1 < entries.size() && entries[i + 1].change->subject == change->subject) continue;
    auto& remaining = result[static_cast<std::size_t>(set - kBlockedSets.data())];
    const bool adds = change->kind == Change::Kind::Add;
    Key key = key_of(change->subject.prefix.base);
    key.timeout = adds ? change->timeout : kPassing;
    (adds ? remaining.adds : remaining.deletes).push_back(key);
  }
  return result;
}

void put_sets(Batch& batch, const Layout& layout) {
  std::uint32_t id = 0;
  for (const auto& set : kBlockedSets) {
    const bool v4 = set.family == Family::V4;
    put_set(batch, {set.name, v4 ? kTypeIpv4 : kTypeIpv6, v4 ? 4U : 16U, NFT_SET_TIMEOUT, true}, ++id);
  }
  put_set(batch, {"allowed_v4", kTypeIpv4, 4, NFT_SET_INTERVAL, false}, ++id);
  put_set(batch, {"allowed_v6", kTypeIpv6, 16, NFT_SET_INTERVAL, false}, ++id);
  if (layout.scope != config::Scope::Sip) return;

  put_set(batch, {kPorts, kTypePort, 2, 0, false}, ++id);
  put_set(batch, {kTransports, kTypeProtocol, 1, 0, false}, ++id);
  auto ports = layout.ports;
  ports.push_back(kSipTlsPort);
  std::ranges::sort(ports);
  const auto repeated = std::ranges::unique(ports);
  ports.erase(repeated.begin(), repeated.end());
  std::vector<Key> keys;
  for (const auto port : ports)
    keys.push_back({.octets = {static_cast<std::uint8_t>(port >> 8), static_cast<std::uint8_t>(port)}, .size = 2});
  put_elements(batch, NFT_MSG_NEWSETELEM, kPorts, keys);
  const std::array<Key, 2> transports = {{{.octets = {IPPROTO_TCP}, .size = 1}, {.octets = {IPPROTO_UDP}, .size = 1}}};
  put_elements(batch, NFT_MSG_NEWSETELEM, kTransports, transports);
}

} // namespace

Batch::Batch() : scratch_(std::make_unique_for_overwrite<std::uint8_t[]>(kRoom)) {
  append(nftnl_batch_begin(reinterpret_cast<char*>(scratch_.get()), 0));
  steps_.emplace_back("the transaction");
}

nlmsghdr* Batch::open(std::uint16_t type, std::uint16_t flags, std::string what) {
  return open(type, flags, std::move(what), NFPROTO_INET);
}

nlmsghdr* Batch::open(std::uint16_t type, std::uint16_t flags, std::string what, std::uint16_t family) {
  const auto sequence = static_cast<std::uint32_t>(steps_.size());
  open_ = nftnl_nlmsg_build_hdr(reinterpret_cast<char*>(scratch_.get()), type, family,
                                static_cast<std::uint16_t>(flags | NLM_F_ACK), sequence);
  steps_.push_back(std::move(what));
  return open_;
}

void Batch::close() { append(open_); }

void Batch::end() {
  append(nftnl_batch_end(reinterpret_cast<char*>(scratch_.get()), static_cast<std::uint32_t>(steps_.size())));
}

void Batch::append(const nlmsghdr* message) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(message);
  octets_.insert(octets_.end(), first, first + NLMSG_ALIGN(message->nlmsg_len));
}

std::uint8_t length_of(const BlockedSet& set, const Layout& layout) noexcept {
  const bool v4 = set.family == Family::V4;
  if (set.kind == SubjectKind::Host) return v4 ? std::uint8_t{32} : layout.source_v6;
  return v4 ? layout.prefix_v4 : layout.prefix_v6;
}

std::expected<const BlockedSet*, Error> set_of(const policy::Subject& subject, const Layout& layout) {
  for (const auto& set : kBlockedSets)
    if (set.kind == subject.kind && set.family == subject.prefix.base.family &&
        length_of(set, layout) == subject.prefix.length)
      return &set;
  return std::unexpected(Error{EINVAL, "nftables: no set holds " + policy::to_string(subject) + " as a " +
                                           std::string(policy::to_string(subject.kind))});
}

void put_set_name(nlmsghdr* message, const char* set) {
  mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, kTable);
  mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set);
}

void put_key(nlmsghdr* message, std::span<const std::uint8_t> octets) {
  Key key{.size = static_cast<std::uint8_t>(octets.size())};
  std::ranges::copy(octets, key.octets.begin());
  nlattr* list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
  put_element(message, key);
  mnl_attr_nest_end(message, list);
}

std::expected<Batch, Error> build_install(const Layout& layout, const policy::PrefixSet& allowed,
                                          std::span<const Change> elements) {
  if (auto valid = check(layout); !valid) return std::unexpected(valid.error());
  const auto standing = net_effect(layout, elements);
  if (!standing) return std::unexpected(standing.error());

  Batch batch;
  // Only a table that is there can be deleted, so it is made first, if need be.
  put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, "make the table");
  put_table(batch, NFT_MSG_DELTABLE, 0, "remove the earlier table");
  put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, "make the table anew");
  put_sets(batch, layout);
  put_ranges(batch, "allowed_v4", Family::V4, allowed);
  put_ranges(batch, "allowed_v6", Family::V6, allowed);
  for (std::size_t i = 0; i < kBlockedSets.size(); ++i)
    put_elements(batch, NFT_MSG_NEWSETELEM, kBlockedSets[i].name, (*standing)[i].adds);

  put_chains(batch, layout);
  if (!layout.taken.empty()) {
    put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, "make the table netdev sipward", NFPROTO_NETDEV);
    put_table(batch, NFT_MSG_DELTABLE, 0, "remove the earlier table netdev sipward", NFPROTO_NETDEV);
    put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, "make the table netdev sipward anew", NFPROTO_NETDEV);
    put_taking_chain(batch, layout);
  }
  batch.end();
  return batch;
}

// The kernel refuses to delete what is not there, and (before 6.12) does not renew the timeout of what is there
// already. So each element is first added, which changes nothing if it stands, then deleted, and then, if it is to
// stand, added with its new timeout. Whoever looks sees only the end of it.
std::expected<Batch, Error> build_changes(const Layout& layout, std::span<const Change> changes) {
  auto remaining = net_effect(layout, changes);
  if (!remaining) return std::unexpected(remaining.error());
  Batch batch;
  for (std::size_t i = 0; i < kBlockedSets.size(); ++i) {
    const char* set = kBlockedSets[i].name;
    const auto& adds = (*remaining)[i].adds;
    auto& every = (*remaining)[i].deletes;
    every.insert(every.end(), adds.begin(), adds.end());
    put_elements(batch, NFT_MSG_NEWSETELEM, set, every);
    put_elements(batch, NFT_MSG_DELSETELEM, set, every);
    put_elements(batch, NFT_MSG_NEWSETELEM, set, adds);
  }
  batch.end();
  return batch;
}

Batch build_allowed(const policy::PrefixSet& allowed) {
  Batch batch;
  put_flush(batch, "allowed_v4");
  put_flush(batch, "allowed_v6");
  put_ranges(batch, "allowed_v4", Family::V4, allowed);
  put_ranges(batch, "allowed_v6", Family::V6, allowed);
  batch.end();
  return batch;
}

Batch build_flush() {
  Batch batch;
  for (const auto& set : kBlockedSets) put_flush(batch, set.name);
  batch.end();
  return batch;
}

Batch build_give_back() {
  Batch batch;
  put_table(batch, NFT_MSG_DELTABLE, 0, "remove the table netdev sipward", NFPROTO_NETDEV);
  batch.end();
  return batch;
}

Batch build_remove() {
  Batch batch;
  put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, "find the table");
  put_table(batch, NFT_MSG_DELTABLE, 0, "remove the table");
  batch.end();
  return batch;
}

} // namespace sipward::daemon::nft
