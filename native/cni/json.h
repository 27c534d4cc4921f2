// The little of JSON that the plugin needs: a text as a JSON string, and the strings of the outermost object. Everything else is
// read by the daemon.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace weft::cni {

// In quotes. Bytes that are no UTF-8 stay as they are: the daemon refuses them.
std::string quoted(std::string_view text);

// The value of `key` in the object that `json` is, if that is a string. Nothing if there is none, or if what comes before it is
// not JSON. Escapes \uXXXX are not resolved: neither paths of sockets nor versions have any.
std::optional<std::string> string_at(std::string_view json, std::string_view key);

}  // namespace weft::cni
