// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "daemon/nft.h"
#include "daemon/nft_sets.h"
#include "policy/address.h"
#include "policy/block.h"

struct nlmsghdr;

// The pure half of the nftables layer: what we want of the kernel, as the octets of one netlink transaction.
// No socket, no clock, no state; the same arguments give the same octets.
//
// The facts it rests on, and where they stand:
//   linux/netfilter/nfnetlink.h   NFNL_MSG_BATCH_BEGIN … NFNL_MSG_BATCH_END: all messages between take effect together
//   or
//                                 not at all. The batch must reach the kernel in one sendmsg().
//   linux/netfilter/nf_tables.h   message types, attributes, set and element flags; every number in them is big-endian.
//   linux/netlink.h               an attribute's length is 16 bits: long lists of elements need several messages.
//   libnftnl (chain.h, rule.h, set.h, expr.h): encodes tables, sets, chains and rules. `nft --debug=netlink` shows the
//                                 expressions that nft itself makes of a rule; ours are the same, so that it prints
//                                 them well.
namespace sipward::daemon::nft {

inline constexpr const char* kTable = "sipward"; // family inet; of what inline takes from the kernel, netdev

// One netlink transaction: begin, messages that each ask for an acknowledgement, end.
// A message's sequence number is its place in steps(); the kernel's answers carry it back.
class Batch {
public:
  Batch();

  // Opens a message of the nf_tables subsystem; it is written through the pointer, which is good until close().
  // At most kRoom octets. `what` is for people: "add 198.51.100.66 to blocked_v4". `family`: inet, if it is left out.
  nlmsghdr* open(std::uint16_t type, std::uint16_t flags, std::string what);
  nlmsghdr* open(std::uint16_t type, std::uint16_t flags, std::string what, std::uint16_t family);
  void close();
  void end();

  std::span<const std::uint8_t> octets() const noexcept { return octets_; }
  // What each message does; the first stands for the transaction as a whole (the kernel names it when none is at
  // fault).
  std::span<const std::string> steps() const noexcept { return steps_; }

  static constexpr std::size_t kRoom = std::size_t{64} << 10;

private:
  void append(const nlmsghdr* message);
  std::vector<std::uint8_t> octets_;
  std::vector<std::string> steps_;
  std::unique_ptr<std::uint8_t[]> scratch_; // the open message; libmnl and libnftnl write without asking for room
  nlmsghdr* open_ = nullptr;
};

// What a batch has to know of those before it.
struct Standing {
  std::map<SubjectSet, std::set<policy::Subject>> on_demand; // none of them empty
  std::set<policy::Prefix> allowed;
  friend bool operator==(const Standing&, const Standing&) = default;
};

// A batch, and what stands once the kernel has taken it; nothing if the batch changes nothing of that.
struct Plan {
  Batch batch;
  std::optional<Standing> standing;
};

// What a batch takes for granted. Quick: what is added does not stand, and what is deleted does; the kernel refuses it
// if that is wrong. Careful: nothing, at three times the cost.
enum class Manner : std::uint8_t { Quick, Careful };

// The table `netdev sipward`, where a layout wants it: made anew, or left as it stands.
enum class Taking : std::uint8_t { Anew, AsItStands };

// Each of these transactions but a quick one may be sent again, whether or not the kernel took it the first time: the
// end is the same.
std::expected<Plan, Error> build_install(const Layout& layout, const policy::PrefixSet& never_blocked,
                                         std::span<const Change> changes, Taking taking = Taking::Anew);
std::expected<Plan, Error> build_changes(const Layout& layout, const Standing& standing,
                                         std::span<const Change> changes, Manner manner);
Batch build_never_blocked(const policy::PrefixSet& never_blocked);
Batch build_lift(const std::map<SubjectSet, std::vector<policy::Subject>>& subjects);
Batch build_flush(std::span<const SubjectSet> sets);
Batch build_remove();
Batch build_give_back(); // ENOENT if nothing was taken

} // namespace sipward::daemon::nft
