#include "path_mtu.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <climits>

#include "fd.h"
#include "netlink.h"
#include "socket.h"

namespace weft {
namespace {

constexpr uint16_t kVxlanPort = 4789;

struct Question {
  nlmsghdr header;
  rtmsg route;
  uint8_t attributes[2 * RTA_SPACE(16)];
};

void add_address(Question* question, uint16_t type, const uint8_t* address, size_t bytes) {
  auto* at = reinterpret_cast<rtattr*>(reinterpret_cast<uint8_t*>(question) + NLMSG_ALIGN(question->header.nlmsg_len));
  at->rta_type = type;
  at->rta_len = static_cast<uint16_t>(RTA_LENGTH(bytes));
  memcpy(RTA_DATA(at), address, bytes);
  question->header.nlmsg_len = static_cast<uint32_t>(NLMSG_ALIGN(question->header.nlmsg_len) + RTA_LENGTH(bytes));
}

uint32_t number_of(const rtattr* attribute) {
  uint32_t value = 0;
  if (attribute && RTA_PAYLOAD(attribute) >= sizeof value) memcpy(&value, RTA_DATA(attribute), sizeof value);
  return value;
}

// The route that the kernel takes, asked with `flags` of rtmsg: its interface, or 0 if several lead there, and its MTU, or 0.
struct Route {
  int error = 0;
  uint32_t interface = 0;
  uint32_t mtu = 0;
};

// The answer to the question with that number, which is one message. 0 or -errno.
int receive(int netlink, uint32_t sequence, uint8_t* buffer, size_t size) {
  const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
  for (;;) {
    const ssize_t got = recv(netlink, buffer, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (!NLMSG_OK(header, static_cast<size_t>(got))) return -EBADMSG;
    if (header->nlmsg_seq == sequence) return 0;
  }
}

Route ask(int netlink, const uint8_t* local, const uint8_t* remote, unsigned flags) {
  static std::atomic<uint32_t> sequence = 0;
  const bool v4 = is_ip4(remote);
  const size_t bytes = v4 ? 4 : 16;
  Question question = {};
  question.header.nlmsg_len = NLMSG_LENGTH(sizeof(rtmsg));
  question.header.nlmsg_type = RTM_GETROUTE;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.header.nlmsg_seq = ++sequence;
  question.route.rtm_family = v4 ? AF_INET : AF_INET6;
  question.route.rtm_dst_len = question.route.rtm_src_len = static_cast<uint8_t>(8 * bytes);
  question.route.rtm_flags = flags;
  add_address(&question, RTA_DST, remote + 16 - bytes, bytes);
  add_address(&question, RTA_SRC, local + 16 - bytes, bytes);
  if (send(netlink, &question, question.header.nlmsg_len, 0) < 0) return {-errno};

  alignas(nlmsghdr) uint8_t buffer[8192];
  const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
  if (const int error = receive(netlink, question.header.nlmsg_seq, buffer, sizeof buffer)) return {error};
  if (header->nlmsg_type == NLMSG_ERROR) return {static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error};
  if (header->nlmsg_type != RTM_NEWROUTE) return {-EBADMSG};
  const rtattr* first = RTM_RTA(static_cast<const rtmsg*>(NLMSG_DATA(header)));
  const size_t left = RTM_PAYLOAD(header);
  return {0, number_of(find_attribute(first, left, RTA_OIF)),
          number_of(find_nested(find_attribute(first, left, RTA_METRICS), RTAX_MTU))};
}

// The MTUs of interfaces. Most hosts are reached by the same one, so the last one is remembered.
class Interfaces {
 public:
  explicit Interfaces(int socket) : socket_(socket) {}

  // In bytes, or -errno.
  int mtu(uint32_t interface) {
    if (interface != last_) {
      ifreq request = {};
      request.ifr_ifindex = static_cast<int>(interface);
      const bool asked = ioctl(socket_, SIOCGIFNAME, &request) == 0 && ioctl(socket_, SIOCGIFMTU, &request) == 0;
      mtu_ = asked ? request.ifr_mtu : -errno;
      last_ = interface;
    }
    return mtu_;
  }

 private:
  const int socket_;
  uint32_t last_ = 0;
  int mtu_ = -ENODEV;
};

int route_mtu(int netlink, Interfaces* interfaces, const uint8_t* local, const uint8_t* remote) {
  // The entry of the routing table, without what was learned for this destination; and of several equal routes, the
  // interface of the one that is taken.
  const Route entry = ask(netlink, local, remote, RTM_F_FIB_MATCH);
  if (entry.error) return entry.error;
  const Route taken = entry.interface ? entry : ask(netlink, local, remote, 0);
  if (taken.error) return taken.error;
  const int mtu = interfaces->mtu(taken.interface);
  if (mtu < 0 || entry.mtu == 0) return mtu;
  return std::min(mtu, static_cast<int>(std::min<uint32_t>(entry.mtu, INT_MAX)));
}

// A UDP socket at the address where the paths begin. It sends and receives nothing. Or -errno.
int bound_at(const uint8_t local[16]) {
  Fd fd(socket(is_ip4(local) ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return -errno;
  SocketAddress address;
  const socklen_t length = to_socket_address(local, 0, &address);
  if (bind(fd.get(), &address.any, length) < 0) return -errno;
  return fd.release();
}

int believed_mtu(int udp, const uint8_t* remote) {
  SocketAddress to;
  const socklen_t length = to_socket_address(remote, kVxlanPort, &to);
  int mtu = 0;
  socklen_t size = sizeof mtu;
  const bool v4 = is_ip4(remote);
  const bool asked = connect(udp, &to.any, length) == 0 &&
                     getsockopt(udp, v4 ? static_cast<int>(IPPROTO_IP) : static_cast<int>(IPPROTO_IPV6),
                                v4 ? IP_MTU : IPV6_MTU, &mtu, &size) == 0;
  return asked ? mtu : -errno;
}

}  // namespace

void path_mtus(const uint8_t local[16], const uint8_t* remotes, size_t count, PathMtu* out) {
  if (count == 0) return;
  const Fd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  const int netlink_error = netlink.get() < 0 ? -errno : 0;
  const int bound = bound_at(local);
  const Fd udp(bound);
  Interfaces interfaces(netlink.get());
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* remote = remotes + 16 * i;
    if (is_ip4(local) != is_ip4(remote)) {
      out[i] = {-EAFNOSUPPORT, -EAFNOSUPPORT};
      continue;
    }
    out[i].route = netlink_error ? netlink_error : route_mtu(netlink.get(), &interfaces, local, remote);
    out[i].believed = bound < 0 ? bound : believed_mtu(udp.get(), remote);
  }
}

}  // namespace weft
