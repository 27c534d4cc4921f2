// Work inside network namespaces: a thread of its own enters one, so that the
// caller's never changes, and ends with the work.
//
// A namespace is known by (device, inode); its path only leads to it. Numbers of 0
// take whichever the path leads to.
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

// What is done in a namespace, and what came of it.
struct NetnsVisit {
  NetnsTarget target;
  std::function<int()> work;

  NetnsTarget entered = {};  // with the numbers of the namespace
  // What `work` returned, or
  //   -ENOENT, -EACCES  the path does not exist or may not be opened
  //   -ENOTTY           it is not a network namespace
  //   -ESTALE           it leads to another namespace than `dev` and `ino` say
  //   -EPERM            no CAP_SYS_ADMIN
  // or another -errno.
  int result = 0;
};

// Makes all visits one after the other on one thread. 0, or -errno where there is no thread.
int visit_netns(std::vector<NetnsVisit>* visits);

// A file below /proc/sys/net and what is written to it.
struct NetnsSetting {
  std::string path;
  std::string value;
  int result = 0;  // 0 or -errno
};

// Settings and rtnetlink messages for one namespace, and what came of them.
struct NetnsExchange {
  std::string path;
  uint64_t dev = 0;
  uint64_t ino = 0;
  std::vector<NetnsSetting> settings;
  // nlmsghdr and payload of each request, aligned as NLMSG_ALIGN has it. Each is
  // answered by NLMSG_ERROR (NLM_F_ACK is set) or, with NLM_F_DUMP, by NLMSG_DONE.
  std::vector<uint8_t> requests;

  // Of the namespace, as `in_netns` has it; the rest is empty then.
  int result = 0;
  // All messages that the kernel answered with, in order, the last ones included.
  std::vector<uint8_t> replies;
};

// Runs all exchanges one after the other on one thread: first the settings of a
// namespace, then its requests, each after the reply to the one before. A request
// that fails does not stop the next. 0, or -errno where there is no thread.
int netns_exchange(std::vector<NetnsExchange>* exchanges);

}  // namespace weft
