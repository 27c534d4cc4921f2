#include "partner.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "privileges.h"
#include "spawn.h"

namespace weft {
namespace {

// A message fits whole, with what the kernel counts beside it.
constexpr int kSocketBytes = 192 * 1024;

// How much memory a confined process can still get. V8 keeps to the limit of its heap only as long as no object is a large one.
constexpr rlim_t kMemoryBytes = 96 * 1024 * 1024;

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#elif defined(__riscv) && __riscv_xlen == 64
constexpr uint32_t kArchitecture = AUDIT_ARCH_RISCV64;
#else
constexpr uint32_t kArchitecture = 0;
#endif

// What a program of Node.js needs to compute, to collect its garbage, and to read and write what is open.
constexpr int kAllowed[] = {
    SYS_read,         SYS_write,          SYS_futex,           SYS_mmap,      SYS_munmap,        SYS_mremap,
    SYS_mprotect,     SYS_madvise,        SYS_brk,             SYS_getpid,    SYS_gettid,        SYS_clock_gettime,
    SYS_sched_yield,  SYS_clock_nanosleep, SYS_nanosleep,      SYS_epoll_ctl, SYS_epoll_pwait,   SYS_restart_syscall,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,    SYS_exit,      SYS_exit_group,    SYS_sigaltstack,
    SYS_getrandom,
#ifdef SYS_epoll_wait
    SYS_epoll_wait,
#endif
};

int set_wait(int socket, int wait_ms) {
  const timeval wait = {wait_ms / 1000, (wait_ms % 1000) * 1000};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    if (setsockopt(socket, SOL_SOCKET, option, &wait, sizeof wait) < 0) return -errno;
  }
  return 0;
}

void* reap(void* pid) {
  while (waitpid(static_cast<pid_t>(reinterpret_cast<intptr_t>(pid)), nullptr, 0) < 0 && errno == EINTR) {
  }
  return nullptr;
}

// What this process may write to and shares with nobody, in bytes; 0 if that is not known.
rlim_t own_memory() {
  FILE* file = fopen("/proc/self/statm", "re");
  if (!file) return 0;
  unsigned long pages = 0;
  const int read = fscanf(file, "%*u %*u %*u %*u %*u %lu", &pages);
  fclose(file);
  return read == 1 ? static_cast<rlim_t>(pages) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) : 0;
}

// All other system calls fail with EPERM.
int filter_calls() {
  constexpr size_t count = sizeof kAllowed / sizeof *kAllowed;
  sock_filter program[count + 6];
  size_t at = 0;
  program[at++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch));
  program[at++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0);
  program[at++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  program[at++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  for (size_t i = 0; i < count; ++i) {
    // Past those that follow, and the refusal.
    program[at++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(kAllowed[i]),
                             static_cast<uint8_t>(count - i), 0);
  }
  program[at++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  program[at++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const sock_fprog filter = {static_cast<uint16_t>(at), program};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -errno;
  const long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
  if (result < 0) return -errno;
  return result > 0 ? -EBUSY : 0;  // a thread has a filter of its own
}

}  // namespace

int start_partner(const std::vector<std::string>& words, const std::string& input, int wait_ms, Partner* partner) {
  Fd file;
  if (const int failed = file_in_memory(input, &file)) return failed;
  const Fd nowhere(open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (nowhere.get() < 0) return -errno;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
  Fd own(ends[0]);
  const Fd theirs(ends[1]);
  for (const int end : ends) setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);
  if (const int failed = set_wait(own.get(), wait_ms)) return failed;
  const int failed =
      spawn(words[0], words, {"LC_ALL=C"}, {file.get(), nowhere.get(), nowhere.get(), theirs.get()}, &partner->pid);
  if (failed) return -failed;
  partner->socket = own.release();
  return 0;
}

void end_partner(pid_t pid) {
  kill(pid, SIGKILL);
  // Its end is waited for elsewhere, since it may take long to give back its memory.
  pthread_t thread;
  if (pthread_create(&thread, nullptr, reap, reinterpret_cast<void*>(static_cast<intptr_t>(pid))) == 0) {
    pthread_detach(thread);
  }
}

int confine(pid_t parent) {
  if (kArchitecture == 0) return -ENOSYS;
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) return -errno;
  if (getppid() != parent) return -ESRCH;
  // It ends with its parent, also where a terminal tells the whole group to end.
  for (const int number : {SIGHUP, SIGINT, SIGTERM}) signal(number, SIG_IGN);
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  const rlim_t own = own_memory();
  if (own == 0) return -ENOENT;
  const rlimit memory = {own + kMemoryBytes, own + kMemoryBytes};
  if (setrlimit(RLIMIT_DATA, &memory) < 0) return -errno;
  drop_capabilities();
  return filter_calls();
}

}  // namespace weft
