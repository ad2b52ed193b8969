// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "daemon/nft.h"

struct mnl_socket;
struct nlattr;
struct nlmsghdr;

// Private to this layer. One question to the kernel about many things, whose answer comes in parts: each is read when
// it is asked for, so that a long one can be read between other work. It changes nothing. Control thread only; nothing
// waits.
namespace sipward::daemon::nft {

struct CloseNetlink {
  void operator()(mnl_socket* socket) const noexcept;
};
using NetlinkSocket = std::unique_ptr<mnl_socket, CloseNetlink>;

Error netlink_error(int code, const std::string& what);

// What stood in the way of a question, or of a whole batch, may be gone by the next try: a signal, others at work, no
// room or memory just now, a part of an answer that was lost.
bool may_pass(int code) noexcept;
// It will not: the socket is none any more, and another one has to take its place.
bool is_broken(int code) noexcept;

// So often in a row a socket may have an error for an answer. The kernel tells each once, so more are a mistake that
// must not hold up everything else.
inline constexpr int kErrorsInARow = 64;

// The attributes of one message by their types, those below `Count`; a null pointer: it has none. Those of messages
// about nf_tables begin behind an nfgenmsg.
template<std::size_t Count>
using Attributes = std::array<const nlattr*, Count>;
void note_attributes(const nlmsghdr& message, std::span<const nlattr*> into);
template<std::size_t Count>
Attributes<Count> attributes_of(const nlmsghdr& message) {
  Attributes<Count> found{};
  note_attributes(message, found);
  return found;
}

class Dump {
public:
  struct Question {
    std::uint16_t type = 0; // NFT_MSG_GET...
    std::uint16_t family = 0;
    std::uint16_t table_attribute = 0; // both strings, if not empty, go into these
    std::string table{};
    std::uint16_t set_attribute = 0;
    std::string set{};
  };
  using Each = std::function<void(const nlmsghdr&)>;

  // Asks. ENOENT and the like may come with the first part.
  static std::expected<Dump, Error> start(const Question& question);

  // Hands over the messages of the next part; false: that was the last one.
  std::expected<bool, Error> next(const Each& each);
  // Others' changes made the answer inconsistent: things may be in it twice, or not at all.
  bool interrupted() const noexcept { return interrupted_; }

private:
  explicit Dump(NetlinkSocket socket) : socket_(std::move(socket)) {}
  NetlinkSocket socket_;
  std::vector<std::uint8_t> part_;
  bool interrupted_ = false;
  int signals_ = 0; // in a row
};

// The whole answer at once, asked for anew while others interrupt it, or something may_pass(); `begin` comes before
// each attempt. EINTR: they keep doing so.
std::expected<void, Error> read_whole(const Dump::Question& question, const std::function<void()>& begin,
                                      const Dump::Each& each);

} // namespace sipward::daemon::nft
