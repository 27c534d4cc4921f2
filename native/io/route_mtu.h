// The MTU towards another host according to interface and administrator. ICMP errors that the
// kernel received, which anybody can forge, are ignored.
#pragma once

#include <cstdint>

namespace weft {

// The largest IP packet, in bytes, from `local` to `remote` (IPv4-mapped or IPv6): the MTU of the
// interface, or that of the route if it is smaller. Or -errno.
int route_mtu(const uint8_t local[16], const uint8_t remote[16]);

}  // namespace weft
