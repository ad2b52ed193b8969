// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>

// JSON lines over a Unix socket: one request a line, one answer a line. Both ends.
namespace sipward::daemon {

inline constexpr std::size_t kMaxControlLine = 64 * 1024; // a longer request ends the connection
inline constexpr std::size_t kMaxControlClients = 16;     // for one more, the one idle longest has to go

// The daemon's end. Control thread only. It never waits for a client: a slow one keeps its own buffer full and nobody
// else.
class ControlSocket {
public:
  using Answer = std::function<std::string(std::string_view request)>; // line in, line out, both without their ends

  // Mode 0660, owned by root and `group`; a group that does not exist leaves it to root (`warning` says so). A socket
  // file that nobody listens on any more is replaced.
  static std::expected<ControlSocket, std::string> listen(const std::filesystem::path& path, const std::string& group,
                                                          std::string& warning);
  ControlSocket(ControlSocket&& other) noexcept;
  ControlSocket& operator=(ControlSocket&&) = delete;
  ~ControlSocket();

  int event() const noexcept { return epoll_; } // readable when a client wants something
  void serve(const Answer& answer);

private:
  struct Client {
    std::string in, out;
    bool leaving = false;         // gone once `out` is sent
    std::uint64_t last_heard = 0; // counts what was heard of anybody
  };
  ControlSocket() = default;
  void accept_all();
  void turn_out_the_idlest();
  void serve_client(int fd, Client& client, const Answer& answer);
  void watch(int fd, const Client& client) const;

  std::filesystem::path path_;
  int listener_ = -1;
  int epoll_ = -1;
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

} // namespace sipward::daemon
