// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/allow_book.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <ranges>
#include <utility>

namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr auto kFilesEvery = 5s; // are looked at
constexpr auto kSoonest = 30s;   // a name is asked for again, whatever its TTL says
constexpr auto kLatest = 1h;
constexpr auto kAgain = 60s; // after no answer, or half of one

std::string listed(const std::vector<policy::Address>& addresses) {
  constexpr std::size_t kNamed = 8;
  std::string text;
  for (const auto& address : addresses | std::views::take(kNamed))
    text += (text.empty() ? "" : ", ") + to_string(address);
  if (addresses.size() > kNamed) text += " and " + std::to_string(addresses.size() - kNamed) + " more";
  return text;
}

std::string told(const std::string& name, const NameFound::Change& change) {
  std::string text = "allow: " + name;
  if (!change.added.empty()) text += " has " + listed(change.added);
  if (!change.removed.empty())
    text += (change.added.empty() ? " has " : ", and ") + ("no longer " + listed(change.removed));
  return text;
}

} // namespace

NameFound::Change NameFound::take(const Resolved& answer) {
  Change change;
  if (answer.addresses.empty()) return change;
  std::ranges::set_difference(answer.addresses, addresses, std::back_inserter(change.added));
  if (answer.whole) std::ranges::set_difference(addresses, answer.addresses, std::back_inserter(change.removed));
  std::vector<policy::Address> next;
  if (answer.whole)
    next = answer.addresses;
  else
    std::ranges::set_union(addresses, answer.addresses, std::back_inserter(next));
  addresses = std::move(next);
  return change;
}

AllowBook::AllowBook(Lookup lookup) : lookup_(std::move(lookup)), event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "sipward-allow");
}

AllowBook::~AllowBook() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  if (event_ >= 0) close(event_);
}

void AllowBook::want(const Wanted& wanted) {
  {
    const std::lock_guard lock(mutex_);
    if (wanted == wanted_) return;
    wanted_ = wanted;
    changed_ = true;
  }
  wake_.notify_one();
}

std::optional<AllowBook::News> AllowBook::take() {
  eventfd_t ignored = 0;
  eventfd_read(event_, &ignored);
  const std::lock_guard lock(mutex_);
  return std::exchange(news_, std::nullopt);
}

bool AllowBook::is_stopping() {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

// --- the book's thread

void AllowBook::run() {
  std::vector<policy::Prefix> before;
  const auto publish = [&](std::vector<std::string>& changes) {
    auto now = ranges();
    if (now == before && changes.empty()) return;
    before = now;
    const std::lock_guard lock(mutex_);
    if (!news_) news_.emplace();
    news_->ranges = std::move(now);
    std::ranges::move(changes, std::back_inserter(news_->changes));
    eventfd_write(event_, 1);
    changes.clear();
  };
  std::unique_lock lock(mutex_);
  for (auto next = Clock::now(); !stopping_; lock.lock()) {
    wake_.wait_until(lock, next, [this] { return stopping_ || changed_; });
    if (stopping_) return;
    changed_ = false;
    const auto wanted = wanted_;
    lock.unlock();
    std::vector<std::string> changes;
    read_files(wanted, changes);
    publish(changes);
    look_up(wanted, changes);
    publish(changes);
    next = next_due();
  }
}

void AllowBook::read_files(const Wanted& wanted, std::vector<std::string>& changes) {
  std::vector<fs::path> paths = wanted.files;
  std::error_code error;
  if (!wanted.folder.empty())
    for (auto entry = fs::directory_iterator(wanted.folder, error); !error && entry != fs::directory_iterator();
         entry.increment(error))
      if (entry->path().extension() == ".yaml") paths.push_back(entry->path());
  // A list that the settings name and that is away is perhaps being written: it is kept. One of the folder was taken
  // out.
  std::erase_if(files_, [&](const auto& entry) {
    if (std::ranges::find(paths, entry.first) != paths.end()) return false;
    changes.push_back("allow: " + entry.first.string() + " is no longer read");
    return true;
  });
  for (const auto& path : paths) read_file(path, changes);
}

void AllowBook::read_file(const fs::path& path, std::vector<std::string>& changes) {
  std::error_code error;
  const auto changed = fs::last_write_time(path, error);
  auto& file = files_[path];
  if (!error && file.readable && changed == file.changed) return;
  const auto list = config::load_allow(path);
  file.readable = !error && list.has_value();
  if (!error) file.changed = changed;
  const auto fault = list ? std::string() : to_string(list.error());
  if (fault != file.fault && !fault.empty()) changes.push_back("allow: " + fault + "; what was read before stays");
  file.fault = fault;
  if (!list || *list == file.list) return;
  file.list = *list;
  changes.push_back("allow: " + path.string() + " has " + std::to_string(list->ranges.size()) + " ranges and " +
                    std::to_string(list->names.size()) + " names");
}

void AllowBook::look_up(const Wanted& wanted, std::vector<std::string>& changes) {
  std::set<std::string> names(wanted.names.begin(), wanted.names.end());
  for (const auto& [path, file] : files_) names.insert(file.list.names.begin(), file.list.names.end());
  std::erase_if(names_, [&](const auto& entry) {
    if (names.contains(entry.first)) return false;
    changes.push_back("allow: " + entry.first + " is no longer asked for");
    return true;
  });
  for (const auto& text : names) {
    auto& name = names_[text];
    if (Clock::now() < name.due) continue;
    if (is_stopping()) return;
    const auto answer = lookup_(text);
    const bool good = answer.whole && !answer.addresses.empty();
    const auto wait = good ? std::clamp<std::chrono::seconds>(answer.ttl, kSoonest, kLatest) : kAgain;
    name.due = Clock::now() + wait;
    const auto change = name.found.take(answer);
    if (change.any()) changes.push_back(told(text, change));
    const bool silent = answer.addresses.empty();
    if (silent && !name.silent)
      changes.push_back("allow: " + text + (answer.whole ? " has no address" : " cannot be looked up") +
                        (name.found.addresses.empty() ? "" : "; the last known ones stay"));
    name.silent = silent;
  }
}

std::vector<policy::Prefix> AllowBook::ranges() const {
  std::vector<policy::Prefix> all;
  for (const auto& [path, file] : files_) all.insert(all.end(), file.list.ranges.begin(), file.list.ranges.end());
  for (const auto& [text, name] : names_)
    for (const auto& address : name.found.addresses) all.push_back(policy::Prefix::host(address));
  return all;
}

AllowBook::Clock::time_point AllowBook::next_due() const {
  auto next = Clock::now() + kFilesEvery;
  for (const auto& [text, name] : names_) next = std::min(next, name.due);
  return next;
}

} // namespace sipward::daemon
