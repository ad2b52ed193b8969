// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "daemon/nft_dump.h"

// Private to this layer. The netlink socket that transactions and single questions go through, non-blocking; and what
// to do when it fails. The kernel works on a request inside our sendmsg() and queues every answer before it returns (a
// dump's next part: before recvmsg() returns), so an empty queue means that there is no more. Control thread only.
namespace sipward::daemon::nft {

inline constexpr int kTries = 3; // at whatever may_pass(), one right after the other

class RequestSocket {
public:
  using Each = std::function<void(const nlmsghdr&)>;

  // Opens it, or another one in its place: with the same port, so that whoever watches the table still knows our
  // changes from others'. 0, or an errno.
  int connect();
  std::uint32_t port() const noexcept { return port_; }

  // Sends a request, whose answers may take up so much. 0, or an errno: then nothing was taken.
  int send(const void* message, std::size_t octets, std::size_t answer_octets = 0);
  // Hands over all messages that the kernel has queued. 0, or an errno: some were lost. If more may come, they are kept
  // from the next request.
  int receive(const Each& each);
  // The last request's answer is not whole: what is still to come is nobody's.
  void leave_behind() noexcept { astray_ = true; }

private:
  void room(int privileged, int ordinary, std::size_t octets);

  NetlinkSocket socket_;
  std::uint32_t port_ = 0;
  bool astray_ = false; // it has something left in it, or is none any more: another one before the next request
  std::vector<std::uint8_t> reply_;
};

} // namespace sipward::daemon::nft
