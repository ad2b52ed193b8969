// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataplane/shares.h"

#include <catch2/catch.hpp>
#include <set>
#include <string>

namespace sipward::dataplane {
namespace {

using Queues = std::vector<Shares::Queue>;

struct Row {
  std::string name;
  std::vector<QueueLimits> ports;
  std::size_t cores;
  bool forwards;
  std::vector<Queues> served;
};

const std::vector<Row> kRows = {
    {"monitor, one port, no cores: one worker", {{16, 16}}, 0, false, {{{0, 0}}}},
    {"monitor, one port, two cores: two queues", {{16, 16}}, 2, false, {{{0, 0}}, {{0, 1}}}},
    {"monitor, two ports, no cores: a worker each", {{16, 16}, {16, 16}}, 0, false, {{{0, 0}}, {{1, 0}}}},
    {"monitor, two ports, two cores: worker i reads queue i of both",
     {{16, 16}, {16, 16}},
     2,
     false,
     {{{0, 0}, {1, 0}}, {{0, 1}, {1, 1}}}},
    {"monitor, two ports, one core: one worker for both", {{16, 16}, {16, 16}}, 1, false, {{{0, 0}, {1, 0}}}},
    {"monitor, ports of one queue, two cores: a port each", {{1, 1}, {1, 1}}, 2, false, {{{0, 0}}, {{1, 0}}}},
    {"monitor, more cores than queues: fewer workers", {{2, 1}}, 4, false, {{{0, 0}}, {{0, 1}}}},
    {"monitor, unequal ports: the second goes on where the first ends",
     {{1, 1}, {2, 2}},
     2,
     false,
     {{{0, 0}, {1, 1}}, {{1, 0}}}},
    {"inline, no cores: one worker for all", {{16, 16}, {16, 16}}, 0, true, {{{0, 0}, {1, 0}}}},
    {"inline, two cores: worker i reads queue i of both sides",
     {{16, 16}, {16, 16}},
     2,
     true,
     {{{0, 0}, {1, 0}}, {{0, 1}, {1, 1}}}},
    {"inline, a port to send by with one queue: one worker", {{16, 16}, {16, 1}}, 2, true, {{{0, 0}, {1, 0}}}},
    {"inline, a port that receives by one queue: both workers have something to do",
     {{1, 16}, {16, 16}},
     2,
     true,
     {{{0, 0}, {1, 1}}, {{1, 0}}}},
};

TEST_CASE("workers and queues are shared out as the drivers allow") {
  for (const auto& row : kRows) {
    INFO(row.name);
    CHECK(share_out(row.ports, row.cores, row.forwards).served == row.served);
  }
}

TEST_CASE("every queue is read by one worker, and no worker is idle or sends by a queue that is not there") {
  for (unsigned receive = 1; receive <= 5; ++receive)
    for (unsigned transmit = 1; transmit <= 5; ++transmit)
      for (std::size_t cores = 0; cores <= 6; ++cores)
        for (const bool forwards : {false, true}) {
          const std::vector<QueueLimits> ports = {{receive, transmit}, {transmit, receive}, {3, 2}};
          const auto shares = share_out(ports, cores, forwards);
          INFO(receive << " " << transmit << " " << cores << " " << forwards);
          std::set<std::pair<std::size_t, unsigned>> read;
          std::size_t queues = 0;
          for (const auto& served : shares.served) {
            CHECK_FALSE(served.empty());
            queues += served.size();
            for (const auto& [port, number] : served) {
              CHECK(number < shares.receive[port]);
              read.emplace(port, number);
            }
          }
          CHECK(read.size() == queues);
          std::size_t expected = 0;
          for (std::size_t port = 0; port < ports.size(); ++port) {
            CHECK(shares.receive[port] <= ports[port].receive);
            expected += shares.receive[port];
            if (forwards) CHECK(shares.workers() <= ports[port].transmit);
          }
          CHECK(queues == expected);
        }
}

} // namespace
} // namespace sipward::dataplane
