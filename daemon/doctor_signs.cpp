// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <ifaddrs.h>
#include <libmnl/libmnl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "daemon/doctor.h"
#include "dataplane/dataplane.h"
#include "dataplane/interface.h"

// Reads what the kernel and the files of this host say.
namespace sipward::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSipJails[] = {"asterisk", "freeswitch", "kamailio", "opensips", "yate", "sip"};
constexpr int kTcxIngress = 46; // BPF_TCX_INGRESS of <linux/bpf.h>, since Linux 6.6

// What can be read of a file: a process may end meanwhile, and an interface that is down knows no carrier.
std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

// ---- netlink and bpf(2): what stands before nftables at an interface

// Sends a request and hands each answer to `take`; a refusal is no answer.
template<typename Header, typename Take>
void ask_kernel(std::uint16_t type, std::uint16_t flags, const Header& header, Take take) {
  struct Close {
    void operator()(mnl_socket* socket) const noexcept { mnl_socket_close(socket); }
  };
  const std::unique_ptr<mnl_socket, Close> socket(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0) return;
  std::array<char, 1 << 15> buffer{};
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = type;
  request->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  request->nlmsg_seq = 1;
  *static_cast<Header*>(mnl_nlmsg_put_extra_header(request, sizeof header)) = header;
  if (mnl_socket_sendto(socket.get(), request, request->nlmsg_len) < 0) return;
  const auto callback = [](const nlmsghdr* message, void* data) {
    (*static_cast<Take*>(data))(message);
    return MNL_CB_OK;
  };
  for (;;) {
    const auto size = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
    if (size <= 0) return;
    if (mnl_cb_run(buffer.data(), static_cast<std::size_t>(size), 1, mnl_socket_get_portid(socket.get()), callback,
                   &take) <= MNL_CB_STOP)
      return;
  }
}

bool has_xdp(int interface) {
  bool attached = false;
  const auto look_within = [](const nlattr* attribute, void* data) {
    if (mnl_attr_get_type(attribute) == IFLA_XDP_ATTACHED)
      *static_cast<bool*>(data) = mnl_attr_get_u8(attribute) != XDP_ATTACHED_NONE;
    return MNL_CB_OK;
  };
  const auto look = [](const nlattr* attribute, void* data) {
    auto& [within, answer] = *static_cast<std::pair<mnl_attr_cb_t, bool*>*>(data);
    if (mnl_attr_get_type(attribute) == IFLA_XDP) mnl_attr_parse_nested(attribute, within, answer);
    return MNL_CB_OK;
  };
  std::pair<mnl_attr_cb_t, bool*> data{look_within, &attached};
  ifinfomsg header{};
  header.ifi_index = interface;
  ask_kernel(RTM_GETLINK, 0, header, [&](const nlmsghdr* message) {
    if (message->nlmsg_type == RTM_NEWLINK) mnl_attr_parse(message, sizeof(ifinfomsg), look, &data);
  });
  return attached;
}

bool has_tc_filter(int interface) {
  bool any = false;
  tcmsg header{};
  header.tcm_ifindex = interface;
  header.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
  ask_kernel(RTM_GETTFILTER, NLM_F_DUMP, header,
             [&](const nlmsghdr* message) { any |= message->nlmsg_type == RTM_NEWTFILTER; });
  return any;
}

bool has_tcx_program(int interface) {
  bpf_attr query{};
  query.query.target_fd = static_cast<__u32>(interface); // for this kind it is the interface's index
  query.query.attach_type = kTcxIngress;
  return syscall(SYS_bpf, BPF_PROG_QUERY, &query, sizeof query) == 0 && query.query.prog_cnt > 0;
}

// One by which others can reach this host.
bool has_address(const std::string& interface) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return true; // not known: nothing to say
  bool found = false;
  for (const auto* i = all; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || interface != i->ifa_name) continue;
    const auto family = i->ifa_addr->sa_family;
    found |=
        family == AF_INET ||
        (family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(i->ifa_addr)->sin6_addr));
  }
  freeifaddrs(all);
  return found;
}

InterfaceSigns look_at_interface(const std::string& name, const fs::path& root) {
  InterfaceSigns signs;
  const auto folder = root / "sys/class/net" / name;
  std::error_code error;
  signs.exists = fs::exists(folder, error);
  if (const auto flags = text_of(folder / "flags"); !flags.empty())
    signs.up = (std::strtoul(flags.c_str(), nullptr, 16) & IFF_UP) != 0;
  signs.carrier = text_of(folder / "carrier") != "0\n";
  if (const auto master = fs::read_symlink(folder / "master", error); !error) {
    const bool is_bond = fs::exists(root / "sys/class/net" / master.filename() / "bonding", error);
    (is_bond ? signs.bond : signs.bridge) = master.filename();
  }
  if (const int index = static_cast<int>(if_nametoindex(name.c_str())); index != 0) {
    signs.xdp = has_xdp(index);
    signs.tc = has_tc_filter(index) || has_tcx_program(index);
    signs.addressed = has_address(name);
    signs.joining = dataplane::joining_offloads(name);
  }
  return signs;
}

// ---- processes and files

bool runs(const std::string& program, const fs::path& root) {
  std::error_code error;
  for (const auto& process : fs::directory_iterator(root / "proc", error))
    if (std::isdigit(static_cast<unsigned char>(process.path().filename().string().front())) != 0 &&
        text_of(process.path() / "comm") == program + "\n")
      return true;
  return false;
}

// jail.conf(5): jail.conf, jail.d/*.conf, jail.local, jail.d/*.local; the later word counts.
std::vector<std::string> sip_jails(const fs::path& root) {
  const auto folder = root / "etc/fail2ban";
  std::string all;
  for (const std::string kind : {".conf", ".local"}) {
    all += text_of(folder / ("jail" + kind)) + "\n";
    std::set<fs::path> further;
    std::error_code error;
    for (const auto& file : fs::directory_iterator(folder / "jail.d", error))
      if (file.path().extension() == kind) further.insert(file.path());
    for (const auto& file : further) all += text_of(file) + "\n";
  }
  return sip_jails_in(all);
}

// The kernel's log: one record a read, EAGAIN at its end.
std::uint64_t apparmor_denials(const fs::path& root) {
  const int log = open((root / "dev/kmsg").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (log < 0) return 0;
  std::uint64_t count = 0;
  std::array<char, 8192> record{};
  for (;;) {
    const auto size = read(log, record.data(), record.size());
    if (size < 0 && errno == EPIPE) continue; // this one was overwritten meanwhile
    if (size <= 0) break;
    const std::string_view text(record.data(), static_cast<std::size_t>(size));
    count += text.contains("apparmor=\"DENIED\"") && text.contains("sipward");
  }
  close(log);
  return count;
}

std::uint64_t free_hugepages_octets(const fs::path& root) {
  std::uint64_t octets = 0;
  std::error_code error;
  for (const auto& size : fs::directory_iterator(root / "sys/kernel/mm/hugepages", error)) {
    std::uint64_t kib = 0, pages = 0;
    if (std::sscanf(size.path().filename().c_str(), "hugepages-%lukB", &kib) != 1) continue;
    std::ifstream(size.path() / "free_hugepages") >> pages;
    octets += (kib << 10) * pages;
  }
  return octets;
}

} // namespace

// "  sl  local_address rem_address st ..." and then "   0: 0100007F:13C4 00000000:0000 0A ...": port and state in hex.
std::vector<Listener> listeners_in(std::string_view proc_net, bool tcp) {
  constexpr unsigned kTcpListen = 0x0a, kUdpUnconnected = 0x07;
  std::set<Listener> found;
  std::istringstream lines{std::string(proc_net)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string number, local, remote, state;
    if (!(words >> number >> local >> remote >> state)) continue;
    const auto colon = local.rfind(':');
    unsigned port = 0, at = 0;
    if (colon == std::string::npos) continue;
    if (std::from_chars(local.data() + colon + 1, local.data() + local.size(), port, 16).ec != std::errc{}) continue;
    if (std::from_chars(state.data(), state.data() + state.size(), at, 16).ec != std::errc{}) continue;
    const std::string_view address(local.data(), colon); // words of it in the host's order: 127.0.0.1, ::1
    const bool loopback = (colon == 8 && address.ends_with("7F")) || address == "00000000000000000000000001000000";
    if (at == (tcp ? kTcpListen : kUdpUnconnected) && !loopback) found.insert({tcp, static_cast<std::uint16_t>(port)});
  }
  return {found.begin(), found.end()};
}

// Sections as in an ini file, [DEFAULT] for all of them; "enabled" takes what Python's configparser takes for true.
std::vector<std::string> sip_jails_in(std::string_view jail_files) {
  std::map<std::string, std::optional<bool>> jails;
  std::string section;
  std::istringstream lines{std::string(jail_files)};
  for (std::string line; std::getline(lines, line);) {
    std::erase_if(line, [](unsigned char c) { return std::isspace(c) != 0; });
    std::ranges::transform(line, line.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (line.starts_with('[') && line.ends_with(']')) {
      section = line.substr(1, line.size() - 2);
      jails.try_emplace(section);
    } else if (line.starts_with("enabled=")) {
      const auto value = line.substr(line.find('=') + 1);
      jails[section] = value == "true" || value == "yes" || value == "1" || value == "on";
    }
  }
  const bool by_default = jails["default"].value_or(false);
  std::vector<std::string> found;
  for (const auto& [name, enabled] : jails)
    if (enabled.value_or(by_default) &&
        std::ranges::any_of(kSipJails, [&](std::string_view part) { return name.contains(part); }))
      found.push_back(name);
  return found;
}

std::string why_unwritable(const fs::path& file) {
  std::error_code error;
  const auto folder = file.parent_path();
  const bool is_there = fs::is_directory(folder, error);
  const auto place = is_there ? folder : folder.parent_path(); // where sipward would make it
  if (!fs::is_directory(place, error)) return "there is no folder " + place.string();
  struct statvfs disk {};
  if (statvfs(place.c_str(), &disk) != 0) return place.string() + ": " + std::strerror(errno);
  if ((disk.f_flag & ST_RDONLY) != 0) return "the disk of " + place.string() + " is read-only";
  if (disk.f_blocks != 0 && disk.f_bfree == 0) return "the disk of " + place.string() + " is full";
  if (disk.f_files != 0 && disk.f_ffree == 0) return "the disk of " + place.string() + " has no room for another file";
  const auto& asked = fs::exists(file, error) ? file : place;
  if (access(asked.c_str(), W_OK) != 0) return asked.string() + ": " + std::strerror(errno);
  return {};
}

HostSigns look_at_host(const config::Settings& settings, const fs::path& root) {
  HostSigns signs;
  std::set<Listener> listeners;
  for (const auto* file : {"tcp", "tcp6", "udp", "udp6"})
    for (const auto& listener : listeners_in(text_of(root / "proc/self/net" / file), file[0] == 't'))
      listeners.insert(listener);
  signs.listeners.assign(listeners.begin(), listeners.end());
  for (const auto& name : settings.ports.outside)
    if (dataplane::is_interface(name)) signs.interfaces[name] = look_at_interface(name, root);
  if (const auto& inside = settings.ports.inside; !inside.empty() && dataplane::is_interface(inside))
    signs.interfaces[inside] = look_at_interface(inside, root);
  signs.redirects = redirects_here();
  signs.privileged = geteuid() == 0;
  if (signs.privileged) // others are not meant to look into these folders
    for (const auto& [key, file] : {std::pair{"log.file", settings.log.file}, {"state.path", settings.state.path}})
      if (const auto why = why_unwritable(file); !why.empty())
        signs.unwritable.push_back(std::string(key) + " " + std::string(file) + " cannot be written: " + why);
  std::error_code error;
  signs.cilium = fs::exists(root / "sys/class/net/cilium_host", error);
  signs.fail2ban = runs("fail2ban-server", root);
  signs.sip_jails = sip_jails(root);
  signs.apparmor_denials = apparmor_denials(root);
  signs.free_hugepages_octets = free_hugepages_octets(root);
  utsname kernel{};
  if (uname(&kernel) == 0) std::sscanf(kernel.release, "%u.%u", &signs.kernel_major, &signs.kernel_minor);
  timex clock{};
  signs.clock_synchronised = adjtimex(&clock) != TIME_ERROR && (clock.status & STA_UNSYNC) == 0;
  return signs;
}

} // namespace sipward::daemon
