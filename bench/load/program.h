/**
 * What tools that make load have in common: options, the clock, addresses, and how one ends that failed.
 */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

[[noreturn]] inline void fail(const char* what) {
  fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
  exit(1);
}

[[noreturn]] inline void usage(const std::string& what) {
  fprintf(stderr, "%s: %s\n", program_invocation_short_name, what.c_str());
  exit(2);
}

/** Nanoseconds of CLOCK_MONOTONIC. */
inline int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

inline void sleepFor(int64_t ns) {
  const timespec time{.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

/** Options of the form `--name value`. */
class Options {
 public:
  Options(int count, char** words) {
    for (int i = 0; i < count; i += 2) {
      const std::string_view name = words[i];
      if (!name.starts_with("--") || i + 1 == count) usage("expected --name value: " + std::string(name));
      values_[std::string(name.substr(2))] = words[i + 1];
    }
  }

  const std::string& text(const char* name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) usage(std::string("missing: --") + name);
    return found->second;
  }

  double number(const char* name) const { return numberOf(text(name)); }

  std::vector<size_t> numbers(const char* name) const {
    std::vector<size_t> all;
    std::string_view rest = text(name);
    while (!rest.empty()) {
      const size_t comma = std::min(rest.find(','), rest.size());
      all.push_back(static_cast<size_t>(numberOf(std::string(rest.substr(0, comma)))));
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
    return all;
  }

 private:
  static double numberOf(const std::string& text) {
    char* end;
    const double value = strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(value >= 0)) usage("not a number: " + text);
    return value;
  }

  std::map<std::string, std::string> values_;
};

inline sockaddr_in address(const std::string& ip, int port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, ip.c_str(), &result.sin_addr) != 1) usage("not an IPv4 address: " + ip);
  return result;
}

/** Is the other end of the standard input closed? */
inline bool inputEnded() {
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  if (poll(&input, 1, 0) <= 0) return false;
  char ignored[64];
  return read(STDIN_FILENO, ignored, sizeof ignored) <= 0;
}

/** A TCP socket that listens on all addresses. */
inline int listening(int port, int backlog, int flags = 0) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  if (fd < 0) fail("socket");
  const int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) fail("SO_REUSEADDR");
  const sockaddr_in any = address("0.0.0.0", port);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any) < 0) fail("bind");
  if (listen(fd, backlog) < 0) fail("listen");
  return fd;
}

/** In microseconds. @param sortedNs in ascending order, and not empty */
inline double quantileUs(const std::vector<int64_t>& sortedNs, double q) {
  return static_cast<double>(sortedNs[static_cast<size_t>(q * static_cast<double>(sortedNs.size() - 1))]) / 1e3;
}
