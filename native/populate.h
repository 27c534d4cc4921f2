// The memory of a mapped file is allocated when it is first written to. If the file system is full,
// such a write ends the process, so this allocates the memory in advance.
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

// Allocates the pages of these bytes without changing their contents. Returns 0 or an errno: EINVAL if the kernel has
// no such call (before Linux 5.14).
inline int populate(void* from, size_t bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t at = reinterpret_cast<uintptr_t>(from);
  const uintptr_t first = at / page * page, end = (at + bytes + page - 1) / page * page;
  return madvise(reinterpret_cast<void*>(first), end - first, MADV_POPULATE_WRITE) < 0 ? errno : 0;
}

}  // namespace weft
