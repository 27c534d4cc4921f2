#include "interface.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#include <string_view>

#include "../io/fd.h"
#include "../io/netlink.h"

namespace weft::cni {
namespace {

struct Request {
  nlmsghdr header = {};
  ifinfomsg link = {};
  uint8_t attributes[RTA_SPACE(IFNAMSIZ)] = {};
};

// One message of the kernel to a request. The number of its bytes, or -errno, also if it is an error.
ssize_t exchange(int netlink, const Request& request, nlmsghdr* reply, size_t most) {
  if (send(netlink, &request, request.header.nlmsg_len, 0) < 0) return -errno;
  ssize_t got;
  do {
    got = recv(netlink, reply, most, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return -errno;
  if (!NLMSG_OK(reply, static_cast<size_t>(got))) return -EBADMSG;
  if (reply->nlmsg_type == NLMSG_ERROR) return static_cast<const nlmsgerr*>(NLMSG_DATA(reply))->error;
  return got;
}

// The index of the TAP of that name in the calling thread's namespace, 0 if there is none, or -errno.
int find_tap(int netlink, const std::string& ifname) {
  Request request;
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  auto* name = reinterpret_cast<rtattr*>(request.attributes);
  name->rta_type = IFLA_IFNAME;
  name->rta_len = static_cast<uint16_t>(RTA_LENGTH(ifname.size() + 1));
  memcpy(RTA_DATA(name), ifname.c_str(), ifname.size() + 1);
  request.header.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(sizeof(ifinfomsg)) + name->rta_len);

  alignas(nlmsghdr) char buffer[32'768];
  auto* reply = reinterpret_cast<nlmsghdr*>(buffer);
  const ssize_t got = exchange(netlink, request, reply, sizeof buffer);
  if (got == -ENODEV) return 0;
  if (got <= 0) return static_cast<int>(got);
  const auto* link = static_cast<const ifinfomsg*>(NLMSG_DATA(reply));
  const rtattr* info = find_attribute(IFLA_RTA(link), IFLA_PAYLOAD(reply), IFLA_LINKINFO);
  const rtattr* kind = find_nested(info, IFLA_INFO_KIND);
  const bool is_tap = kind && std::string_view(static_cast<const char*>(RTA_DATA(kind)), RTA_PAYLOAD(kind)).starts_with("tun");
  return is_tap ? link->ifi_index : 0;
}

}  // namespace

int remove_tap(const std::string& netns, const std::string& ifname) {
  if (netns.empty() || ifname.empty() || ifname.size() >= IFNAMSIZ) return 0;
  const Fd place(open(netns.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (place.get() < 0) return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
  if (setns(place.get(), CLONE_NEWNET) < 0) return -errno;
  const Fd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (netlink.get() < 0) return -errno;
  const int index = find_tap(netlink.get(), ifname);
  if (index <= 0) return index;
  Request request;
  request.header.nlmsg_type = RTM_DELLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof(ifinfomsg));
  request.link.ifi_index = index;
  alignas(nlmsghdr) char buffer[4096];
  const ssize_t result = exchange(netlink.get(), request, reinterpret_cast<nlmsghdr*>(buffer), sizeof buffer);
  return result < 0 && result != -ENODEV ? static_cast<int>(result) : 0;
}

}  // namespace weft::cni
