// The connections of the host itself, nf_conntrack of the calling thread's namespace: not those of the switch.
//
// The kernel asks for a translation with the first packet of a connection. One of UDP lasts as long as it does not pause
// for half a minute or two: what was sent before its port was published would never be translated, and what was
// published once would be translated for ever. So these are forgotten when what is published has changed.
//
// What the switch itself gives up, the kernel forgets, too: so what one container leaves in the host's table is bounded
// by what it may have in the switch's.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace weft {

// Addresses have 16 bytes, IPv4-mapped or IPv6, one after the other; ports are in host byte order.
struct Publishing {
  const uint8_t* own;  // of this host
  size_t own_count;
  const uint8_t* targets;  // what published ports are translated to
  size_t target_count;
  const uint16_t* ports;  // published ones of UDP
  size_t port_count;
};

// Deletes the connections of UDP that are to a published port of the host and not translated, and those that are
// translated to a target and come to a port that is not published. Returns how many, or -errno.
int forget_stale_udp(const Publishing& publishing);

// One connection as the switch's end of it sends: 16 bytes source, 16 destination, both ports in network byte order (of a
// ping both its identifier), protocol, 3 bytes of padding.
constexpr size_t kHostConnectionBytes = 40;

// Deletes these connections, whichever side began them. `connections` has `count` records of kHostConnectionBytes.
// Returns how many there were, or -errno.
int forget_connections(const uint8_t* connections, size_t count);

}  // namespace weft
