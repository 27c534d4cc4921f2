#include "underlay.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "descriptors.h"
#include "socket.h"

// Missing in the headers of older systems.
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace weft {
namespace {

constexpr int kReceiveBufferBytes = 8 << 20;
constexpr int kSendBufferBytes = 4 << 20;
constexpr size_t kReceiveBatch = 64;
// The largest UDP payload of an IPv4 packet; IPv6 would allow 20 bytes more.
constexpr size_t kMaxPayload = 65507;

// A UDP socket that sets DF on what it sends, whatever ICMP errors told the kernel about the path, bound to local:port
// unless another program has that. The fd or -errno.
int bound_socket(const uint8_t local[16], uint16_t port, bool shared = false) {
  const bool v6 = !is_ip4(local);
  const int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int error = 0;
  if (v6) {
    error = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (!error) error = set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    if (!error) error = set(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
  } else {
    error = set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
  }
  if (!error && shared) error = set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  SocketAddress address;
  const socklen_t length = to_socket_address(local, port, &address);
  if (!error && bind(fd, &address.any, length) < 0) error = -errno;
  if (!error) return fd;
  ::close(fd);
  return error;
}

// Another descriptor of `spare`, if that is a UDP socket bound to local:port; -1 if not.
int duplicate_bound(int spare, const uint8_t local[16], uint16_t port, bool shared) {
  SocketAddress wanted, bound = {};
  const socklen_t length = to_socket_address(local, port, &wanted);
  socklen_t bound_bytes = sizeof bound;
  int type = 0;
  socklen_t type_bytes = sizeof type;
  if (spare < 0 || getsockopt(spare, SOL_SOCKET, SO_TYPE, &type, &type_bytes) < 0 || type != SOCK_DGRAM) return -1;
  if (getsockname(spare, &bound.any, &bound_bytes) < 0 || bound_bytes != length || memcmp(&bound, &wanted, length) != 0) return -1;
  if (shared && set(spare, SOL_SOCKET, SO_REUSEPORT, 1) != 0) return -1;
  return fcntl(spare, F_DUPFD_CLOEXEC, 0);
}

int receiving_socket(const uint8_t local[16], uint16_t port, bool shared, int spare, bool* gathers) {
  int fd = duplicate_bound(spare, local, port, shared);
  if (fd < 0) fd = bound_socket(local, port, shared);
  if (fd < 0) return fd;
  int error = set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, kReceiveBufferBytes);
  // Tunnels may send UDP over IPv6 with a zero checksum (RFC 6935 §5).
  if (!error && !is_ip4(local)) error = set(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1);
  if (!error) error = is_ip4(local) ? set(fd, IPPROTO_IP, IP_RECVTOS, 1) : set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
  *gathers = set(fd, IPPROTO_UDP, UDP_GRO, 1) == 0;
  if (!error) return fd;
  ::close(fd);
  return error;
}

uint16_t random_port() {
  uint32_t number = 0;
  while (getrandom(&number, sizeof number, 0) != sizeof number) {
  }
  return static_cast<uint16_t>(kEntropyFirstPort + number % kEntropyPorts);
}

// It only sends: a filter drops everything that is sent to its port.
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

// What the kernel says about a received buffer.
struct Received {
  uint32_t datagram_bytes;  // of each; the last is perhaps shorter
  uint8_t tos = 0;          // the same for all
};

Received read_control(msghdr* message, uint32_t length) {
  Received received = {std::max(length, 1u)};
  for (cmsghdr* at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
    if (at->cmsg_level == IPPROTO_IP && at->cmsg_type == IP_TOS) {
      received.tos = *CMSG_DATA(at);
      continue;
    }
    int value;
    if (at->cmsg_len < CMSG_LEN(sizeof value)) continue;
    memcpy(&value, CMSG_DATA(at), sizeof value);
    if (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_TCLASS) received.tos = static_cast<uint8_t>(value);
    const bool gathered = at->cmsg_level == IPPROTO_UDP && at->cmsg_type == UDP_GRO;
    if (gathered && value > 0) received.datagram_bytes = static_cast<uint32_t>(value);
  }
  return received;
}

// Appends a control message to those of `message`, which must have room for it.
template <typename T>
void add_control(msghdr* message, int level, int type, T value) {
  auto* header = reinterpret_cast<cmsghdr*>(static_cast<char*>(message->msg_control) + message->msg_controllen);
  header->cmsg_level = level;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(sizeof value);
  memcpy(CMSG_DATA(header), &value, sizeof value);
  message->msg_controllen += CMSG_SPACE(sizeof value);
}

// Sends one buffer, segmented into datagrams of `cut_bytes` unless that is 0. 0 or errno.
int send_some(int fd, const sockaddr* to, socklen_t to_bytes, uint8_t tos, const iovec* parts, size_t count,
              size_t cut_bytes) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_name = const_cast<sockaddr*>(to);
  message.msg_namelen = to_bytes;
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = count;
  message.msg_control = control;
  if (cut_bytes) add_control(&message, IPPROTO_UDP, UDP_SEGMENT, static_cast<uint16_t>(cut_bytes));
  if (tos) {
    const bool v6 = to->sa_family == AF_INET6;
    add_control(&message, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TCLASS : IP_TOS, static_cast<int>(tos));
  }
  for (bool retried = false;; retried = true) {
    int error;
    do {
      error = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
    } while (error == EINTR);
    if (error == 0 || retried) return error;
    if (error == EAGAIN || error == ENOBUFS) {
      pollfd writable = {fd, POLLOUT, 0};
      poll(&writable, 1, 1);
    } else if (error != ECONNREFUSED) {  // that error is about an earlier datagram
      return error;
    }
  }
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

bool nothing_waits(int fd) {
  uint8_t byte;
  return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

}  // namespace

// The kernel writes the two lengths of what it fills; everything else stays as it was set up.
struct Underlay::Inbox {
  struct Control {
    alignas(cmsghdr) char bytes[2 * CMSG_SPACE(sizeof(int))];  // UDP_GRO, and the TOS
  };
  const Burst* burst;
  mmsghdr messages[kReceiveBatch];
  iovec parts[kReceiveBatch];
  SocketAddress senders[kReceiveBatch];
  Control controls[kReceiveBatch];

  explicit Inbox(Burst* to) : burst(to) {
    memset(messages, 0, sizeof messages);
    for (size_t i = 0; i < kReceiveBatch; ++i) {
      parts[i] = {to->slot(i), kMaxFrame + 1};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_hdr.msg_name = &senders[i];
      messages[i].msg_hdr.msg_control = &controls[i];
      reset(i);
    }
  }
  void reset(size_t i) {
    msghdr& message = messages[i].msg_hdr;
    message.msg_namelen = sizeof senders[i];
    message.msg_controllen = sizeof controls[i];
  }
};
static_assert(kReceiveBatch <= Burst::kSlots);

Underlay::Underlay() = default;
Underlay::~Underlay() { close(); }

int Underlay::open(const uint8_t local[16], uint16_t port, bool shared, int spare) {
  close();
  if (shared && spare < 0) {
    // A shared socket would not notice another program's shared one, but this socket does.
    const int alone = bound_socket(local, port);
    if (alone < 0) return alone;
    ::close(alone);
  }
  receive_ = receiving_socket(local, port, shared, spare, &gathers_);
  spare_ = spare >= 0;
  if (receive_ < 0) {
    const int error = receive_;
    receive_ = -1;
    return error;
  }
  memcpy(local_, local, sizeof local_);
  port_ = port;
  v6_ = !is_ip4(local);
  int error = 0;
  // Whoever cannot see the traffic does not know its ports, and so cannot forge an ICMP error about it.
  constexpr int kMostTries = 16 * kPoolSockets;
  for (int tries = 0; tries < kMostTries && pool_size_ < kPoolSockets; ++tries) {
    const int fd = sending_socket(local, random_port());
    if (fd >= 0) {
      pool_[pool_size_++] = fd;
      if (static_cast<size_t>(fd) >= descriptor_limit() / 4) break;  // the rest is for ports
      continue;
    }
    error = fd;
    if (error != -EADDRINUSE) break;  // out of descriptors or memory: the next port would fail, too
  }
  if (pool_size_ > 0) {
    cuts_ = set(pool_[0], IPPROTO_UDP, UDP_SEGMENT, 0) == 0;
    return 0;
  }
  close();
  return error;
}

int Underlay::join(const Underlay& first, int spare) {
  close();
  receive_ = receiving_socket(first.local_, first.port_, true, spare, &gathers_);
  spare_ = spare >= 0;
  int error = receive_ < 0 ? receive_ : 0;
  for (size_t i = 0; !error && i < first.pool_size_; ++i) {
    const int fd = fcntl(first.pool_[i], F_DUPFD_CLOEXEC, 0);
    if (fd < 0) error = -errno;
    if (fd >= 0) pool_[pool_size_++] = fd;
  }
  memcpy(local_, first.local_, sizeof local_);
  port_ = first.port_;
  v6_ = first.v6_;
  cuts_ = first.cuts_;
  if (error) close();
  return error;
}

void Underlay::close() {
  if (receive_ >= 0) ::close(receive_);
  receive_ = -1;
  inbox_ = nullptr;
  while (pool_size_ > 0) ::close(pool_[--pool_size_]);
}

int Underlay::receive(Burst* burst, size_t most) {
  if (!inbox_ || inbox_->burst != burst) inbox_ = std::make_unique<Inbox>(burst);
  burst->clear();
  reads_.store(reads_.load(std::memory_order_relaxed) | 1);
  int got;
  do {
    got = recvmmsg(receive_, inbox_->messages, static_cast<unsigned>(std::min(most, kReceiveBatch)), MSG_DONTWAIT, nullptr);
  } while (got < 0 && errno == EINTR);
  at_end_ = got < static_cast<int>(kReceiveBatch);
  in_hand_ = 0;
  if (got < 0) return errno == EAGAIN ? 0 : -errno;

  for (size_t i = 0; i < static_cast<size_t>(got); ++i) {
    mmsghdr& message = inbox_->messages[i];
    const SocketAddress& sender = inbox_->senders[i];
    UnderlaySource source;
    if (v6_) {
      memcpy(source.address, &sender.v6.sin6_addr, 16);
    } else {
      memcpy(source.address, kIp4Mapped, sizeof kIp4Mapped);
      memcpy(source.address + 12, &sender.v4.sin_addr, 4);
    }
    const uint32_t length = message.msg_len;
    in_hand_ += length;
    const Received received = read_control(&message.msg_hdr, length);
    const uint32_t each = received.datagram_bytes;
    source.tos = received.tos;
    inbox_->reset(i);
    uint32_t at = 0;
    do {
      burst->frames.push_back(Frame{burst->slot(i) + at, std::min(each, length - at), VnetHdr{}});
      burst->sources.push_back(source);
      at += each;
    } while (at < length);
  }
  return 0;
}

void Underlay::handled() {
  const auto add = [](std::atomic<uint64_t>* to, uint64_t more) {
    to->store(to->load(std::memory_order_relaxed) + more, std::memory_order_release);
  };
  if (in_hand_) add(&bytes_, in_hand_);
  if (at_end_) add(&ends_, 1);
  reads_.store((reads_.load(std::memory_order_relaxed) + 1) & ~1u);
}

double Underlay::read_until_ms(double now_ms) {
  // The kernel doubles what it was asked for.
  constexpr uint64_t kMostWaiting = 2 * kReceiveBufferBytes + kReceiveBatch * (kMaxFrame + 1);
  if (asking_ && (ends_.load() - asked_ends_ >= 2 || bytes_.load() - asked_bytes_ > kMostWaiting)) {
    read_until_ms_ = std::max(read_until_ms_, asked_ms_);
    asking_ = false;
  }
  if (nothing_waits(receive_) && reads_.load() % 2 == 0) {
    read_until_ms_ = now_ms;
    asking_ = false;
  } else if (!asking_) {
    asking_ = true;
    asked_ms_ = now_ms;
    asked_ends_ = ends_.load();
    asked_bytes_ = bytes_.load();
  }
  return read_until_ms_;
}

Refused Underlay::send(const uint8_t remote[16], uint32_t entropy, uint8_t tos, const iovec* parts, size_t parts_each,
                       size_t count) {
  const auto all = static_cast<uint32_t>(count);
  if (pool_size_ == 0) return {all, Reason::underlay_missing};
  if (is_ip4(remote) == v6_) return {all, Reason::underlay_unreachable};
  const int fd = pool_[entropy % pool_size_];
  SocketAddress address;
  const socklen_t length = to_socket_address(remote, port_, &address);
  size_t bytes = 0;
  for (size_t i = 0; i < parts_each; ++i) bytes += parts[i].iov_len;
  const size_t at_once = cuts_ ? std::max<size_t>(1, kMaxPayload / std::max<size_t>(1, bytes)) : 1;

  Refused refused;
  for (size_t at = 0; at < count;) {
    const size_t some = std::min(at_once, count - at);
    const iovec* first = parts + at * parts_each;
    int error = send_some(fd, &address.any, length, tos, first, parts_each * some, some > 1 ? bytes : 0);
    if (error && some > 1) {
      // Whatever the reason: sent one by one they get through, or each has an error of its own.
      for (size_t i = 0; i < some; ++i) {
        error = send_some(fd, &address.any, length, tos, first + i * parts_each, parts_each, 0);
        if (error) refused = {refused.datagrams + 1, reason_of(error)};
      }
    } else if (error) {
      refused = {refused.datagrams + 1, reason_of(error)};
    }
    at += some;
  }
  return refused;
}

}  // namespace weft
