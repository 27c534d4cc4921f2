// TAP devices: opened inside a container's network namespace by a short-lived
// thread that enters it, then read and written from the datapath thread.
//
// An open TAP keeps its namespace alive, and nothing here tells that the
// namespace lost its name: whoever opened it watches the path and closes.
//
// All functions return a negative errno on failure and leave nothing behind.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../frame.h"
#include "../reason.h"

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
  uint8_t offloads;  // what of kOffloadAll this kernel has
  bool created;   // false: a persistent TAP of that name was there and was re-attached
  uint64_t netns_dev;
  uint64_t netns_ino;  // which namespace it is in
};

// Enters the namespace at `netns_path` on a thread of its own, opens
// /dev/net/tun with IFF_TAP|IFF_NO_PI|IFF_VNET_HDR|IFF_MULTI_QUEUE, once for each
// of `queues`, and makes the TAP persistent. Frames of a flow come by one queue.
// The caller's namespace never changes. 0, or
//   -ENOENT, -EACCES  `netns_path` does not exist or may not be opened
//   -ENOTTY           `netns_path` is not a network namespace
//   -ENODEV           /dev/net/tun does not exist or has no driver
//   -EPERM            no CAP_SYS_ADMIN or CAP_NET_ADMIN
//   -EEXIST           `ifname` is an interface that weft did not make
//   -EBUSY            `ifname` is a TAP that is open already, here or elsewhere
//   -EINVAL           `ifname` is not a valid name
//   -EMFILE           others need the descriptors that are left (descriptors.h)
// or another -errno of the kernel.
int tap_open(const char* netns_path, const char* ifname, size_t queues, TapOpened* opened);

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
