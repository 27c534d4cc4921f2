#include "route_mtu.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <climits>

#include "fd.h"
#include "netlink.h"

namespace weft {
namespace {

constexpr uint8_t kIp4Mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

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

// Asks for the route that the kernel takes, with `flags` of rtmsg: its interface, and its MTU or 0. 0 or -errno.
int ask(int netlink, const uint8_t* local, const uint8_t* remote, unsigned flags, uint32_t* interface, uint32_t* mtu) {
  const bool v4 = memcmp(remote, kIp4Mapped, sizeof kIp4Mapped) == 0;
  const size_t bytes = v4 ? 4 : 16;
  Question question = {};
  question.header.nlmsg_len = NLMSG_LENGTH(sizeof(rtmsg));
  question.header.nlmsg_type = RTM_GETROUTE;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.route.rtm_family = v4 ? AF_INET : AF_INET6;
  question.route.rtm_dst_len = question.route.rtm_src_len = static_cast<uint8_t>(8 * bytes);
  question.route.rtm_flags = flags;
  add_address(&question, RTA_DST, remote + 16 - bytes, bytes);
  add_address(&question, RTA_SRC, local + 16 - bytes, bytes);
  if (send(netlink, &question, question.header.nlmsg_len, 0) < 0) return -errno;

  alignas(nlmsghdr) uint8_t buffer[8192];
  ssize_t got;
  do {
    got = recv(netlink, buffer, sizeof buffer, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return -errno;
  const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
  if (!NLMSG_OK(header, static_cast<size_t>(got))) return -EBADMSG;
  if (header->nlmsg_type == NLMSG_ERROR) return static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
  if (header->nlmsg_type != RTM_NEWROUTE) return -EBADMSG;
  const rtattr* first = RTM_RTA(static_cast<const rtmsg*>(NLMSG_DATA(header)));
  const size_t left = RTM_PAYLOAD(header);
  *interface = number_of(find_attribute(first, left, RTA_OIF));
  *mtu = number_of(find_nested(find_attribute(first, left, RTA_METRICS), RTAX_MTU));
  return 0;
}

}  // namespace

int route_mtu(const uint8_t local[16], const uint8_t remote[16]) {
  if ((memcmp(local, kIp4Mapped, sizeof kIp4Mapped) == 0) != (memcmp(remote, kIp4Mapped, sizeof kIp4Mapped) == 0)) {
    return -EAFNOSUPPORT;
  }
  const Fd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (netlink.get() < 0) return -errno;
  // The entry of the routing table, without what was learned for this destination; and of several
  // equal routes, the interface of the one that is taken.
  uint32_t interface = 0, mtu = 0, unused = 0;
  if (const int error = ask(netlink.get(), local, remote, 0, &interface, &unused)) return error;
  if (const int error = ask(netlink.get(), local, remote, RTM_F_FIB_MATCH, &unused, &mtu)) return error;
  ifreq request = {};
  request.ifr_ifindex = static_cast<int>(interface);
  if (ioctl(netlink.get(), SIOCGIFNAME, &request) < 0 || ioctl(netlink.get(), SIOCGIFMTU, &request) < 0) return -errno;
  return std::min(request.ifr_mtu, mtu ? static_cast<int>(std::min<uint32_t>(mtu, INT_MAX)) : INT_MAX);
}

}  // namespace weft
