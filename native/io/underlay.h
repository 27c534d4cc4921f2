// The underlay side of VXLAN: one receiving UDP socket and a fixed pool of
// bound sending sockets, chosen by the inner flow's hash (RFC 7348 §5: source
// port entropy in 49152–65535).
//
// Outer IP and UDP headers, their checksums and DF are the kernel's work. So is
// cutting one buffer into many datagrams on the way out (UDP_SEGMENT) and
// gathering them on the way in (UDP_GRO), where it can.
// Owned by one datapath thread. Joined ones share nothing but kernel sockets.
#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "../frame.h"
#include "../reason.h"

namespace weft {

// Source ports that a flow can have (RFC 7348 §5), to 65535. Not 49152, which tcpdump takes for
// another protocol, whatever the destination port.
inline constexpr uint16_t kEntropyFirstPort = 49153;
inline constexpr size_t kEntropyPorts = 65536 - kEntropyFirstPort;
// Sockets in the sending pool: that many of these ports are in use, which ones is random.
inline constexpr size_t kPoolSockets = 64;

// Datagrams that one `send` takes: as many as the kernel cuts one buffer into.
inline constexpr size_t kSendBatch = 64;

// What became of a send.
struct Refused {
  uint32_t datagrams = 0;  // that were not sent
  Reason reason = kNoDrop;
};

class Underlay {
 public:
  Underlay();
  Underlay(const Underlay&) = delete;
  Underlay& operator=(const Underlay&) = delete;
  ~Underlay();
  // Binds to `local` (IPv4-mapped or IPv6) and `port`. 0, -EADDRINUSE when
  // anything else has the port, -EADDRNOTAVAIL when `local` is not an address
  // of this host, or another -errno. DF is set on everything that is sent.
  // With `shared` others may `join`.
  int open(const uint8_t local[16], uint16_t port, bool shared);
  // Another receiving socket of `first`'s address and port, with the same sending
  // pool: the kernel gives each outer flow to one of them. 0 or -errno.
  int join(const Underlay& first);
  void close();
  // For epoll; -1 when closed.
  int fd() const { return receive_; }

  // Whether the kernel cuts buffers into datagrams on sending (UDP_SEGMENT) and
  // hands over several at once on receiving (UDP_GRO). Both only save time.
  bool cuts() const { return cuts_; }
  bool gathers() const { return gathers_; }

  // Reads what has arrived, up to kReceiveBatch buffers. Each of burst->frames is
  // one datagram: its data is the VXLAN header, its length the UDP payload's;
  // burst->sources says who sent it, and its TOS or traffic class. The kernel gathers
  // only datagrams of one TOS. 0 or -errno (-EAGAIN: none).
  int receive(Burst* burst);

  // Sends `count` datagrams of one flow to `remote` at the port it was opened
  // with, in order, from the pool's socket `entropy % kPoolSockets` (fewer when
  // ports or descriptors were short). Each is `parts_each` of `parts`; all have
  // one length, but the last may be shorter. At most kSendBatch. May wait 1 ms
  // for a full send buffer. `tos` is DSCP and ECN of the outer header. Larger than the path MTU is underlay_mtu.
  Refused send(const uint8_t remote[16], uint32_t entropy, uint8_t tos, const iovec* parts, size_t parts_each,
               size_t count);

 private:
  struct Inbox;

  int receive_ = -1;
  uint8_t local_[16] = {};
  int pool_[kPoolSockets];
  size_t pool_size_ = 0;
  uint16_t port_ = 0;
  bool v6_ = false;
  bool cuts_ = false;
  bool gathers_ = false;
  std::unique_ptr<Inbox> inbox_;  // what receive fills
};

// The largest IP packet that the kernel believes to pass from `local` to `remote` (IPv4-
// mapped or IPv6): of the interface, or less where an ICMP error has said so (RFC 1191,
// RFC 8201), which anybody can forge: what is sent here is not held to it. Or -errno.
int path_mtu(const uint8_t local[16], const uint8_t remote[16]);

}  // namespace weft
