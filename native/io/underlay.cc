#include "underlay.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

namespace weft {
namespace {

constexpr int kReceiveBufferBytes = 8 << 20;
constexpr int kSendBufferBytes = 4 << 20;
constexpr uint32_t kLastPort = 65535;

constexpr uint8_t kIp4Mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_ip4(const uint8_t address[16]) { return memcmp(address, kIp4Mapped, sizeof kIp4Mapped) == 0; }

union SocketAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

socklen_t to_socket_address(const uint8_t address[16], uint16_t port, SocketAddress* out) {
  memset(out, 0, sizeof *out);
  if (is_ip4(address)) {
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons(port);
    memcpy(&out->v4.sin_addr, address + 12, 4);
    return sizeof out->v4;
  }
  out->v6.sin6_family = AF_INET6;
  out->v6.sin6_port = htons(port);
  memcpy(&out->v6.sin6_addr, address, 16);
  return sizeof out->v6;
}

int set(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

// The FORCE variants go beyond net.core.*mem_max where CAP_NET_ADMIN is held.
int set_buffer(int fd, int force_name, int name, int bytes) {
  return set(fd, SOL_SOCKET, force_name, bytes) == 0 ? 0 : set(fd, SOL_SOCKET, name, bytes);
}

// A UDP socket with DF on what it sends, bound to local:port and to nothing
// that another program has. The fd or -errno.
int bound_socket(const uint8_t local[16], uint16_t port) {
  const bool v6 = !is_ip4(local);
  const int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int error = 0;
  if (v6) {
    error = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (!error) error = set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
    if (!error) error = set(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
  } else {
    error = set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
  }
  SocketAddress address;
  const socklen_t length = to_socket_address(local, port, &address);
  if (!error && bind(fd, &address.any, length) < 0) error = -errno;
  if (!error) return fd;
  ::close(fd);
  return error;
}

int receiving_socket(const uint8_t local[16], uint16_t port) {
  const int fd = bound_socket(local, port);
  if (fd < 0) return fd;
  int error = set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, kReceiveBufferBytes);
  // Tunnels may leave the IPv6 UDP checksum zero (RFC 6935 §5).
  if (!error && !is_ip4(local)) error = set(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1);
  if (!error) return fd;
  ::close(fd);
  return error;
}

// Only sends: a filter drops whatever anyone sends to its port.
int sending_socket(const uint8_t local[16], uint16_t port) {
  const int fd = bound_socket(local, port);
  if (fd < 0) return fd;
  sock_filter drop_all = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog program = {1, &drop_all};
  int error = set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, kSendBufferBytes);
  if (!error && setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) error = -errno;
  if (!error) return fd;
  ::close(fd);
  return error;
}

Reason reason_of(int error) {
  switch (error) {
    case EMSGSIZE:
      return Reason::underlay_mtu;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
      return Reason::underlay_unreachable;
    default:
      return Reason::underlay_error;
  }
}

}  // namespace

Underlay::~Underlay() { close(); }

int Underlay::open(const uint8_t local[16], uint16_t port) {
  close();
  receive_ = receiving_socket(local, port);
  if (receive_ < 0) {
    const int error = receive_;
    receive_ = -1;
    return error;
  }
  port_ = port;
  v6_ = !is_ip4(local);
  int error = 0;
  for (uint32_t source = kEntropyFirstPort; source <= kLastPort && pool_size_ < kEntropyPorts; ++source) {
    const int fd = sending_socket(local, static_cast<uint16_t>(source));
    if (fd >= 0) {
      pool_[pool_size_++] = fd;
      continue;
    }
    error = fd;
    if (error != -EADDRINUSE) break;  // out of descriptors or memory: the next port fares no better
  }
  if (pool_size_ > 0) return 0;
  close();
  return error;
}

void Underlay::close() {
  if (receive_ >= 0) ::close(receive_);
  receive_ = -1;
  while (pool_size_ > 0) ::close(pool_[--pool_size_]);
}

int Underlay::receive(Burst* burst, UnderlaySource sources[kBurst]) {
  mmsghdr messages[kBurst];
  iovec parts[kBurst];
  SocketAddress senders[kBurst];
  memset(messages, 0, sizeof messages);
  for (size_t i = 0; i < kBurst; ++i) {
    parts[i] = {burst->slot(i), kMaxFrame + 1};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_hdr.msg_name = &senders[i];
    messages[i].msg_hdr.msg_namelen = sizeof senders[i];
  }
  burst->count = 0;
  int got;
  do {
    got = recvmmsg(receive_, messages, kBurst, MSG_DONTWAIT, nullptr);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno == EAGAIN ? 0 : -errno;

  burst->count = static_cast<size_t>(got);
  for (size_t i = 0; i < burst->count; ++i) {
    burst->frames[i] = Frame{burst->slot(i), messages[i].msg_len, VnetHdr{}};
    if (v6_) {
      memcpy(sources[i].address, &senders[i].v6.sin6_addr, 16);
    } else {
      memcpy(sources[i].address, kIp4Mapped, sizeof kIp4Mapped);
      memcpy(sources[i].address + 12, &senders[i].v4.sin_addr, 4);
    }
  }
  return 0;
}

Reason Underlay::send(const uint8_t remote[16], uint32_t entropy, const Frame& frame) {
  if (pool_size_ == 0) return Reason::underlay_missing;
  if (is_ip4(remote) == v6_) return Reason::underlay_unreachable;
  const int fd = pool_[entropy % pool_size_];
  SocketAddress address;
  const socklen_t length = to_socket_address(remote, port_, &address);
  for (bool retried = false;; retried = true) {
    int error;
    do {
      error = sendto(fd, frame.data, frame.length, MSG_DONTWAIT | MSG_NOSIGNAL, &address.any, length) < 0 ? errno : 0;
    } while (error == EINTR);
    if (error == 0) return kNoDrop;
    if (retried) return reason_of(error);
    if (error == EAGAIN || error == ENOBUFS) {
      pollfd writable = {fd, POLLOUT, 0};
      poll(&writable, 1, 1);
    } else if (error != ECONNREFUSED) {  // that one is about an earlier datagram
      return reason_of(error);
    }
  }
}

}  // namespace weft
