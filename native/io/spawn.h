// How programs are started.
//
// A process as large as weft is not copied to start one: posix_spawn(3) borrows its memory until the program begins. fork(2)
// would copy its page tables, and then each page that any thread writes to, also those that forward.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "fd.h"

namespace weft {

// Starts the program with these descriptors as its 0, 1, 2 and so on, which are no others' numbers here, and without all others. It
// has this environment, and no signal is blocked or ignored. Returns 0 or an errno.
int spawn(const std::string& file, const std::vector<std::string>& words, const std::vector<std::string>& environment,
          const std::vector<int>& files, pid_t* pid);

// A file that only its holders see, with this text, from its beginning. Returns 0 or -errno.
int file_in_memory(const std::string& text, Fd* file);

}  // namespace weft
