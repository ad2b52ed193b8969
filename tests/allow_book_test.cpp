// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/allow_book.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <sys/socket.h>

#include <atomic>

#include "tests/state_lab.h"

using namespace sipward;
using namespace sipward::state_lab;
using policy::Address;

namespace {

Address address(const char* text) { return Address::parse(text).value(); }
Resolved answer(std::vector<Address> addresses, bool whole = true) { return {std::move(addresses), 3600s, whole}; }

// A name server for a handful of names, on a port of its own.
class NameServer {
public:
  struct Record {
    std::string name;
    std::uint16_t type;
    std::string data; // as on the wire
  };
  explicit NameServer(std::vector<Record> records) : records_(std::move(records)) {
    socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (bind(socket_, reinterpret_cast<sockaddr*>(&at), size) != 0 ||
        getsockname(socket_, reinterpret_cast<sockaddr*>(&at), &size) != 0)
      throw std::runtime_error("no port for a name server");
    port_ = ntohs(at.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~NameServer() {
    shutdown(socket_, SHUT_RDWR);
    thread_.join();
    close(socket_);
  }
  std::uint16_t port() const noexcept { return port_; }

  static std::string wire_name(std::string_view name) {
    std::string wire;
    while (!name.empty()) {
      const auto label = name.substr(0, name.find('.'));
      wire += static_cast<char>(label.size());
      wire += label;
      name.remove_prefix(std::min(name.size(), label.size() + 1));
    }
    return wire + '\0';
  }
  static Record a(std::string name, const char* text) {
    const auto parsed = address(text);
    return {std::move(name), parsed.family == policy::Family::V4 ? std::uint16_t{ns_t_a} : std::uint16_t{ns_t_aaaa},
            std::string(parsed.wire().begin(), parsed.wire().end())};
  }
  static Record srv(std::string name, const std::string& host) {
    return {std::move(name), ns_t_srv, std::string("\0\1\0\1\x13\xc4", 6) + wire_name(host)};
  }
  static Record naptr(std::string name, const std::string& flags, const std::string& service, const std::string& next) {
    const auto text = [](const std::string& t) { return static_cast<char>(t.size()) + t; };
    return {std::move(name), ns_t_naptr,
            std::string("\0\1\0\1", 4) + text(flags) + text(service) + text("") + wire_name(next)};
  }

private:
  void serve() {
    std::array<char, 512> datagram{};
    sockaddr_in from{};
    for (;;) {
      socklen_t size = sizeof from;
      const auto octets =
          recvfrom(socket_, datagram.data(), datagram.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (octets < 17) return; // shut down
      const auto reply = answer_to({datagram.data(), static_cast<std::size_t>(octets)});
      sendto(socket_, reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
    }
  }
  std::string answer_to(std::string_view query) const {
    std::size_t end = 12;
    while (query[end] != '\0') end += 1U + static_cast<unsigned char>(query[end]);
    const std::string name(query.substr(12, end + 1 - 12));
    const auto type = static_cast<std::uint16_t>(static_cast<unsigned char>(query[end + 1]) << 8 |
                                                 static_cast<unsigned char>(query[end + 2]));
    std::string answers;
    unsigned count = 0;
    bool known = false;
    for (const auto& record : records_) {
      if (wire_name(record.name) != name) continue;
      known = true;
      if (record.type != type) continue;
      ++count;
      answers += std::string("\xc0\x0c", 2) + static_cast<char>(type >> 8) + static_cast<char>(type) +
                 std::string("\0\1\0\0\0\x78", 6) + static_cast<char>(record.data.size() >> 8) +
                 static_cast<char>(record.data.size()) + record.data;
    }
    const char code = known ? '\x80' : '\x83'; // no such name
    return std::string(query.substr(0, 2)) + '\x81' + code + std::string("\0\1\0", 3) + static_cast<char>(count) +
           std::string(4, '\0') + std::string(query.substr(12, end + 5 - 12)) + answers;
  }

  std::vector<Record> records_;
  int socket_ = -1;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

} // namespace

TEST_CASE("what an answer changes is told, and an empty one takes nobody away") {
  const auto a = address("203.0.113.1"), b = address("203.0.113.2"), c = address("203.0.113.3");
  NameFound name;
  CHECK(name.take(answer({a, b})).added == std::vector{a, b});
  CHECK_FALSE(name.take(answer({a, b})).any());
  CHECK_FALSE(name.take(answer({})).any());
  CHECK_FALSE(name.take(answer({}, false)).any());
  CHECK(name.addresses == std::vector{a, b});
  const auto change = name.take(answer({b, c}));
  CHECK(change.added == std::vector{c});
  CHECK(change.removed == std::vector{a});
  CHECK(name.take(answer({a}, false)).removed.empty()); // not the whole answer
  CHECK(name.addresses == std::vector{a, b, c});
}

TEST_CASE("a SIP domain is followed from NAPTR over SRV to its hosts") {
  using N = NameServer;
  const NameServer server({N::naptr("carrier.test", "s", "SIP+D2U", "_sip._udp.carrier.test"),
                           N::naptr("carrier.test", "u", "E2U+sip", "nonsense.test"),
                           N::srv("_sip._udp.carrier.test", "one.carrier.test"),
                           N::srv("_sip._udp.carrier.test", "two.carrier.test"),
                           N::a("one.carrier.test", "203.0.113.1"), N::a("two.carrier.test", "203.0.113.2"),
                           N::a("two.carrier.test", "2001:db8::2"), N::a("carrier.test", "203.0.113.80"),
                           N::srv("_sip._tcp.plain.test", "one.carrier.test"), N::a("host.test", "203.0.113.9")});
  const Resolver resolver(server.port());
  const auto carrier = resolver.resolve("carrier.test");
  CHECK(carrier.whole);
  CHECK(carrier.ttl == 120s);
  CHECK(carrier.addresses ==
        std::vector{address("203.0.113.1"), address("203.0.113.2"), address("203.0.113.80"), address("2001:db8::2")});
  CHECK(resolver.resolve("plain.test").addresses == std::vector{address("203.0.113.1")});
  CHECK(resolver.resolve("_sip._udp.carrier.test").addresses ==
        std::vector{address("203.0.113.1"), address("203.0.113.2"), address("2001:db8::2")});
  CHECK(resolver.resolve("host.test").addresses == std::vector{address("203.0.113.9")});
  const auto nobody = resolver.resolve("nobody.test");
  CHECK(nobody.addresses.empty());
  CHECK(nobody.whole);
}

TEST_CASE("where no server is, nothing is known, and nobody waits for each question in turn") {
  const auto begun = std::chrono::steady_clock::now();
  std::uint16_t closed = 0;
  { closed = NameServer({}).port(); }
  const auto found = Resolver(closed).resolve("carrier.test");
  CHECK_FALSE(found.whole);
  CHECK(found.addresses.empty());
  CHECK(std::chrono::steady_clock::now() - begun < 6s);
}

TEST_CASE("names and lists come into force, change, and outlast their silence") {
  const Folder folder;
  const auto list = folder.path() / "carriers.list";
  std::ofstream(list) << "203.0.113.10\nlisted.test\n";
  std::atomic<bool> silent = false;
  AllowBook book([&](const std::string& name) {
    return silent ? answer({}, false) : answer({address(name == "listed.test" ? "203.0.113.2" : "203.0.113.1")});
  });
  std::vector<policy::Prefix> ranges;
  std::vector<std::string> changes;
  const auto holds = [&](std::size_t count) {
    return soon([&] {
      if (auto news = book.take()) {
        ranges = news->ranges;
        changes.insert(changes.end(), news->changes.begin(), news->changes.end());
      }
      return ranges.size() == count;
    });
  };
  book.want({{"named.test"}, {list}, {}});
  REQUIRE(holds(3));
  const auto told = [&](const std::string& what) {
    return std::ranges::any_of(changes, [&](const std::string& change) { return change.find(what) != change.npos; });
  };
  CHECK(told("named.test has 203.0.113.1"));
  CHECK(told("listed.test has 203.0.113.2"));
  silent = true;
  book.want({{"named.test", "other.test"}, {list}, {}});
  CHECK(soon([&] { return holds(3), told("other.test cannot be looked up"); }));
  CHECK(ranges.size() == 3);
  book.want({{}, {}, {}});
  CHECK(holds(0));
}

TEST_CASE("of a folder the YAML files are read; one that makes no sense is told, once") {
  const Folder folder;
  std::ofstream(folder.path() / "a.yaml") << "allow: [203.0.113.10]\n";
  std::ofstream(folder.path() / "b.yaml") << "[203.0.113.300]\n";
  std::ofstream(folder.path() / "c.txt") << "203.0.113.12\n";
  AllowBook book([](const std::string&) { return answer({}); });
  book.want({{}, {}, folder.path()});
  std::optional<AllowBook::News> news;
  REQUIRE(soon([&] { return (news = book.take()).has_value(); }));
  CHECK(news->ranges == std::vector{prefix("203.0.113.10")});
  CHECK(
      std::ranges::any_of(news->changes, [](const auto& change) { return change.find("b.yaml:1:2") != change.npos; }));
}
