// SPDX-License-Identifier: GPL-2.0-or-later
#include "bench/peers/parsers.h"

#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bench/messages.h"
#include "sip/first_look.h"
#include "sip/marks.h"
#include "sip/parser.h"

// The parser beside its peers, in one run. Every subject reads all messages once per round, round after round, so that
// a noisy neighbour hurts all alike; what is compared are the medians of each round's ratios, of subjects that read the
// same messages. Answers are checked before the clock starts.
//   bench/parser [ROUNDS]
namespace sipward::bench {
namespace {

using Samples = std::vector<Sample>;
using Subject = std::function<std::uint64_t(std::span<const std::string_view>)>;

// Where messages lie: one behind the other, or each in a packet buffer of its own as DPDK has them, behind the buffer's
// own data, its headroom, and the Ethernet, IPv4 and UDP headers.
struct Layout {
  std::size_t buffer; // 0: packed
  std::size_t before;
};
constexpr Layout kPacked{0, 0};
constexpr Layout kPacketBuffers{2304, 128 + 128 + 42};

class Messages {
public:
  Messages(const Samples& samples, Layout layout) {
    std::vector<std::size_t> begins;
    for (const Sample& sample : samples) {
      octets_.resize((layout.buffer != 0 ? begins.size() * layout.buffer : octets_.size()) + layout.before);
      begins.push_back(octets_.size());
      octets_ += sample.octets;
    }
    for (std::size_t i = 0; i < samples.size(); ++i)
      views_.emplace_back(octets_.data() + begins[i], samples[i].octets.size());
  }
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;
  std::span<const std::string_view> views() const { return views_; }

private:
  std::string octets_;
  std::vector<std::string_view> views_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Timing {
  std::string name;
  Subject read;
  const Messages* messages;
  unsigned passes = 8;
  std::vector<double> ns{};
};

constexpr const char* kInBuffers = ", buffers";

std::uint64_t sink = 0;

// What this thread has used of its core: other processes' time is not counted.
double thread_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

void measure(std::vector<Timing>& timings, unsigned rounds) {
  for (unsigned round = 0; round < rounds + 1; ++round)
    for (Timing& t : timings) {
      const std::span<const std::string_view> views = t.messages->views();
      double least = 1e18; // of the passes: an interrupt lengthens one, not all
      for (unsigned pass = 0; pass < t.passes; ++pass) {
        const double begin = thread_ns();
        sink += t.read(views);
        least = std::min(least, thread_ns() - begin);
      }
      if (round > 0) t.ns.push_back(least / static_cast<double>(views.size())); // the first round warms up
    }
}

const Timing& named(const std::vector<Timing>& timings, std::string_view name) {
  for (const Timing& t : timings)
    if (t.name == name) return t;
  std::abort();
}

// The median, smallest and largest of a's rounds divided by b's.
void compare(const std::vector<Timing>& timings, const char* a, const char* b, const char* bound) {
  const Timing& x = named(timings, a);
  const Timing& y = named(timings, b);
  std::vector<double> ratios;
  for (std::size_t i = 0; i < x.ns.size(); ++i) ratios.push_back(x.ns[i] / y.ns[i]);
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  std::printf("  %-34s / %-30s %7.2f   (%.2f .. %.2f)   %s\n", a, b, median(ratios), *low, *high, bound);
}

template<class Read>
Subject over(Read read) {
  return [read](std::span<const std::string_view> datagrams) {
    std::uint64_t sum = 0;
    for (const std::string_view datagram : datagrams) sum += read(datagram);
    return sum;
  };
}

void require(bool holds, const char* who, const Sample& sample) {
  if (holds) return;
  std::fprintf(stderr, "%s reads this wrongly:\n%s\n", who, sample.octets.c_str());
  std::exit(1);
}

void check(const Samples& samples) {
  for (const Sample& s : samples) {
    const std::string_view d = s.octets;
    const sip::Message full = sip::parse(d);
    require(full.kind == sip::Kind::Request && full.method_token.in(d) == s.method && full.from_user.in(d) == s.user &&
                full.call_id.in(d) == s.call_id && full.user_agent.in(d) == s.user_agent,
            "parse", s);
    require(full == sip::parse_plain(d), "parse or parse_plain", s);
    sip::Index index;
    sip::index(d, index);
    require(index.value(sip::Header::CallId, d).in(d) == s.call_id && index.method == full.method, "index", s);
    const sip::FirstLook look = sip::first_look(d);
    require(look.method == full.method && look.user_agent == full.user_agent, "first look", s);
    for (const peers::Parser& peer : peers::parsers()) {
      const peers::Answer answer = peer.read(d);
      require(answer.method == s.method && answer.user == s.user && answer.call_id == s.call_id, peer.name, s);
    }
    require(peers::lines(d) == peers::lines_plain(d), "line scan", s);
  }
}

Samples mixed(const Samples& a, const Samples& b, const Samples& c) {
  Samples out;
  for (std::size_t i = 0; i < a.size(); ++i) out.push_back(i % 4 < 2 ? a[i] : i % 4 == 2 ? b[i] : c[i]);
  std::shuffle(out.begin(), out.end(), Random(7));
  return out;
}

// Mixtures of what is slow alone, up to 1.45 kB.
void add_mixtures(std::vector<Sample>& out) {
  const std::string start = "REGISTER sip:a@b SIP/2.0\r\n";
  const auto add = [&](std::string octets) { out.push_back({std::move(octets), "", "", "", ""}); };
  const auto times = [](std::size_t count, std::string_view unit) {
    std::string s;
    while (count-- > 0) s += unit;
    return s;
  };
  // As many parameters as are read, in every value that has some.
  const std::string many = times(31, ";a") + ";tag=x", via = "Via: SIP/2.0/UDP a" + times(31, ";b") + ";branch=x\r\n";
  const std::string parties = "From: <sip:a@b>" + many + "\r\nTo: <sip:a@b>" + many + "\r\nContact: <sip:a@b>" + many;
  std::string digests;
  for (const char* name : {"Authorization", "Proxy-Authorization", "WWW-Authenticate", "Proxy-Authenticate"})
    digests += std::string(name) + ": Digest " + times(31, "a=\"\\\"\",") + "response=x\r\n";
  add(start + via + parties + "\r\nCSeq: 1 REGISTER\r\n" + digests.substr(0, 1000) + "\r\n\r\n");
  add(start + digests + "\r\n");
  add(start + "f: \"" + times(300, "\\\"") + "\" <sip:a@b>\r\nt: \"" + times(300, "\\\"") + "\" <sip:a@b>\r\n\r\n");
  // 128 headers, of every kind.
  constexpr std::string_view kNames = "vftimlcsuxe";
  for (const char* value : {":\n", ":a\n", ": a\r\n", " :a\n", ":\n \n"}) {
    std::string s = start;
    for (std::size_t i = 0; i < 128; ++i) s += std::string(1, kNames[i % kNames.size()]) + value;
    add(s + "\n");
  }
  // Folded, spaced and plain headers in any order.
  Random random(5);
  for (int i = 0; i < 64; ++i) {
    std::string s = start;
    while (s.size() < 1430) {
      constexpr std::string_view kHeaders[] = {"f:<sip:a@b>;tag=1\r\n",
                                               "v: SIP/2.0/UDP a;b\r\n",
                                               "l : 0\n",
                                               "x:\n",
                                               "To\t: \"a\" <sip:a>\n",
                                               "User-Agent : x\r\n",
                                               "a\n",
                                               "\tb;c=\"d\"\r\n",
                                               "m:*\n",
                                               "CSeq: 1 REGISTER\r\n",
                                               "Expires\r\n : 5\r\n",
                                               " ,\n"};
      s += kHeaders[random() % (i % 2 == 0 ? 12 : 6)];
    }
    add(s + "\r\n");
  }
}

// Datagrams of 1.45 kB made to be slow to read, of which the slowest is found before the rounds begin.
std::vector<Sample> hostile() {
  const std::string start = "REGISTER sip:a@b SIP/2.0\r\n";
  const auto repeated = [&](const std::string& head, const std::string& unit) {
    std::string s = start + head;
    while (s.size() + unit.size() <= 1450) s += unit;
    return s;
  };
  std::vector<Sample> out;
  const auto add = [&](std::string octets) { out.push_back({std::move(octets), "", "", "", ""}); };
  for (const char* unit : {"\n", "\r\n", "a\n", "a:\n", "a :\n", "f:\n", "v:\r\n", "v: \r\n", " \n", "\t\r\n", "x\nx\n",
                           ":::\n", "t:<\n", "User-Agent : x\r\n", "From                                :<sip:a@b>\r\n",
                           "l:0\n", "l:12345678901234567890\n", "User-Agent: friendly-scanne\r\n", "s:\n"})
    add(repeated("", unit));
  for (const char* head : {"From: ", "From: \"", "From: <sip:", "From: <sip:a@b>", "From: <sip:a@b>;tag=",
                           "Via: SIP/2.0/UDP a", "Via: ", "Authorization: Digest ", "Authorization: Digest username=\"",
                           "CSeq: ", "Contact: ", "User-Agent: ", "WWW-Authenticate: "})
    for (const char* unit : {";",
                             ";a",
                             ";a=",
                             "\\\"",
                             "\"",
                             ",",
                             ",a=b",
                             "=",
                             " ",
                             "<",
                             "\\",
                             "1",
                             "@",
                             ":",
                             "[",
                             "a=\"b\",",
                             "friendly-scanne",
                             "sip",
                             "tag=",
                             "\r\n ",
                             ";branch=x",
                             "01",
                             " a",
                             "%",
                             "'"})
      add(repeated(head, unit));
  for (const char* unit : {"\r\n", "\n", "\r"}) {
    std::string s;
    while (s.size() < 1400) s += unit;
    add(s + start + "f:a\r\n\r\n");
  }
  add(std::string(1450, '\0'));
  add(std::string(1450, '\n'));
  add(std::string(1449, '\0') + "x");
  add(std::string(1450, 'A'));
  add("REGISTER sip:" + std::string(1400, ':') + " SIP/2.0\r\nf: a\r\n\r\n");
  add("REGISTER" + std::string(1400, ' ') + "sip:a SIP/2.0\r\nf: a\r\n\r\n");
  add_mixtures(out);
  return out;
}

std::vector<std::string> patterns(std::size_t count) {
  Random random(11);
  std::vector<std::string> out;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = "tool" + hex(random, 4 + random() % 12);
    out.push_back(i % 3 == 0 ? name : i % 3 == 1 ? name + "*" : "*" + name + "*");
  }
  return out;
}

sip::AgentCache cache; // as each worker has one

std::uint64_t index_of(std::string_view d, const sip::Marks& marks) noexcept {
  sip::Index index;
  sip::index(d, index);
  const sip::Span agent = index.value(sip::Header::UserAgent, d);
  return index.header_count + static_cast<std::uint64_t>(index.method) + (cache.find(marks, d, agent) != nullptr);
}
std::uint64_t full_of(std::string_view d, const sip::Marks& marks) noexcept {
  const sip::Message m = sip::parse(d);
  return std::uint64_t{m.from_user.end} + m.via_branch.end + (marks.find(m, d, &cache) != nullptr);
}
std::uint64_t first_look_of(std::string_view d, const sip::Marks& marks) noexcept {
  const sip::FirstLook look = sip::first_look(d);
  return static_cast<std::uint64_t>(look.method) + (marks.find(look, d, &cache) != nullptr);
}

// The slowest of the hostile datagrams, each read 200 times, four times over.
Samples slowest(const sip::Marks& marks) {
  const Samples all = hostile();
  std::size_t worst = 0;
  double most = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    double least = 1e12;
    for (int again = 0; again < 4; ++again) {
      const double begin = thread_ns();
      for (int k = 0; k < 200; ++k) sink += full_of(all[i].octets, marks);
      least = std::min(least, (thread_ns() - begin) / 200);
    }
    if (std::getenv("SIPWARD_BENCH_HOSTILE"))
      std::printf("%8.1f ns  %.70s\n", least,
                  [&] {
                    std::string s = all[i].octets.substr(26, 70);
                    for (char& c : s)
                      if (c < ' ') c = '.';
                    return s;
                  }()
                      .c_str());
    if (least > most) most = least, worst = i;
  }
  std::string shown = all[worst].octets.substr(0, 70);
  for (char& c : shown)
    if (c < ' ') c = '.';
  std::printf("slowest hostile datagram of %zu: %s...\n", all.size(), shown.c_str());
  return Samples(512, all[worst]);
}

int run(unsigned rounds) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
  sched_setaffinity(0, sizeof one, &one);

  const Samples scanners = make_many(scanner_register(), 4096, 1);
  const Samples phones = make_many(phone_register(), 4096, 2);
  const Samples invites = make_many(invite(), 4096, 3);
  const Samples mix = mixed(scanners, phones, invites);
  for (const Samples* samples : {&scanners, &phones, &invites}) check(*samples);
  const sip::Marks shipped, sixteen(patterns(16)), thousand(patterns(1000));
  const Messages worst(slowest(shipped), kPacked), scanner(scanners, kPacked), phone(phones, kPacked),
      call(invites, kPacked), all(mix, kPacked), buffers(scanners, kPacketBuffers);

  const auto first = over([&](std::string_view d) { return first_look_of(d, shipped); });
  const auto index = over([&](std::string_view d) { return index_of(d, shipped); });
  const auto full = over([&](std::string_view d) { return full_of(d, shipped); });
  std::vector<Timing> timings{
      {"AVX2 read", over(peers::read_avx2), &scanner},
      {"line scan (memchr)", over(peers::lines), &scanner},
      {"first look", first, &scanner},
      {"index", index, &scanner},
      {"index, 16 patterns", over([&](std::string_view d) { return index_of(d, sixteen); }), &scanner},
      {"index, 1000 patterns", over([&](std::string_view d) { return index_of(d, thousand); }), &scanner},
      {"first look, 16 patterns", over([&](std::string_view d) { return first_look_of(d, sixteen); }), &scanner},
      {"first look, 1000 patterns", over([&](std::string_view d) { return first_look_of(d, thousand); }), &scanner},
      {"full", full, &scanner},
      {"index, phone REGISTER", index, &phone},
      {"full, phone REGISTER", full, &phone},
      {"index, INVITE", index, &call},
      {"full, INVITE", full, &call},
      {"first look, mix", first, &all},
      {"index, mix", index, &all},
      {"full, mix", full, &all},
      {"full, hostile", full, &worst},
      {"index, plain", over([&](std::string_view d) {
         sip::Index out;
         sip::index_plain(d, out);
         return std::uint64_t{out.header_count};
       }),
       &scanner},
  };
  for (const peers::Parser& peer : peers::parsers())
    timings.push_back({peer.name, over([&peer](std::string_view d) { return peer.time(d); }), &scanner, 2});
  const std::size_t packed = timings.size();
  for (std::size_t i = 0; i < packed; ++i)
    if (timings[i].messages == &scanner && timings[i].name.find("patterns") == std::string::npos)
      timings.push_back({timings[i].name + kInBuffers, timings[i].read, &buffers, timings[i].passes});
  measure(timings, rounds);

  std::printf("\n%-34s %10s %20s   (%u interleaved rounds, 4,096 messages, %.*s)\n", "", "median", "least .. most",
              rounds, static_cast<int>(sip::simd_name().size()), sip::simd_name().data());
  for (const Timing& t : timings) {
    const auto [low, high] = std::minmax_element(t.ns.begin(), t.ns.end());
    std::printf("%-34s %7.1f ns   %8.1f .. %.1f\n", t.name.c_str(), median(t.ns), *low, *high);
  }
  std::printf("\nmedians of each round's ratios, messages packed:\n");
  compare(timings, "libosip2", "index", "must >= 50, aim 75");
  compare(timings, "sofia-sip", "index", "must >= 28, aim 40");
  compare(timings, "index", "line scan (memchr)", "must <= 1.2, aim 0.8");
  compare(timings, "full", "index", "must <= 2.0, aim 1.5");
  compare(timings, "full, phone REGISTER", "index, phone REGISTER", "");
  compare(timings, "first look", "AVX2 read", "must <= 3.2, aim 2.5");
  compare(timings, "index, INVITE", "index", "must <= 1.8");
  compare(timings, "full, hostile", "full", "must <= 5, never over 1 us");
  compare(timings, "index, 1000 patterns", "index, 16 patterns", "must <= 1.2");
  compare(timings, "first look, 1000 patterns", "first look, 16 patterns", "must <= 1.2");
  std::printf("\nthe same, each message in a packet buffer of its own:\n");
  const auto compare_buffers = [&](std::string a, std::string b) {
    compare(timings, (a + kInBuffers).c_str(), (b + kInBuffers).c_str(), "");
  };
  compare_buffers("libosip2", "index");
  compare_buffers("sofia-sip", "index");
  compare_buffers("index", "line scan (memchr)");
  compare_buffers("full", "index");
  compare_buffers("first look", "AVX2 read");
  return sink == 42 ? 1 : 0;
}

} // namespace
} // namespace sipward::bench

int main(int argc, char** argv) {
  return sipward::bench::run(argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 15);
}
