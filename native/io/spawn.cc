#include "spawn.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <unistd.h>

namespace weft {
namespace {

// For posix_spawn, which changes none of them.
std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

}  // namespace

int spawn(const std::string& file, const std::vector<std::string>& words, const std::vector<std::string>& environment,
          const std::vector<int>& files, pid_t* pid) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  for (size_t number = 0; number < files.size(); ++number) {
    posix_spawn_file_actions_adddup2(&actions, files[number], static_cast<int>(number));
  }
#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 34)
  // What this process has got from whoever has started it, and does not know of.
  posix_spawn_file_actions_addclosefrom_np(&actions, static_cast<int>(files.size()));
#endif
#endif
  // Signals that this process blocks or ignores are nothing to the program.
  sigset_t signals;
  sigemptyset(&signals);
  posix_spawnattr_setsigmask(&attributes, &signals);
  sigfillset(&signals);
  posix_spawnattr_setsigdefault(&attributes, &signals);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int failed =
      posix_spawn(pid, file.c_str(), &actions, &attributes, pointers(words).data(), pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return failed;
}

int file_in_memory(const std::string& text, Fd* file) {
  *file = Fd(memfd_create("weft", MFD_CLOEXEC));
  if (file->get() < 0) return -errno;
  // The position stays at the beginning.
  for (size_t done = 0; done < text.size();) {
    const ssize_t written = pwrite(file->get(), text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (written < 0) return -errno;
    done += static_cast<size_t>(written);
  }
  return 0;
}

}  // namespace weft
