// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "daemon/state_records.h"

// The state database: what must outlast the process. Enforcement never waits for it: changes are handed over in memory,
// and a thread of its own commits them.
//
// What was committed is there after a crash or a power cut. While the disk does not take anything (full, read-only,
// locked, slow, gone), the latest record under each key is held in memory and tried again; nobody waits meanwhile. A
// corrupt file is moved aside and a new one begun; a later sipward's is not touched.
namespace sipward::daemon {

class StateWriter;

struct StateOptions {
  StateLimits limits;
  std::chrono::milliseconds patience{2000};    // for a commit; longer is trouble
  std::chrono::milliseconds gather{5000};      // what is not urgent waits for more
  std::chrono::milliseconds lock_wait{250};    // for another process to end its transaction, at each try
  std::chrono::milliseconds first_retry{100};  // then twice that, and so on ...
  std::chrono::milliseconds last_retry{10000}; // ... up to this
};

// Control thread only.
class State {
public:
  enum class Urgency : std::uint8_t {
    Now,   // somebody waits to be told that it is on file
    Later, // may be gathered, and lost with a crash: the trust of a phone that registers every minute
  };
  struct Lost { // since the start, as the bounds of memory were reached
    std::uint64_t records = 0;
    std::uint64_t history = 0;
  };

  // Reads what is on file, and begins to write. A disk that can be read but not written, or one with nothing on it yet
  // that cannot be written, is trouble() and no error. The error is a sentence: nothing was changed, and what is on
  // file was not read.
  static std::expected<std::unique_ptr<State>, std::string> open(const std::filesystem::path& path,
                                                                 StateOptions options = {});
  // Remembers nothing, and says why: for a daemon that goes on after such an error.
  static std::unique_ptr<State> without(std::string why);
  ~State(); // what is committed is; see flush()

  // What was on file at open(). Once.
  StateContents load() { return std::move(contents_); }

  // Hands over one batch, which will be on file as a whole or not at all. `now`: the wall clock. Returns its number.
  std::uint64_t write(StateChanges changes, WallTime now, Urgency urgency = Urgency::Now);
  std::uint64_t handed_over() const; // the last batch that write() took
  // The batch up to which nobody needs to wait any longer: on file, or not to be expected there soon, see trouble().
  std::uint64_t settled() const;
  std::uint64_t committed() const; // the batch up to which all is on file

  // Readable when settled(), trouble(), take_news() or wants_all() may have changed.
  int event() const noexcept;
  void clear_event() noexcept;

  std::string trouble() const;          // why nothing is written at present, a sentence; empty: all is well
  std::vector<std::string> take_news(); // sentences to be told once: what was moved aside, begun anew, lost
  bool wants_all();                     // the file lacks things: write() all that should be on it. Told once
  Lost lost() const;

  // Waits until all is on file, for so long at most. False: it is not.
  bool flush(std::chrono::milliseconds bound);

private:
  State() = default;
  StateContents contents_;
  std::unique_ptr<StateWriter> writer_;
  int claim_ = -1;      // keeps other daemons from the file
  std::string why_not_; // without a writer
  int silent_event_ = -1;
  std::uint64_t dropped_ = 0;
};

// What is on file, without changing it. Any thread or process; the writer goes on meanwhile.
std::expected<StateContents, std::string> read_state(const std::filesystem::path& path);

// The decisions after that place, by time, `most` of them at most. Likewise.
std::expected<std::vector<HistoryRecord>, std::string> read_history(const std::filesystem::path& path,
                                                                    const HistoryPlace& after, std::size_t most);

// The latest decisions about these addresses, and about what holds them, the newest first. Likewise.
std::expected<std::vector<HistoryRecord>, std::string>
read_history_of(const std::filesystem::path& path, const policy::Prefix& addresses, std::size_t most);

} // namespace sipward::daemon
