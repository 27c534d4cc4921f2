#include "command.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "fd.h"
#include "spawn.h"

namespace weft {
namespace {

constexpr size_t kReadBytes = 65536;
// How often it is looked at how much the program has written.
constexpr int kLookMs = 100;

std::string read_all(int file) {
  std::string text;
  for (size_t done = 0;;) {
    text.resize(done + kReadBytes);
    const ssize_t got = pread(file, text.data() + done, kReadBytes, static_cast<off_t>(done));
    done += got > 0 ? static_cast<size_t>(got) : 0;
    text.resize(done);
    if (got <= 0) return text;
  }
}

// Starts the program with these descriptors as its input, output and errors. 0 or -errno.
int start(const Command& command, int input, int output, int errors, pid_t* pid) {
  const std::vector<std::string> environment = {"PATH=" + command.path, "LC_ALL=C"};
  int error = ENOENT;
  for (size_t from = 0; from <= command.path.size();) {
    const size_t end = std::min(command.path.find(':', from), command.path.size());
    const std::string file = command.path.substr(from, end - from) + "/" + command.words[0];
    from = end + 1;
    const int failed = spawn(file, command.words, environment, {input, output, errors}, pid);
    // Like a shell, it says of a program that cannot be run in one directory and is in no other why it cannot.
    if (failed != ENOENT && failed != ENOTDIR) error = failed;
    if (failed != ENOENT && failed != ENOTDIR && failed != EACCES) break;
  }
  return -error;
}

bool is_too_long(int file) {
  struct stat about;
  return fstat(file, &about) == 0 && about.st_size > kMostOutputBytes;
}

// Waits for its end, and kills it if that takes too long, or if it writes too much. 0 or -errno.
int wait_for(pid_t pid, int longest_ms, int output, int errors, int* status) {
  const Fd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  pollfd ended = {process.get(), POLLIN, 0};
  int result = 0;
  // Without a descriptor of the process (none is left) there is no limit.
  for (int left_ms = longest_ms; process.get() >= 0 && !result;) {
    const int look_ms = std::min(left_ms, kLookMs);
    const int ready = poll(&ended, 1, look_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (ready != 0) break;
    left_ms -= look_ms;
    if (is_too_long(output) || is_too_long(errors)) result = -EFBIG;
    else if (left_ms <= 0) result = -ETIMEDOUT;
  }
  if (result) kill(pid, SIGKILL);
  while (waitpid(pid, status, 0) < 0 && errno == EINTR) {
  }
  if (!result && (is_too_long(output) || is_too_long(errors))) result = -EFBIG;
  return result;
}

int run(Command* command) {
  Fd input;
  Fd output;
  Fd errors;
  if (const int failed = file_in_memory(command->input, &input)) return failed;
  for (Fd* file : {&output, &errors}) {
    if (const int failed = file_in_memory("", file)) return failed;
  }
  if (command->netns >= 0 && setns(command->netns, CLONE_NEWNET) < 0) return -errno;
  pid_t pid;
  if (const int failed = start(*command, input.get(), output.get(), errors.get(), &pid)) return failed;
  int status = 0;
  if (const int failed = wait_for(pid, command->longest_ms, output.get(), errors.get(), &status)) return failed;
  command->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  command->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  command->output = read_all(output.get());
  command->errors = read_all(errors.get());
  return 0;
}

}  // namespace

void run_command(Command* command) { command->result = run(command); }

}  // namespace weft
