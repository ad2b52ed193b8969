// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/allow.h"

#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>

#include "config/kinds.h"

namespace sipward::config {
namespace {

// Puts an entry where it belongs; or says why it is none.
std::optional<std::string> add(const std::string& text, AllowList& to) {
  static const auto kind = allow_entry();
  const auto entry = kind.read(text);
  if (!entry) return entry.error().empty() ? in_quotes(text) + " is not " + kind.allowed : entry.error();
  if (entry->starts_with(kFileMark)) return in_quotes(text) + ": a list names no further lists";
  if (const auto range = policy::Prefix::parse(*entry))
    to.ranges.push_back(*range);
  else
    to.names.push_back(*entry);
  return std::nullopt;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const auto from = text.find_first_not_of(kBlank);
  if (from == text.npos) return {};
  return text.substr(from, text.find_last_not_of(kBlank) - from + 1);
}

Error at(const std::string& file, const YAML::Mark& mark, std::string message) {
  return {file, mark.line + 1, mark.column + 1, std::move(message)};
}

} // namespace

std::expected<AllowList, Error> parse_allow_lines(std::string_view text, const std::string& file) {
  AllowList list;
  for (int number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    const auto line = text.substr(0, end);
    const auto entry = trimmed(line.substr(0, line.find('#')));
    if (!entry.empty())
      if (auto fault = add(std::string(entry), list))
        return std::unexpected(
            Error{file, number, static_cast<int>(entry.data() - line.data()) + 1, std::move(*fault)});
    if (end == text.npos) break;
    text.remove_prefix(end + 1);
  }
  return list;
}

std::expected<AllowList, Error> parse_allow_yaml(std::string_view text, const std::string& file) try {
  AllowList list;
  YAML::Node node = YAML::Load(std::string(text));
  if (node.IsMap()) {
    for (const auto& entry : node)
      if (!entry.first.IsScalar() || entry.first.Scalar() != "allow")
        return std::unexpected(at(file, entry.first.Mark(), "only the key allow has a meaning here"));
    node.reset(node["allow"]);
  }
  if (!node || node.IsNull()) return list;
  if (!node.IsSequence()) return std::unexpected(at(file, node.Mark(), "not a list, nor allow: with a list"));
  for (const auto& entry : node) {
    if (!entry.IsScalar()) return std::unexpected(at(file, entry.Mark(), "not an address, a range or a name"));
    if (auto fault = add(entry.Scalar(), list)) return std::unexpected(at(file, entry.Mark(), std::move(*fault)));
  }
  return list;
} catch (const YAML::Exception& exception) {
  return std::unexpected(at(file, exception.mark, "not YAML: " + exception.msg));
}

std::expected<AllowList, Error> load_allow(const std::filesystem::path& file) {
  std::error_code fault;
  if (const auto size = std::filesystem::file_size(file, fault); !fault && size > kLargestFile)
    return std::unexpected(Error{file.string(), 0, 0, "larger than 16 MiB"});
  std::ifstream stream(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream.is_open() || stream.bad()) return std::unexpected(Error{file.string(), 0, 0, std::strerror(errno)});
  const auto suffix = file.extension();
  return suffix == ".yaml" || suffix == ".yml" ? parse_allow_yaml(text, file.string())
                                               : parse_allow_lines(text, file.string());
}

} // namespace sipward::config
