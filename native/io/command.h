// Programs that weft runs to their end (`ip`, `nft`).
//
// Input and output are files in memory. Neither side ever waits for the other one to read or write.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace weft {

// How much a program may write to its output, and to its errors.
constexpr off_t kMostOutputBytes = 64 << 20;

struct Command {
  // The program, a name without a slash, and its arguments.
  std::vector<std::string> words;
  // Where the program is looked for, as in PATH; it is in the program's environment, too. Of that environment the rest is
  // LC_ALL=C: messages in English.
  std::string path;
  std::string input;
  // The network namespace that it runs in, a descriptor. -1: that of this process.
  int netns = -1;
  // It is killed if it has not ended then.
  int longest_ms = 0;

  // If `result` is 0: how it ended. One of the two is 0.
  int exit_code = 0;
  int signal = 0;
  std::string output;
  std::string errors;
  // 0; -ETIMEDOUT, -EFBIG if it was killed for its time, or for what it wrote; or
  //   -ENOENT  there is no such program
  //   -EPERM   the namespace may not be entered
  // or another -errno: it was not started.
  int result = 0;
};

// Blocks until the program has ended. Leaves the calling thread in the program's network namespace: it has to end then.
void run_command(Command* command);

}  // namespace weft
