// Addresses and options of sockets.
#pragma once

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <cstdint>

namespace weft {

inline constexpr uint8_t kIp4Mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

inline bool is_ip4(const uint8_t address[16]) { return memcmp(address, kIp4Mapped, sizeof kIp4Mapped) == 0; }

union SocketAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

inline socklen_t to_socket_address(const uint8_t address[16], uint16_t port, SocketAddress* out) {
  memset(out, 0, sizeof *out);
  if (is_ip4(address)) {
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons(port);
    memcpy(&out->v4.sin_addr, address + 12, 4);
    return sizeof out->v4;
  }
  out->v6.sin6_family = AF_INET6;
  out->v6.sin6_port = htons(port);
  memcpy(&out->v6.sin6_addr, address, 16);
  return sizeof out->v6;
}

inline int set(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

// The FORCE variants go beyond net.core.*mem_max with CAP_NET_ADMIN.
inline int set_buffer(int fd, int force_name, int name, int bytes) {
  return set(fd, SOL_SOCKET, force_name, bytes) == 0 ? 0 : set(fd, SOL_SOCKET, name, bytes);
}

}  // namespace weft
