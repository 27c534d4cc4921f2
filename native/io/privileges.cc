#include "privileges.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <set>

namespace weft {
namespace {

constexpr int kLongestWaitMs = 200;
constexpr int kMostCapabilities = 64;
constexpr int kRealTimePriority = 1;  // the lowest

// A signal that neither Node nor the C library uses.
int signal_number() { return SIGRTMIN + 9; }

// What the handler reads and counts.
std::atomic<uint64_t> kept_by_all{~uint64_t{0}};
std::atomic<int> told{0};

// Uses system calls only, so that a signal handler may call it.
void keep_here(uint64_t kept) {
  for (int capability = 0; capability < kMostCapabilities; ++capability) {
    // Fails for capabilities that the kernel does not know, and without CAP_SETPCAP.
    if (!(kept >> capability & 1)) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, data) < 0) return;
  for (int word = 0; word < _LINUX_CAPABILITY_U32S_3; ++word) {
    const auto mask = static_cast<uint32_t>(kept >> (32 * word));
    data[word].effective &= mask;
    data[word].permitted &= mask;
    data[word].inheritable = 0;
  }
  syscall(SYS_capset, &header, data);
}

void on_signal(int) {
  const int saved = errno;
  keep_here(kept_by_all.load());
  told.fetch_add(1);
  errno = saved;
}

// Does the thread block the signal? Then it would be told at some other time, or never.
bool blocks_signal(pid_t thread) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/status", thread);
  FILE* file = fopen(path, "re");
  if (!file) return false;  // it has ended
  char line[256];
  unsigned long long blocked = 0;
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "SigBlk: %llx", &blocked) == 1) break;
  }
  fclose(file);
  return blocked >> (signal_number() - 1) & 1;
}

bool exists(pid_t thread) { return syscall(SYS_tgkill, getpid(), thread, 0) == 0; }

// Tells one thread and waits until it has done so. False if it does not.
bool tell(pid_t thread) {
  if (blocks_signal(thread)) return false;
  const int before = told.load();
  if (syscall(SYS_tgkill, getpid(), thread, signal_number()) < 0) return errno == ESRCH;
  for (int looks = 0; looks < kLongestWaitMs * 20; ++looks) {
    if (told.load() != before || !exists(thread)) return true;
    const timespec moment = {0, 50'000};
    nanosleep(&moment, nullptr);
  }
  return false;
}

}  // namespace

void drop_capabilities() { keep_here(0); }

int keep_capabilities(uint64_t kept) {
  kept_by_all.store(kept);
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigfillset(&action.sa_mask);
  // The handler stays: the default action of a signal that comes late would end the process.
  if (sigaction(signal_number(), &action, nullptr) < 0) return -errno;
  const auto self = static_cast<pid_t>(syscall(SYS_gettid));
  std::set<pid_t> seen;
  int untold = 0;
  // Threads that another one starts before it is told are found by looking again.
  for (bool found = true; found;) {
    found = false;
    DIR* tasks = opendir("/proc/self/task");
    if (!tasks) return -errno;
    while (const dirent* entry = readdir(tasks)) {
      const auto thread = static_cast<pid_t>(atoi(entry->d_name));
      if (thread <= 0 || thread == self || !seen.insert(thread).second) continue;
      found = true;
      if (!tell(thread)) ++untold;
    }
    closedir(tasks);
  }
  keep_here(kept);
  return untold;
}

bool run_in_real_time() {
  sched_param parameters = {};
  parameters.sched_priority = kRealTimePriority;
  return sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameters) == 0;
}

}  // namespace weft
