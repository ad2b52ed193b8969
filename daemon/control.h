// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <deque>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/config.h"
#include "daemon/allow_book.h"
#include "daemon/block_log.h"
#include "daemon/control_socket.h"
#include "daemon/event_ring.h"
#include "daemon/host.h"
#include "daemon/logins.h"
#include "daemon/metrics.h"
#include "daemon/nft.h"
#include "daemon/state.h"
#include "daemon/state_export.h"
#include "daemon/tcp_peers.h"
#include "daemon/watchdog.h"
#include "dataplane/dataplane.h"
#include "policy/block_list.h"
#include "policy/census.h"
#include "policy/surge.h"
#include "policy/wellbeing.h"

// The control thread: offences in, blocks out. One loop, one owner of everything that is not a packet.
namespace sipward::daemon {

class Answers;
class LiveShadow;
namespace nft {
struct Disturbance;
}
struct TableWatch; // control_reconcile.cpp
struct DeleteTableWatch {
  void operator()(TableWatch* tables) const noexcept;
};

void set_log_level(config::LogLevel level); // of the daemon's own messages

class Control {
public:
  // Reads the settings once more, for a reload.
  using Reread = std::function<std::expected<config::Settings, std::string>()>;

  // Opens everything, in the order in which a failure is cheapest; the kernel's table comes last, since its presence
  // says that sipward enforces. Main thread, with every signal blocked. The error is one sentence that says what is
  // missing.
  static std::expected<std::unique_ptr<Control>, std::string> start(config::Settings settings, Reread reread);
  ~Control();

  // Until SIGTERM or SIGINT. Then drains the workers, and leaves or removes the table (nftables.on_stop).
  void run();

private:
  Control(config::Settings settings, Reread reread);
  std::expected<void, std::string> open();

  void wait();
  void read_signals();
  void look_around();
  void end_what_is_due();
  void follow_clock();
  void follow_host();
  void watch_ports();
  void watch_lengths();
  void watch_servers();
  void feed_watchdog();
  void open_metrics();
  void count_decisions(const policy::BlockList::Changes& changes, bool enforced);
  void tell_metrics();
  void watch_tcp_peers();
  policy::Collateral behind(const policy::Address& address) const;
  void watch_loads(policy::Time now);
  std::string top_talkers(policy::Time at) const;
  void note_second(const dataplane::Counters& counters, std::uint64_t requests, std::uint64_t answers,
                   policy::Time now);
  policy::Census& census();
  void hear(const policy::Offence& offence);
  void collect(policy::BlockList::Changes changes);
  void enforce();
  void tell_counts();
  void read_counters(policy::BlockList::Changes& changes);
  std::optional<std::uint64_t> dropped(const policy::Block& block);
  bool apply(const policy::BlockList::Changes& changes);
  bool resynchronise(std::span<const policy::BlockChange> counted = {});
  bool note_sync(const std::expected<void, nft::Error>& done);
  struct Counted {
    BlockKey key;
    std::uint64_t packets;
  };
  std::vector<Counted> read_standing(std::span<const policy::BlockChange> already);

  // Keeping the kernel's table as it is meant to be, whatever others do to it: control_reconcile.cpp.
  std::expected<void, std::string> watch_tables();
  void hear_tables();
  void hear_again(policy::Time now);
  void reconcile();
  policy::Time next_reconciliation(policy::Time latest) const;
  void learn_frame();
  std::vector<std::pair<std::string, unsigned>> hooks() const;
  void follow_hooks(policy::Time now);
  void repair(policy::Time now);
  void note_repair(const nft::Disturbance& found, policy::Time now);
  bool repair_elements(const nft::Disturbance& found);
  void mend(const nft::Disturbance& wrong);
  void end_look(policy::Time now);
  void look_closer(policy::Time now);
  void survey_part(policy::Time now);
  void compare_part(policy::Time now);
  const policy::Block* meant(const nft::Element& element) const;
  void tell_repair(policy::Time now);
  std::uint64_t repairs() const noexcept; // since the start
  bool
  kernel_in_sync(); // asks the kernel: the table is there, or is meant not to be, and undisturbed as far as is known

  // `sipward off` and `on`: control_off.cpp.
  bool is_off() const noexcept { return off_.off; }
  void restore_off(const OffSwitch& off);
  std::string off_text() const;
  bool switch_off(std::optional<std::chrono::seconds> length, std::string reason);
  bool switch_on(std::string_view why);
  void follow_off();
  bool lift_rules();
  void tell_off(const std::string& text);
  std::unique_ptr<State> open_state_file();
  void open_state(std::unique_ptr<State> state, StateContents contents);
  void restore_blocks(StateContents& contents); // is moved from
  void restore_trust(const StateContents& contents);
  void restore_users(std::span<const UserRecord> users); // control_users.cpp, with the next
  void write_users();
  bool learning() const;
  WallTime learning_end() const;
  void arm();
  void date_anew(std::chrono::nanoseconds step);
  void tend_state();
  void write_trust();
  void write_all();
  void record(const policy::BlockList::Changes& changes, policy::Time now, bool enforced);
  void write_lines();
  void drop_lines_in_vain();
  void close_state();
  std::expected<std::unique_ptr<BlockLog>, std::string> open_log(const config::Settings::Log& as);
  // What is remembered, and what the operator may do with it: control_memory.cpp.
  void remember_alerts();
  void tell_of_user(const policy::Offence& notice);
  std::uint64_t save(); // what is known of the trusted goes to the disk; the last batch
  bool take_trust(const TrustRecord& record, const policy::Now& now); // false: nothing new
  Imported take_in(const StateExport& state);
  struct Forgotten {
    std::size_t trusted = 0, climbs = 0;
  };
  Forgotten forget(const policy::Prefix& addresses);
  bool forget(std::string_view user); // true: he was known to have registered lately

  std::vector<nft::Change> spare_ports(const policy::Block& limit, bool stands, nft::Limit rate,
                                       std::chrono::seconds timeout);
  void mark_source(const policy::Block& block, bool stands);
  void stop();

  policy::PrefixSet never_blocked(std::span<const policy::Prefix> more) const;
  policy::PrefixSet let_through() const;
  std::vector<policy::Prefix> ceilings() const; // whom of the never-blocked the settings limit
  void refresh_never_blocked();
  void make_immune(const policy::Prefix& prefix, std::chrono::seconds length);
  void end_immunity(const policy::Prefix& within); // by hand
  void end_immunity();                             // of those whose time is up
  std::vector<policy::Address> servers() const;    // protected; sorted
  std::unique_ptr<const policy::Rules> make_rules() const;
  nft::Layout layout() const;
  bool inline_mode() const noexcept { return settings_.mode == config::Mode::Inline; }

  // Judging by a second settings file, blocking nothing: control_shadow.cpp.
  struct TriedSettings {
    std::optional<config::Settings> settings; // none: nothing is tried
    std::vector<std::string> in_vain;         // keys of the file that count for nothing here
  };
  static std::expected<TriedSettings, std::string> read_shadow(const config::Settings& present);
  std::expected<void, std::string> try_settings(TriedSettings tried);
  void tend_shadow();
  void refresh_shadow();
  void drain_shadow();
  std::unique_ptr<const policy::Rules> shadow_rules() const;
  std::string_view standing_now(const policy::Subject& subject) const;

  // A reload: control_reload.cpp.
  struct Reloaded {
    std::vector<std::string> changed, for_restart; // keys of the settings
    std::vector<policy::Subject> lifted;           // whose blocks ended, being allowed now
  };
  std::expected<Reloaded, std::string> reload();
  std::expected<Reloaded, std::string> take_over();
  std::expected<void, std::string> change_kernel(const config::Settings& before);
  void shift_trust(std::chrono::seconds before);

  // What the operator orders: control_orders.cpp.
  struct BlockOrder {
    policy::Prefix prefix;
    std::chrono::seconds length{0};
    std::string note = {};
    bool wholly = false;                                     // every packet, not only SIP
    bool force = false;                                      // be it a resolver, or where somebody is logged in from
    std::optional<std::chrono::seconds> confirm_within = {}; // else it ends
  };
  std::expected<policy::Subject, std::string> carry_out(const BlockOrder& order);
  std::vector<policy::Subject> confirm(const std::optional<policy::Prefix>& whom); // nobody: all that wait for it
  void end_unconfirmed();
  std::vector<policy::Address> guarded() const; // resolvers, and where somebody is logged in from; less the forced
  std::string guards(const policy::Prefix& prefix) const; // who of these is in there: a sentence's beginning
  void follow_logins();
  void follow_allow_book();
  void end_forced();
  std::expected<void, std::string> allow(const policy::Prefix& prefix, std::optional<std::chrono::seconds> length);
  bool end_allowance(const policy::Prefix& prefix);
  void end_allowances(); // of those whose time is up
  void restore_exemptions(const StateContents& contents);
  void write_exemption(ExemptionKind kind, const policy::Prefix& prefix, std::optional<policy::Time> until);
  void erase_exemption(ExemptionKind kind, const policy::Prefix& prefix);

  // One line of JSON in, one out: the commands of the control socket, in control_answers.cpp.
  ControlSocket::Reply answer(std::string_view request);
  std::string news(std::uint64_t& place) const; // for those who follow: answers_events.cpp
  friend class Answers;

  const Reread reread_;
  config::Settings settings_; // a reload changes them
  policy::Rules rules_;       // as the settings have them; make_rules() adds what the host and the moment do
  policy::BlockList blocks_;
  WallClock clock_;
  policy::Time started_;

  HostFacts facts_;
  bool host_changed_ = false; // since facts_ were read
  policy::Time next_facts_;
  policy::Time next_follow_;                      // of links and MTUs
  std::map<policy::Prefix, policy::Time> immune_; // after an unblock by hand: not to be blocked again until then
  std::map<policy::Prefix, std::optional<policy::Time>> allowed_; // at run time; until then, or until it is taken back
  struct Unconfirmed {
    policy::Time ends, until;            // unless it is confirmed; and then
    std::optional<policy::Block> before; // what its subject had, and gets back
  };
  std::map<policy::Subject, Unconfirmed> unconfirmed_;
  std::unique_ptr<AllowBook> allow_book_;   // names and lists of the settings
  std::vector<policy::Prefix> allow_found_; // and what has come of them
  Logins logins_;
  std::vector<policy::Address> logged_in_; // where from
  policy::Time next_logins_, next_want_;
  std::set<policy::Subject> forced_; // blocked in spite of what guards them
  std::uint64_t slowed_seen_ = 0;    // hosts limited by block.max_per_second, as told in the log
  policy::Time next_slowed_alert_;
  policy::BlockList::Changes pending_; // decided, not yet enforced and logged
  bool in_sync_ = false;               // does the kernel hold what the block list says?
  policy::Time retry_at_;
  std::optional<policy::Time> out_of_sync_since_;
  std::uint64_t withheld_seen_ = 0; // prefix blocks held back by the fuse, as told in the log
  policy::Time next_fuse_alert_;
  std::uint64_t too_long_seen_ = 0; // frames that could not be forwarded, as told in the log
  policy::Time next_too_long_alert_;
  std::unique_ptr<State> state_;
  StateSecret secret_{}; // of users' hashes
  Learning learning_;
  bool was_learning_ = false;
  bool learns_since_now_ = false;                                      // since this start: there was no history
  std::string state_trouble_;                                          // as told in the log
  std::unordered_map<policy::SourceKey, std::uint32_t> trust_written_; // until when they are trusted, as on file
  std::unordered_map<std::uint64_t, std::uint32_t> users_written_;     // by their hash: the minute of success on file
  policy::Time next_trust_, next_users_, next_retention_;
  bool believes_clock_ = true;       // what is old by it may be forgotten
  std::optional<WallTime> saved_at_; // what it said at the end of the run before
  struct Line {                      // of the block log, for when its batch is on file, and the kernel has taken it
    std::uint64_t batch;
    policy::BlockChange change;
    policy::Time at;
    bool waits; // for the kernel, until it is in sync again
  };
  std::deque<Line> lines_;
  std::uint64_t lines_left_out_ = 0; // there were too many
  policy::Wellbeing wellbeing_;      // of the protected servers
  policy::Surges surges_;
  std::vector<policy::Address> watched_; // the servers whose traffic is ...
  std::vector<policy::Traffic> counted_; // ... and what the workers had counted for each
  policy::Time next_pulse_;
  std::uint64_t requests_seen_ = 0, answers_seen_ = 0;
  std::map<policy::Subject, std::vector<std::uint16_t>> spared_; // ports of limited hosts that pass; sorted
  TcpPeers tcp_peers_;
  policy::Time next_tcp_look_;
  bool sees_tcp_ = true;
  std::uint64_t answered_per_hour_ = 0; // with success, by all whom we trust, when they were last looked through
  struct PerSecond {                    // over the last pulse
    double received = 0, requests = 0, answers = 0, dropped = 0;
  };
  PerSecond last_second_;
  dataplane::Counters second_before_;
  policy::Time pulse_at_;
  std::optional<policy::Census> census_; // made when somebody looks
  std::string gone_port_;                // an interface that was deleted, as told in the log
  OffSwitch off_;
  std::optional<policy::Time> off_until_; // by the clock that nobody sets
  bool stopping_ = false;
  Watchdog watchdog_;
  std::string told_status_; // to the service manager

  policy::Time next_figures_, next_near_; // for metrics
  NearMisses near_;
  std::map<Figures::Labels, std::uint64_t> decisions_;
  Latencies latencies_;

  int instance_ = -1; // the locked file that only one sipward can hold in a network namespace
  int signals_ = -1;
  int epoll_ = -1;
  std::optional<Host> host_;
  std::optional<nft::Nft> nft_;
  EventRing events_; // what log_ said
  std::unique_ptr<BlockLog> log_;
  std::unique_ptr<dataplane::Dataplane> dataplane_;
  std::unique_ptr<LiveShadow> shadow_;           // after the dataplane, whose second ledger it uses; nullptr: none
  std::unique_ptr<AllowBook> shadow_allow_book_; // of its names and lists, where they are others than ours
  std::vector<policy::Prefix> shadow_allow_found_;
  policy::Time next_shadow_;
  std::optional<ControlSocket> socket_;
  std::unique_ptr<TableWatch, DeleteTableWatch> tables_;
  std::unique_ptr<Metrics> metrics_;
};

} // namespace sipward::daemon
