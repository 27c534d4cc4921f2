// Docker's listening socket while no daemon answers there. Who connects waits for the next one, until kDockerPatienceMs after the end
// of the last one, and is refused from then on: dockerd waits for an answer for as long as it takes, and where nobody listens for 15 s.
//
// A request that is refused with a status is not repeated. Requests for capabilities are made once for all, so these connections
// are ended without an answer, and Docker repeats them.
#pragma once

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "io/fd.h"

namespace weft {

// Where Docker looks for its driver: DOCKER_SOCKET.
inline constexpr char kDockerSocket[] = "/run/docker/plugins/weft.sock";
inline constexpr int kDockerPatienceMs = 4000;
// How long a connection may take to send its request. Nothing else is answered meanwhile.
inline constexpr int kDockerSendingMs = 100;
// No request of Docker's is larger.
inline constexpr size_t kDockerRequestBytes = 65536;

// A connection that waits there; none if there is none.
inline Fd accept_docker(int listener) {
  pollfd polled = {listener, POLLIN, 0};
  if (poll(&polled, 1, 0) <= 0) return Fd();
  return Fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

// A connection that ended before its request was sent, or with something unread, would not be answered for its client, and Docker
// would try again for 15 s. Returns true, and does not answer, if a daemon asks whether another one is there.
inline bool refuse_docker(Fd connection) {
  pollfd polled = {connection.get(), POLLIN, 0};
  poll(&polled, 1, kDockerSendingMs);
  std::string request(kDockerRequestBytes, '\0');
  const ssize_t length = recv(connection.get(), request.data(), request.size(), 0);
  request.resize(length > 0 ? static_cast<size_t>(length) : 0);
  const std::string line = request.substr(0, request.find('\r'));
  if (line.rfind("OPTIONS ", 0) == 0) return true;
  if (line.find(".GetCapabilities ") != std::string::npos) return false;
  const std::string why = "weft was killed, and has not started again: start it, and try again";
  const std::string body = "{\"Err\":\"" + why + "\",\"Error\":\"" + why + "\"}";
  const std::string answer =
      "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
  return false;
}

// Before the listening socket is closed: removes its file, unless that is another socket by now.
inline void remove_docker_socket(int listener) {
  const Fd own(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un at = {};
  at.sun_family = AF_UNIX;
  memcpy(at.sun_path, kDockerSocket, sizeof kDockerSocket);
  if (connect(own.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) < 0) return;
  for (Fd connection = accept_docker(listener); connection.get() >= 0; connection = accept_docker(listener)) {
    ucred peer = {};
    socklen_t length = sizeof peer;
    getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length);
    if (peer.pid == getpid()) unlink(kDockerSocket);
    else refuse_docker(std::move(connection));
  }
}

}  // namespace weft
