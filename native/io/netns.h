// Work inside network namespaces. A thread of its own enters one, so that the namespace of the
// caller never changes, and ends with the work.
//
// A namespace is identified by (device, inode); its path only leads to it. If both numbers are 0,
// it is whichever namespace the path leads to.
#pragma once

#include <stdint.h>

#include <functional>
#include <string>
#include <vector>

namespace weft {

struct NetnsTarget {
  const char* path;
  uint64_t dev = 0;
  uint64_t ino = 0;
};

// The work to do in a namespace, and its result.
struct NetnsVisit {
  NetnsTarget target;
  std::function<int()> work;

  NetnsTarget entered = {};  // with the numbers of the namespace
  // What `work` returned, or
  //   -ENOENT, -EACCES  the path does not exist or may not be opened
  //   -ENOTTY           it is not a network namespace
  //   -ESTALE           it leads to a namespace other than the one that `dev` and `ino` identify
  //   -EPERM            CAP_SYS_ADMIN is missing
  // or another -errno.
  int result = 0;
};

// Makes all visits, one after the other, on one thread. 0, or -errno if no thread can be started.
int visit_netns(std::vector<NetnsVisit>* visits);

// A file under /proc/sys/net and what to write to it.
struct NetnsSetting {
  std::string path;
  std::string value;
  int result = 0;  // 0 or -errno
};

// Creates a namespace without a name. It exists as long as somebody holds it: the descriptor that is returned, a thread
// in it, or an open TAP. So nothing of it outlives the process. -errno on failure.
int create_netns();

// The calling thread enters the namespace of that descriptor for good, and gives up all its capabilities. 0 or -errno.
int enter_netns(int fd);

// Opens a UDP socket in a namespace, bound to address:port (IPv4-mapped or IPv6, for that family only), where datagrams of up
// to `receive_bytes` may wait, however little net.core.rmem_max allows others. A thread that enters the namespace later, and
// gives up its capabilities, cannot do this any more. Returns the descriptor or -errno.
int open_udp(const NetnsTarget& target, const uint8_t address[16], uint16_t port, int receive_bytes);

// Settings and rtnetlink messages for one namespace, and their results.
struct NetnsExchange {
  std::string path;
  uint64_t dev = 0;
  uint64_t ino = 0;
  std::vector<NetnsSetting> settings;
  // nlmsghdr and payload of each request, aligned by NLMSG_ALIGN. Each is answered by NLMSG_ERROR
  // (NLM_F_ACK is set) or, with NLM_F_DUMP, by NLMSG_DONE.
  std::vector<uint8_t> requests;

  // Of entering the namespace, as in NetnsVisit; if it failed, the rest is empty.
  int result = 0;
  // With requests: what the kernel calls the namespace (SO_NETNS_COOKIE). No other one is called that until a reboot, but the
  // inode of one that is gone is given to the next. 0 from a kernel before 5.14.
  uint64_t cookie = 0;
  // All messages that the kernel answered with, in order, including the final ones.
  std::vector<uint8_t> replies;
};

// Runs all exchanges, one after the other, on one thread: first the settings of a namespace, then
// its requests, each after the reply to the one before. A request that fails does not stop the
// next. 0, or -errno if no thread can be started.
int netns_exchange(std::vector<NetnsExchange>* exchanges);

}  // namespace weft
