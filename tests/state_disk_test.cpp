// SPDX-License-Identifier: GPL-2.0-or-later
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>

#include "tests/run_tests.h"
#include "tests/state_lab.h"

// The state on a disk that is full, or read-only: a small tmpfs, mounted where nobody else sees it. The process moves
// into a mount namespace of its own before the first test.
using namespace sipward;
using namespace sipward::state_lab;
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kDiskOctets = 2 << 20;

class SmallDisk {
public:
  SmallDisk() {
    if (mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, ("size=" + std::to_string(kDiskOctets)).c_str()) != 0)
      throw std::runtime_error(std::string("mount: ") + std::strerror(errno));
  }
  ~SmallDisk() { umount2(folder_.path().c_str(), MNT_DETACH); }

  fs::path file() const { return folder_.file(); }
  const fs::path& path() const { return folder_.path(); }
  void read_only(bool yes) {
    const unsigned long flags = yes ? MS_REMOUNT | MS_BIND | MS_RDONLY : MS_REMOUNT | MS_BIND;
    if (mount(nullptr, folder_.path().c_str(), nullptr, flags, nullptr) != 0)
      throw std::runtime_error(std::string("remount: ") + std::strerror(errno));
  }
  void fill() const {
    const std::string block(4096, 'x');
    for (std::size_t size = block.size(); size > 0; size /= 2) { // to the last octet
      std::ofstream file(folder_.path() / ("filler" + std::to_string(size)), std::ios::binary);
      while (file.write(block.data(), static_cast<std::streamsize>(size)) && file.flush()) {
      }
    }
    REQUIRE(fs::space(folder_.path()).free == 0);
  }
  void empty() const {
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      if (entry.path().filename().string().starts_with("filler")) fs::remove(entry.path());
  }

private:
  Folder folder_;
};

StateChanges blocks(unsigned from, unsigned count) {
  StateChanges changes;
  for (unsigned i = from; i < from + count; ++i) changes.emplace_back(blocked(numbered(i)));
  return changes;
}

} // namespace

TEST_CASE("on a full disk nobody waits, what was saved stays, and all is written when there is room") {
  const SmallDisk disk;
  const auto state = must_open(disk.file());
  state->write(blocks(0, 100), kNow);
  REQUIRE(state->flush(10s));
  disk.fill();
  unsigned made = 100;
  std::uint64_t batch = 0;
  while (state->trouble().empty() && made < 20000) { // the log may have room of its own yet
    batch = state->write(blocks(made, 100), kNow);
    made += 100;
    soon([&] { return state->settled() == batch; });
  }
  CHECK(state->trouble() == "state.path: " + disk.file().string() + " has no room: the disk is full");
  CHECK(state->settled() == batch);
  CHECK(state->committed() < batch);
  CHECK_FALSE(state->flush(100ms));
  CHECK(contents(disk.file()).blocks.size() >= 100); // by another reader, on the full disk

  for (unsigned round = 0; round < 10; ++round) state->write({blocked(numbered(0), kNow + round * 1h)}, kNow);
  disk.empty();
  REQUIRE(soon([&] { return state->trouble().empty(); })); // by itself
  REQUIRE(state->flush(10s));
  CHECK(state->lost().records == 0);
  CHECK_FALSE(state->wants_all());
  const auto read = contents(disk.file());
  CHECK(read.blocks.size() == made);
  CHECK(read.blocks[0].until == kNow + 9h);
}

TEST_CASE("a restart on a full disk restores what was saved") {
  const SmallDisk disk;
  put(disk.file(), blocks(0, 100));
  disk.fill();
  {
    const auto state = must_open(disk.file());
    CHECK(state->load().blocks.size() == 100);
    state->write({blocked(numbered(500))}, kNow);
    state->flush(100ms);
  }
  disk.empty();
  CHECK(contents(disk.file()).blocks.size() >= 100);
}

TEST_CASE("a first start on a full disk begins with nothing, and catches up") {
  const SmallDisk disk;
  disk.fill();
  const auto state = must_open(disk.file());
  CHECK(state->load().blocks.empty());
  CHECK_FALSE(state->trouble().empty());
  state->write({blocked(numbered(1))}, kNow);
  disk.empty();
  REQUIRE(state->flush(10s));
  CHECK(contents(disk.file()).blocks.size() == 1);
}

TEST_CASE("a restart on a read-only disk restores what was saved, also from the log of a crash") {
  const bool crashed = GENERATE(false, true);
  INFO((crashed ? "after a crash" : "after a stop"));
  SmallDisk disk;
  auto file = disk.file();
  if (crashed) { // the files as they stand while they are written: most is in the log
    const auto writing = must_open(disk.file());
    writing->write(blocks(0, 50), kNow);
    REQUIRE(writing->flush(10s));
    file = disk.path() / "copy" / "sipward.db";
    fs::create_directory(file.parent_path());
    for (const char* suffix : {"", "-wal", "-shm"})
      fs::copy_file(disk.file().string() + suffix, file.string() + suffix);
  } else {
    put(file, blocks(0, 50));
  }
  disk.read_only(true);
  const auto state = must_open(file);
  CHECK(state->load().blocks.size() == 50);
  const auto batch = state->write({blocked(numbered(77)), alert("a line")}, kNow);
  CHECK(state->settled() == batch);
  CHECK_FALSE(state->trouble().empty());
  CHECK(history(file).empty());
  disk.read_only(false);
  REQUIRE(state->flush(10s));
  CHECK(contents(file).blocks.size() == 51);
  CHECK(history(file).size() == 1);
}

TEST_CASE("a first start on a read-only disk begins with nothing, and catches up") {
  SmallDisk disk;
  fs::create_directory(disk.file().parent_path());
  disk.read_only(true);
  const auto state = must_open(disk.file());
  CHECK(state->load().blocks.empty());
  CHECK(state->trouble().find(" cannot be made: ") != std::string::npos);
  state->write({blocked(numbered(1))}, kNow);
  disk.read_only(false);
  REQUIRE(state->flush(10s));
  CHECK(contents(disk.file()).blocks.size() == 1);
}

TEST_CASE("the secret of a start that could not write is the one that comes on file") {
  SmallDisk disk;
  fs::create_directory(disk.file().parent_path());
  disk.read_only(true);
  const auto state = must_open(disk.file());
  const auto secret = state->load().secret;
  disk.read_only(false);
  REQUIRE(soon([&] { return state->trouble().empty(); }));
  CHECK(contents(disk.file()).secret == secret);
}

int main(int argc, char** argv) {
  const auto skip = [](const std::string& reason) {
    std::cerr << "skipped: " << reason << "\n";
    return 77;
  };
  if (geteuid() != 0) return skip("needs root, for a mount namespace of its own");
  if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return skip("cannot make a mount namespace here");
  try {
    const SmallDisk disk;
  } catch (const std::runtime_error& error) {
    return skip(std::string("cannot make a small disk here: ") + error.what());
  }
  return sipward::test::run_tests(argc, argv);
}
