// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft_batch.h"

#include <libnftnl/common.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <utility>

#include "daemon/nft_chains.h"
#include "daemon/nft_elements.h"

namespace sipward::daemon::nft {
namespace {

using policy::Family;
using policy::SubjectKind;

// An element that must outlive the transaction that makes it only to delete it.
constexpr std::chrono::seconds kPassing{3600};

using Table = std::unique_ptr<nftnl_table, Freed<nftnl_table_free>>;

void put_table(Batch& batch, std::uint16_t type, std::uint16_t flags, const char* what,
               std::uint16_t family = NFPROTO_INET) {
  const Table table(made(nftnl_table_alloc()));
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, kTable);
  nftnl_table_nlmsg_build_payload(batch.open(type, flags, what, family), table.get());
  batch.close();
}

std::expected<void, Error> check(const Layout& layout) {
  for (const auto& set : standing_sets(layout))
    if (set.length < 1 || set.length > policy::bits(set.family))
      return std::unexpected(Error{EINVAL, "nftables: a prefix length of " + std::to_string(set.length) +
                                               " cannot be matched by " + name_of(set)});
  for (const auto& interface : layout.interfaces)
    if (interface.empty() || interface.size() >= IFNAMSIZ)
      return std::unexpected(Error{EINVAL, "nftables: '" + interface + "' cannot be an interface's name"});
  return {};
}

// A list of changes, sorted out: by set, the last word on each subject.
struct Wanted {
  struct Elements {
    SubjectSet set;
    std::vector<const Change*> adds{}, deletes{};
  };
  std::vector<Elements> elements;
  std::map<policy::Prefix, Change::Kind> allowed;
};

std::expected<Wanted, Error> sort_out(const Layout& layout, std::span<const Change> changes) {
  struct Entry {
    SubjectSet set;
    const Change* change;
  };
  Wanted wanted;
  std::vector<Entry> entries;
  entries.reserve(changes.size());
  for (const auto& change : changes) {
    if (change.effect == Effect::Allow && change.subject.kind != SubjectKind::Endpoint) {
      wanted.allowed[change.subject.prefix] = change.kind;
      continue;
    }
    const auto set = set_of(change.subject, change.effect, layout);
    if (!set) return std::unexpected(set.error());
    const auto& [rate, burst] = change.limit;
    if ((change.effect == Effect::Limit || change.effect == Effect::Spare) && change.kind == Change::Kind::Add &&
        (rate < 1 || rate > kRateMax || burst < 1))
      return std::unexpected(Error{EINVAL, "nftables: no limit is " + std::to_string(rate) + " a second and " +
                                               std::to_string(burst) + " at once, as for " +
                                               policy::to_string(change.subject)});
    entries.push_back({*set, &change});
  }
  std::ranges::stable_sort(entries, [](const Entry& a, const Entry& b) {
    return std::tie(a.set, a.change->subject) < std::tie(b.set, b.change->subject);
  });
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto& [set, change] = entries[i];
    if (i + 1 < entries.size() && entries[i + 1].set == set && entries[i + 1].change->subject == change->subject)
      continue;
    if (wanted.elements.empty() || wanted.elements.back().set != set) wanted.elements.push_back({.set = set});
    auto& elements = wanted.elements.back();
    (change->kind == Change::Kind::Add ? elements.adds : elements.deletes).push_back(change);
  }
  return wanted;
}

// What stands after it; nothing if that is the same as before.
std::optional<Standing> after(const Standing& before, const Wanted& wanted) {
  const bool on_demand = std::ranges::any_of(wanted.elements, [](const auto& part) { return part.set.on_demand; });
  if (!on_demand && wanted.allowed.empty()) return std::nullopt;
  Standing now = before;
  for (const auto& [set, adds, deletes] : wanted.elements) {
    if (!set.on_demand) continue;
    auto& subjects = now.on_demand[set];
    for (const auto* change : deletes) subjects.erase(change->subject);
    for (const auto* change : adds) subjects.insert(change->subject);
    if (subjects.empty()) now.on_demand.erase(set);
  }
  for (const auto& [prefix, kind] : wanted.allowed) {
    if (kind == Change::Kind::Add)
      now.allowed.insert(prefix);
    else
      now.allowed.erase(prefix);
  }
  if (now == before) return std::nullopt;
  return now;
}

std::vector<SubjectSet> sets_on_demand(const Standing& standing) {
  std::vector<SubjectSet> sets;
  for (const auto& [set, subjects] : standing.on_demand) sets.push_back(set);
  return sets;
}

std::vector<Key> keys_of(std::span<const Change* const> adds) {
  std::vector<Key> keys;
  keys.reserve(adds.size());
  for (const auto* change : adds) {
    keys.push_back(key_of(change->subject));
    keys.back().timeout = change->timeout;
    if (change->effect == Effect::Limit || change->effect == Effect::Spare) keys.back().limit = change->limit;
    keys.back().within = change->effect == Effect::Spare;
  }
  return keys;
}

// The kernel refuses to delete what is not there. So each element is first added, which changes nothing if it stands.
void put_deletions(Batch& batch, const std::string& set, std::span<Key> keys) {
  for (auto& key : keys) {
    key.timeout = kPassing;
    key.limit.reset();
  }
  put_elements(batch, Verb::Add, set, keys);
  put_elements(batch, Verb::Delete, set, keys);
}

policy::PrefixSet set_of(const std::set<policy::Prefix>& prefixes) {
  const std::vector<policy::Prefix> list(prefixes.begin(), prefixes.end());
  return policy::PrefixSet(list);
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

std::expected<Plan, Error> build_install(const Layout& layout, const policy::PrefixSet& never_blocked,
                                         std::span<const Change> changes, Taking taking) {
  if (auto valid = check(layout); !valid) return std::unexpected(valid.error());
  const auto wanted = sort_out(layout, changes);
  if (!wanted) return std::unexpected(wanted.error());

  Plan plan{.batch = {}, .standing = after({}, *wanted).value_or(Standing{})};
  auto& batch = plan.batch;
  // Only a table that is there can be deleted, so it is made first, if need be.
  put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, "make the table");
  put_table(batch, NFT_MSG_DELTABLE, 0, "remove the earlier table");
  put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, "make the table anew");

  std::uint32_t id = 0;
  const auto on_demand = sets_on_demand(*plan.standing);
  for (const auto& set : standing_sets(layout)) put_set(batch, set, ++id);
  for (const auto& set : on_demand) put_set(batch, set, ++id);
  for (const auto& pair : {kNeverBlocked, kAllowed})
    for (const auto family : {Family::V4, Family::V6}) put_interval_set(batch, of(pair, family), family, ++id);
  put_scope_sets(batch, layout, ++id);

  put_ranges(batch, kNeverBlocked, never_blocked);
  put_ranges(batch, kAllowed, set_of(plan.standing->allowed));
  for (const auto& [set, adds, deletes] : wanted->elements) put_elements(batch, Verb::Add, name_of(set), keys_of(adds));

  put_chains(batch, layout, on_demand);
  if (!layout.taken.empty() && taking == Taking::Anew) {
    put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, "make the table netdev sipward", NFPROTO_NETDEV);
    put_table(batch, NFT_MSG_DELTABLE, 0, "remove the earlier table netdev sipward", NFPROTO_NETDEV);
    put_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE, "make the table netdev sipward anew", NFPROTO_NETDEV);
    put_taking_chain(batch, layout);
  }
  batch.end();
  return plan;
}

// The kernel does not (before 6.12) renew the timeout of what is there already. So a careful batch deletes each
// element, and then, if it is to stand, adds it with its new timeout. Allowed ranges may overlap, which an interval set
// cannot express: their sets are filled anew. Whoever looks sees only the end of it.
std::expected<Plan, Error> build_changes(const Layout& layout, const Standing& standing,
                                         std::span<const Change> changes, Manner manner) {
  const auto wanted = sort_out(layout, changes);
  if (!wanted) return std::unexpected(wanted.error());
  Plan plan{.batch = {}, .standing = after(standing, *wanted)};
  auto& batch = plan.batch;
  const auto& now = plan.standing ? *plan.standing : standing;

  if (now.allowed != standing.allowed) {
    for (const char* set : kAllowed) put_flush(batch, set);
    put_ranges(batch, kAllowed, set_of(now.allowed));
  }
  std::uint32_t id = 0;
  for (const auto& [set, adds, deletes] : wanted->elements) {
    const auto name = name_of(set);
    if (set.on_demand) put_set(batch, set, ++id);
    if (manner == Manner::Quick) {
      put_elements(batch, Verb::Delete, name, keys_of(deletes));
      put_elements(batch, Verb::AddNew, name, keys_of(adds));
      continue;
    }
    auto every = deletes;
    every.insert(every.end(), adds.begin(), adds.end());
    auto keys = keys_of(every);
    put_deletions(batch, name, keys);
    put_elements(batch, Verb::Add, name, keys_of(adds));
  }
  const auto on_demand = sets_on_demand(now);
  if (on_demand != sets_on_demand(standing)) put_rules_anew(batch, layout, on_demand);
  // A set can go when no rule asks it any more.
  for (const auto& part : wanted->elements)
    if (part.set.on_demand && !now.on_demand.contains(part.set)) remove_set(batch, part.set);
  batch.end();
  return plan;
}

Batch build_never_blocked(const policy::PrefixSet& never_blocked) {
  Batch batch;
  for (const char* set : kNeverBlocked) put_flush(batch, set);
  put_ranges(batch, kNeverBlocked, never_blocked);
  batch.end();
  return batch;
}

Batch build_lift(const std::map<SubjectSet, std::vector<policy::Subject>>& subjects) {
  Batch batch;
  for (const auto& [set, members] : subjects) {
    std::vector<Key> keys;
    for (const auto& subject : members) keys.push_back(key_of(subject));
    put_deletions(batch, name_of(set), keys);
  }
  batch.end();
  return batch;
}

Batch build_flush(std::span<const SubjectSet> sets) {
  Batch batch;
  for (const auto& set : sets) put_flush(batch, name_of(set));
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
