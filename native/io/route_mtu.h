// What the way to another host takes, as its interface and the administrator say:
// what ICMP errors told the kernel of the path, and anybody can forge, is left out.
#pragma once

#include <cstdint>

namespace weft {

// The largest IP packet, in bytes, from `local` to `remote` (IPv4-mapped or IPv6): the
// interface's MTU, or the route's, where that is less. Or -errno.
int route_mtu(const uint8_t local[16], const uint8_t remote[16]);

}  // namespace weft
