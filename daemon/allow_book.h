// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <condition_variable>
#include <expected>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "config/allow.h"
#include "daemon/resolver.h"

// Who is allowed by name, and by lists in files: both change while the daemon runs. A thread of its own looks them up;
// the control thread is only told what has come of it.
namespace sipward::daemon {

// What one name has meant so far. Pure.
struct NameFound {
  std::vector<policy::Address> addresses; // the last good answer; sorted
  // What an answer makes of it. An empty one changes nothing; one that is not whole takes nothing away.
  struct Change {
    std::vector<policy::Address> added, removed;
    bool any() const noexcept { return !added.empty() || !removed.empty(); }
  };
  Change take(const Resolved& answer);
};

class AllowBook {
public:
  struct Wanted {
    std::vector<std::string> names;
    std::vector<std::filesystem::path> files;
    std::filesystem::path folder; // its *.yaml are lists as well; "": none
    friend bool operator==(const Wanted&, const Wanted&) = default;
  };
  using Lookup = std::function<Resolved(const std::string& name)>; // may wait; called by the book's thread

  explicit AllowBook(Lookup lookup = [resolver = Resolver()](const std::string& name) {
    return resolver.resolve(name);
  });
  ~AllowBook();

  // Control thread. Files are read at once, names within the next seconds.
  void want(const Wanted& wanted);
  int event() const noexcept { return event_; } // readable when there is news
  struct News {
    std::vector<policy::Prefix> ranges; // all that are allowed by now
    std::vector<std::string> changes;   // sentences for the log: who came, who went, what could not be read
  };
  std::optional<News> take(); // nothing: as before

private:
  using Clock = std::chrono::steady_clock;
  struct File {
    std::filesystem::file_time_type changed;
    bool readable = false;
    config::AllowList list; // the last that made sense
    std::string fault;      // as told
  };
  struct Name {
    NameFound found;
    Clock::time_point due{};
    bool silent = false; // told that nothing was heard
  };

  void run();
  void read_files(const Wanted& wanted, std::vector<std::string>& changes);
  void read_file(const std::filesystem::path& path, std::vector<std::string>& changes);
  void look_up(const Wanted& wanted, std::vector<std::string>& changes);
  std::vector<policy::Prefix> ranges() const;
  Clock::time_point next_due() const;
  bool is_stopping();

  Lookup lookup_;
  int event_ = -1;

  // The thread's own.
  std::map<std::filesystem::path, File> files_;
  std::map<std::string, Name> names_;

  std::mutex mutex_; // for what follows
  std::condition_variable wake_;
  Wanted wanted_;
  bool changed_ = false; // wanted_, since the thread looked
  bool stopping_ = false;
  std::optional<News> news_;
  std::thread thread_; // the last: it uses all of these
};

} // namespace sipward::daemon
