#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "descriptors.h"
#include "fd.h"
#include "netlink.h"
#include "steering.h"

// Missing in the headers of older systems; Linux 6.2 has it.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

namespace weft {
namespace {

constexpr size_t kBurstBytes = 65536;

// The number below the invalid one, which no container maps.
constexpr uint32_t kNobody = 4294967294;

// What rtnetlink says about an interface in the calling thread's namespace.
struct LinkState {
  bool exists = false;
  bool multi_queue_tap = false;
  bool persistent = false;
  bool owned = false;  // by numbers that no account has
  uint32_t ifindex = 0;
  uint32_t queues = 0;  // open ones, including detached ones
  char ifname[IFNAMSIZ] = {};
};

// The value of an integer attribute of 1 or 4 bytes; 0 if it is missing.
uint32_t attribute_value(const rtattr* at) {
  if (!at) return 0;
  if (RTA_PAYLOAD(at) == 1) return *static_cast<const uint8_t*>(RTA_DATA(at));
  uint32_t value = 0;
  if (RTA_PAYLOAD(at) == sizeof value) memcpy(&value, RTA_DATA(at), sizeof value);
  return value;
}

// RTM_GETLINK by index, or by name if the index is 0. 0 (also if there is no such interface) or
// -errno.
int query_link(uint32_t ifindex, const char* ifname, LinkState* state) {
  Fd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (netlink.get() < 0) return -errno;

  struct {
    nlmsghdr header;
    ifinfomsg info;
    rtattr name;
    char text[IFNAMSIZ];
  } request = {};
  request.header.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(sizeof request.info));
  if (ifindex) {
    request.info.ifi_index = static_cast<int>(ifindex);
  } else {
    const size_t name_bytes = strlen(ifname) + 1;
    request.name.rta_type = IFLA_IFNAME;
    request.name.rta_len = static_cast<uint16_t>(RTA_LENGTH(name_bytes));
    memcpy(request.text, ifname, name_bytes);
    request.header.nlmsg_len += static_cast<uint32_t>(RTA_SPACE(name_bytes));
  }
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  if (send(netlink.get(), &request, request.header.nlmsg_len, 0) < 0) return -errno;

  // A container may give an interface thousands of names.
  const auto receive = [&](void* to, size_t size, int flags) {
    ssize_t got;
    do {
      got = recv(netlink.get(), to, size, flags);
    } while (got < 0 && errno == EINTR);
    return got;
  };
  const ssize_t size = receive(nullptr, 0, MSG_PEEK | MSG_TRUNC);
  if (size < 0) return -errno;
  std::vector<nlmsghdr> reply(static_cast<size_t>(size) / sizeof(nlmsghdr) + 1);
  const ssize_t got = receive(reply.data(), reply.size() * sizeof(nlmsghdr), 0);
  if (got < 0) return -errno;
  const nlmsghdr* header = reply.data();
  if (!NLMSG_OK(header, static_cast<size_t>(got))) return -EPROTO;
  if (header->nlmsg_type == NLMSG_ERROR) {
    const int error = static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
    return error == -ENODEV ? 0 : error;
  }
  if (header->nlmsg_type != RTM_NEWLINK) return -EPROTO;

  state->exists = true;
  const auto* info = static_cast<const ifinfomsg*>(NLMSG_DATA(header));
  state->ifindex = static_cast<uint32_t>(info->ifi_index);
  const rtattr* name = find_attribute(IFLA_RTA(info), IFLA_PAYLOAD(header), IFLA_IFNAME);
  if (name) memcpy(state->ifname, RTA_DATA(name), std::min<size_t>(RTA_PAYLOAD(name), IFNAMSIZ - 1));
  const rtattr* link = find_attribute(IFLA_RTA(info), IFLA_PAYLOAD(header), IFLA_LINKINFO);
  const rtattr* kind = find_nested(link, IFLA_INFO_KIND);
  const rtattr* data = find_nested(link, IFLA_INFO_DATA);
  if (!kind || !data || RTA_PAYLOAD(kind) < 4 || memcmp(RTA_DATA(kind), "tun", 4) != 0) return 0;
  state->multi_queue_tap = attribute_value(find_nested(data, IFLA_TUN_TYPE)) == IFF_TAP &&
                           attribute_value(find_nested(data, IFLA_TUN_MULTI_QUEUE)) != 0;
  state->persistent = attribute_value(find_nested(data, IFLA_TUN_PERSIST)) != 0;
  state->owned = attribute_value(find_nested(data, IFLA_TUN_OWNER)) == kNobody &&
                 attribute_value(find_nested(data, IFLA_TUN_GROUP)) == kNobody;
  state->queues = attribute_value(find_nested(data, IFLA_TUN_NUM_QUEUES)) +
                  attribute_value(find_nested(data, IFLA_TUN_NUM_DISABLED_QUEUES));
  return 0;
}

// The kernel would treat "%d" as a template; other invalid names it refuses itself.
bool valid_ifname(const char* ifname) {
  const size_t length = strlen(ifname);
  return length > 0 && length < IFNAMSIZ && !strpbrk(ifname, "%/: \t\n");
}

// Sets all that the kernel has. A kernel that lacks one of them refuses the whole set.
int set_offloads(int fd, uint8_t* offloads) {
  constexpr unsigned long kTcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  if (ioctl(fd, TUNSETOFFLOAD, kTcp | TUN_F_USO4 | TUN_F_USO6) == 0) {
    *offloads = kOffloadAll;
    return 0;
  }
  if (ioctl(fd, TUNSETOFFLOAD, kTcp) < 0) return -errno;
  *offloads = kOffloadCsum | kOffloadTso4 | kOffloadTso6;
  return 0;
}

// Opens /dev/net/tun, not attached to anything yet. The fd or -errno.
int open_tun() {
  const int fd = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0) return fd;
  return errno == ENOENT || errno == ENXIO ? -ENODEV : -errno;
}

// Opens one more queue of the TAP `ifname`, in the calling thread's namespace.
int open_queue(const char* ifname, bool exclusive, Fd* queue) {
  Fd tap(open_tun());
  if (tap.get() < 0) return tap.get();
  ifreq request = {};
  memcpy(request.ifr_name, ifname, strlen(ifname));
  const unsigned flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE | (exclusive ? IFF_TUN_EXCL : 0u);
  request.ifr_flags = static_cast<short>(flags);
  if (!leaves_descriptors(tap.get())) return -EMFILE;
  if (ioctl(tap.get(), TUNSETIFF, &request) < 0) return -errno;
  *queue = std::move(tap);
  return 0;
}

// Whoever is neither owner nor group cannot attach a queue of the TAP without CAP_NET_ADMIN in its
// namespace. Without an owner and a group everybody could: the device is 0666 in many containers.
// If weft runs in a user namespace that does not have nobody's number, it uses its own account.
int set_owner(int fd) {
  if (ioctl(fd, TUNSETOWNER, kNobody) < 0 && (errno != EINVAL || ioctl(fd, TUNSETOWNER, geteuid()) < 0)) return -errno;
  if (ioctl(fd, TUNSETGROUP, kNobody) < 0 && (errno != EINVAL || ioctl(fd, TUNSETGROUP, getegid()) < 0)) return -errno;
  return 0;
}

// A TAP that can have several queues has 256 kernel queues, and each would get a pfifo_fast of its
// own when the link comes up: 6 MB and some milliseconds. So it gets one for all. (With none at
// all, noqueue, senders would be told of each frame that is lost while weft is down; TCP then tries
// again after half a second instead of soon.) A kernel without queueing disciplines needs none of
// this.
void share_queue(uint32_t ifindex) {
  const Fd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (netlink.get() < 0) return;
  constexpr char kKind[] = "pfifo_fast";
  struct {
    nlmsghdr header;
    tcmsg discipline;
    rtattr kind;
    char text[RTA_ALIGN(sizeof kKind)];
  } request = {};
  request.header = {sizeof request, RTM_NEWQDISC, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE, 0, 0};
  request.discipline.tcm_ifindex = static_cast<int>(ifindex);
  request.discipline.tcm_parent = TC_H_ROOT;
  request.kind = {RTA_LENGTH(sizeof kKind), TCA_KIND};
  memcpy(request.text, kKind, sizeof kKind);
  // The change is complete when this returns; a refusal stays in the socket, unread.
  send(netlink.get(), &request, sizeof request, 0);
}

int set_header(int fd) {
  int header_bytes = sizeof(VnetHdr);
  int little_endian = 1;
  if (ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0) return -errno;
  return ioctl(fd, TUNSETVNETLE, &little_endian) < 0 ? -errno : 0;
}

// The descriptors of the TAP with that index; none if it is not among the spares, or they are no queues of it any more.
std::vector<int> spare_queues(const TapOpening& opening, const NetnsTarget& netns, const LinkState& link) {
  if (!opening.spares || link.queues == 0) return {};
  for (const SpareTap& spare : *opening.spares) {
    if (spare.dev != netns.dev || spare.ino != netns.ino || spare.ifindex != link.ifindex) continue;
    for (const int fd : spare.fds) {
      ifreq request = {};
      if (ioctl(fd, TUNGETIFF, &request) < 0 || strncmp(request.ifr_name, link.ifname, IFNAMSIZ) != 0) return {};
    }
    return spare.fds;
  }
  return {};
}

// Another descriptor of the same queue. 0 or -errno.
int duplicate_queue(int fd, Fd* queue) {
  Fd tap(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (tap.get() < 0) return -errno;
  if (!leaves_descriptors(tap.get())) return -EMFILE;
  *queue = std::move(tap);
  return 0;
}

// Runs in the namespace of the container, on the helper thread.
int open_here(const TapOpening& opening, const NetnsTarget& netns, size_t queues, TapOpened* opened) {
  uint32_t ifindex = opening.target.ifindex;
  const char* ifname = opening.target.ifname;
  LinkState before;
  if (int error = query_link(ifindex, ifname, &before)) return error;
  // Another interface may have the index of one that was moved away.
  if (ifindex && !before.multi_queue_tap) return -ENXIO;
  if (ifindex) ifname = before.ifname;
  if (before.exists && !before.multi_queue_tap) return -EEXIST;
  const std::vector<int> spares = spare_queues(opening, netns, before);
  if (before.queues > spares.size()) return -EBUSY;

  Fd taps[kMaxQueues];
  opened->ifindex = before.ifindex;
  for (size_t i = 0; i < queues; ++i) {
    if (i < spares.size()) {
      if (const int error = duplicate_queue(spares[i], &taps[i])) return error;
      continue;
    }
    // IFF_TUN_EXCL: a name that was free must still be free.
    if (const int error = open_queue(ifname, i == 0 && !before.exists, &taps[i])) return error;
    // If two processes re-attach at once, neither may share the queues.
    LinkState after;
    if (const int error = query_link(0, ifname, &after)) return error;
    if (after.queues > std::max(i + 1, spares.size())) return -EBUSY;
    opened->ifindex = after.ifindex;
  }
  const int tap = taps[0].get();

  // Offloads and the form of the header outlive a process together with the interface, so all are set, also to their
  // defaults.
  if (const int error = set_header(tap)) return error;
  // Each of these calls waits for the one lock of all links, so correct values are left alone.
  if (!before.owned) {
    if (const int error = set_owner(tap)) return error;
  }
  if (const int error = set_offloads(tap, &opened->offloads)) return error;
  if (queues > 1) steer_by_flow(tap);
  if (!before.exists) share_queue(opened->ifindex);
  // Last, so that a new TAP is removed with its fd if anything before fails.
  if (!before.persistent && ioctl(tap, TUNSETPERSIST, 1ul) < 0) return -errno;

  opened->created = !before.exists;
  opened->spare = !spares.empty();
  opened->queues = queues;
  for (size_t i = 0; i < queues; ++i) opened->fds[i] = taps[i].release();
  return 0;
}

// 0, -EBADFD if the interface of the TAP was deleted, or another -errno.
int stat_netns(int tap, struct stat* netns) {
  const Fd file(ioctl(tap, TUNGETDEVNETNS));
  return file.get() < 0 || fstat(file.get(), netns) < 0 ? -errno : 0;
}

}  // namespace

void tap_open(std::vector<TapOpening>* openings, size_t queues) {
  std::vector<NetnsVisit> visits;
  for (const TapOpening& opening : *openings) visits.push_back({opening.target.netns, {}});
  for (size_t i = 0; i < visits.size(); ++i) {
    visits[i].work = [&opening = (*openings)[i], &visit = visits[i], queues] {
      const TapTarget& target = opening.target;
      return target.ifindex || valid_ifname(target.ifname) ? open_here(opening, visit.entered, queues, &opening.opened) : -EINVAL;
    };
  }
  const int error = visit_netns(&visits);
  for (size_t i = 0; i < visits.size(); ++i) {
    TapOpening& opening = (*openings)[i];
    opening.error = error ? error : visits[i].result;
    opening.opened.netns_dev = visits[i].entered.dev;
    opening.opened.netns_ino = visits[i].entered.ino;
  }
}

int tap_open(const TapTarget& target, size_t queues, TapOpened* opened, const std::vector<SpareTap>* spares) {
  std::vector<TapOpening> openings = {{target, spares, {}}};
  tap_open(&openings, queues);
  *opened = openings[0].opened;
  return openings[0].error;
}

int tap_renew(int fd) {
  uint8_t changed = 0;
  int header_bytes = 0;
  int little_endian = 0;
  ifreq request = {};
  if (ioctl(fd, TUNGETVNETHDRSZ, &header_bytes) < 0 || ioctl(fd, TUNGETVNETLE, &little_endian) < 0) return -errno;
  if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
  if (header_bytes != sizeof(VnetHdr) || !little_endian) {
    if (const int error = set_header(fd)) return error;
    changed |= kTapHeader;
  }
  if (!(request.ifr_flags & IFF_PERSIST)) {
    if (ioctl(fd, TUNSETPERSIST, 1ul) < 0) return -errno;
    changed |= kTapPersistence;
  }
  return changed;
}

int tap_place(int fd, TapPlace* place) {
  struct stat before, after;
  ifreq request = {};
  if (const int error = stat_netns(fd, &before)) return error;
  if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
  if (const int error = stat_netns(fd, &after)) return error;
  // A name means something in one namespace only.
  if (before.st_dev != after.st_dev || before.st_ino != after.st_ino) return -EAGAIN;
  *place = {before.st_dev, before.st_ino, {}};
  static_assert(sizeof place->ifname == sizeof request.ifr_name);
  memcpy(place->ifname, request.ifr_name, sizeof place->ifname);
  return 0;
}

int tap_probe(uint8_t* offloads) {
  Fd tap(open_tun());
  if (tap.get() < 0) return tap.get();
  ifreq request = {};
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(tap.get(), TUNSETIFF, &request) < 0) return -errno;
  return set_offloads(tap.get(), offloads);
}

int tap_remove(int fd) {
  const int result = ioctl(fd, TUNSETPERSIST, 0ul) < 0 && errno != EBADFD ? -errno : 0;
  ::close(fd);
  return result;
}

int tap_receive(int fd, Burst* burst, size_t most) {
  burst->clear();
  size_t bytes = 0;
  while (burst->frames.size() < most && bytes < kBurstBytes) {
    Frame frame = {burst->slot(burst->frames.size()), 0, {}};
    iovec parts[2] = {{&frame.vnet, sizeof frame.vnet}, {frame.data, kMaxFrame + 1}};
    const ssize_t got = readv(fd, parts, 2);
    if (got < 0) {
      if (errno == EINTR) continue;
      // Data that was read before an error counts first; the next call meets the error again.
      return errno == EAGAIN || !burst->frames.empty() ? 0 : -errno;
    }
    if (static_cast<size_t>(got) < sizeof frame.vnet) return -EPROTO;
    frame.length = static_cast<uint32_t>(static_cast<size_t>(got) - sizeof frame.vnet);
    bytes += frame.length;
    burst->frames.push_back(frame);
  }
  return 0;
}

Reason tap_send(int fd, const Frame& frame) {
  VnetHdr header = frame.vnet;
  iovec parts[1 + kMaxSuperframe] = {{&header, sizeof header}, {frame.data, frame.length}};
  size_t count = 2;
  if (frame.pieces) {
    parts[1].iov_len = frame.linear;
    memcpy(parts + count, frame.pieces->at, frame.pieces->count * sizeof *parts);
    count += frame.pieces->count;
  }
  ssize_t sent;
  do {
    sent = writev(fd, parts, static_cast<int>(count));
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return kNoDrop;
  return errno == EIO || errno == ENETDOWN ? Reason::port_down : Reason::tx_error;
}

}  // namespace weft
