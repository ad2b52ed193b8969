// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "captures.h"
#include "daemon/replay.h"
#include "daemon/replay_report.h"

// Recordings of real attackers and honest parties, each with what it must lead to (cases.json beside them), judged with
// the built-in settings; and a crowd of our own, with attackers in it.
using namespace sipward;
using namespace sipward::captures;
using namespace sipward::daemon;

namespace {

using Json = nlohmann::json;

std::filesystem::path data_folder() {
  const char* named = std::getenv("SIPWARD_DATA");
  return named != nullptr ? named : SIPWARD_SOURCE_DIR "/../shared/data";
}

ReplayReport judged(const std::filesystem::path& file, const std::vector<std::string>& servers) {
  ReplayOptions options;
  options.captures = {file};
  for (const auto& server : servers) options.servers.push_back(policy::Address::parse(server).value());
  auto report = judge_captures(options);
  REQUIRE(report);
  return std::move(*report);
}

const policy::Block* block_of(const ReplayReport& report, const std::string& address) {
  for (const auto& block : report.blocks)
    if (block.subject.kind == policy::SubjectKind::Host &&
        block.subject.prefix.holds(policy::Address::parse(address).value()))
      return &block;
  return nullptr;
}

const Talker* talker(const ReplayReport& report, const std::string& address) {
  for (const Talker* each : report.talkers.sorted(SortKey::Packets))
    if (to_string(each->address) == address) return each;
  return nullptr;
}

} // namespace

TEST_CASE("every recording comes out as it must: attackers are convicted in time, and no honest packet is lost") {
  const auto data = data_folder();
  if (!std::filesystem::exists(data / "cases.json")) {
    WARN("skipped: no recordings in " << data << "; SIPWARD_DATA names another place");
    return;
  }
  std::ifstream file(data / "cases.json");
  for (const auto& row : Json::parse(file)) {
    const auto name = row.at("file").get<std::string>();
    INFO(name);
    const auto report = judged(data / name, row.at("servers").get<std::vector<std::string>>());
    const auto attackers = row.value("attackers", std::vector<std::string>{});
    for (const auto& attacker : attackers) {
      const policy::Block* block = block_of(report, attacker);
      const Talker* sent = talker(report, attacker);
      REQUIRE(sent != nullptr);
      if (block == nullptr && row.value("limited_ok", false)) {
        CHECK(sent->dropped * 2 >= sent->packets);
        continue;
      }
      REQUIRE(block != nullptr);
      INFO(block->packets_before << " packets, " << to_string(block->reason));
      CHECK(block->packets_before <= row.at("within").get<unsigned>());
      const auto reasons = row.value("reasons", std::vector<std::string>{});
      CHECK((reasons.empty() || std::ranges::find(reasons, to_string(block->reason)) != reasons.end()));
    }
    CHECK(report.blocks.size() <= attackers.size());
    for (const Talker* each : report.talkers.sorted(SortKey::Packets)) {
      INFO(to_string(each->address));
      CHECK((each->dropped == 0 || std::ranges::find(attackers, to_string(each->address)) != attackers.end()));
    }
  }
}

namespace {

// Whole registrations on a time line of their own, in microseconds.
struct Traffic {
  std::multimap<std::uint64_t, Octets> packets;
  const Endpoint server{"192.0.2.10", 5060};
  unsigned number = 0;

  static std::string with(std::string text, const std::string& header) {
    return text.insert(text.find("Content-Length"), header + "\r\n");
  }
  // `status` 0: the challenge is not answered.
  void registers(std::uint64_t at, const Endpoint& from, const std::string& user, unsigned status) {
    const std::string nonce = "nonce=\"n" + std::to_string(++number) + "\"", phone = "Snom/8.7";
    packets.emplace(at, udp(from, server, request("REGISTER", user, phone, number)));
    packets.emplace(at + 1000, udp(server, from,
                                   with(response(401, "REGISTER", user, number),
                                        "WWW-Authenticate: Digest realm=\"x\", " + nonce)));
    if (status == 0) return;
    const std::string digest = "Authorization: Digest username=\"" + user + "\", realm=\"x\", " + nonce +
                               ", uri=\"sip:x\", response=\"r" + std::to_string(number) + "\"";
    packets.emplace(at + 50'000, udp(from, server, with(request("REGISTER", user, phone, ++number), digest)));
    packets.emplace(at + 51'000, udp(server, from, response(status, "REGISTER", user, number)));
  }
};

} // namespace

TEST_CASE("beside five hundred honest phones attackers fast and slow are convicted, and only they") {
  Traffic traffic;
  constexpr std::uint64_t kSecond = 1'000'000;
  for (unsigned i = 0; i < 500; ++i) { // half of them in two offices, half at home; each minute for ten minutes
    const std::string address =
        i < 250 ? "203.0.113." + std::to_string(1 + i % 2) : "198.18.0." + std::to_string(i % 250);
    const Endpoint phone{address.c_str(), static_cast<std::uint16_t>(20'000 + i)};
    for (unsigned minute = 0; minute < 10; ++minute)
      traffic.registers(minute * 60 * kSecond + i * 2'500, phone, "user" + std::to_string(i), 200);
  }
  struct Attacker {
    const char* address;
    unsigned status;
    std::uint64_t pace_us;
    bool one_user;
    unsigned most; // packets
  };
  const Attacker attackers[] = {{"198.51.100.1", 401, 5 * kSecond, true, 2 * 30},
                                {"198.51.100.2", 0, 5 * kSecond, false, 30},
                                {"198.51.100.3", 401, 10'000, true, 2 * 30},
                                {"198.51.100.4", 0, 10'000, false, 107},
                                {"198.51.100.5", 0, 1'000, true, 107},
                                {"198.51.100.6", 401, 10 * kSecond, false, 2 * 30}};
  for (const auto& attacker : attackers)
    for (unsigned i = 0; i < 600 * kSecond / attacker.pace_us && i < 1000; ++i)
      traffic.registers(30 * kSecond + i * attacker.pace_us, {attacker.address, 5060},
                        attacker.one_user ? "1001" : "x" + std::to_string(i), attacker.status);
  Pcap pcap(101);
  for (const auto& [us, packet] : traffic.packets)
    pcap.add(static_cast<std::uint32_t>(1'700'000'000 + us / kSecond), static_cast<std::uint32_t>(us % kSecond),
             packet);
  const Folder folder;
  const auto report = judged(folder.file("a.pcap", pcap.octets), {traffic.server.address});

  for (const auto& attacker : attackers) {
    INFO(attacker.address);
    const policy::Block* block = block_of(report, attacker.address);
    REQUIRE(block != nullptr);
    CHECK(block->packets_before <= attacker.most);
  }
  for (const auto& block : report.blocks) CHECK(to_string(block.subject).starts_with("198.51.100."));
  for (const Talker* each : report.talkers.sorted(SortKey::Packets)) {
    INFO(to_string(each->address));
    CHECK((each->dropped == 0 || to_string(each->address).starts_with("198.51.100.")));
  }
}
