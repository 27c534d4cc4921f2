// The holder: a small process that keeps duplicates of a daemon's descriptors, so that they outlive a daemon that is
// killed. As long as anybody has a TAP open, its interface has a carrier, and what is sent there waits in its queue.
//
//   daemon ──put, drop──► holder ──take──► the next daemon
//
// The daemon starts it with the listening socket as descriptor 3, in a session of its own. It ends when a daemon says
// so, and otherwise kHoldMs after the last one has gone. A daemon that it does not answer kills it. It does nothing with the descriptors
// but keep them, and answer Docker while there is no daemon (docker_socket.h). It has no threads and no files. io/passing.h has the
// messages; each is a letter and perhaps a name:
//
//   P name + descriptors   keeps them under this name, in place of those that it had   → K | F (no room)
//   D name                 closes those of this name                                   → K
//   T                      sends all of them: N name + descriptors, for each           → K
//   E                      closes all and ends                                         → K
//
// src/handover/holder.ts is the daemon's side.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "docker_socket.h"
#include "io/passing.h"

namespace {

using weft::Fd;
using weft::kDockerPatienceMs;
using weft::Message;

constexpr int kListener = 3;
// Long enough for a supervisor, or a person who is quick.
constexpr int kHoldMs = 60'000;
constexpr int kReplyMs = 1000;
constexpr size_t kMostClients = 8;

// DOCKER_DESCRIPTOR
constexpr char kDocker[] = "docker";

std::map<std::string, std::vector<Fd>> kept;

int64_t now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

bool say(int client, char letter, const std::string& name = {}, const std::vector<Fd>& descriptors = {}) {
  const std::string text = letter + name;
  std::vector<int> numbers;
  for (const Fd& one : descriptors) numbers.push_back(one.get());
  return weft::send_message(client, reinterpret_cast<const uint8_t*>(text.data()), text.size(), numbers.data(),
                            numbers.size(), kReplyMs) == 0;
}

// False: the client is given up.
bool answer(int client, Message* message) {
  const auto* text = reinterpret_cast<const char*>(message->bytes.data());
  const std::string name(text + 1, message->bytes.size() - 1);
  switch (text[0]) {
    case 'P':
      kept[name] = std::move(message->descriptors);
      return say(client, 'K');
    case 'D':
      kept.erase(name);
      return say(client, 'K');
    case 'T':
      for (const auto& [each, descriptors] : kept) {
        if (!say(client, 'N', each, descriptors)) return false;
      }
      return say(client, 'K');
    case 'E':
      kept.clear();
      say(client, 'K');
      exit(0);
    default:
      return false;
  }
}

// Takes the next message of a client. False: the client is given up.
bool serve(int client) {
  Message message;
  const int error = weft::receive_message(client, 0, &message);
  if (error == -EAGAIN) return true;
  if (error == -EMFILE) return say(client, 'F');
  return error == 0 && answer(client, &message);
}

// -1 if there is none.
int docker_listener() {
  const auto found = kept.find(kDocker);
  return found == kept.end() || found->second.empty() ? -1 : found->second[0].get();
}

}  // namespace

int main() {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  if (chdir("/") < 0) return 1;
  fcntl(kListener, F_SETFD, FD_CLOEXEC);
  // Whoever connects from now on gets the pid of this process (SO_PEERCRED), and not that of the one which listened before.
  if (listen(kListener, static_cast<int>(kMostClients)) < 0) return 1;
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  std::vector<Fd> clients;
  int64_t alone_since = now_ms();
  for (;;) {
    std::vector<pollfd> polled = {{kListener, POLLIN, 0}};
    for (const Fd& client : clients) polled.push_back({client.get(), POLLIN, 0});
    const int docker = clients.empty() ? docker_listener() : -1;
    const int64_t left = clients.empty() ? alone_since + kHoldMs - now_ms() : -1;
    if (clients.empty() && left <= 0) {
      if (docker >= 0) weft::remove_docker_socket(docker);
      return 0;
    }
    const int64_t patience = docker < 0 ? 0 : std::max<int64_t>(alone_since + kDockerPatienceMs - now_ms(), 0);
    if (docker >= 0 && patience == 0) polled.push_back({docker, POLLIN, 0});
    if (poll(polled.data(), polled.size(), static_cast<int>(patience > 0 ? patience : left)) < 0 && errno != EINTR) return 1;
    if (docker >= 0 && patience == 0 && polled.back().revents) {
      Fd asking = weft::accept_docker(docker);
      // A daemon that has not found this holder begins anew.
      if (asking.get() >= 0 && weft::refuse_docker(std::move(asking))) kept.erase(kDocker);
    }
    std::vector<Fd> going_on;
    for (size_t i = 0; i < clients.size(); ++i) {
      if (polled[i + 1].revents == 0 || serve(clients[i].get())) going_on.push_back(std::move(clients[i]));
    }
    if (going_on.empty() && !clients.empty()) alone_since = now_ms();
    clients = std::move(going_on);
    if (polled[0].revents) {
      Fd client(weft::accept_packets(kListener));
      if (client.get() >= 0 && clients.size() < kMostClients) clients.push_back(std::move(client));
    }
  }
}
