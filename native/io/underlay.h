// The underlay side of VXLAN: one receiving UDP socket, and a fixed pool of bound sending sockets,
// which are chosen by the inner flow's hash (RFC 7348 §5: source port entropy in 49152–65535).
//
// The kernel does the outer IP and UDP headers, their checksums and DF. Where it can, it also
// segments one buffer into many datagrams when sending (UDP_SEGMENT), and gathers them when
// receiving (UDP_GRO).
// Owned by one datapath thread. Joined ones share nothing except kernel sockets. Another thread (prober.h)
// may send, and ask how far it was read.
#pragma once

#include <netinet/in.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "../frame.h"
#include "../reason.h"

namespace weft {

// Source ports that a flow can have (RFC 7348 §5), up to 65535. 49152 is left out, because tcpdump
// takes it for another protocol, whatever the destination port is.
inline constexpr uint16_t kEntropyFirstPort = 49153;
inline constexpr size_t kEntropyPorts = 65536 - kEntropyFirstPort;
// Sockets in the sending pool: so many of these ports are in use. Which ones is random.
inline constexpr size_t kPoolSockets = 64;

// Datagrams in one `send`: as many as the kernel segments one buffer into.
inline constexpr size_t kSendBatch = 64;

// The result of a send.
struct Refused {
  uint32_t datagrams = 0;  // how many were not sent
  Reason reason = kNoDrop;
};

class Underlay {
 public:
  Underlay();
  Underlay(const Underlay&) = delete;
  Underlay& operator=(const Underlay&) = delete;
  ~Underlay();
  // Binds to `local` (IPv4-mapped or IPv6) and `port`. 0, -EADDRINUSE if anything else has the
  // port, -EADDRNOTAVAIL if `local` is not an address of this host, or another -errno. DF is set on
  // everything that is sent. With `shared`, others may `join`. `spare` is a receiving socket of a daemon
  // that gave it up, or was killed, or -1: if it is bound to the same, it is duplicated and used again,
  // with what has arrived there.
  int open(const uint8_t local[16], uint16_t port, bool shared, int spare = -1);
  // Another receiving socket with the address and port of `first`, and the same sending pool: the
  // kernel gives each outer flow to one of them. 0 or -errno.
  int join(const Underlay& first, int spare = -1);
  void close();
  // For epoll; -1 if closed.
  int fd() const { return receive_; }

  // Does the kernel segment buffers into datagrams when sending (UDP_SEGMENT), and hand over
  // several at once when receiving (UDP_GRO)? Both only save time.
  bool cuts() const { return cuts_; }
  bool gathers() const { return gathers_; }

  // Reads what has arrived, up to `most` buffers, at most kReceiveBatch. Each of burst->frames is one datagram: its
  // data starts with the VXLAN header, its length is that of the UDP payload; burst->sources says
  // who sent it, and its TOS or traffic class. The kernel gathers only datagrams with the same TOS.
  // 0 or -errno (-EAGAIN: none).
  // From then until `handled`, its datagrams are in the hands of the caller.
  int receive(Burst* burst, size_t most = SIZE_MAX);
  // May datagrams have arrived before this was opened, because its socket is a spare one?
  bool spare() const { return spare_; }
  void handled();

  // From another thread, while it is open: until when, of the times that were passed in, everything that had arrived
  // was received and handled. It is so if nothing waits; if the end of what waited was reached twice since it was
  // asked, since the second time began later; or if more was received since then than can wait.
  double read_until_ms(double now_ms);

  // Sends `count` datagrams of one flow to `remote`, at the port that this was opened with, in order, from the
  // socket `entropy % kPoolSockets` of the pool (the pool is smaller if ports or descriptors were short). Each
  // datagram consists of `parts_each` of `parts`; all have one length, except that the last may be shorter. At
  // most kSendBatch. May wait 1 ms for a full send buffer. `tos` is DSCP and ECN of the outer header. A datagram
  // larger than the path MTU is underlay_mtu.
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
  bool spare_ = false;
  std::unique_ptr<Inbox> inbox_;  // filled by receive
  // Written by the thread that receives:
  std::atomic<uint32_t> reads_ = 0;  // odd while datagrams are in the caller's hands
  std::atomic<uint64_t> ends_ = 0;   // how often it has handled all that there was
  std::atomic<uint64_t> bytes_ = 0;  // what it has handled
  bool at_end_ = false;              // of the datagrams in the caller's hands: are they the last ones, and how much
  uint64_t in_hand_ = 0;
  // Of the thread that asks how far it was read: what is certain, and when it asked for more.
  double read_until_ms_ = 0, asked_ms_ = 0;
  bool asking_ = false;
  uint64_t asked_ends_ = 0, asked_bytes_ = 0;
};

}  // namespace weft
