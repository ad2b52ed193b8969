// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

// JSON lines over a Unix socket: one request a line, one answer a line. Both ends.
namespace sipward::daemon {

inline constexpr std::size_t kMaxControlLine = 64 * 1024; // a longer request ends the connection
inline constexpr std::size_t kMaxControlClients = 16;     // for one more, the one idle longest has to go
inline constexpr std::size_t kMaxControlFollowers = 8;    // of these: they stay, so that the others find room

// The daemon's end. Control thread only. It never waits for a client: a slow one keeps its own buffer full and nobody
// else.
class ControlSocket {
public:
  struct Reply {
    std::string line;                    // without its end
    std::optional<std::uint64_t> follow; // the client is to be told what happens from this place on
  };
  using Answer = std::function<Reply(std::string_view request)>;
  // What has happened since a place, lines with their ends, not too many at once; moves the place on.
  using News = std::function<std::string(std::uint64_t& place)>;

  // Mode 0660, owned by root and `group`; a group that does not exist leaves it to root (`warning` says so). A socket
  // file that nobody listens on any more is replaced.
  static std::expected<ControlSocket, std::string> listen(const std::filesystem::path& path, const std::string& group,
                                                          std::string& warning);
  ControlSocket(ControlSocket&& other) noexcept;
  ControlSocket& operator=(ControlSocket&&) = delete;
  ~ControlSocket();

  int event() const noexcept { return epoll_; } // readable when a client wants something
  // Answers those who ask, and tells the news to those who follow.
  void serve(const Answer& answer, const News& news);

private:
  struct Client {
    std::string in, out;
    std::optional<std::uint64_t> follows; // the place up to which it has been told
    bool leaving = false;                 // gone once `out` is sent
    std::uint64_t last_heard = 0;         // counts what was heard of anybody
  };
  ControlSocket() = default;
  void accept_all();
  void turn_out_the_idlest();
  void serve_client(int fd, Client& client, const Answer& answer);
  bool may_use(int fd) const;
  bool hear(int fd, Client& client);
  void reply(Client& client, std::string_view request, const Answer& answer);
  bool send_out(int fd, Client& client);
  void tell(const News& news);
  void drop(int fd);
  void watch(int fd, const Client& client) const;

  std::filesystem::path path_;
  int listener_ = -1;
  int epoll_ = -1;
  unsigned group_ = 0; // whose members may use it, beside root
  std::uint64_t heard_ = 0;
  std::map<int, Client> clients_;
};

// The commands' end.
struct ControlFailure {
  bool nobody_there = false; // no daemon listens at the path
  std::string message;
};
std::expected<std::string, ControlFailure> ask(const std::filesystem::path& path, const std::string& request,
                                               std::chrono::seconds patience = std::chrono::seconds(10));

// Sends a request and hands over every line that comes, until the daemon ends the connection, or `take` says false.
std::expected<void, ControlFailure> hear(const std::filesystem::path& path, const std::string& request,
                                         const std::function<bool(const std::string& line)>& take);

} // namespace sipward::daemon
