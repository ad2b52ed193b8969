// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/block_log.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>

namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

struct Folder {
  fs::path path = fs::temp_directory_path() / ("block_log_test-" + std::to_string(getpid()));
  Folder() { fs::create_directory(path); }
  ~Folder() { fs::remove_all(path); }
};

std::vector<std::string> lines(const fs::path& file) {
  std::ifstream stream(file);
  std::vector<std::string> found;
  for (std::string line; std::getline(stream, line);) found.push_back(line);
  return found;
}

TEST_CASE("a log that is moved away is made anew within a second, and no line is lost") {
  Folder folder;
  const auto file = folder.path / "block.log", moved = folder.path / "block.log.1";
  auto log = BlockLog::open(file, config::LogFormat::Text);
  REQUIRE(log);
  const WallClock clock;
  (*log)->summarise(policy::Time(1s), clock);
  (*log)->alert("one", policy::Time(1s), clock);
  fs::rename(file, moved);
  (*log)->alert("two", policy::Time(1500ms), clock); // not noticed yet: it goes with the others
  (*log)->summarise(policy::Time(2s), clock);
  (*log)->alert("three", policy::Time(2s), clock);
  CHECK(lines(moved) ==
        std::vector<std::string>{"1970-01-01T00:00:01.000000Z alert - one", "1970-01-01T00:00:01.500000Z alert - two"});
  CHECK(lines(file) == std::vector<std::string>{"1970-01-01T00:00:02.000000Z alert - three"});

  SECTION("as is one that another has taken the place of") {
    fs::rename(file, folder.path / "block.log.2");
    std::ofstream(file) << "";
    (*log)->summarise(policy::Time(3s), clock);
    (*log)->alert("four", policy::Time(3s), clock);
    CHECK(lines(file) == std::vector<std::string>{"1970-01-01T00:00:03.000000Z alert - four"});
  }
  SECTION("as is one that was removed") {
    fs::remove(file);
    (*log)->summarise(policy::Time(3s), clock);
    (*log)->alert("four", policy::Time(3s), clock);
    CHECK(lines(file) == std::vector<std::string>{"1970-01-01T00:00:03.000000Z alert - four"});
  }
  SECTION("and while its place cannot be opened, the moved one goes on") {
    fs::rename(file, moved);
    fs::create_directory(file);
    (*log)->summarise(policy::Time(3s), clock);
    (*log)->alert("four", policy::Time(3s), clock);
    CHECK(lines(moved).size() == 2);
  }
}

} // namespace
} // namespace sipward::daemon
