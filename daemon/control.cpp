// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/control.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>

#include "config/rules.h"
#include "daemon/alerts.h"
#include "daemon/capabilities.h"
#include "daemon/folders.h"
#include "daemon/live_shadow.h"
#include "daemon/service.h"
#include "daemon/user_names.h"

namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
using policy::BlockChange;

constexpr auto kFactsEvery = 1s;
const std::filesystem::path kRunFolder = "/run/sipward";
constexpr auto kFactsRetry = 10s;
constexpr auto kClockStep = 100ms; // less is the clocks' own unsteadiness

// One sipward in a network namespace, held by a locked file that carries the namespace's number. The error names the
// other one.
std::expected<int, std::string> claim_namespace() {
  struct stat space {};
  if (stat("/proc/self/ns/net", &space) != 0)
    return std::unexpected(std::string("/proc/self/ns/net: ") + std::strerror(errno));
  const auto path = kRunFolder / ("netns-" + std::to_string(space.st_ino) + ".lock");
  if (const auto made = make_folder_for(path); !made) return std::unexpected(made.error() + "; sipward runs as root");
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return std::unexpected(path.string() + ": " + std::strerror(errno) + "; sipward runs as root");
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
    const std::string pid = std::to_string(getpid()) + "\n";
    if (ftruncate(fd, 0) == 0) [[maybe_unused]]
      const auto written = write(fd, pid.data(), pid.size());
    return fd;
  }
  std::array<char, 32> pid{};
  const auto size = read(fd, pid.data(), pid.size());
  close(fd);
  const std::string who(pid.data(), size > 1 ? static_cast<std::size_t>(size - 1) : 0);
  return std::unexpected("another sipward already runs in this network namespace (process " + who + "); stop it first");
}

} // namespace

std::expected<std::unique_ptr<Control>, std::string> Control::start(config::Settings settings, Reread reread) {
  std::unique_ptr<Control> control(new Control(std::move(settings), std::move(reread)));
  if (const auto opened = control->open(); !opened) return std::unexpected(opened.error());
  return control;
}

Control::Control(config::Settings settings, Reread reread)
    : reread_(std::move(reread)), settings_(std::move(settings)), rules_(config::rules(settings_)),
      blocks_(config::block_options(settings_)), clock_(WallClock::now()), started_(monotonic_now()),
      watchdog_(watchdog_limit()) {}

Control::~Control() {
  for (const int fd : {instance_, signals_, epoll_})
    if (fd >= 0) close(fd);
}

std::expected<void, std::string> Control::open() {
  auto tried = read_shadow(settings_);
  if (!tried) return std::unexpected(tried.error());
  const auto instance = claim_namespace();
  if (!instance) return std::unexpected(instance.error());
  instance_ = *instance;

  auto host = Host::open();
  if (!host) return std::unexpected(host.error());
  host_.emplace(std::move(*host));
  auto facts = host_->facts();
  if (!facts) return std::unexpected(facts.error());
  facts_ = std::move(*facts);
  auto nft = nft::Nft::open();
  if (!nft) return std::unexpected(nft.error().message);
  nft_.emplace(std::move(*nft));
  auto log = open_log(settings_.log);
  if (!log) return std::unexpected(log.error());
  log_ = std::move(*log);
  std::string warning;
  auto socket = ControlSocket::listen(settings_.control.socket, settings_.control.group, warning);
  if (!socket) return std::unexpected(socket.error());
  socket_.emplace(std::move(*socket));
  if (!warning.empty()) spdlog::warn("{}", warning);

  blocks_.set_ceilings(policy::PrefixSet(ceilings()));
  blocks_.set_never_blocked(never_blocked({}));
  blocks_.set_local(policy::PrefixSet(facts_.networks));
  auto rules = make_rules();
  const bool nobody_protected = rules->servers.empty();
  auto state = open_state_file();
  StateContents contents = state->load();
  auto options = dataplane::options(settings_);
  options.user_secret = ledger_secret(contents.secret);
  options.run_folder = kRunFolder;
  auto dataplane = dataplane::Dataplane::start(options, std::move(rules),
                                               [](std::string_view line) { spdlog::info("dpdk: {}", line); });
  if (!dataplane) return std::unexpected(dataplane.error());
  dataplane_ = std::move(*dataplane);
  for (const auto& note : dataplane_->notes()) spdlog::warn("{}", note);
  blocks_.set_behind([this](const policy::Address& address) { return behind(address); });
  blocks_.set_trusted_within([this](const policy::Prefix& prefix) {
    return policy::trusted_within(dataplane_->ledger().trust, settings_.trust.peers, prefix,
                                  settings_.sources.ipv6_prefix, policy::Now(monotonic_now()).s);
  });
  if (nobody_protected && !inline_mode())
    spdlog::warn("sip.servers is empty and the interface has no address yet: nobody is protected until it has one");

  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  signals_ = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  allow_book_ = std::make_unique<AllowBook>();
  open_state(std::move(state), std::move(contents));
  if (const auto begun = try_settings(std::move(*tried)); !begun) return begun;
  for (const int fd : {signals_, host_->event(), socket_->event(), dataplane_->offence_event(), state_->event(),
                       allow_book_->event()}) {
    epoll_event event{EPOLLIN, {.fd = fd}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
  // A run that was inline and was killed may have left the kernel deaf.
  if (!inline_mode())
    if (const auto given = nft_->give_back(); !given) return std::unexpected(given.error().message);
  nft_->assume(layout()); // an earlier run's table may have counted something
  if (!resynchronise()) return std::unexpected("nftables refuses sipward's table; see the line before this");
  if (const auto watched = watch_tables(); !watched) return watched;
  if (!inline_mode()) // drivers that own a NIC need theirs to give it back
    if (const auto dropped = drop_capabilities(); !dropped) spdlog::warn("{}", dropped.error());
  return {};
}

void Control::run() {
  const auto outside = fmt::format("{}", fmt::join(settings_.ports.outside, ", "));
  spdlog::info("protecting: {}, memory {} hugepages{}",
               inline_mode() ? "inline between " + outside + " and " + settings_.ports.inside : "monitor on " + outside,
               dataplane_->on_hugepages() ? "from" : "without",
               settings_.block.dry_run ? ", dry run: nobody is blocked" : "");
  open_metrics();
  sd_notify(0, "READY=1");
  while (!stopping_) {
    wait();
    read_signals();
    look_around();
    tend_state();
    tell_counts();
    collect(blocks_.expire(monotonic_now())); // before new offences: an offender may be back already
    dataplane_->drain([this](const policy::Offence& offence) { hear(offence); });
    end_what_is_due();
    enforce();
    tend_shadow();
    reconcile();
    socket_->serve([this](std::string_view request) { return answer(request); },
                   [this](std::uint64_t& place) { return news(place); });
    log_->summarise(monotonic_now(), clock_);
    tell_metrics();
    feed_watchdog();
  }
  stop();
}

// What is so around us, and how those fare whom we protect.
void Control::look_around() {
  follow_clock();
  follow_host();
  follow_logins();
  follow_allow_book();
  watch_ports();
  watch_lengths();
  watch_servers();
  watch_tcp_peers();
}

// What an operator ordered for a time.
void Control::end_what_is_due() {
  end_unconfirmed();
  end_forced();
  end_allowances();
  end_immunity();
  follow_off();
}

// Sleeps until something happens or the next block ends.
void Control::wait() {
  policy::Time until = monotonic_now() + 1s;
  if (const auto expiry = blocks_.next_expiry()) until = std::min(until, *expiry);
  until = next_reconciliation(until);
  if (const auto look = watchdog_.next()) until = std::min(until, *look);
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(until - monotonic_now()).count();
  std::array<epoll_event, 8> events{};
  epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), static_cast<int>(std::max<std::int64_t>(ms, 0)));
}

void Control::read_signals() {
  signalfd_siginfo info{};
  while (read(signals_, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGHUP) {
      [[maybe_unused]] const auto told = reload(); // in the log
      continue;
    }
    spdlog::info("{}: stopping", strsignal(static_cast<int>(info.ssi_signo)));
    stopping_ = true;
  }
}

// The wall clock may be set after we started; blocks are timed by the other one.
void Control::follow_clock() {
  const auto now = WallClock::now();
  const auto step = now.offset - clock_.offset;
  if (std::chrono::abs(step) <= kClockStep) return;
  clock_ = now;
  date_anew(step);
}

// Asks the kernel for addresses and routes when it says that they changed, at most once a second: a routing daemon at
// work changes thousands.
void Control::follow_host() {
  host_changed_ |= host_->changed();
  const auto at = monotonic_now();
  if (!host_changed_ || at < next_facts_) return;
  host_changed_ = false;
  next_facts_ = at + kFactsEvery;
  auto facts = host_->facts();
  if (!facts) {
    spdlog::error("{}; going on with what was known before", facts.error());
    host_changed_ = true; // and nobody will say so again
    next_facts_ = at + kFactsRetry;
    return;
  }
  if (*facts == facts_) return;
  facts_ = std::move(*facts);
  spdlog::info("this host's addresses, gateways or resolvers changed");
  refresh_never_blocked();
}

void Control::hear(const policy::Offence& offence) {
  if (offence.notice != policy::Notice::None) return tell_of_user(offence);
  collect(blocks_.convict(offence));
}

void Control::collect(policy::BlockList::Changes changes) {
  pending_.insert(pending_.end(), std::make_move_iterator(changes.begin()), std::make_move_iterator(changes.end()));
}

// Carries out what has been decided: kernel, workers, state and log, in this order. While the kernel refuses, what is
// decided is noted all the same, an alert says so (note_sync()), and the log's lines wait.
void Control::enforce() {
  const auto now = monotonic_now();
  if (blocks_.withheld() != withheld_seen_ && now >= next_fuse_alert_) {
    withheld_seen_ = blocks_.withheld();
    next_fuse_alert_ = now + kAlertEvery;
    log_->alert("prefix_fuse withheld=" + std::to_string(withheld_seen_), now, clock_);
  }
  if (blocks_.slowed() != slowed_seen_ && now >= next_slowed_alert_) {
    slowed_seen_ = blocks_.slowed();
    next_slowed_alert_ = now + kAlertEvery;
    log_->alert("blocks_slowed limited=" + std::to_string(slowed_seen_) +
                    " max_per_second=" + std::to_string(settings_.block.max_per_second),
                now, clock_);
  }
  if (!in_sync_ && now >= retry_at_) resynchronise();
  if (pending_.empty()) return;
  auto changes = std::exchange(pending_, {});
  read_counters(changes);
  const bool enforced = apply(changes);
  count_decisions(changes, enforced);
  for (const auto& change : changes) {
    if (shadow_) shadow_->note_present(change, learning() || settings_.block.dry_run || is_off());
    const bool stands = change.kind != BlockChange::Kind::Removed;
    if (enforced || !stands) mark_source(change.block, stands); // who is forgiven passes, whatever nftables says
  }
  record(changes, now, enforced);
  const auto is_in_rules = [](const BlockChange& change) {
    return change.block.subject.kind == policy::SubjectKind::Prefix || change.block.wholly;
  };
  if (std::ranges::any_of(changes, is_in_rules)) dataplane_->publish(make_rules());
}

void Control::stop() {
  sd_notify(0, "STOPPING=1");
  dataplane_->stop();
  if (inline_mode())
    if (const auto given = nft_->give_back(); !given)
      spdlog::error("the kernel stays deaf on the forwarded interfaces: {}", given.error().message);
  dataplane_->drain([this](const policy::Offence& offence) { hear(offence); });
  if (settings_.nftables.on_stop == config::OnStop::Remove) collect(blocks_.flush(policy::Ending::Stopped));
  enforce();
  close_state();
  if (blocks_.size() > 0) log_->alert("stopped blocks_left=" + std::to_string(blocks_.size()), monotonic_now(), clock_);
  log_->summarise(monotonic_now() + 1s, clock_);
  if (settings_.nftables.on_stop == config::OnStop::Remove) {
    if (const auto removed = nft_->remove(); !removed)
      spdlog::error("the table stays: {}", removed.error().message);
    else
      spdlog::info("stopped; the table is removed, nobody is blocked any more");
  } else if (is_off()) {
    spdlog::info("stopped; sipward is switched off, nobody is blocked");
  } else {
    spdlog::info("stopped; {} blocks stay in nftables until they run out", blocks_.size());
  }
}

policy::PrefixSet Control::never_blocked(std::span<const policy::Prefix> more) const {
  auto prefixes = facts_.never_blocked();
  prefixes.insert(prefixes.end(), settings_.allow.begin(), settings_.allow.end());
  for (const auto& [prefix, until] : allowed_) prefixes.push_back(prefix);
  prefixes.insert(prefixes.end(), allow_found_.begin(), allow_found_.end());
  for (const auto& address : guarded()) prefixes.push_back(policy::Prefix::host(address));
  for (const auto& server : settings_.sip.servers) prefixes.push_back(policy::Prefix::host(server));
  prefixes.insert(prefixes.end(), more.begin(), more.end());
  return policy::PrefixSet(prefixes);
}

// What the kernel lets through before it looks at any block: the never-blocked, and immune hosts, whose prefix may
// stand blocked. Not immune prefixes: in those a host that was blocked by itself stays blocked.
policy::PrefixSet Control::let_through() const {
  std::vector<policy::Prefix> hosts;
  for (const auto& [prefix, until] : immune_)
    if (prefix == blocks_.host_subject(prefix.base).prefix) hosts.push_back(prefix);
  return never_blocked(hosts);
}

// In monitor mode the kernel does it, which knows an IPv6 host only as its network.
std::vector<policy::Prefix> Control::ceilings() const {
  std::vector<policy::Prefix> found;
  for (const auto& [range, per_second] : settings_.allow_limits)
    if (inline_mode() || range.base.family == policy::Family::V4) found.push_back(range);
  return found;
}

void Control::refresh_never_blocked() {
  blocks_.set_ceilings(policy::PrefixSet(ceilings()));
  blocks_.set_local(policy::PrefixSet(facts_.networks));
  collect(blocks_.set_never_blocked(never_blocked({})));
  refresh_shadow();
  if (is_off()) {
    dataplane_->publish(make_rules());
    return;
  }
  if (const auto replaced = nft_->replace_never_blocked(let_through()); !replaced) {
    spdlog::warn("{}; making the table anew", replaced.error().message);
    resynchronise();
  }
  dataplane_->publish(make_rules());
}

// Those that are named, or the outside interfaces' own addresses; inline whoever is inside, whatever his address.
std::vector<policy::Address> Control::servers() const {
  auto servers = rules_.servers;
  if (!servers.empty() || inline_mode()) return servers;
  for (const auto& interface : settings_.ports.outside)
    if (const auto found = facts_.addresses.find(interface); found != facts_.addresses.end())
      servers.insert(servers.end(), found->second.begin(), found->second.end());
  std::ranges::sort(servers);
  return servers;
}

std::unique_ptr<const policy::Rules> Control::make_rules() const {
  auto rules = std::make_unique<policy::Rules>(rules_);
  rules->drop_convicting = inline_mode() && !settings_.block.dry_run && !is_off();
  rules->servers = servers();
  std::vector<policy::Prefix> immune;
  for (const auto& [prefix, until] : immune_) immune.push_back(prefix);
  rules->never_blocked = never_blocked(immune);
  if (!is_off()) rules->blocked = blocks_.prefixes();
  if (!is_off()) rules->blocked_wholly = blocks_.wholly();
  rules->follow(wellbeing_.state());
  if (learning() && rules->soft == policy::Rules::Soft::Judged) rules->soft = policy::Rules::Soft::Logged;
  return rules;
}

} // namespace sipward::daemon
