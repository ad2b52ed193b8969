// SPDX-License-Identifier: GPL-2.0-or-later
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <deque>
#include <random>

#include "tests/state_lab.h"

// Death at any moment: what was said to be on file is. The one that dies is a child, started before there are threads.
using namespace sipward;
using namespace sipward::state_lab;

namespace {

// Batch n: a block of its own, a line of history, and block 0, which every batch changes. It tells the numbers of those
// that are on file through the pipe, and never ends by itself.
[[noreturn]] void write_for_ever(const std::filesystem::path& file, unsigned first, int pipe) {
  const auto state = State::open(file, quick());
  if (!state) _exit(1);
  std::deque<std::pair<std::uint64_t, unsigned>> waiting; // as State numbers them, and as we do
  for (unsigned number = first;; ++number) {
    const auto batch = (*state)->write({blocked(numbered(number)), alert(std::to_string(number)),
                                        blocked(numbered(0), kNow + std::chrono::seconds(number))},
                                       kNow);
    waiting.emplace_back(batch, number);
    if (number % 3 != 0) continue; // several batches at once, now and then
    pollfd event{(*state)->event(), POLLIN, 0};
    poll(&event, 1, 1000);
    (*state)->clear_event();
    const auto committed = (*state)->committed();
    for (; !waiting.empty() && waiting.front().first <= committed; waiting.pop_front())
      if (write(pipe, &waiting.front().second, sizeof number) != sizeof number) _exit(1);
  }
}

} // namespace

TEST_CASE("what was told to be on file is there after a kill at any moment, a hundred times") {
  const Folder folder;
  std::mt19937 random(20261122);
  unsigned lives_with_news = 0;
  for (unsigned life = 0; life < 100; ++life) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const unsigned first = 100'000 * (life + 1); // numbers of its own
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      close(ends[0]);
      write_for_ever(folder.file(), first, ends[1]);
    }
    close(ends[1]);
    if (life % 2 == 0) { // every other one dies at work, the others perhaps before
      pollfd news{ends[0], POLLIN, 0};
      REQUIRE(poll(&news, 1, 60'000) == 1);
    }
    poll(nullptr, 0, std::uniform_int_distribution<int>(0, 50)(random));
    kill(child, SIGKILL);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status)); // it did not give up
    unsigned told = 0;
    for (unsigned number = 0; read(ends[0], &number, sizeof number) == sizeof number;) told = number;
    close(ends[0]);

    const auto state = must_open(folder.file());
    INFO("life " << life << ", told up to " << told);
    REQUIRE(state->take_news().empty()); // nothing corrupt
    const auto contents = state->load();
    std::set<policy::Subject> there;
    for (const auto& record : contents.blocks) REQUIRE(there.insert(record.block.subject).second);
    std::set<unsigned> lines;
    for (const auto& line : history(folder.file())) lines.insert(static_cast<unsigned>(std::stoul(line.text)));
    for (unsigned number = first; number <= told; ++number) {
      if (!there.contains(numbered(number))) FAIL("block " << number << " is lost");
      if (!lines.contains(number)) FAIL("line " << number << " is lost");
    }
    // All of a batch or nothing: no block without its line, and block 0 as the latest batch says.
    for (const auto number : lines)
      if (!there.contains(numbered(number))) FAIL("line " << number << " has no block");
    if (!lines.empty()) {
      REQUIRE(there.size() == lines.size() + 1);
      REQUIRE(contents.blocks[0].until == kNow + std::chrono::seconds(*lines.rbegin()));
    }
    lives_with_news += told > 0;
    REQUIRE(state->flush(10s));
  }
  CHECK(lives_with_news >= 50);
}
