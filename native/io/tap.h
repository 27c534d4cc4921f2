// TAP devices: opened inside a container's network namespace by a short-lived thread that enters
// it (netns.h), then read and written by the datapath thread.
//
// An open TAP keeps its namespace alive, and nothing here notices that the namespace has lost its
// name: whoever opened the TAP watches the path and closes it.
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

// Offloads that a TAP may accept and deliver: unfinished checksums and superframes (TUNSETOFFLOAD).
inline constexpr uint8_t kOffloadCsum = 1;
inline constexpr uint8_t kOffloadTso4 = 2;
inline constexpr uint8_t kOffloadTso6 = 4;
inline constexpr uint8_t kOffloadUso = 8;
inline constexpr uint8_t kOffloadAll = 15;

// The most queues of a TAP.
inline constexpr size_t kMaxQueues = 16;

struct TapOpened {
  int fds[kMaxQueues];  // one for each queue; non-blocking, close-on-exec
  size_t queues;
  uint8_t offloads;  // those of kOffloadAll that this kernel has
  bool created;   // false: a persistent TAP of that name existed and was re-attached
  bool spare;     // its queues are those of a spare, and frames may wait in them
  uint32_t ifindex;  // index of the interface in its namespace
  uint64_t netns_dev;
  uint64_t netns_ino;  // inode of the namespace
};

// Identifies the TAP to open.
struct TapTarget {
  NetnsTarget netns;
  const char* ifname;
  // If not 0: the TAP with this index, whatever its name is by now; none is created.
  uint32_t ifindex = 0;
};

// A TAP that this process has descriptors of already, one for each queue, in order: those of a daemon that gave them
// up, or was killed (io/passing.h). They are the caller's; whoever opens the TAP duplicates them.
struct SpareTap {
  uint64_t dev;
  uint64_t ino;
  uint32_t ifindex;
  std::vector<int> fds;
};

// A TAP to open, and the result.
struct TapOpening {
  TapTarget target;
  const std::vector<SpareTap>* spares = nullptr;

  TapOpened opened;  // if `error` is 0
  int error = 0;
};

// Where an open TAP is by now, and what it is called there.
struct TapPlace {
  uint64_t netns_dev;
  uint64_t netns_ino;  // inode of the namespace
  char ifname[16];     // IFNAMSIZ
};

// What others who may attach to a TAP can change of it, and `tap_renew` restores.
inline constexpr uint8_t kTapHeader = 1;       // the length or the byte order of the vnet_hdr
inline constexpr uint8_t kTapPersistence = 2;  // it would be removed with its last queue

// Enters the namespace of each TAP on a thread of its own, opens
// /dev/net/tun with IFF_TAP|IFF_NO_PI|IFF_VNET_HDR|IFF_MULTI_QUEUE, once for each
// of `queues`, and makes the TAP persistent. All frames of a flow use one queue.
// Nobody without CAP_NET_ADMIN in the namespace can attach to it: its owner and its
// group are numbers that no account has. The queues of a spare are used again, with
// the frames that wait in them. The caller's namespace never changes. The
// error of each is 0, the result of visiting its namespace (netns.h), or
//   -ENODEV           /dev/net/tun does not exist or has no driver
//   -ENXIO            no interface has that index
//   -EPERM            CAP_NET_ADMIN is missing
//   -EEXIST           `ifname` is an interface that weft did not create
//   -EBUSY            `ifname` is a TAP that is already open, here or elsewhere
//   -EINVAL           `ifname` is not a valid name
//   -EMFILE           the remaining descriptors are reserved for others (descriptors.h)
// or another -errno of the kernel.
void tap_open(std::vector<TapOpening>* openings, size_t queues);

// The same for one TAP. Returns the error.
int tap_open(const TapTarget& target, size_t queues, TapOpened* opened, const std::vector<SpareTap>* spares = nullptr);

// Restores what a program that attached to the TAP has changed since it was opened. Returns which
// of kTap… that was, or -errno.
int tap_renew(int fd);

// Asks the kernel where the TAP is: others may move and rename it while it is open. 0, -EBADFD if the interface was
// deleted, -EAGAIN if it was being moved just now, or another -errno.
int tap_place(int fd, TapPlace* place);

// Finds out which of kOffloadAll a TAP of this kernel has, by trying them on one in the calling
// thread's namespace. The kernel chooses its name, and it is removed before this returns. 0,
// -ENODEV and -EPERM as above, or another -errno.
int tap_probe(uint8_t* offloads);

// Clears persistence and closes: the interface is removed with its last queue, if it still exists.
int tap_remove(int fd);

// Reads up to `most` frames, at most Burst::kSlots, and stops when they are as large as a superframe, so that the
// data is still in the processor's cache when it is used. 0, or -errno if the device is gone
// (-EBADFD after its interface was deleted). -EAGAIN is not an error; there are no frames then.
// Frames longer than kMaxFrame are cut to kMaxFrame + 1, so that the caller can count them as too
// long.
int tap_receive(int fd, Burst* burst, size_t most = Burst::kSlots);

// Writes one frame with its vnet_hdr, which must ask only for what the TAP supports. kNoDrop, or
// why the kernel refused it.
Reason tap_send(int fd, const Frame& frame);

}  // namespace weft
