#include "json.h"

#include <cstdio>

namespace weft::cni {
namespace {

// Reads on from `at`. Each function returns false at the first thing that is not JSON.
struct Reader {
  std::string_view text;
  size_t at = 0;

  void skip_space() {
    while (at < text.size() && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r')) ++at;
  }

  bool take(char wanted) {
    skip_space();
    if (at >= text.size() || text[at] != wanted) return false;
    ++at;
    return true;
  }

  bool string(std::string* out) {
    if (!take('"')) return false;
    while (at < text.size()) {
      const char c = text[at++];
      if (c == '"') return true;
      if (c != '\\') {
        out->push_back(c);
        continue;
      }
      if (at >= text.size()) return false;
      const char escaped = text[at++];
      constexpr std::string_view kNames = "\"\\/bfnrt";
      constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
      const size_t which = kNames.find(escaped);
      if (which == std::string_view::npos) {
        out->push_back('\\');
        out->push_back(escaped);
      } else {
        out->push_back(kMeant[which]);
      }
    }
    return false;
  }

  // Any value, without looking at more of it than where it ends. Objects and lists may be nested as deeply as they like.
  bool skip_value() {
    skip_space();
    size_t depth = 0;
    do {
      skip_space();
      if (at >= text.size()) return false;
      const char c = text[at];
      if (c == '"') {
        std::string ignored;
        if (!string(&ignored)) return false;
      } else if (c == '{' || c == '[') {
        ++depth;
        ++at;
      } else if (c == '}' || c == ']') {
        if (depth == 0) return false;
        --depth;
        ++at;
      } else if (c == ',' || c == ':') {
        if (depth == 0) return false;
        ++at;
      } else {
        const size_t end = text.find_first_of(" \t\r\n,:]}\"{[", at);
        at = end == std::string_view::npos ? text.size() : end;
      }
    } while (depth > 0);
    return true;
  }
};

}  // namespace

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (byte < 0x20) {
      char escaped[7];
      snprintf(escaped, sizeof escaped, "\\u%04x", byte);
      out += escaped;
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
  return out;
}

std::optional<std::string> string_at(std::string_view json, std::string_view key) {
  Reader reader{json};
  if (!reader.take('{') || reader.take('}')) return std::nullopt;
  do {
    std::string found;
    if (!reader.string(&found) || !reader.take(':')) return std::nullopt;
    reader.skip_space();
    const bool is_string = reader.at < json.size() && json[reader.at] == '"';
    if (found == key && is_string) {
      std::string value;
      return reader.string(&value) ? std::optional(value) : std::nullopt;
    }
    if (!reader.skip_value()) return std::nullopt;
  } while (reader.take(','));
  return std::nullopt;
}

}  // namespace weft::cni
