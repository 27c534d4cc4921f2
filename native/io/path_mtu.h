// The MTUs towards other hosts: what interfaces and administrators say, and what the kernel was told.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft {

// In bytes of an IP packet, or -errno if the kernel knows no way.
struct PathMtu {
  // The MTU of the interface, or that of the route if it is smaller. ICMP errors are ignored.
  int32_t route;
  // What the kernel believes: less if an ICMP error said so (RFC 1191, RFC 8201). Anybody can forge such an error, so
  // packets sent here are not limited by it.
  int32_t believed;
};

// Asks for `count` hosts, `remotes` of 16 bytes each (IPv4-mapped or IPv6, like `local`). All of them share two sockets: opening
// them costs several times as much as asking.
void path_mtus(const uint8_t local[16], const uint8_t* remotes, size_t count, PathMtu* out);

}  // namespace weft
