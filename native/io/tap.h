// TAP devices: opened inside a container's network namespace by a short-lived
// thread that enters it (netns.h), then read and written from the datapath thread.
//
// An open TAP keeps its namespace alive, and nothing here tells that the
// namespace lost its name: whoever opened it watches the path and closes.
//
// All functions return a negative errno on failure and leave nothing behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../frame.h"
#include "../reason.h"
#include "netns.h"

namespace weft {

// What a TAP takes, and may give: unfinished checksums and superframes (TUNSETOFFLOAD).
inline constexpr uint8_t kOffloadCsum = 1;
inline constexpr uint8_t kOffloadTso4 = 2;
inline constexpr uint8_t kOffloadTso6 = 4;
inline constexpr uint8_t kOffloadUso = 8;
inline constexpr uint8_t kOffloadAll = 15;

// Queues of a TAP at most.
inline constexpr size_t kMaxQueues = 16;

struct TapOpened {
  int fds[kMaxQueues];  // one a queue; non-blocking, close-on-exec
  size_t queues;
  uint8_t offloads;  // what of kOffloadAll this kernel has
  bool created;   // false: a persistent TAP of that name was there and was re-attached
  uint32_t ifindex;  // which interface of its namespace it is
  uint64_t netns_dev;
  uint64_t netns_ino;  // which namespace it is in
};

// Which TAP to open.
struct TapTarget {
  NetnsTarget netns;
  const char* ifname;
  // Not 0: the TAP that has this index, whatever it is called by now; none is made.
  uint32_t ifindex = 0;
};

// A TAP that is to be opened, and what came of it.
struct TapOpening {
  TapTarget target;

  TapOpened opened;  // where `error` is 0
  int error = 0;
};

// What others can change of a TAP that they may attach to, and `tap_renew` puts back.
inline constexpr uint8_t kTapHeader = 1;       // the length or the byte order of the vnet_hdr
inline constexpr uint8_t kTapPersistence = 2;  // it would go with its last queue

// Enters the namespace of each on a thread of their own, opens
// /dev/net/tun with IFF_TAP|IFF_NO_PI|IFF_VNET_HDR|IFF_MULTI_QUEUE, once for each
// of `queues`, and makes the TAP persistent. Frames of a flow come by one queue.
// Nobody without CAP_NET_ADMIN in the namespace can attach to it: its owner and its
// group are numbers that no account has. The caller's namespace never changes. The
// error of each is 0, what a visit to its namespace results in (netns.h), or
//   -ENODEV           /dev/net/tun does not exist or has no driver
//   -ENXIO            no interface has that index
//   -EPERM            no CAP_NET_ADMIN
//   -EEXIST           `ifname` is an interface that weft did not make
//   -EBUSY            `ifname` is a TAP that is open already, here or elsewhere
//   -EINVAL           `ifname` is not a valid name
//   -EMFILE           others need the descriptors that are left (descriptors.h)
// or another -errno of the kernel.
void tap_open(std::vector<TapOpening>* openings, size_t queues);

// The same for one. Returns the error.
int tap_open(const TapTarget& target, size_t queues, TapOpened* opened);

// Puts back what a program that attached to the TAP has changed since it was opened.
// What of kTap… it was, or -errno.
int tap_renew(int fd);

// What of kOffloadAll a TAP of this kernel has: tried on one in the calling
// thread's namespace, which the kernel names and which goes before this returns.
// 0, -ENODEV and -EPERM as above, or another -errno.
int tap_probe(uint8_t* offloads);

// Clears persistence and closes: the interface goes with its last queue, if it
// has not already.
int tap_remove(int fd);

// Reads up to Burst::kSlots frames, and no further once they are as much as a
// superframe, so that what was read is still in the processor's cache when it is
// used. 0, or -errno when the device is gone (-EBADFD after its interface was
// deleted); -EAGAIN is not an error: there are no frames then. Frames longer than
// kMaxFrame are cut to kMaxFrame + 1 so that the caller can count them as too long.
int tap_receive(int fd, Burst* burst);

// Writes one frame with its vnet_hdr, which asks only for what the TAP takes.
// kNoDrop, or why the kernel refused it.
Reason tap_send(int fd, const Frame& frame);

}  // namespace weft
