// Memory of a mapped file is there once it was written to, and where the file system
// is full, writing ends the process. This asks for it instead.
#pragma once

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace weft {

// Gives the pages of these bytes their memory and changes nothing in it. 0, or an errno: EINVAL where the kernel has no
// such call (before Linux 5.14).
inline int populate(void* from, size_t bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t at = reinterpret_cast<uintptr_t>(from);
  const uintptr_t first = at / page * page, end = (at + bytes + page - 1) / page * page;
  return madvise(reinterpret_cast<void*>(first), end - first, MADV_POPULATE_WRITE) < 0 ? errno : 0;
}

}  // namespace weft
