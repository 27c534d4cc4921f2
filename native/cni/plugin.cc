// The CNI plugin: what a container runtime executes, with its command in the environment and its configuration on stdin. The
// daemon does the work; this program only carries the question there and the answer back, since that starts in a millisecond.
//
//   runtime ──environment, stdin──► plugin ──POST /v1/cni──► daemon
//           ◄──stdout, exit code───        ◄───────────────
//
// What it does by itself is what must work without a daemon: VERSION; waiting for one that restarts; and DEL while there is none,
// which takes the interface away, so that the daemon finds its endpoint without one when it starts, and removes it.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "../io/fd.h"
#include "interface.h"
#include "json.h"

namespace {

using weft::Fd;
using weft::cni::quoted;
using weft::cni::string_at;

constexpr const char* kDefaultSocket = "/run/weft/weft.sock";
constexpr const char* kVersion = "1.1.0";
constexpr const char* kVersions = R"(["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"])";
// A configuration with the results of the plugins before has some kilobytes.
constexpr size_t kMostInputBytes = 4 << 20;
constexpr size_t kMostAnswerBytes = 16 << 20;
// How long a daemon that restarts is waited for; for DEL less, since that goes on without one.
constexpr int64_t kWaitMs = 10'000, kDelWaitMs = 2'000;
constexpr int64_t kRetryMs = 50;
// How long an answer may take. Runtimes wait for longer.
constexpr time_t kAnswerSeconds = 60, kDelAnswerSeconds = 10;
// The specification's error codes that are not the daemon's.
constexpr int kIoFailure = 5, kTryAgainLater = 11, kNotReady = 50;

int64_t now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

void pause_ms(int64_t ms) {
  const timespec time = {ms / 1000, ms % 1000 * 1'000'000};
  nanosleep(&time, nullptr);
}

std::string variable(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

// Until the end. False if there is more than `most`, or errno says why.
bool read_all(int fd, size_t most, std::string* out) {
  char buffer[65'536];
  errno = 0;
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) return true;
    if (out->size() + static_cast<size_t>(got) > most) return false;
    out->append(buffer, static_cast<size_t>(got));
  }
}

// What a runtime reads of a failure.
int fail(std::string_view version, int code, std::string_view message, std::string_view details = {}) {
  std::string text = "{\"cniVersion\":" + quoted(version.empty() ? kVersion : version) + ",\"code\":" + std::to_string(code) +
                     ",\"msg\":" + quoted(message);
  if (!details.empty()) text += ",\"details\":" + quoted(details);
  write_all(STDOUT_FILENO, text + "}\n");
  return 1;
}

struct Answer {
  int status = 0;  // 0: nobody answered, and `why` says why
  std::string body;
  std::string why;
};

Answer nobody(std::string why) { return {0, {}, std::move(why)}; }

// @param asked true from when a daemon may have begun what it is asked for
Answer ask(const std::string& path, const std::string& body, time_t seconds, bool* asked) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return nobody("the path is too long for a socket");
  memcpy(address.sun_path, path.data(), path.size());
  const Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience = {seconds, 0};
  if (fd.get() < 0 || setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
      setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
      connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    return nobody(strerror(errno));
  }
  *asked = true;
  // By HTTP/1.0 the answer ends with the connection.
  const std::string head = "POST /v1/cni HTTP/1.0\r\nhost: weft\r\ncontent-type: application/json\r\ncontent-length: " +
                           std::to_string(body.size()) + "\r\n\r\n";
  std::string answer;
  if (!write_all(fd.get(), head) || !write_all(fd.get(), body) || !read_all(fd.get(), kMostAnswerBytes, &answer)) {
    return nobody(errno == EAGAIN ? "it does not answer" : errno ? strerror(errno) : "its answer is too long");
  }
  int status = 0;
  const size_t end = answer.find("\r\n\r\n");
  if (end == std::string::npos || sscanf(answer.c_str(), "HTTP/%*d.%*d %d", &status) != 1 || status == 0) {
    return nobody("it ended while it answered");
  }
  return {status, answer.substr(end + 4), {}};
}

// @param is_again true if a daemon was asked before, and may have begun
std::string question(const std::string& config, bool is_again) {
  std::string body = std::string("{\"isAgain\":") + (is_again ? "true" : "false") + ",\"environment\":{";
  for (const char* name : {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"}) {
    const char* value = getenv(name);
    if (value) body += (body.back() == '{' ? "" : ",") + quoted(name) + ":" + quoted(value);
  }
  return body + "},\"config\":" + quoted(config) + "}";
}

// Nobody answers: what can be done all the same.
int without_daemon(const std::string& command, const std::string& version, const std::string& socket, const Answer& last) {
  const std::string why = "weft does not answer at " + socket + ": " + last.why;
  if (command == "DEL") {
    const int error = weft::cni::remove_tap(variable("CNI_NETNS"), variable("CNI_IFNAME"));
    if (error == 0) return 0;
    return fail(version, kTryAgainLater, why, std::string("its interface cannot be removed: ") + strerror(-error));
  }
  return fail(version, command == "STATUS" ? kNotReady : kTryAgainLater, why, "start it with `weft up`");
}

}  // namespace

int main() {
  // A daemon that ends, and a runtime that has gone, are seen where they are written to.
  signal(SIGPIPE, SIG_IGN);
  const std::string command = variable("CNI_COMMAND");
  std::string config;
  if (isatty(STDIN_FILENO) && command.empty()) {
    write_all(STDERR_FILENO, "The CNI plugin of weft: container runtimes execute it. `weft cni config NETWORK` prints a configuration.\n");
    return 1;
  }
  if (!read_all(STDIN_FILENO, kMostInputBytes, &config)) {
    return fail({}, kIoFailure, errno ? std::string("cannot read the configuration: ") + strerror(errno)
                                      : "the configuration has more than 4 MiB");
  }
  if (command == "VERSION") {
    const std::string versions = std::string("{\"cniVersion\":") + quoted(kVersion) + ",\"supportedVersions\":" + kVersions + "}\n";
    return write_all(STDOUT_FILENO, versions) ? 0 : 1;
  }
  const std::string socket = string_at(config, "socket").value_or(kDefaultSocket);
  const std::string version = string_at(config, "cniVersion").value_or("");
  const int64_t until = now_ms() + (command == "DEL" ? kDelWaitMs : command == "STATUS" ? 0 : kWaitMs);
  const time_t seconds = command == "DEL" ? kDelAnswerSeconds : kAnswerSeconds;
  Answer answer;
  for (bool asked = false;;) {
    answer = ask(socket, question(config, asked), seconds, &asked);
    // 503: it stops, or another daemon takes over from it.
    if ((answer.status != 0 && answer.status != 503) || now_ms() >= until) break;
    pause_ms(std::min(kRetryMs, until - now_ms()));
  }
  if (answer.status == 503) answer = nobody("it is stopping");
  if (answer.status == 0) return without_daemon(command, version, socket, answer);
  // Whatever goes wrong, a runtime reads why.
  if (answer.status != 200 && answer.body.empty()) {
    return fail(version, kIoFailure, "weft at " + socket + " answers with status " + std::to_string(answer.status));
  }
  return write_all(STDOUT_FILENO, answer.body) && answer.status == 200 ? 0 : 1;
}
