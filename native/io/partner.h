// Programs that run beside this one and answer it: the processes of flow hooks.
//
// A partner has a file in memory as its standard input, with what it is to know at its start; output and errors go nowhere; and
// descriptor 3 is a socket to this process. A packet is a message. Of the environment it has LC_ALL=C alone.
//
// A partner that gets the code of others to run confines itself before: from then on it can do nothing but compute, and talk
// over that socket, whatever the code finds to break out of.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace weft {

struct Partner {
  pid_t pid;
  // Reads and writes wait for no longer than it was said, and fail with EAGAIN then.
  int socket;
};

// The calling thread waits until the program begins, about a millisecond. Returns 0 or -errno.
// `words` begin with the path of the program.
int start_partner(const std::vector<std::string>& words, const std::string& input, int wait_ms, Partner* partner);

// Kills it, once. It is gone a moment later, also if it was gone before.
void end_partner(pid_t pid);

// For the partner: no capabilities, no files, no sockets, no other processes, and little more memory from now on, for good, in all
// of its threads. It is killed when the thread ends that has started it. Returns 0 or -errno; -ESRCH if that one has ended before.
int confine(pid_t parent);

}  // namespace weft
