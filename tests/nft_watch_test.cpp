// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/nft_watch.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>

#include "tests/nft_lab.h"

// What others do to the table, as the kernel tells it and as looking finds it. In a network namespace of the test's
// own.
using namespace sipward;
using namespace sipward::test;
using namespace std::chrono_literals;
using daemon::nft::Disturbance;
using daemon::nft::Effect;
using daemon::nft::Element;
using daemon::nft::Nft;
using daemon::nft::Survey;
using daemon::nft::Watch;
using TableFrame = daemon::nft::Frame; // a Frame here is one on the wire

namespace {

// A table of ours with two hosts in it, and somebody who watches it from then on.
struct Watched {
  Nft nft = fresh();
  Watch watch = open_watch(nft);
  Watched() {
    must(nft.install(layout_on({"swn-b"}), prefixes({"203.0.113.10"}),
                     std::vector{add(host("198.51.100.66")), add(host("2001:db8:1:2::7"))}));
  }
  static Watch open_watch(const Nft& nft) {
    auto opened = Watch::open(nft.port());
    must(opened);
    return std::move(*opened);
  }
  Disturbance take() { return watch.take(nft.layout()); }
  TableFrame frame() const {
    auto read = TableFrame::read();
    must(read);
    return std::move(*read);
  }
};

std::vector<Element> survey(const Nft& nft) {
  Survey pass(nft.sets());
  std::vector<Element> all;
  for (bool more = true; more;) {
    const auto read = pass.next([&](const Element& element) { all.push_back(element); });
    must(read);
    more = *read;
  }
  return all;
}

} // namespace

TEST_CASE("of our own changes nothing is told") {
  Watched watched;
  must(watched.nft.commit(std::vector{add(host("198.51.100.67")), erase(host("198.51.100.66"))}));
  must(watched.nft.replace_never_blocked(prefixes({"203.0.113.11"})));
  CHECK_FALSE(watched.take().any());
}

TEST_CASE("nor of what others do to tables of theirs") {
  Watched watched;
  run("nft 'add table inet other; add set inet other blocked_v4 { type ipv4_addr; }; add table ip sipward'");
  CHECK_FALSE(watched.take().any());
  run("nft 'delete table inet other; delete table ip sipward'");
  CHECK_FALSE(watched.take().any());
}

TEST_CASE("whatever somebody does to the table is told, with what and by whom") {
  struct Row {
    const char *name, *does, *what;
  };
  const Row rows[] = {
      {"a flushed ruleset", "flush ruleset", "table inet sipward"},
      {"the table deleted", "delete table inet sipward", "table inet sipward"},
      {"the table put to sleep", "add table inet sipward { flags dormant; }", "table inet sipward"},
      {"the table's rules flushed", "flush table inet sipward",
       "rules of ingress, rules of output, rules of prerouting"},
      {"one chain's rules flushed", "flush chain inet sipward output", "rules of output"},
      {"a rule before ours", "insert rule inet sipward ingress accept", "rules of ingress"},
      {"a chain deleted", "flush chain inet sipward ingress; delete chain inet sipward ingress",
       "chain ingress, rules of ingress"},
      {"a chain of theirs", "add chain inet sipward mine", "chain mine"},
      {"a port taken out of the scope", "delete element inet sipward sip_ports { 5060 }", "set sip_ports"},
      {"an allowed range", "add element inet sipward allowed_v4 { 198.51.100.0/24 }", "set allowed_v4"},
  };
  for (const auto& row : rows) {
    INFO(row.name);
    Watched watched;
    const auto before = watched.frame();
    run(std::string("nft '") + row.does + "'");
    const auto told = watched.take();
    CHECK(told.frame);
    CHECK_FALSE(told.lost);
    CHECK(told.text() == row.what);
    CHECK(told.by == "nft");
    const auto after = watched.frame();
    CHECK(after != before);
    if (!after.empty() && told.text() != "table inet sipward") CHECK(after.against(before) == told.what);
    CHECK_FALSE(watched.take().any());
  }
}

TEST_CASE("an element that somebody deletes is told with what it had counted, and one that he adds") {
  Watched watched;
  make_probe();
  const auto before = watched.frame();
  const Wire wire;
  for (int i = 0; i < 3; ++i) CHECK(fate_of({.from = "198.51.100.66"}, wire, watched.nft) == Fate::Dropped);
  run("nft 'delete element inet sipward blocked_v4 { 198.51.100.66 }; "
      "add element inet sipward blocked_v6 { 2001:db8:9:9:: timeout 1m }; "
      "add element inet sipward blocked_endpoint_v4 { 198.51.100.7 . 5070 timeout 1m }'");
  const auto told = watched.take();
  CHECK_FALSE(told.frame);
  REQUIRE(told.deleted.size() == 1);
  CHECK(told.deleted[0].subject == host("198.51.100.66"));
  CHECK(told.deleted[0].packets == 3);
  std::set<std::string> added;
  for (const auto& element : told.added) added.insert(policy::to_string(element.subject));
  CHECK(added == std::set<std::string>{"2001:db8:9:9::/64", "198.51.100.7:5070"});
  CHECK(told.text() == "3 elements");
  CHECK(watched.frame() == before);
}

TEST_CASE("a set flushed is told element by element") {
  Watched watched;
  run("nft flush set inet sipward blocked_v4");
  const auto told = watched.take();
  REQUIRE(told.deleted.size() == 1);
  CHECK(told.deleted[0].subject == host("198.51.100.66"));
}

TEST_CASE("more than can be told is told as lost, and nothing more is missed after it") {
  Watched watched;
  constexpr int kMany = 60'000;
  {
    std::ofstream file("/tmp/sipward-nft-watch.nft");
    file << "add element inet sipward blocked_v4 {";
    for (int i = 0; i < kMany; ++i) file << policy::to_string(numbered(i).prefix.base) << " timeout 1h,";
    file << "}\n";
  }
  run("nft -f /tmp/sipward-nft-watch.nft; rm /tmp/sipward-nft-watch.nft");
  CHECK(watched.take().lost);
  CHECK(survey(watched.nft).size() == kMany + 2);
  run("nft delete element inet sipward blocked_v4 '{ 198.51.100.66 }'");
  const auto told = watched.take();
  CHECK_FALSE(told.lost);
  CHECK(told.deleted.size() == 1);
}

TEST_CASE("of our own storm nothing is lost") {
  Watched watched;
  std::vector<daemon::nft::Change> storm;
  for (int i = 0; i < 60'000; ++i) storm.push_back(add(numbered(i)));
  must(watched.nft.commit(storm));
  CHECK_FALSE(watched.take().any());
}

TEST_CASE("the frame is the same as long as nobody changes it, whoever is blocked meanwhile") {
  Watched watched;
  const auto before = watched.frame();
  CHECK_FALSE(before.empty());
  const auto frames = watched.nft.frames();
  must(watched.nft.commit(std::vector{add(host("198.51.100.67")), erase(host("198.51.100.66"))}));
  CHECK(watched.frame() == before);
  CHECK(watched.nft.frames() == frames);
  must(watched.nft.commit(std::vector{add(range("198.51.96.0/20"))})); // a set on demand, and rules for it
  CHECK(watched.nft.frames() > frames);
  CHECK(watched.frame() != before);
  must(watched.nft.remove());
  CHECK(watched.frame().empty());
}

TEST_CASE("a survey finds every element of every set, part by part") {
  Watched watched;
  std::vector<daemon::nft::Change> changes = {add(range("198.51.100.0/24")), add(range("198.51.96.0/20")),
                                              limit(host("198.51.100.9"), 20, 40), add(endpoint("198.51.100.8", 5070))};
  for (int i = 0; i < 3'000; ++i) changes.push_back(add(numbered(i)));
  must(watched.nft.commit(changes));
  std::set<std::pair<policy::Subject, Effect>> found;
  for (const auto& element : survey(watched.nft)) found.emplace(element.subject, element.effect);
  CHECK(found.size() == 3'006);
  CHECK(found.contains({limit(host("198.51.100.9"), 20, 40).subject, Effect::Limit}));
  CHECK(found.contains({host("2001:db8:1:2::7"), Effect::Drop}));
}

TEST_CASE("a survey of a table that is gone says so") {
  Watched watched;
  Survey pass(watched.nft.sets());
  run("nft flush ruleset");
  const auto read = pass.next([](const Element&) {});
  REQUIRE_FALSE(read);
  CHECK(read.error().code == ENOENT);
}
