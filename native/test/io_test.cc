// TAPs, underlay sockets and FrameIo against the real kernel. Needs root.
//
//   ┌ the test's own namespace ┐      ┌ `Container`: a namespace that a parked ┐
//   │ underlay on lo           │      │ thread keeps, TAPs inside it           │
//   └──────────────────────────┘      └────────────────────────────────────────┘
//
// The kernel removes both with the process, so there is nothing to clean up. Prints what failed and
// exits 1.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "../io/fd.h"
#include "../io/frame_io.h"
#include "../io/netns.h"

using namespace weft;

#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) {                                                           \
      fprintf(stderr, "%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
      exit(1);                                                                    \
    }                                                                             \
  } while (0)

namespace {

// A network namespace that exists as long as its thread, which runs whatever is passed to it.
class Container {
 public:
  Container() : thread_([this] { run(); }) {
    CHECK(sem_init(&work_, 0, 0) == 0 && sem_init(&done_, 0, 0) == 0);
    within([] { CHECK(unshare(CLONE_NEWNET) == 0); });
    path_ = "/proc/self/task/" + std::to_string(tid_) + "/ns/net";
  }
  ~Container() {
    within(nullptr);
    thread_.join();
  }
  void within(std::function<void()> job) {
    job_ = std::move(job);
    started_.store(true);
    started_.notify_one();
    sem_post(&work_);
    sem_wait(&done_);
  }
  const char* path() const { return path_.c_str(); }

 private:
  void run() {
    started_.wait(false);
    tid_ = static_cast<int>(syscall(SYS_gettid));
    for (;;) {
      sem_wait(&work_);
      std::function<void()> job = std::move(job_);
      if (job) job();
      const bool last = !job;
      sem_post(&done_);
      if (last) return;
    }
  }

  std::function<void()> job_;
  std::atomic<bool> started_ = false;
  sem_t work_, done_;
  int tid_ = 0;
  std::string path_;
  std::thread thread_;
};

// SIOCSIFFLAGS in the calling thread's namespace.
void set_up(const char* ifname, bool up) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  ifreq request = {};
  strcpy(request.ifr_name, ifname);
  CHECK(ioctl(fd, SIOCGIFFLAGS, &request) == 0);
  request.ifr_flags = static_cast<short>(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
  CHECK(ioctl(fd, SIOCSIFFLAGS, &request) == 0);
  close(fd);
}

// Without addresses, a new interface sends nothing by itself, so every frame is one that the test sent.
void silence_ip6() {
  const int fd = open("/proc/thread-self/net/if_inet6", O_RDONLY);
  if (fd < 0) return;  // this kernel has no IPv6
  close(fd);
  const int knob = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);
  CHECK(knob >= 0 && write(knob, "1", 1) == 1);
  close(knob);
}

int packet_socket(const char* ifname) {
  const int fd = socket(AF_PACKET, SOCK_RAW, htons(0x88b5));
  struct {
    uint16_t family, protocol;
    int index;
    uint16_t hatype;
    uint8_t pkttype, halen, address[8];
  } address = {AF_PACKET, htons(0x88b5), static_cast<int>(if_nametoindex(ifname)), 0, 0, 0, {}};
  CHECK(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

void wait_readable(int fd) {
  pollfd readable = {fd, POLLIN, 0};
  CHECK(poll(&readable, 1, 5000) == 1);
}

// An Ethernet frame of the local experimental EtherType; `mark` tells frames apart.
void make_frame(uint8_t* frame, size_t length, uint8_t mark) {
  memset(frame, mark, length);
  memcpy(frame, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5", 14);
}

void rename_link(const char* from, const char* to) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  ifreq request = {};
  strcpy(request.ifr_name, from);
  strcpy(request.ifr_newname, to);
  CHECK(ioctl(fd, SIOCGIFFLAGS, &request) == 0);
  request.ifr_flags = static_cast<short>(request.ifr_flags & ~IFF_UP);
  CHECK(ioctl(fd, SIOCSIFFLAGS, &request) == 0);
  strcpy(request.ifr_newname, to);
  CHECK(ioctl(fd, SIOCSIFNAME, &request) == 0);
  close(fd);
}

// Sends RTM_NEWLINK or RTM_DELLINK for an interface. With RTM_NEWLINK, it moves into the namespace of `netns`.
void change_link(uint16_t type, const char* name, int netns) {
  struct {
    nlmsghdr header;
    ifinfomsg link;
    rtattr attribute;
    int netns;
  } request = {};
  request.header = {sizeof request, type, NLM_F_REQUEST | NLM_F_ACK, 1, 0};
  request.link.ifi_index = static_cast<int>(if_nametoindex(name));
  request.attribute = {RTA_LENGTH(sizeof netns), IFLA_NET_NS_FD};
  request.netns = netns;
  if (type == RTM_DELLINK) request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.link);
  struct {
    nlmsghdr header;
    nlmsgerr error;
    char rest[512];
  } reply;
  const Fd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  CHECK(send(netlink.get(), &request, request.header.nlmsg_len, 0) > 0);
  CHECK(recv(netlink.get(), &reply, sizeof reply, 0) > 0);
  CHECK(reply.header.nlmsg_type == NLMSG_ERROR && reply.error.error == 0);
}

// Settings and messages reach the right namespace, and answers come back.
void test_netns_exchange() {
  Container container;
  std::vector<NetnsVisit> visits = {{{container.path()}, [] { return 7; }}, {{"/does/not/exist"}, [] { return 8; }}};
  CHECK(visit_netns(&visits) == 0 && visits[0].result == 7 && visits[1].result == -ENOENT);
  const NetnsTarget entered = visits[0].entered;
  CHECK(entered.ino != 0);
  struct {
    nlmsghdr header;
    ifinfomsg info;
  } up = {}, list = {};
  up.header = {sizeof up, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 0, 0};
  up.info.ifi_index = 1;
  up.info.ifi_flags = up.info.ifi_change = IFF_UP;
  list.header = {sizeof list, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0};
  std::vector<NetnsExchange> exchanges(2);
  for (NetnsExchange& exchange : exchanges) {
    exchange.path = container.path();
    exchange.dev = entered.dev;
    exchange.ino = entered.ino;
    exchange.settings = {{"/proc/sys/net/ipv4/ip_forward", "1"}, {"/proc/sys/net/none", "1"}};
    const auto add = [&](const auto& message) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(&message);
      exchange.requests.insert(exchange.requests.end(), bytes, bytes + sizeof message);
    };
    add(up);
    add(list);
  }
  exchanges[1].ino++;
  CHECK(netns_exchange(&exchanges) == 0);
  CHECK(exchanges[0].result == 0 && exchanges[0].settings[0].result == 0 && exchanges[0].settings[1].result == -ENOENT);
  CHECK(exchanges[1].result == -ESTALE && exchanges[1].replies.empty());
  Container other;
  std::vector<NetnsExchange> cookies = {exchanges[0], exchanges[0]};
  cookies[1].path = other.path();
  cookies[1].dev = cookies[1].ino = 0;
  CHECK(netns_exchange(&cookies) == 0 && cookies[1].result == 0);
  CHECK(exchanges[0].cookie != 0 && cookies[0].cookie == exchanges[0].cookie);
  CHECK(cookies[1].cookie != 0 && cookies[1].cookie != cookies[0].cookie);
  const auto* ack = reinterpret_cast<const nlmsghdr*>(exchanges[0].replies.data());
  CHECK(ack->nlmsg_type == NLMSG_ERROR && static_cast<const nlmsgerr*>(NLMSG_DATA(ack))->error == 0);
  const auto* link = reinterpret_cast<const nlmsghdr*>(exchanges[0].replies.data() + NLMSG_ALIGN(ack->nlmsg_len));
  CHECK(link->nlmsg_type == RTM_NEWLINK && (static_cast<const ifinfomsg*>(NLMSG_DATA(link))->ifi_flags & IFF_UP));
}

// Of the namespace that a link in /proc leads to.
uint64_t inode_of(const char* link) {
  char name[64] = {};
  CHECK(readlink(link, name, sizeof name - 1) > 0);
  return strtoull(strchr(name, '[') + 1, nullptr, 10);
}

// A namespace without a name is entered by its descriptor, and the thread in it may do nothing more.
void test_own_netns() {
  const int fd = create_netns();
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  std::thread([&] {
    CHECK(enter_netns(fd) == 0);
    CHECK(inode_of("/proc/thread-self/ns/net") == inode_of(path.c_str()));
    CHECK(unshare(CLONE_NEWNET) < 0 && errno == EPERM);
  }).join();
  CHECK(inode_of("/proc/thread-self/ns/net") != inode_of(path.c_str()) && close(fd) == 0);
}

void test_tap() {
  Container container;
  container.within(silence_ip6);
  const uint64_t own_namespace = inode_of("/proc/thread-self/ns/net");
  TapOpened tap;
  CHECK(tap_open({{container.path()}, "weft0"}, 1, &tap) == 0);
  CHECK(tap.created && tap.netns_ino != 0 && tap.netns_ino != own_namespace);
  CHECK(if_nametoindex("weft0") == 0);  // not in this namespace
  container.within([] { CHECK(if_nametoindex("weft0") != 0); });

  TapOpened second;
  CHECK(tap_open({{container.path()}, "weft0"}, 1, &second) == -EBUSY);
  CHECK(tap_open({{container.path()}, "lo"}, 1, &second) == -EEXIST);
  CHECK(tap_open({{container.path()}, "weft%d"}, 1, &second) == -EINVAL);
  CHECK(tap_open({{container.path()}, ""}, 1, &second) == -EINVAL);
  CHECK(tap_open({{container.path()}, "sixteencharacter"}, 1, &second) == -EINVAL);
  CHECK(tap_open({{"/does/not/exist"}, "weft1"}, 1, &second) == -ENOENT);
  CHECK(tap_open({{"/proc/self/ns/uts"}, "weft1"}, 1, &second) == -ENOTTY);
  CHECK(tap_open({{"/dev/null"}, "weft1"}, 1, &second) == -ENOTTY);

  // A TAP of another program, without queues of its own, must not be taken.
  container.within([] {
    const int fd = open("/dev/net/tun", O_RDWR);
    ifreq request = {};
    strcpy(request.ifr_name, "single0");
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    CHECK(ioctl(fd, TUNSETIFF, &request) == 0 && ioctl(fd, TUNSETPERSIST, 1ul) == 0);
    close(fd);
  });
  CHECK(tap_open({{container.path()}, "single0"}, 1, &second) == -EEXIST);

  Burst burst;
  CHECK(tap_receive(tap.fds[0], &burst) == 0 && burst.frames.empty());
  uint8_t bytes[1514];
  make_frame(bytes, sizeof bytes, 7);
  CHECK(tap_send(tap.fds[0], Frame{bytes, sizeof bytes, {}}) == Reason::port_down);

  int packets = -1;
  container.within([&packets] {
    set_up("weft0", true);
    packets = packet_socket("weft0");
  });
  CHECK(tap_send(tap.fds[0], Frame{bytes, sizeof bytes, {}}) == kNoDrop);
  uint8_t back[2048];
  wait_readable(packets);
  CHECK(recv(packets, back, sizeof back, 0) == static_cast<ssize_t>(sizeof bytes));
  CHECK(memcmp(back, bytes, sizeof bytes) == 0);
  CHECK(tap_send(tap.fds[0], Frame{bytes, 10, {}}) == Reason::tx_error);

  for (uint8_t i = 0; i < 40; ++i) {
    make_frame(bytes, 60u + i, i);
    CHECK(send(packets, bytes, 60u + i, 0) == 60 + i);
  }
  size_t received = 0;
  while (received < 40) {
    wait_readable(tap.fds[0]);
    CHECK(tap_receive(tap.fds[0], &burst) == 0 && !burst.frames.empty());
    for (size_t i = 0; i < burst.frames.size(); ++i, ++received) {
      CHECK(burst.frames[i].length == 60 + received && burst.frames[i].data[20] == received);
      CHECK(burst.frames[i].vnet.gso_type == 0 && (burst.frames[i].vnet.flags & 1) == 0);
    }
  }
  close(packets);

  // Attaching again finds the interface unchanged.
  unsigned index = 0, index_again = 0;
  container.within([&index] { index = if_nametoindex("weft0"); });
  close(tap.fds[0]);
  CHECK(tap_open({{container.path()}, "weft0"}, 1, &tap) == 0 && !tap.created);
  container.within([&index_again] { index_again = if_nametoindex("weft0"); });
  CHECK(index == index_again && tap.ifindex == index);

  // An interface is found by its index, even after renaming, and not in any other namespace.
  close(tap.fds[0]);
  container.within([] { rename_link("weft0", "lan0"); });
  const NetnsTarget here = {container.path(), tap.netns_dev, tap.netns_ino};
  CHECK(tap_open({here, "weft0", index}, 1, &tap) == 0 && !tap.created && tap.ifindex == index);
  TapOpened none;
  CHECK(tap_open({here, "weft0", index + 100}, 1, &none) == -ENXIO);
  CHECK(tap_open({{container.path(), here.dev, here.ino + 1}, "weft0", index}, 1, &none) == -ESTALE);

  // What another program changed is restored once.
  int header_bytes = 24;
  CHECK(tap_renew(tap.fds[0]) == 0);
  CHECK(ioctl(tap.fds[0], TUNSETVNETHDRSZ, &header_bytes) == 0 && ioctl(tap.fds[0], TUNSETPERSIST, 0ul) == 0);
  CHECK(tap_renew(tap.fds[0]) == (kTapHeader | kTapPersistence));
  CHECK(tap_renew(tap.fds[0]) == 0);
  CHECK(ioctl(tap.fds[0], TUNGETVNETHDRSZ, &header_bytes) == 0 && header_bytes == sizeof(VnetHdr));
  container.within([] { rename_link("lan0", "weft0"); });

  // Whoever has it open is told where it is.
  Container other;
  TapPlace place;
  CHECK(tap_place(tap.fds[0], &place) == 0 && strcmp(place.ifname, "weft0") == 0);
  CHECK(place.netns_dev == tap.netns_dev && place.netns_ino == tap.netns_ino);
  const Fd there(::open(other.path(), O_RDONLY | O_CLOEXEC));
  container.within([&there] { change_link(RTM_NEWLINK, "weft0", there.get()); });
  other.within([] { rename_link("weft0", "lan0"); });
  CHECK(tap_place(tap.fds[0], &place) == 0 && strcmp(place.ifname, "lan0") == 0);
  CHECK(place.netns_ino == inode_of(other.path()));

  CHECK(tap_remove(tap.fds[0]) == 0);
  other.within([] { CHECK(if_nametoindex("lan0") == 0); });

  // And that it is gone.
  CHECK(tap_open({{container.path()}, "weft0"}, 1, &tap) == 0);
  container.within([] { change_link(RTM_DELLINK, "weft0", -1); });
  CHECK(tap_place(tap.fds[0], &place) == -EBADFD);
  CHECK(tap_remove(tap.fds[0]) == 0);
}

void ip4(uint8_t out[16], const char* text) {
  memset(out, 0, 10);
  out[10] = out[11] = 0xff;
  CHECK(inet_pton(AF_INET, text, out + 12) == 1);
}

Reason send_one(Underlay* from, const uint8_t to[16], uint32_t entropy, uint8_t* payload, size_t size) {
  const iovec part = {payload, size};
  return from->send(to, entropy, 0, &part, 1, 1).reason;
}

void test_underlay(bool v6) {
  uint8_t local[16], remote[16], stranger[16];
  if (v6) {
    CHECK(inet_pton(AF_INET6, "::1", local) == 1 && inet_pton(AF_INET6, "::1", remote) == 1);
    CHECK(inet_pton(AF_INET6, "2001:db8::1", stranger) == 1);
  } else {
    ip4(local, "127.0.0.1");
    ip4(remote, "127.0.0.2");
    ip4(stranger, "192.0.2.1");
  }
  Underlay a, b, c;
  CHECK(a.open(stranger, 4789, false) == -EADDRNOTAVAIL && a.fd() == -1);
  CHECK(a.open(local, 4789, false) == 0);
  CHECK(c.open(local, 4789, false) == -EADDRINUSE && c.fd() == -1);
  if (!v6) CHECK(b.open(remote, 4789, false) == 0);
  Underlay& receiver = v6 ? a : b;

  static uint8_t payload[65536];
  memset(payload, 0x5a, sizeof payload);
  for (uint32_t i = 0; i < 40; ++i) {
    CHECK(send_one(&a, remote, i * 7919, payload, 100 + i) == kNoDrop);
  }
  Burst burst;
  for (size_t received = 0; received < 40;) {
    wait_readable(receiver.fd());
    CHECK(receiver.receive(&burst) == 0 && !burst.frames.empty());
    for (size_t i = 0; i < burst.frames.size(); ++i, ++received) {
      CHECK(burst.frames[i].length == 100 + received && burst.frames[i].data[99] == 0x5a);
      CHECK(memcmp(burst.sources[i].address, local, 16) == 0);
    }
  }
  CHECK(receiver.receive(&burst) == 0 && burst.frames.empty());

  // A batch: each frame has two parts, together they need more than one buffer, and the last one is shorter.
  CHECK(a.cuts() && a.gathers());
  iovec parts[2 * kSendBatch];
  for (size_t i = 0; i < kSendBatch; ++i) {
    parts[2 * i] = {payload + i, 100};
    parts[2 * i + 1] = {payload, i + 1 < kSendBatch ? 1300u : 7u};
  }
  CHECK(a.send(remote, 3, 0, parts, 2, kSendBatch).datagrams == 0);
  for (size_t received = 0; received < kSendBatch;) {
    wait_readable(receiver.fd());
    CHECK(receiver.receive(&burst) == 0 && burst.frames.size() == burst.sources.size());
    for (const Frame& frame : burst.frames) {
      ++received;
      CHECK(frame.length == (received < kSendBatch ? 1400u : 107u) && frame.data[0] == 0x5a);
    }
  }

  CHECK(send_one(&a, remote, 1, payload, 65536) == Reason::underlay_mtu);
  CHECK(send_one(&a, stranger, 1, payload, 100) == Reason::underlay_unreachable);
  uint8_t other_family[16];
  v6 ? ip4(other_family, "127.0.0.1") : (void)inet_pton(AF_INET6, "::1", other_family);
  CHECK(send_one(&a, other_family, 1, payload, 100) == Reason::underlay_unreachable);
  // Nobody listens there any more. ICMP errors do not reach the senders.
  receiver.close();
  CHECK(receiver.fd() == -1);
  if (!v6) {
    for (uint32_t i = 0; i < 4; ++i) CHECK(send_one(&a, remote, 1, payload, 100) == kNoDrop);
  }
  a.close();
  CHECK(send_one(&a, remote, 1, payload, 100) == Reason::underlay_missing);
}

class Wakes {
 public:
  void ring() {
    count_.fetch_add(1);
    sem_post(&semaphore_);
  }
  void wait() {
    timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    CHECK(sem_timedwait(&semaphore_, &until) == 0);
  }
  int count() const { return count_.load(); }
  Wakes() { CHECK(sem_init(&semaphore_, 0, 0) == 0); }

 private:
  sem_t semaphore_;
  std::atomic<int> count_ = 0;
};

void test_frame_io() {
  Container container;
  container.within(silence_ip6);
  Wakes wakes;
  FrameIo io;
  TapOpened tap;
  CHECK(io.add_tap(1, {{container.path()}, "early0"}, {}, &tap) == -EBADF);
  container.within([] { CHECK(if_nametoindex("early0") == 0); });
  CHECK(io.start([&wakes] { wakes.ring(); }) == 0);

  uint8_t local[16];
  ip4(local, "127.0.0.1");
  CHECK(io.add_tap(1, {{container.path()}, "weft1"}, {}, &tap) == 0 && tap.created);
  CHECK(io.add_tap(2, {{container.path()}, "weft2"}, {}, &tap) == 0);
  CHECK(io.add_tap(2, {{container.path()}, "weft3"}, {}, &tap) == -EALREADY);
  CHECK(io.add_tap(3, {{container.path()}, "weft1"}, {}, &tap) == -EBUSY);
  CHECK(io.open_underlay(4, local, 4789) == 0);
  CHECK(io.open_underlay(5, local, 4789) == -EADDRINUSE);

  int one = -1, two = -1;
  container.within([&one, &two] {
    set_up("weft1", true);
    set_up("weft2", true);
    one = packet_socket("weft1");
    two = packet_socket("weft2");
  });

  // One port fills its buffer and waits in the kernel, without delaying the other.
  static uint8_t bytes[1400];
  constexpr size_t kFlood = FrameIo::kPortFrames + 200;
  for (size_t i = 0; i < kFlood; ++i) {
    make_frame(bytes, sizeof bytes, static_cast<uint8_t>(i));
    CHECK(send(one, bytes, sizeof bytes, 0) == static_cast<ssize_t>(sizeof bytes));
  }
  make_frame(bytes, 64, 0xee);
  CHECK(send(two, bytes, 64, 0) == 64);
  size_t of_one = 0;
  bool of_two = false;
  wakes.wait();
  while (of_one < kFlood || !of_two) {
    auto taken = io.take(16);
    if (taken.empty()) {
      wakes.wait();
      continue;
    }
    for (auto& frame : taken) {
      if (frame.port == 2) {
        CHECK(frame.length == 64 && frame.bytes[20] == 0xee && !frame.from_underlay);
        of_two = true;
      } else {
        CHECK(frame.port == 1 && frame.length == sizeof bytes && frame.bytes[20] == static_cast<uint8_t>(of_one));
        ++of_one;
      }
    }
  }
  CHECK(io.take(16).empty());
  CHECK(wakes.count() < static_cast<int>(kFlood));

  // What is sent arrives, and the underlay datagram says who sent it.
  make_frame(bytes, 100, 3);
  CHECK(io.send(1, Frame{bytes, 100, {}}) == kNoDrop);
  uint8_t back[2048];
  wait_readable(one);
  CHECK(recv(one, back, sizeof back, 0) == 100);
  CHECK(io.send(4, Frame{bytes, 100, {}}) == Reason::port_gone);
  CHECK(io.send(9, Frame{bytes, 100, {}}) == Reason::port_gone);
  CHECK(io.send_underlay(local, 5, 0, {bytes, 100}, 0).datagrams == 0);
  std::vector<ReceivedFrame> taken;
  while ((taken = io.take(16)).empty()) wakes.wait();
  CHECK(taken.size() == 1 && taken[0].from_underlay && taken[0].port == 4 && taken[0].length == 100);
  CHECK(memcmp(taken[0].source.address, local, 16) == 0);
  CHECK(io.read_until_ms(7) == 7);

  // The frames of a removed port are removed with it.
  const int before = wakes.count();
  CHECK(send(two, bytes, 100, 0) == 100);
  while (wakes.count() == before) wakes.wait();
  CHECK(io.remove(2, true) == 0 && io.take(16).empty() && io.remove(2, true) == -ENOENT);
  CHECK(io.add_tap(2, {{container.path()}, "weft2"}, {}, &tap) == 0 && !tap.created);

  // If somebody else deletes an interface, that is reported once.
  container.within([] {
    CHECK(system("ip link del weft1") == 0);
  });
  std::vector<LostPort> lost;
  while ((lost = io.take_lost()).empty()) wakes.wait();
  CHECK(lost.size() == 1 && lost[0].port == 1 && lost[0].error == EBADFD);
  CHECK(io.send(1, Frame{bytes, 100, {}}) == Reason::tx_error);
  CHECK(io.remove(1, false) == 0);

  CHECK(io.remove(2, false) == 0);
  container.within([] { CHECK(if_nametoindex("weft2") == 0); });
  CHECK(io.remove(4, false) == 0 && io.send_underlay(local, 5, 0, {bytes, 100}, 40).datagrams == 3);
  close(one);
  close(two);

  // close() under traffic leaves the TAP in place.
  CHECK(io.add_tap(1, {{container.path()}, "weft4"}, {}, &tap) == 0);
  container.within([&one] {
    set_up("weft4", true);
    one = packet_socket("weft4");
  });
  for (int i = 0; i < 100; ++i) CHECK(send(one, bytes, 100, 0) == 100);
  io.close();
  container.within([] { CHECK(if_nametoindex("weft4") != 0); });
  close(one);
}

}  // namespace

int main() {
  if (geteuid() != 0) {
    fprintf(stderr, "io_test needs root\n");
    return 1;
  }
  CHECK(unshare(CLONE_NEWNET) == 0);
  set_up("lo", true);
  test_tap();
  test_netns_exchange();
  test_own_netns();
  test_underlay(false);
  test_underlay(true);
  test_frame_io();
  printf("io_test: ok\n");
}
