#include "passing.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <utility>

namespace weft {
namespace {

constexpr int kBacklog = 16;

int packet_socket() { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

bool address_of(const char* path, sockaddr_un* address) {
  *address = {};
  address->sun_family = AF_UNIX;
  if (strlen(path) >= sizeof address->sun_path) return false;
  strcpy(address->sun_path, path);
  return true;
}

int64_t now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// 0, also if nothing has happened yet, or -errno. Signals, such as that of a child that ends, do not shorten it.
int wait_for(int fd, short events, int wait_ms) {
  pollfd one = {fd, events, 0};
  const int64_t end_ms = now_ms() + wait_ms;
  for (int64_t left = wait_ms; left >= 0; left = end_ms - now_ms()) {
    if (poll(&one, 1, static_cast<int>(left)) >= 0) return 0;
    if (errno != EINTR) return -errno;
  }
  return 0;
}

}  // namespace

int listen_packets(const char* path) {
  sockaddr_un address;
  if (!address_of(path, &address)) return -ENAMETOOLONG;
  Fd listener(packet_socket());
  if (listener.get() < 0) return -errno;
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return -errno;
  if (chmod(path, 0600) < 0 || listen(listener.get(), kBacklog) < 0) {
    const int error = -errno;
    unlink(path);
    return error;
  }
  return listener.release();
}

int accept_packets(int listener) {
  Fd connection(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (connection.get() < 0) return -errno;
  const pid_t peer = peer_of(connection.get());
  return peer < 0 ? peer : connection.release();
}

int connect_packets(const char* path) {
  sockaddr_un address;
  if (!address_of(path, &address)) return -ENAMETOOLONG;
  Fd connection(packet_socket());
  if (connection.get() < 0) return -errno;
  if (connect(connection.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return -errno;
  const pid_t peer = peer_of(connection.get());
  return peer < 0 ? peer : connection.release();
}

pid_t peer_of(int connection) {
  ucred peer = {};
  socklen_t length = sizeof peer;
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return -errno;
  return peer.uid == geteuid() ? peer.pid : -EPERM;
}

int send_message(int connection, const uint8_t* bytes, size_t length, const int* descriptors, size_t count, int wait_ms) {
  if (length == 0 || length > kMessageBytes || count > kMessageDescriptors) return -EMSGSIZE;
  alignas(cmsghdr) char control[CMSG_SPACE(kMessageDescriptors * sizeof(int))] = {};
  iovec part = {const_cast<uint8_t*>(bytes), length};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
  }
  for (bool waited = false;;) {
    if (sendmsg(connection, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return 0;
    if (errno == EINTR) continue;
    if (errno == ECONNRESET) return -EPIPE;  // it has not read everything
    if (errno != EAGAIN || waited) return -errno;
    waited = true;
    if (const int error = wait_for(connection, POLLOUT, wait_ms)) return error;
  }
}

int receive_message(int connection, int wait_ms, Message* to) {
  to->bytes.resize(kMessageBytes);
  to->descriptors.clear();
  alignas(cmsghdr) char control[CMSG_SPACE(kMessageDescriptors * sizeof(int))];
  iovec part = {to->bytes.data(), to->bytes.size()};
  msghdr message = {};
  ssize_t got = -1;
  for (bool waited = false; got < 0;) {
    message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    got = recvmsg(connection, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got >= 0) break;
    if (errno == EINTR) continue;
    if (errno == ECONNRESET) return -EPIPE;
    if (errno != EAGAIN || waited || wait_ms == 0) return -errno;
    waited = true;
    if (const int error = wait_for(connection, POLLIN, wait_ms)) return error;
  }
  for (cmsghdr* at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(at) + i * sizeof fd, sizeof fd);
      to->descriptors.emplace_back(fd);
    }
  }
  if (got == 0) return -EPIPE;
  if (message.msg_flags & MSG_CTRUNC) return -EMFILE;
  if (message.msg_flags & MSG_TRUNC) return -EMSGSIZE;
  to->bytes.resize(static_cast<size_t>(got));
  return 0;
}

}  // namespace weft
