// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/control_socket.h"

#include <grp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/folders.h"

namespace sipward::daemon {
namespace {

std::string reason(const std::filesystem::path& path, const char* what) {
  return std::string(what) + " " + path.string() + ": " + std::strerror(errno);
}

bool address_of(const std::filesystem::path& path, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  const auto& text = path.native();
  if (text.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, text.c_str(), text.size() + 1);
  return true;
}

bool somebody_listens(const sockaddr_un& address) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool there = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return there;
}

// Returns the group that it has now.
gid_t give_to_group(const std::filesystem::path& path, const std::string& group, std::string& warning) {
  chmod(path.c_str(), 0660);
  std::array<char, 4096> buffer{};
  struct group entry {};
  struct stat there {};
  struct group* found = nullptr;
  getgrnam_r(group.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr)
    warning = "control.group: there is no group " + group + " here, so only root can use " + path.string();
  else if (stat(path.c_str(), &there) == 0 && there.st_gid == found->gr_gid)
    return there.st_gid; // it is our own group already, and a service may be forbidden to ask for another
  else if (chown(path.c_str(), static_cast<uid_t>(-1), found->gr_gid) != 0)
    warning = reason(path, "control.group: cannot change");
  struct stat now {};
  return stat(path.c_str(), &now) == 0 ? now.st_gid : 0;
}

} // namespace

std::expected<ControlSocket, std::string> ControlSocket::listen(const std::filesystem::path& path,
                                                                const std::string& group, std::string& warning) {
  if (const auto made = make_folder_for(path); !made) return std::unexpected("control.socket: " + made.error());
  sockaddr_un address{};
  if (!address_of(path, address)) return std::unexpected("control.socket: the path is too long: " + path.string());
  if (somebody_listens(address)) return std::unexpected("control.socket: another program listens on " + path.string());
  struct stat there {};
  if (lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode))
      return std::unexpected("control.socket: " + path.string() + " exists and is no socket");
    unlink(path.c_str()); // left over from a run that was killed
  }

  ControlSocket control;
  control.path_ = path;
  control.listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  control.epoll_ = epoll_create1(EPOLL_CLOEXEC);
  const mode_t mask = umask(0117); // nobody gets in between bind and chmod
  const int bound = bind(control.listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  umask(mask);
  if (bound != 0 || ::listen(control.listener_, kMaxControlClients) != 0)
    return std::unexpected(reason(path, "control.socket: cannot listen on"));
  control.group_ = give_to_group(path, group, warning);
  epoll_event event{EPOLLIN, {.fd = control.listener_}};
  epoll_ctl(control.epoll_, EPOLL_CTL_ADD, control.listener_, &event);
  return control;
}

ControlSocket::ControlSocket(ControlSocket&& other) noexcept
    : path_(std::exchange(other.path_, {})), listener_(std::exchange(other.listener_, -1)),
      epoll_(std::exchange(other.epoll_, -1)), group_(other.group_), heard_(other.heard_),
      clients_(std::exchange(other.clients_, {})) {}

ControlSocket::~ControlSocket() {
  for (const auto& [fd, client] : clients_) close(fd);
  if (listener_ >= 0) close(listener_);
  if (epoll_ >= 0) close(epoll_);
  if (!path_.empty()) unlink(path_.c_str());
}

void ControlSocket::serve(const Answer& answer, const News& news) {
  std::array<epoll_event, kMaxControlClients + 1> events{};
  const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < count; ++i) {
    const int fd = events[static_cast<std::size_t>(i)].data.fd;
    if (fd == listener_)
      accept_all();
    else if (const auto client = clients_.find(fd); client != clients_.end())
      serve_client(fd, client->second, answer);
  }
  tell(news);
}

// Who follows and has read all that he was sent gets what came since. A slow one finds later that he missed some.
void ControlSocket::tell(const News& news) {
  for (auto at = clients_.begin(); at != clients_.end();) {
    auto& [fd, client] = *at++; // may be dropped
    if (!client.follows || !client.out.empty()) continue;
    client.out = news(*client.follows);
    if (client.out.empty()) continue;
    if (send_out(fd, client))
      watch(fd, client);
    else
      drop(fd);
  }
}

void ControlSocket::drop(int fd) {
  close(fd); // takes it out of the epoll set too
  clients_.erase(fd);
}

// The file's mode keeps others out already, unless somebody has changed it.
bool ControlSocket::may_use(int fd) const {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  if (peer.uid == 0 || peer.uid == geteuid() || peer.gid == group_) return true;
  std::array<gid_t, 1024> groups{};
  size = sizeof groups;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) return false;
  const auto end = groups.begin() + static_cast<std::ptrdiff_t>(size / sizeof(gid_t));
  return std::find(groups.begin(), end, group_) != end;
}

void ControlSocket::accept_all() {
  for (;;) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const auto turn_away = [fd](std::string_view why) {
      [[maybe_unused]] const auto sent = send(fd, why.data(), why.size(), MSG_NOSIGNAL);
      close(fd);
    };
    if (!may_use(fd)) {
      turn_away("{\"ok\":false,\"error\":\"this socket is for root and its group\"}\n");
      continue;
    }
    if (clients_.size() >= kMaxControlClients) turn_out_the_idlest();
    if (clients_.size() >= kMaxControlClients) {
      turn_away("{\"ok\":false,\"error\":\"too many clients at once\"}\n");
      continue;
    }
    clients_.emplace(fd, Client{}).first->second.last_heard = ++heard_;
    epoll_event event{EPOLLIN, {.fd = fd}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
}

// Makes room for a newcomer: whoever has been silent longest, and waits for nothing, goes.
void ControlSocket::turn_out_the_idlest() {
  auto idlest = clients_.end();
  for (auto at = clients_.begin(); at != clients_.end(); ++at)
    if (at->second.out.empty() && !at->second.follows &&
        (idlest == clients_.end() || at->second.last_heard < idlest->second.last_heard))
      idlest = at;
  if (idlest != clients_.end()) drop(idlest->first);
}

void ControlSocket::watch(int fd, const Client& client) const {
  // Whoever does not read his answers is not read from either.
  epoll_event event{client.out.empty() ? EPOLLIN : EPOLLOUT, {.fd = fd}};
  epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

void ControlSocket::serve_client(int fd, Client& client, const Answer& answer) {
  client.last_heard = ++heard_;
  bool there = !client.out.empty() || hear(fd, client);
  while (there) {
    // One answer at a time: the next request is looked at when the last answer is on its way.
    if (client.out.empty() && !client.leaving && !client.follows) {
      if (const auto end = client.in.find('\n'); end != std::string::npos) {
        reply(client, std::string_view(client.in).substr(0, end), answer);
        client.in.erase(0, end + 1);
      } else if (client.in.size() > kMaxControlLine) {
        client.out = "{\"ok\":false,\"error\":\"a request is at most 64 KiB long\"}\n";
        client.leaving = true;
      }
    }
    if (client.out.empty()) break;
    there = send_out(fd, client);
    if (!client.out.empty()) break;
  }
  if (!there || (client.leaving && client.out.empty())) return drop(fd);
  watch(fd, client);
}

// False: it is gone.
bool ControlSocket::hear(int fd, Client& client) {
  std::array<char, 16384> buffer{};
  const auto got = recv(fd, buffer.data(), buffer.size(), 0);
  if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
  if (!client.follows) client.in.append(buffer.data(), static_cast<std::size_t>(got)); // who follows only listens
  return true;
}

void ControlSocket::reply(Client& client, std::string_view request, const Answer& answer) {
  auto reply = answer(request);
  const auto follows = std::count_if(clients_.begin(), clients_.end(),
                                     [](const auto& entry) { return entry.second.follows.has_value(); });
  if (reply.follow && static_cast<std::size_t>(follows) >= kMaxControlFollowers)
    reply = {"{\"ok\":false,\"error\":\"too many follow already\"}", {}};
  client.out = std::move(reply.line) + "\n";
  client.follows = reply.follow;
}

// As much as fits. False: it is gone.
bool ControlSocket::send_out(int fd, Client& client) {
  const auto sent = send(fd, client.out.data(), client.out.size(), MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  client.out.erase(0, static_cast<std::size_t>(sent));
  return true;
}

namespace {

// A connection over which the request is on its way.
std::expected<int, ControlFailure> connected(const std::filesystem::path& path, const std::string& request,
                                             std::chrono::seconds patience) {
  sockaddr_un address{};
  if (!address_of(path, address))
    return std::unexpected(ControlFailure{false, "the path is too long: " + path.string()});
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval limit{patience.count(), 0}; // 0: without end
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int why = errno;
    close(fd);
    if (why == EACCES || why == EPERM)
      return std::unexpected(
          ControlFailure{false, "you may not use " + path.string() + " (it is for root and its group)"});
    return std::unexpected(
        ControlFailure{true, "no sipward daemon answers at " + path.string() + ": " + std::strerror(why)});
  }
  const std::string line = request + "\n";
  // A daemon that turns us away says why, even if it no longer reads.
  [[maybe_unused]] const auto sent = send(fd, line.data(), line.size(), MSG_NOSIGNAL);
  return fd;
}

} // namespace

std::expected<std::string, ControlFailure> ask(const std::filesystem::path& path, const std::string& request,
                                               std::chrono::seconds patience) {
  const auto fd = connected(path, request, patience);
  if (!fd) return std::unexpected(fd.error());
  std::string reply;
  std::array<char, 16384> buffer{};
  while (!reply.ends_with('\n')) {
    const auto got = recv(*fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) {
      close(*fd);
      return std::unexpected(ControlFailure{false, "the daemon at " + path.string() + " gave no answer"});
    }
    reply.append(buffer.data(), static_cast<std::size_t>(got));
  }
  close(*fd);
  reply.pop_back();
  return reply;
}

std::expected<void, ControlFailure> hear(const std::filesystem::path& path, const std::string& request,
                                         const std::function<bool(const std::string& line)>& take) {
  const auto fd = connected(path, request, std::chrono::seconds(0));
  if (!fd) return std::unexpected(fd.error());
  std::string heard;
  std::array<char, 16384> buffer{};
  for (bool more = true; more;) {
    const auto got = recv(*fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) break;
    heard.append(buffer.data(), static_cast<std::size_t>(got));
    for (auto end = heard.find('\n'); more && end != std::string::npos; end = heard.find('\n')) {
      more = take(heard.substr(0, end));
      heard.erase(0, end + 1);
    }
  }
  close(*fd);
  return {};
}

} // namespace sipward::daemon
