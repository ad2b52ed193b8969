// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/replay.h"

#include <sys/random.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <ostream>
#include <stdexcept>

#include "config/rules.h"
#include "daemon/alerts.h"
#include "daemon/capture.h"
#include "daemon/progress.h"
#include "daemon/replay_report.h"
#include "daemon/text.h"
#include "dataplane/fragments.h"
#include "policy/block_list.h"
#include "policy/wellbeing.h"
#include "sip/parser.h"

// The daemon's pipeline without its threads: each packet is judged, and what the control thread does about an offence
// (the block list, the source's mark, the prefixes in the rules) is done before the next packet, as if the kernel had
// acknowledged it at once.
namespace sipward::daemon {
namespace {

using policy::BlockChange;

constexpr std::uint64_t kProgressEvery = 4096; // packets

struct FreeTable {
  void operator()(std::byte* memory) const noexcept { std::free(memory); }
};
using TableMemory = std::unique_ptr<std::byte, FreeTable>;

TableMemory table_memory(std::uint32_t capacity) {
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(64, policy::Ledger::octets(capacity)));
  if (memory == nullptr) throw std::bad_alloc();
  return TableMemory(memory);
}

// Users' hashes must not be told from the names by whoever has the report: the key is nobody's, and one for all worlds
// of this run.
const StateSecret& fresh_secret() {
  static const StateSecret secret = [] {
    StateSecret drawn{};
    if (getrandom(drawn.data(), drawn.size(), 0) < 0) throw std::runtime_error("the kernel gives no random numbers");
    return drawn;
  }();
  return secret;
}

policy::BlockOptions enforcing(const config::Settings& settings) {
  auto options = config::block_options(settings);
  options.dry_run = false; // the question is what blocking would have done
  return options;
}

class Replay {
public:
  Replay(const config::Settings& settings, std::vector<policy::Address> servers);

  ~Replay() { finish(); }
  void judge(Link link, const Packet& packet);
  void finish(); // after the last packet: what is still held is released
  ReplayReport& report() noexcept { return report_; }

private:
  // A fragment that is held: the capture's next packet overwrites its octets.
  struct Held {
    std::string packet;
    std::size_t wire_length;
  };
  struct Noted {
    std::size_t index;                // in report_.blocks
    std::uint64_t dropped_before = 0; // it was last renewed
  };
  bool release(const dataplane::Fragments::Release& released, const policy::Now& now);
  void settle(dataplane::FrameKind kind, const policy::Datagram& datagram, std::size_t octets, std::size_t frames,
              const policy::Now& now);
  policy::Time advance(policy::Time stamp);
  void tell_counts(policy::Time now);
  void account(const policy::Datagram& datagram, const sip::Message& message, const policy::Verdict& verdict,
               std::size_t octets, policy::Time at);
  void enforce(const policy::BlockList::Changes& changes, const policy::Now& now);
  void note(const policy::Block& block);
  void note_renewal(const policy::Block& block);
  void watch_servers(const policy::Now& now);
  void alert(std::string text, policy::Time at);

  policy::Rules rules_;
  policy::BlockList blocks_;
  TableMemory memory_;
  policy::Ledger ledger_;
  sip::AgentCache names_;
  UserNames names_of_users_;
  std::unique_ptr<dataplane::Fragments> fragments_ = std::make_unique<dataplane::Fragments>(ledger_.sources.hash(0));
  std::map<policy::Subject, Noted> standing_; // those that have not ended
  policy::Time next_second_;
  policy::Wellbeing wellbeing_;
  std::uint64_t requests_ = 0, answers_ = 0; // in this second
  ReplayReport report_;
};

Replay::Replay(const config::Settings& settings, std::vector<policy::Address> servers)
    : rules_(config::rules(settings)), blocks_(enforcing(settings)), memory_(table_memory(settings.sources.capacity)),
      // A fixed secret: the same capture gives the same report.
      ledger_({memory_.get(), policy::Ledger::octets(settings.sources.capacity)}, settings.sources.capacity,
              {0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9, 0xd6e8feb86659fd93}),
      names_of_users_(settings.log.users, fresh_secret()) {
  std::ranges::sort(servers);
  report_.servers = rules_.servers = std::move(servers);
  std::vector<policy::Prefix> ceilings;
  for (const auto& ceiling : rules_.ceilings) ceilings.push_back(ceiling.of);
  blocks_.set_ceilings(policy::PrefixSet(ceilings));
  blocks_.set_never_blocked(rules_.never_blocked);
}

void Replay::judge(Link link, const Packet& packet) {
  const policy::Now now(advance(packet.at));
  policy::Datagram datagram;
  const auto kind = parse_packet(link, packet, datagram);
  if (kind != dataplane::FrameKind::Fragment) {
    settle(kind, datagram, packet.wire_length, 1, now);
  } else {
    auto held = std::make_unique<Held>(std::string(datagram.payload), packet.wire_length);
    datagram.payload = held->packet;
    release(fragments_->join({held.release(), nullptr}, datagram, rules_, now.time), now);
  }
  while (release(fragments_->leave(rules_, now.time), now)) continue;
}

void Replay::finish() {
  while (release(fragments_->leave(rules_, policy::Time::max()), policy::Now(report_.last.value_or(policy::Time{}))))
    continue;
}

// Were there any?
bool Replay::release(const dataplane::Fragments::Release& released, const policy::Now& now) {
  std::size_t octets = 0;
  for (const auto& frame : released.frames) octets += static_cast<const Held*>(frame.frame)->wire_length;
  if (!released.frames.empty() && !released.verdict)
    settle(released.kind, released.datagram, octets, released.frames.size(), now);
  for (const auto& frame : released.frames) {
    if (released.verdict) report_.counters.count(*released.verdict);
    delete static_cast<Held*>(frame.frame);
  }
  if (released.verdict) report_.counters.octets += octets;
  return !released.frames.empty();
}

// One datagram, or a frame that has none, which came in so many frames. Each of them is counted; the talkers, the block
// and what was said count datagrams.
void Replay::settle(dataplane::FrameKind kind, const policy::Datagram& datagram, std::size_t octets, std::size_t frames,
                    const policy::Now& now) {
  auto& counters = report_.counters;
  counters.octets += octets;
  const auto count = [&](const policy::Verdict& verdict) {
    for (std::size_t i = 0; i < frames; ++i) counters.count(verdict);
  };
  if (kind != dataplane::FrameKind::Udp) return count({dataplane::why_not_judged(kind)});
  const auto c = policy::open(rules_, ledger_, datagram);
  if (c.way == policy::Way::Aside) return count({policy::Why::Unrelated});

  counters.truncated += datagram.truncated;
  policy::Offence offence;
  const auto verdict = policy::decide(rules_, ledger_, names_, c, now, offence);
  count(verdict);
  account(datagram, sip::parse(datagram.payload), verdict, octets, now.time);
  ++(c.way == policy::Way::Out ? answers_ : requests_);
  if (!verdict.offence) return;
  ++counters.offences;
  if (offence.notice != policy::Notice::None) return alert(alert_of(offence, names_of_users_), now.time);
  enforce(blocks_.convict(offence), now);
}

// The clock goes by the stamps and never runs backwards; blocks that have run out by now are lifted.
policy::Time Replay::advance(policy::Time stamp) {
  auto& last = report_.last;
  if (!last) report_.first = last = stamp;
  if (stamp < *last) {
    ++report_.backwards;
    report_.farthest_backwards = std::max(report_.farthest_backwards, *last - stamp);
  } else {
    last = stamp;
  }
  const auto end = blocks_.next_expiry();
  const bool over = end && *end <= *last;
  const bool second_over = *last >= next_second_;
  if (over || second_over) tell_counts(*last);
  if (second_over) watch_servers(policy::Now(*last));
  if (over) enforce(blocks_.expire(*last), policy::Now(*last));
  return *last;
}

// As the control thread does once a second.
void Replay::tell_counts(policy::Time now) {
  for (const auto& subject : blocks_.count_due(now))
    if (const auto noted = standing_.find(subject); noted != standing_.end())
      blocks_.note_dropped(subject, report_.blocks[noted->second.index].packets_dropped - noted->second.dropped_before,
                           now);
}

// Likewise: are the servers well, and are their answers in the capture?
void Replay::watch_servers(const policy::Now& now) {
  next_second_ = now.time + std::chrono::seconds(1);
  const auto second = ledger_.take_second(std::exchange(requests_, 0), std::exchange(answers_, 0));
  const auto before = wellbeing_.state(), after = wellbeing_.note(second, now.time);
  for (const auto& text : {health_alert(before, wellbeing_), sight_alert(before, wellbeing_)})
    if (!text.empty()) alert(text, now.time);
  if (after.unwell && !before.unwell) enforce(blocks_.lift_since(now.time - policy::Wellbeing::kDoubtful), now);
  rules_.follow(after);
}

void Replay::alert(std::string text, policy::Time at) {
  if (report_.alerts.size() < ReplayReport::kMaxAlerts) report_.alerts.emplace_back(at, std::move(text));
}

void Replay::account(const policy::Datagram& datagram, const sip::Message& message, const policy::Verdict& verdict,
                     std::size_t octets, policy::Time at) {
  // By the message, not by the verdict: a blocked source's datagrams are requests and keepalives all the same.
  switch (message.kind) {
  case sip::Kind::Request: ++report_.sip.requests; break;
  case sip::Kind::Response: ++report_.sip.responses; break;
  case sip::Kind::Keepalive: ++report_.sip.keepalives; break;
  case sip::Kind::Malformed: ++report_.sip.malformed; break;
  }
  if (rules_.is_server(datagram.source)) return;
  const auto server = std::ranges::lower_bound(rules_.servers, datagram.destination) - rules_.servers.begin();
  Talker* talker = report_.talkers.add(datagram, message, static_cast<std::uint32_t>(server), octets, at);
  if (!verdict.drop) return;
  if (talker != nullptr) ++talker->dropped;
  const policy::Block* block = blocks_.covering(datagram.source, datagram.source_port);
  if (block == nullptr) return;
  if (const auto noted = standing_.find(block->subject); noted != standing_.end())
    ++report_.blocks[noted->second.index].packets_dropped;
}

void Replay::enforce(const policy::BlockList::Changes& changes, const policy::Now& now) {
  bool prefixes_changed = false;
  for (const auto& change : changes) {
    if (!change.block.dry_run)
      policy::enact(ledger_, change.block, change.kind != BlockChange::Kind::Removed, rules_.ipv6_prefix, now);
    if (change.block.limit) continue;
    switch (change.kind) {
    case BlockChange::Kind::Added: note(change.block); break;
    case BlockChange::Kind::Renewed: note_renewal(change.block); break;
    case BlockChange::Kind::Removed: standing_.erase(change.block.subject); break;
    case BlockChange::Kind::Extended: break; // limits only
    }
    prefixes_changed |= change.block.subject.kind == policy::SubjectKind::Prefix;
  }
  if (prefixes_changed) rules_.blocked = blocks_.prefixes();
}

void Replay::note(const policy::Block& block) {
  if (report_.blocks.size() == ReplayReport::kMaxBlocks) {
    ++report_.blocks_left_out;
    return;
  }
  standing_[block.subject] = {report_.blocks.size()};
  auto& noted = report_.blocks.emplace_back(block);
  noted.dry_run = true; // nothing is blocked here
  if (block.subject.kind == policy::SubjectKind::Endpoint) return;
  // The source table may have forgotten a source meanwhile, and counts no prefixes; the talkers are exact.
  const std::uint64_t packets = report_.talkers.packets_from(block.subject.prefix);
  noted.packets_before = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(packets, block.packets_before, std::numeric_limits<std::uint32_t>::max()));
}

void Replay::note_renewal(const policy::Block& block) {
  const auto noted = standing_.find(block.subject);
  if (noted == standing_.end()) return;
  auto& reported = report_.blocks[noted->second.index];
  reported.until = block.until;
  reported.step = block.step;
  noted->second.dropped_before = reported.packets_dropped;
}

// Reads all captures in turn; `each(link, packet)` for every packet.
template<typename Each>
std::expected<void, std::string> read_all(const std::vector<std::filesystem::path>& files, Progress& progress,
                                          std::uint64_t& done, Each each) {
  for (const auto& file : files) {
    auto capture = Capture::open(file);
    if (!capture) return std::unexpected(capture.error());
    Packet packet;
    for (std::uint64_t n = 1;; ++n) {
      const auto more = capture->next(packet);
      if (!more) return std::unexpected(more.error());
      if (!*more) break;
      each(capture->link(), packet);
      if (n % kProgressEvery == 0) progress.show(done + capture->octets_read());
    }
    done += capture->octets_read();
  }
  return {};
}

std::expected<ServerSearch::Found, std::string>
find_servers(const ReplayOptions& options, const config::Settings& settings, Progress& progress, std::uint64_t& done) {
  std::error_code error;
  for (const auto& file : options.captures)
    if (std::filesystem::exists(file, error) && std::filesystem::is_fifo(file, error))
      return std::unexpected(word(file.string()) + ": can be read only once, so the servers must be named (--server)");
  ServerSearch search(settings.sip.ports);
  const auto read = read_all(options.captures, progress, done, [&](Link link, const Packet& packet) {
    policy::Datagram datagram;
    if (parse_packet(link, packet, datagram) == dataplane::FrameKind::Udp && search.concerns(datagram))
      search.note(datagram, sip::parse(datagram.payload));
  });
  if (!read) return std::unexpected(read.error());
  return search.found();
}

std::uint64_t octets_of(const std::vector<std::filesystem::path>& files) {
  std::uint64_t total = 0;
  for (const auto& file : files) {
    std::error_code error;
    if (const auto size = std::filesystem::file_size(file, error); !error) total += size;
  }
  return total;
}

} // namespace

std::expected<ReplayReport, std::string> judge_captures(const ReplayOptions& options) {
  const config::Settings settings = options.settings.value_or(config::Settings{});
  auto servers = options.servers.empty() ? settings.sip.servers : options.servers;
  std::optional<ServerSearch::Evidence> assumed;
  Progress progress(octets_of(options.captures) * (servers.empty() ? 2 : 1));
  std::uint64_t done = 0;
  if (servers.empty()) {
    auto found = find_servers(options, settings, progress, done);
    if (!found) return std::unexpected(found.error());
    servers = std::move(found->servers);
    assumed = found->evidence;
  }
  std::optional<Replay> shadow;
  if (options.shadow) shadow.emplace(*options.shadow, servers);
  Replay replay(settings, std::move(servers));
  const auto read = read_all(options.captures, progress, done, [&](Link link, const Packet& packet) {
    replay.judge(link, packet);
    if (shadow) shadow->judge(link, packet);
  });
  if (!read) return std::unexpected(read.error());
  replay.finish();
  ReplayReport report = std::move(replay.report());
  report.captures = options.captures;
  report.assumed = assumed;
  if (shadow) {
    shadow->finish();
    report.shadow = std::make_shared<const ReplayReport>(std::move(shadow->report()));
    report.shadow_file = options.shadow_file;
  }
  return report;
}

std::expected<void, std::string> replay(const ReplayOptions& options, std::ostream& out) {
  const auto sort = sort_key(options.sort);
  if (!sort) return std::unexpected("--sort " + word(options.sort) + ": requests, flows, octets, packets or duration");
  const auto report = judge_captures(options);
  if (!report) return std::unexpected(report.error());
  options.json ? write_json(*report, *sort, out) : write_text(*report, *sort, out);
  return {};
}

} // namespace sipward::daemon
