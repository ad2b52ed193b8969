// SPDX-License-Identifier: GPL-2.0-or-later
#include "config/config.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <numeric>
#include <sstream>
#include <system_error>

#include "config/keys.h"
#include "config/kinds.h"

// Reading is one walk over the YAML tree in the file's order, held against the table of keys. The first fault ends it.
namespace sipward::config {
namespace {

// A key or a section that the text sets, and where.
struct Place {
  std::string name;
  YAML::Mark mark;
  bool is_key;
};

struct Reading {
  Settings settings;
  std::vector<Place> places; // in the file's order
};

// Where the first octet stands that no text has. yaml-cpp would replace some and take 0x04 for the end of the file.
std::optional<YAML::Mark> first_foreign(std::string_view text) {
  YAML::Mark mark;
  while (!text.empty()) {
    const std::size_t size = character_size(text);
    if (size == 0) return mark;
    const bool ends_line = text.front() == '\n';
    mark.line += ends_line;
    mark.column = ends_line ? 0 : mark.column + 1;
    text.remove_prefix(size);
  }
  return std::nullopt;
}

// How many letters to change, add, drop or swap to get from one word to the other (optimal string alignment).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> rows(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) rows[i][0] = i;
  std::iota(rows[0].begin(), rows[0].end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      rows[i][j] = std::min({rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        rows[i][j] = std::min(rows[i][j], rows[i - 2][j - 2] + 1);
    }
  }
  return rows[a.size()][b.size()];
}

// The names that may stand in a section ("" for the top), each once.
std::vector<std::string> names_in(const std::string& section) {
  std::vector<std::string> names;
  const std::string prefix = section.empty() ? "" : section + ".";
  for (const auto& key : keys()) {
    if (!key.name.starts_with(prefix)) continue;
    auto name = key.name.substr(prefix.size(), key.name.find('.', prefix.size()) - prefix.size());
    if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

// What an unknown key was perhaps meant to be: a sibling spelt almost so, or the same word elsewhere.
std::string about_unknown(const std::string& section, const std::string& word) {
  const auto names = names_in(section);
  const auto where = section.empty() ? std::string("the settings") : section;
  const auto message = "there is no key " + in_quotes(word) + " in " + where;
  if (word.size() <= 40) {
    const auto nearest =
        std::ranges::min_element(names, {}, [&](const std::string& name) { return distance(word, name); });
    if (distance(word, *nearest) <= std::max<std::size_t>(1, nearest->size() / 3))
      return message + "; did you mean " + *nearest + "?";
  }
  for (const auto& key : keys())
    if (!word.empty() && key.name.ends_with("." + word)) return message + "; did you mean " + key.name + "?";
  return message + "; there are: " + join(names, ", ");
}

const Place* find_place(const Reading& reading, std::string_view name) {
  const auto place = std::ranges::find(reading.places, name, &Place::name);
  return place == reading.places.end() ? nullptr : &*place;
}

std::optional<Fault> read_map(const YAML::Node& map, const std::string& section, Reading& reading);

// A key that the table knows, or a section to go down into.
std::optional<Fault> read_entry(const YAML::Node& node, const YAML::Mark& mark, const std::string& name,
                                Reading& reading) {
  const auto key = std::ranges::find(keys(), name, &Key::name);
  const bool is_key = key != keys().end();
  reading.places.push_back({name, is_key && !node.IsNull() ? node.Mark() : mark, is_key});
  if (!is_key) {
    if (node.IsNull()) return std::nullopt; // every key in it was commented out
    if (!node.IsMap())
      return Fault{node.Mark(), name + ": a section, not a value; in it there are: " + join(names_in(name), ", ")};
    return read_map(node, name, reading);
  }
  auto fault = key->read(node, reading.settings);
  if (!fault) return std::nullopt;
  return Fault{node.IsNull() ? mark : fault->mark, name + ": " + fault->message};
}

std::optional<Fault> read_map(const YAML::Node& map, const std::string& section, Reading& reading) {
  for (const auto& entry : map) {
    const YAML::Mark mark = entry.first.Mark();
    if (!entry.first.IsScalar()) return Fault{mark, "a key must be a word"};
    const std::string& word = entry.first.Scalar();
    const std::string name = section.empty() ? word : section + "." + word;
    if (const auto* earlier = find_place(reading, name))
      return Fault{mark, name + ": set twice, first in line " + std::to_string(earlier->mark.line + 1)};
    const auto names = names_in(section);
    if (std::ranges::find(names, word) == names.end()) return Fault{mark, about_unknown(section, word)};
    if (auto fault = read_entry(entry.second, mark, name, reading)) return fault;
  }
  return std::nullopt;
}

// The first of the keys at odds that the file sets; else the section where the first belongs; else the file as a whole.
YAML::Mark mark_of(const Violation& violation, const Reading& reading) {
  for (const auto& name : violation.names)
    if (const auto* place = find_place(reading, name)) return place->mark;
  const std::string_view first = violation.names.front();
  const auto* section = find_place(reading, first.substr(0, first.rfind('.')));
  return section ? section->mark : YAML::Mark::null_mark();
}

std::optional<Fault> first_violation(const Reading& reading) {
  std::vector<Fault> faults;
  for (const auto& violation : violations(reading.settings))
    faults.push_back({mark_of(violation, reading), violation.names.front() + ": " + violation.message});
  const auto first = std::ranges::min_element(
      faults, {}, [](const Fault& fault) { return std::pair(fault.mark.line, fault.mark.column); });
  if (first == faults.end()) return std::nullopt;
  return *first;
}

// Where the first two documents of a text begin. No further: before a comma that begins a text, yaml-cpp finds one
// empty document after the other, without end.
class Documents : public YAML::EventHandler {
public:
  explicit Documents(std::string_view text) {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    for (int i = 0; i < 2 && parser.HandleNextDocument(*this); ++i) continue;
  }
  std::optional<Fault> fault() const {
    if (roots_.size() < 2) return std::nullopt;
    if (roots_[1].pos == roots_[0].pos) return Fault{roots_[1], "not YAML: no value begins like this"};
    return Fault{roots_[1], "a second YAML document begins here; only one is read"};
  }

private:
  void see(const YAML::Mark& mark) {
    if (expects_root_) roots_.push_back(mark);
    expects_root_ = false;
  }
  void OnDocumentStart(const YAML::Mark&) override { expects_root_ = true; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { see(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { see(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t, const std::string&) override { see(mark); }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    see(mark);
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    see(mark);
  }
  void OnMapEnd() override {}

  std::vector<YAML::Mark> roots_; // at most two
  bool expects_root_ = false;
};

std::expected<Reading, Fault> read(std::string_view text) try {
  if (const auto mark = first_foreign(text))
    return std::unexpected(Fault{*mark, "not text: a control character, or not UTF-8"});
  if (const auto fault = Documents(text).fault()) return std::unexpected(*fault);
  Reading reading;
  if (const auto document = YAML::Load(std::string(text)); !document.IsNull()) {
    if (!document.IsMap())
      return std::unexpected(Fault{document.Mark(), "the file must hold settings, one `key: value` a line"});
    if (auto fault = read_map(document, "", reading)) return std::unexpected(*fault);
  }
  if (auto fault = first_violation(reading)) return std::unexpected(*fault);
  return reading;
} catch (const YAML::Exception& exception) {
  return std::unexpected(Fault{exception.mark, "not YAML: " + exception.msg});
}

} // namespace

std::string to_string(const Error& error) {
  if (error.line == 0) return error.file + ": " + error.message;
  return error.file + ":" + std::to_string(error.line) + ":" + std::to_string(error.column) + ": " + error.message;
}

std::expected<Settings, Error> parse(std::string_view text, const std::string& file) {
  auto reading = read(text);
  if (reading) return std::move(reading->settings);
  const auto& [mark, message] = reading.error();
  return std::unexpected(Error{file, mark.line + 1, mark.column + 1, message});
}

std::expected<Settings, Error> load(const std::filesystem::path& file) {
  const auto refused = [&](const std::string& why) { return std::unexpected(Error{file.string(), 0, 0, why}); };
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (error) return refused(error.message());
  if (!std::filesystem::is_regular_file(status)) return refused("not a regular file");
  const auto size = std::filesystem::file_size(file, error);
  if (error) return refused(error.message());
  if (size > kLargestFile)
    return refused("larger than " + std::to_string(kLargestFile >> 20) + " MiB: hardly a settings file");
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return refused(std::generic_category().message(errno));
  std::string text(size, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(size));
  if (stream.bad()) return refused("cannot be read");
  text.resize(static_cast<std::size_t>(stream.gcount()));
  return parse(text, file.string());
}

std::string describe(const Settings& settings) {
  std::string text;
  std::string open; // the section that the last line stands in, with its dot
  for (const auto& key : keys()) {
    // Close what this key is not in, then open what it is in, one line a level.
    while (!key.name.starts_with(open)) open.erase(open.rfind('.', open.size() - 2) + 1);
    for (auto dot = key.name.find('.', open.size()); dot != key.name.npos; dot = key.name.find('.', open.size())) {
      const auto depth = static_cast<std::size_t>(std::ranges::count(open, '.'));
      text += std::string(2 * depth, ' ') + key.name.substr(open.size(), dot - open.size()) + ":\n";
      open = key.name.substr(0, dot + 1);
    }
    const auto depth = static_cast<std::size_t>(std::ranges::count(open, '.'));
    text += std::string(2 * depth, ' ') + key.name.substr(open.size()) + ": " + key.print(settings) + '\n';
  }
  return text;
}

} // namespace sipward::config
