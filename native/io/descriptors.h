// Descriptors that ports leave to others: API connections (src/api/connections.ts), helper
// processes, files. Code that opens many descriptors asks here, so that running out refuses one
// port and not everything else.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <cstddef>

namespace weft {

// The number of descriptors that this process may have open (RLIMIT_NOFILE).
inline size_t descriptor_limit() {
  rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<size_t>(limit.rlim_cur) : 1024;
}

// Are enough descriptors left besides `fd`? The kernel gives the lowest free number, so a high
// number means that all lower ones are taken.
inline bool leaves_descriptors(int fd) {
  constexpr size_t kApiMost = 512;
  constexpr size_t kHelpersAndFiles = 24;
  const size_t limit = descriptor_limit();
  const size_t others = std::min(limit / 2, std::min(limit / 8, kApiMost) + kHelpersAndFiles);
  return static_cast<size_t>(fd) < limit - others;
}

}  // namespace weft
