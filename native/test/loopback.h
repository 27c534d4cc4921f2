#pragma once

#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

// Sets an interface of this network namespace up.
inline void link_up(const char* name) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  ifreq request = {};
  strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  CHECK(ioctl(fd, SIOCGIFFLAGS, &request) == 0);
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  CHECK(ioctl(fd, SIOCSIFFLAGS, &request) == 0);
  close(fd);
}

inline void loopback_up() { link_up("lo"); }
