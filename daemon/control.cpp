// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/control.h"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>

#include "config/rules.h"

namespace sipward::daemon {
namespace {

using namespace std::chrono_literals;
using policy::BlockChange;

constexpr auto kKernelGrace = 10s; // the kernel drops an element by itself this much after we should have
constexpr auto kRetry = 1s;
constexpr auto kFuseAlertEvery = 60s;

// One sipward in a network namespace: abstract socket names belong to the namespace. The error names the other one.
std::expected<int, std::string> claim_namespace() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  constexpr std::string_view kName = "sipward";
  std::copy(kName.begin(), kName.end(), address.sun_path + 1);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + kName.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0 && listen(fd, 1) == 0) return fd;
  std::string who;
  ucred peer{};
  socklen_t peer_size = sizeof peer;
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (connect(probe, reinterpret_cast<const sockaddr*>(&address), size) == 0 &&
      getsockopt(probe, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) == 0)
    who = " (process " + std::to_string(peer.pid) + ")";
  close(probe);
  close(fd);
  return std::unexpected("another sipward already runs in this network namespace" + who + "; stop it first");
}

// The time that an element is to live in the kernel: a little more than the block, so that its counter can still be
// read.
std::chrono::seconds kernel_timeout(const policy::Block& block, policy::Time now) {
  return std::max<std::chrono::seconds>(1s, std::chrono::ceil<std::chrono::seconds>(block.until - now)) + kKernelGrace;
}

nft::Change kernel_change(const BlockChange& change, policy::Time now) {
  const bool add = change.kind == BlockChange::Kind::Added;
  return {add ? nft::Change::Kind::Add : nft::Change::Kind::Delete, change.block.subject,
          add ? kernel_timeout(change.block, now) : 0s};
}

} // namespace

std::expected<std::unique_ptr<Control>, std::string> Control::start(config::Settings settings) {
  std::unique_ptr<Control> control(new Control(std::move(settings)));
  if (const auto opened = control->open(); !opened) return std::unexpected(opened.error());
  return control;
}

Control::Control(config::Settings settings)
    : settings_(std::move(settings)), blocks_(config::block_options(settings_)), clock_(WallClock::now()),
      started_(monotonic_now()) {}

Control::~Control() {
  for (const int fd : {instance_, signals_, epoll_})
    if (fd >= 0) close(fd);
}

std::expected<void, std::string> Control::open() {
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
  auto log = BlockLog::open(settings_.log.file, settings_.log.format);
  if (!log) return std::unexpected(log.error());
  log_ = std::move(*log);
  std::string warning;
  auto socket = ControlSocket::listen(settings_.control.socket, settings_.control.group, warning);
  if (!socket) return std::unexpected(socket.error());
  socket_.emplace(std::move(*socket));
  if (!warning.empty()) spdlog::warn("{}", warning);

  blocks_.set_never_blocked(never_blocked());
  auto rules = make_rules();
  const bool nobody_protected = rules->servers.empty();
  auto dataplane = dataplane::Dataplane::start(dataplane::options(settings_), std::move(rules),
                                               [](std::string_view line) { spdlog::info("dpdk: {}", line); });
  if (!dataplane) return std::unexpected(dataplane.error());
  dataplane_ = std::move(*dataplane);
  if (nobody_protected)
    spdlog::warn("sip.servers is empty and the interface has no address yet: nobody is protected until it has one");

  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  signals_ = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  for (const int fd : {signals_, host_->event(), socket_->event(), dataplane_->offence_event()}) {
    epoll_event event{EPOLLIN, {.fd = fd}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
  if (!resynchronise()) return std::unexpected("nftables refuses sipward's table; see the line before this");
  return {};
}

void Control::run() {
  spdlog::info("protecting: {} on {}, memory {} hugepages{}",
               settings_.mode == config::Mode::Monitor ? "monitor" : "inline", fmt::join(settings_.ports.outside, ", "),
               dataplane_->on_hugepages() ? "from" : "without",
               settings_.block.dry_run ? ", dry run: nobody is blocked" : "");
  sd_notify(0, "READY=1");
  while (!stopping_) {
    wait();
    read_signals();
    if (host_->changed()) follow_host();
    watch_ports();
    collect(blocks_.expire(monotonic_now())); // before new offences: an offender may be back already
    dataplane_->drain([this](const policy::Offence& offence) { collect(blocks_.convict(offence)); });
    end_immunity();
    enforce();
    socket_->serve([this](std::string_view request) { return answer(request); });
    log_->summarise(monotonic_now(), clock_);
  }
  stop();
}

// Sleeps until something happens or the next block ends.
void Control::wait() {
  policy::Time until = monotonic_now() + 1s;
  if (const auto expiry = blocks_.next_expiry()) until = std::min(until, *expiry);
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(until - monotonic_now()).count();
  std::array<epoll_event, 8> events{};
  epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), static_cast<int>(std::max<std::int64_t>(ms, 0)));
}

void Control::read_signals() {
  signalfd_siginfo info{};
  while (read(signals_, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGHUP) {
      spdlog::warn("SIGHUP: this version reads its settings only at start; restart it to apply them");
      continue;
    }
    spdlog::info("{}: stopping", strsignal(static_cast<int>(info.ssi_signo)));
    stopping_ = true;
  }
}

void Control::follow_host() {
  auto facts = host_->facts();
  if (!facts) {
    spdlog::error("{}; going on with what was known before", facts.error());
    return;
  }
  if (*facts == facts_) return;
  facts_ = std::move(*facts);
  spdlog::info("this host's addresses, gateways or resolvers changed");
  refresh_never_blocked();
}

// A deleted interface is heard of no more, even if one of the same name takes its place: say so, once.
void Control::watch_ports() {
  const std::string gone = dataplane_->gone();
  if (gone == gone_port_) return;
  gone_port_ = gone;
  if (gone.empty()) return;
  spdlog::error("the interface {} was deleted: its packets are seen no more until sipward is restarted", gone);
  log_->alert("interface_gone name=" + in_quotes(gone), monotonic_now(), clock_);
}

void Control::collect(policy::BlockList::Changes changes) {
  pending_.insert(pending_.end(), std::make_move_iterator(changes.begin()), std::make_move_iterator(changes.end()));
}

// Carries out what has been decided: kernel, workers, log, in this order. A line is only written once its block stands.
void Control::enforce() {
  const auto now = monotonic_now();
  if (blocks_.withheld() != withheld_seen_ && now >= next_fuse_alert_) {
    withheld_seen_ = blocks_.withheld();
    next_fuse_alert_ = now + kFuseAlertEvery;
    log_->alert("prefix_fuse withheld=" + std::to_string(withheld_seen_), now, clock_);
  }
  if (!in_sync_ && now >= retry_at_) resynchronise();
  if (pending_.empty()) return;
  auto changes = std::exchange(pending_, {});
  read_counters(changes);
  const bool enforced = apply(changes);
  for (const auto& change : changes) {
    if (enforced) mark_source(change.block, change.kind == BlockChange::Kind::Added);
    log_->write(change, change.kind == BlockChange::Kind::Added ? change.block.since : now, clock_);
  }
  if (blocks_.prefixes() != published_prefixes_) dataplane_->publish(make_rules());
  published_prefixes_ = blocks_.prefixes();
}

// Blocks that end take their kernel counter with them: the log's closing line says what they dropped.
void Control::read_counters(policy::BlockList::Changes& changes) {
  for (auto& [kind, block, ending] : changes) {
    if (kind != BlockChange::Kind::Removed || block.dry_run) continue;
    if (const auto element = nft_->read(block.subject); element && *element)
      block.packets_dropped = (*element)->packets;
  }
}

// True if the kernel now holds what the block list says.
bool Control::apply(const policy::BlockList::Changes& changes) {
  if (!in_sync_) return false;
  const auto now = monotonic_now();
  std::vector<nft::Change> kernel;
  for (const auto& change : changes)
    if (!change.block.dry_run) kernel.push_back(kernel_change(change, now));
  if (kernel.empty()) return true;
  const auto committed = nft_->commit(kernel);
  if (committed) return true;
  spdlog::warn("nftables refused a batch of {} ({}); making the table anew", kernel.size(), committed.error().message);
  return resynchronise();
}

// Makes the kernel's table from the block list. On failure it is tried again after kRetry.
bool Control::resynchronise() {
  const auto now = monotonic_now();
  std::vector<nft::Change> elements;
  for (const auto& [subject, block] : blocks_)
    if (!block.dry_run) elements.push_back({nft::Change::Kind::Add, subject, kernel_timeout(block, now)});
  const auto installed = nft_->install(layout(), never_blocked(), elements);
  if (!installed) {
    spdlog::error("nftables: {}", installed.error().message);
    if (in_sync_) log_->alert("nft_out_of_sync what=" + in_quotes(installed.error().message), now, clock_);
    retry_at_ = now + kRetry;
  } else {
    for (const auto& [subject, block] : blocks_) mark_source(block, true);
  }
  in_sync_ = installed.has_value();
  return in_sync_;
}

// Tells the workers that a host stands in the kernel's set (prefixes are in the rules).
void Control::mark_source(const policy::Block& block, bool blocked) {
  if (block.subject.kind != policy::SubjectKind::Host || block.dry_run) return;
  auto& table = dataplane_->sources();
  const auto key = policy::source_key(block.subject.prefix.base, settings_.sources.ipv6_prefix);
  const policy::Now now(monotonic_now());
  auto* source = blocked ? table.find_or_insert(key, now) : table.find(key);
  if (source == nullptr) return; // a window full of blocked sources; the kernel's set holds all the same
  const auto until = std::chrono::ceil<std::chrono::seconds>(block.until).time_since_epoch().count();
  source->blocked_until_s.store(blocked ? static_cast<std::uint32_t>(until) : 0, std::memory_order_relaxed);
  // A worker may have given the line to another source just now; that one is not blocked.
  if (source->key.load(std::memory_order_acquire) != key) source->blocked_until_s.store(0, std::memory_order_relaxed);
}

void Control::stop() {
  sd_notify(0, "STOPPING=1");
  dataplane_->stop();
  dataplane_->drain([this](const policy::Offence& offence) { collect(blocks_.convict(offence)); });
  enforce();
  log_->summarise(monotonic_now() + 1s, clock_);
  if (settings_.nftables.on_stop == config::OnStop::Remove) {
    if (const auto removed = nft_->remove(); !removed)
      spdlog::error("the table stays: {}", removed.error().message);
    else
      spdlog::info("stopped; the table is removed, nobody is blocked any more");
  } else {
    spdlog::info("stopped; {} blocks stay in nftables until they run out", blocks_.size());
  }
}

policy::PrefixSet Control::never_blocked() const {
  auto prefixes = facts_.never_blocked();
  prefixes.insert(prefixes.end(), settings_.allow.begin(), settings_.allow.end());
  for (const auto& server : settings_.sip.servers) prefixes.push_back(policy::Prefix::host(server));
  for (const auto& [prefix, until] : immune_) prefixes.push_back(prefix);
  return policy::PrefixSet(prefixes);
}

void Control::refresh_never_blocked() {
  const auto never = never_blocked();
  collect(blocks_.set_never_blocked(never));
  if (const auto replaced = nft_->replace_allowed(never); !replaced) {
    spdlog::warn("nftables: {}; making the table anew", replaced.error().message);
    resynchronise();
  }
  dataplane_->publish(make_rules());
}

void Control::end_immunity() {
  const auto now = monotonic_now();
  if (std::erase_if(immune_, [&](const auto& entry) { return entry.second <= now; }) > 0) refresh_never_blocked();
}

std::unique_ptr<const policy::Rules> Control::make_rules() const {
  auto rules = std::make_unique<policy::Rules>(config::rules(settings_));
  if (rules->servers.empty()) {
    for (const auto& interface : settings_.ports.outside)
      if (const auto found = facts_.addresses.find(interface); found != facts_.addresses.end())
        rules->servers.insert(rules->servers.end(), found->second.begin(), found->second.end());
    std::ranges::sort(rules->servers);
  }
  rules->never_blocked = never_blocked();
  rules->blocked = blocks_.prefixes();
  return rules;
}

nft::Layout Control::layout() const {
  nft::Layout layout;
  for (const auto& port : settings_.ports.outside)
    if (!port.starts_with("vdev:")) layout.interfaces.push_back(port);
  layout.hook = settings_.nftables.hook;
  layout.scope = settings_.nftables.scope;
  layout.ports = settings_.sip.ports;
  layout.prefix_v4 = settings_.prefix.ipv4;
  layout.prefix_v6 = settings_.prefix.ipv6;
  layout.source_v6 = settings_.sources.ipv6_prefix;
  return layout;
}

} // namespace sipward::daemon
