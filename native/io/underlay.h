// The underlay side of VXLAN: one receiving UDP socket and a fixed pool of
// bound sending sockets, chosen by the inner flow's hash (RFC 7348 §5: source
// port entropy in 49152–65535).
//
// Outer IP and UDP headers, their checksums and DF are the kernel's work.
// Owned by one datapath thread.
#pragma once

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>

#include "../frame.h"
#include "../reason.h"

namespace weft {

inline constexpr size_t kEntropyPorts = 64;  // sockets in the sending pool
// Not 49152, which tcpdump takes for another protocol, whatever the destination port.
inline constexpr uint16_t kEntropyFirstPort = 49153;

struct UnderlaySource {
  uint8_t address[16];  // IPv4-mapped or IPv6, network order
};

class Underlay {
 public:
  Underlay() = default;
  Underlay(const Underlay&) = delete;
  Underlay& operator=(const Underlay&) = delete;
  ~Underlay();
  // Binds to `local` (IPv4-mapped or IPv6) and `port`. 0, -EADDRINUSE when
  // anything else has the port, -EADDRNOTAVAIL when `local` is not an address
  // of this host, or another -errno. DF is set on everything that is sent.
  int open(const uint8_t local[16], uint16_t port);
  void close();
  // For epoll; -1 when closed.
  int fd() const { return receive_; }

  // Reads up to kBurst datagrams; frame.data is the VXLAN header, frame.length
  // the UDP payload's. `sources[i]` says who sent burst->frames[i]. 0 or -errno
  // (-EAGAIN: count is 0).
  int receive(Burst* burst, UnderlaySource sources[kBurst]);

  // Sends frame.data (VXLAN header first) to `remote` at the port it was opened
  // with, from the pool's socket `entropy % kEntropyPorts` (fewer when ports or
  // descriptors were short). May wait 1 ms for a full send buffer. kNoDrop, or
  // why the kernel refused it; larger than the path MTU is underlay_mtu.
  Reason send(const uint8_t remote[16], uint32_t entropy, const Frame& frame);

 private:
  int receive_ = -1;
  int pool_[kEntropyPorts];
  size_t pool_size_ = 0;
  uint16_t port_ = 0;
  bool v6_ = false;
};

}  // namespace weft
