// The host's own connections: nf_conntrack in the calling thread's namespace. They are not those of the switch.
//
// The kernel looks for a translation only for the first packet of a connection, and a UDP connection lasts as long as
// it does not pause for half a minute or two. So a flow that began before its port was published would never be
// translated, and one whose port is no longer published would be translated for ever. Such connections are deleted
// when the published ports have changed. The addresses of services lead to other ports than their own.
//
// Connections that the switch gives up are deleted, too. So the share of the host's table that one container can use is
// bounded by its share of the switch's table.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace weft {

// A port of an address that need not be one of this host, and the port that it is translated to. Ports are in host byte
// order.
struct ServiceFront {
  uint8_t address[16];
  uint16_t port;
  uint16_t target_port;
};
static_assert(sizeof(ServiceFront) == 20);

// Addresses are 16 bytes each, IPv4-mapped or IPv6, one after the other; ports are in host byte order.
struct Publishing {
  const uint8_t* own;  // of this host
  size_t own_count;
  const uint8_t* targets;  // addresses that published ports are translated to
  size_t target_count;
  const uint16_t* ports;  // published UDP ports
  size_t port_count;
  const ServiceFront* fronts;  // of UDP
  size_t front_count;
};

// Deletes UDP connections to a published port of the host, or to a front, that are not translated to where it leads, and
// those that are translated to a target but come to a port that is not published. Returns how many, or -errno.
int forget_stale_udp(const Publishing& publishing);

// One connection as the switch's end of it sends: 16 bytes source, 16 bytes destination, both ports in network byte
// order (for a ping, its identifier twice), protocol, 3 bytes of padding.
constexpr size_t kHostConnectionBytes = 40;

// Deletes these connections, whichever side opened them. `connections` has `count` records of
// kHostConnectionBytes. Returns how many existed, or -errno.
int forget_connections(const uint8_t* connections, size_t count);

}  // namespace weft
