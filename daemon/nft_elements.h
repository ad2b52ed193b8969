// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/nft_batch.h"
#include "daemon/nft_sets.h"

// Private to this layer. Sets and their elements, as messages of a batch (nft_batch.h), and read from the kernel's
// answers.
namespace sipward::daemon::nft {

// Ownership of libnftnl's objects; its allocators answer with a null pointer when memory is out.
template<auto Free>
struct Freed {
  void operator()(auto* object) const noexcept { Free(object); }
};
template<class Object>
Object* made(Object* object) {
  if (object == nullptr) throw std::bad_alloc();
  return object;
}

// An element's octets, in network order, and what goes with them. Of an endpoint: address, port, and two octets of
// padding, since the parts of a key begin at multiples of four.
struct Key {
  std::array<std::uint8_t, 20> octets{};
  std::uint8_t size = 0;
  std::uint32_t flags = 0;
  std::chrono::seconds timeout{0};
  std::optional<Limit> limit{};
  bool within = false; // the limit matches what is within it, not what is over

  std::span<const std::uint8_t> wire() const noexcept { return {octets.data(), size}; }
};
Key key_of(const policy::Address& address);
Key key_of(const policy::Subject& subject);

// Makes the set; one of these that stands already stays as it is. `id`: any number that no other set of this batch has.
void put_set(Batch& batch, const SubjectSet& set, std::uint32_t id);
void put_interval_set(Batch& batch, const char* name, policy::Family family, std::uint32_t id);
// What `scope` asks for.
void put_scope_sets(Batch& batch, const Layout& layout, std::uint32_t first_id);
void remove_set(Batch& batch, const SubjectSet& set);

// Add leaves what stands already as it is; AddNew and Delete make the kernel refuse the whole batch, with EEXIST and
// ENOENT, if an element stands already, or does not.
enum class Verb : std::uint8_t { Add, AddNew, Delete };
void put_elements(Batch& batch, Verb verb, const std::string& set, std::span<const Key> keys);
void put_flush(Batch& batch, const std::string& set);
// The ranges of both families into a pair of interval sets.
void put_ranges(Batch& batch, const std::array<const char*, 2>& sets, const policy::PrefixSet& ranges);

// Writes NFTA_SET_ELEM_LIST_TABLE and _SET, which open every message about elements.
void put_set_name(nlmsghdr* message, const std::string& set);
// Writes the list with this one key, for a question about it.
void put_key(nlmsghdr* message, const Key& key);

// The elements of one NFT_MSG_NEWSETELEM message about this set.
std::vector<Element> elements_of(const nlmsghdr& message, const SubjectSet& set);
// The set of one NFT_MSG_NEWSET message; nothing if its elements are no subjects.
std::optional<SubjectSet> set_of(const nlmsghdr& message);

} // namespace sipward::daemon::nft
