// SPDX-License-Identifier: GPL-2.0-or-later
#include <endian.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netlink.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <string_view>

#include "daemon/nft_batch.h"
#include "daemon/nft_dump.h"
#include "daemon/nft_watch.h"

// What our tables are made of, as the kernel tells it.
namespace sipward::daemon::nft {
namespace {

constexpr std::size_t kAttributes = 32;
using Lines = std::vector<std::string>;

std::string text_of(const nlattr* attribute) { return attribute == nullptr ? "" : mnl_attr_get_str(attribute); }

std::string hex(const nlattr* attribute) {
  if (attribute == nullptr) return "-";
  constexpr std::string_view kDigits = "0123456789abcdef";
  const auto* octets = static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute));
  std::string text;
  for (std::size_t i = 0; i < mnl_attr_get_payload_len(attribute); ++i)
    (text += kDigits[octets[i] >> 4]) += kDigits[octets[i] & 15];
  return text;
}

// A line begins with what it is about, in the words that people are told; after the tab comes what must not change.
// What the kernel counts (uses, packets) is left out.
using Describe = std::string (*)(const Attributes<kAttributes>& attributes);

std::string table_line(const Attributes<kAttributes>& a) {
  return "\t" + hex(a[NFTA_TABLE_HANDLE]) + " " + hex(a[NFTA_TABLE_FLAGS]);
}
std::string chain_line(const Attributes<kAttributes>& a) {
  return "chain " + text_of(a[NFTA_CHAIN_NAME]) + "\t" + hex(a[NFTA_CHAIN_HANDLE]) + " " + hex(a[NFTA_CHAIN_POLICY]) +
         " " + hex(a[NFTA_CHAIN_HOOK]);
}
std::string rule_line(const Attributes<kAttributes>& a) {
  return "rules of " + text_of(a[NFTA_RULE_CHAIN]) + "\t" + hex(a[NFTA_RULE_HANDLE]);
}
std::string set_line(const Attributes<kAttributes>& a) {
  return "set " + text_of(a[NFTA_SET_NAME]) + "\t" + hex(a[NFTA_SET_HANDLE]);
}

std::expected<Lines, Error> read_lines(const Dump::Question& question, Describe describe) {
  Lines lines;
  const auto done = read_whole(
      question, [&] { lines.clear(); },
      [&](const nlmsghdr& message) {
        const auto attributes = attributes_of<kAttributes>(message);
        // Not every kernel leaves out other tables' things. The table's name stands in the same place in all of these.
        if (attributes[1] != nullptr && text_of(attributes[1]) == kTable) lines.push_back(describe(attributes));
      });
  if (!done) return std::unexpected(done.error());
  return lines;
}

// The elements of a set that holds no subjects, as they stand in it: key, and whether a range ends there.
std::expected<Lines, Error> read_fixed(const std::string& set) {
  Lines lines;
  const auto note_element = [](const nlattr* element, void* data) {
    std::array<const nlattr*, kAttributes> parts{};
    const auto note = [](const nlattr* attribute, void* into) {
      const std::size_t type = mnl_attr_get_type(attribute);
      if (type < kAttributes) (*static_cast<std::array<const nlattr*, kAttributes>*>(into))[type] = attribute;
      return MNL_CB_OK;
    };
    mnl_attr_parse_nested(element, note, &parts);
    static_cast<Lines*>(data)->push_back(hex(parts[NFTA_SET_ELEM_KEY]) + " " + hex(parts[NFTA_SET_ELEM_FLAGS]));
    return MNL_CB_OK;
  };
  const auto done = read_whole(
      {NFT_MSG_GETSETELEM, NFPROTO_INET, NFTA_SET_ELEM_LIST_TABLE, kTable, NFTA_SET_ELEM_LIST_SET, set},
      [&] { lines.clear(); },
      [&](const nlmsghdr& message) {
        const auto attributes = attributes_of<kAttributes>(message);
        if (const auto* list = attributes[NFTA_SET_ELEM_LIST_ELEMENTS])
          mnl_attr_parse_nested(list, note_element, &lines);
      });
  if (!done) return std::unexpected(done.error());
  for (auto& line : lines) line = "set " + set + "\telement " + line;
  return lines;
}

// What the table of this family is made of; nothing, if there is none.
std::expected<Lines, Error> read_family(std::uint16_t family) {
  const std::string name = family == NFPROTO_INET ? "table inet sipward" : "table netdev sipward";
  const std::pair<Dump::Question, Describe> questions[] = {
      {{NFT_MSG_GETTABLE, family}, table_line},
      {{NFT_MSG_GETCHAIN, family}, chain_line},
      {{NFT_MSG_GETRULE, family, NFTA_RULE_TABLE, kTable}, rule_line},
      {{NFT_MSG_GETSET, family, NFTA_SET_TABLE, kTable}, set_line}};
  Lines all;
  for (const auto& [question, describe] : questions) {
    auto lines = read_lines(question, describe);
    if (!lines && (lines.error().code == ENOENT || lines.error().code == EOPNOTSUPP)) continue; // no such table
    if (!lines) return std::unexpected(lines.error());
    for (auto& line : *lines) all.push_back(line.starts_with('\t') ? name + line : std::move(line));
  }
  return all;
}

} // namespace

std::expected<Frame, Error> Frame::of_taken() {
  auto lines = read_family(NFPROTO_NETDEV);
  if (!lines) return std::unexpected(lines.error());
  Frame frame;
  frame.lines_ = std::move(*lines);
  std::ranges::sort(frame.lines_);
  return frame;
}

std::expected<Frame, Error> Frame::read() {
  Frame frame;
  for (const std::uint16_t family : {NFPROTO_INET, NFPROTO_NETDEV}) {
    auto lines = read_family(family);
    if (!lines) return std::unexpected(lines.error());
    std::ranges::move(*lines, std::back_inserter(frame.lines_));
  }
  for (const char* set : {kNeverBlocked[0], kNeverBlocked[1], kAllowed[0], kAllowed[1], kPorts, kTransports}) {
    auto lines = read_fixed(set);
    if (!lines && lines.error().code == ENOENT) continue;
    if (!lines) return std::unexpected(lines.error());
    std::ranges::move(*lines, std::back_inserter(frame.lines_));
  }
  std::ranges::sort(frame.lines_);
  return frame;
}

std::set<std::string> Frame::against(const Frame& earlier) const {
  Lines changed;
  std::ranges::set_symmetric_difference(lines_, earlier.lines_, std::back_inserter(changed));
  std::set<std::string> what;
  for (const auto& line : changed) what.insert(line.substr(0, line.find('\t')));
  return what;
}

} // namespace sipward::daemon::nft
