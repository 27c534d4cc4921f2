// Descriptors that are passed on and used again: messages between two processes, queues of a TAP and sockets of the
// underlay. Needs root. Prints what failed and exits 1.
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "../io/netns.h"
#include "../io/passing.h"
#include "../io/tap.h"
#include "../io/underlay.h"
#include "check.h"

using namespace weft;

namespace {

const uint8_t* bytes(const char* text) { return reinterpret_cast<const uint8_t*>(text); }

std::string path_of(const char* name) { return "/tmp/weft-passing-" + std::to_string(getpid()) + "-" + name; }

size_t open_descriptors() {
  size_t count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

void test_messages() {
  const size_t before = open_descriptors();
  {
    const std::string path = path_of("socket");
    CHECK(connect_packets(path.c_str()) == -ENOENT);
    const Fd listener(listen_packets(path.c_str()));
    CHECK(listener.get() >= 0 && listen_packets(path.c_str()) == -EADDRINUSE);
    CHECK(listen_packets(std::string(200, 'a').c_str()) == -ENAMETOOLONG);
    CHECK(accept_packets(listener.get()) == -EAGAIN);
    const Fd one(connect_packets(path.c_str()));
    Fd other(accept_packets(listener.get()));
    CHECK(one.get() >= 0 && other.get() >= 0 && peer_of(one.get()) == getpid());
    unlink(path.c_str());

    Message message;
    CHECK(receive_message(other.get(), 0, &message) == -EAGAIN);
    CHECK(receive_message(other.get(), 1, &message) == -EAGAIN);
    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK(send_message(one.get(), bytes("first"), 5, ends, 2, 0) == 0);
    CHECK(send_message(one.get(), bytes("second"), 6, nullptr, 0, 0) == 0);
    close(ends[0]);
    close(ends[1]);
    CHECK(receive_message(other.get(), 0, &message) == 0);
    CHECK(message.bytes.size() == 5 && memcmp(message.bytes.data(), "first", 5) == 0 && message.descriptors.size() == 2);
    CHECK(fcntl(message.descriptors[0].get(), F_GETFD) == FD_CLOEXEC);
    char letter = 0;
    CHECK(write(message.descriptors[1].get(), "x", 1) == 1 && read(message.descriptors[0].get(), &letter, 1) == 1 && letter == 'x');
    CHECK(receive_message(other.get(), 0, &message) == 0 && message.bytes.size() == 6 && message.descriptors.empty());

    // What does not fit is refused, and nothing of it is kept open.
    const std::vector<uint8_t> large(kMessageBytes + 1);
    CHECK(send_message(one.get(), large.data(), large.size(), nullptr, 0, 0) == -EMSGSIZE);
    CHECK(send_message(one.get(), large.data(), kMessageBytes, nullptr, 0, 0) == 0);
    CHECK(receive_message(other.get(), 0, &message) == 0 && message.bytes.size() == kMessageBytes);
    const std::vector<int> many(kMessageDescriptors, 0);
    CHECK(send_message(one.get(), bytes("many"), 4, many.data(), many.size(), 0) == 0);
    rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    const rlimit few = {static_cast<rlim_t>(other.get()) + 8, limit.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    CHECK(receive_message(other.get(), 0, &message) == -EMFILE);
    message.descriptors.clear();
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);

    // A reader that stops, and one that is gone.
    int sent = 0;
    while (send_message(one.get(), bytes("more"), 4, nullptr, 0, 0) == 0) ++sent;
    CHECK(sent > 1 && send_message(one.get(), bytes("more"), 4, nullptr, 0, 1) == -EAGAIN);
    other = Fd();
    CHECK(send_message(one.get(), bytes("more"), 4, nullptr, 0, 0) == -EPIPE);
    CHECK(receive_message(one.get(), 100, &message) == -EPIPE);
  }
  CHECK(open_descriptors() == before);
}

void on_signal(int) {}

// Signals that come meanwhile do not shorten a wait.
void test_signals() {
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
  const Fd one(ends[0]), other(ends[1]);
  struct sigaction action = {};
  action.sa_handler = on_signal;
  CHECK(sigaction(SIGUSR1, &action, nullptr) == 0);
  const pid_t parent = getpid();
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    for (int i = 0; i < 20; ++i) {
      usleep(5000);
      kill(parent, SIGUSR1);
    }
    _exit(send_message(one.get(), bytes("late"), 4, nullptr, 0, 0));
  }
  Message message;
  CHECK(receive_message(other.get(), 60'000, &message) == 0 && message.bytes.size() == 4);
  CHECK(receive_message(other.get(), 10, &message) == -EAGAIN);
  CHECK(waitpid(child, nullptr, 0) == child);
  CHECK(signal(SIGUSR1, SIG_DFL) == on_signal);
}

// Somebody else's process is not talked to.
void test_peer() {
  const std::string path = path_of("peer");
  const Fd listener(listen_packets(path.c_str()));
  CHECK(chmod(path.c_str(), 0666) == 0);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) _exit(setuid(65534) == 0 && connect_packets(path.c_str()) == -EPERM ? 0 : 1);
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(accept_packets(listener.get()) == -EPERM);
  unlink(path.c_str());
}

void test_tap() {
  const Fd netns(create_netns());
  const std::string path = "/proc/self/fd/" + std::to_string(netns.get());
  const TapTarget target = {{path.c_str()}, "weft0"};
  TapOpened first;
  CHECK(tap_open(target, 2, &first) == 0 && first.created);
  const SpareTap spare = {first.netns_dev, first.netns_ino, first.ifindex, {first.fds[0], first.fds[1]}};
  const auto open_with = [&](const SpareTap& one, size_t queues, TapOpened* opened) {
    const std::vector<SpareTap> spares = {one};
    return tap_open(target, queues, opened, &spares);
  };
  const auto close_all = [](const TapOpened& opened) {
    for (size_t i = 0; i < opened.queues; ++i) close(opened.fds[i]);
  };

  // Without its descriptors, or with those of another TAP, it is busy.
  TapOpened again;
  CHECK(tap_open(target, 2, &again) == -EBUSY);
  SpareTap other = spare;
  ++other.ifindex;
  CHECK(open_with(other, 2, &again) == -EBUSY);
  other = spare;
  ++other.ino;
  CHECK(open_with(other, 2, &again) == -EBUSY);
  other = spare;
  other.fds = {spare.fds[0]};
  CHECK(open_with(other, 2, &again) == -EBUSY);
  other.fds = {netns.get(), netns.get()};
  CHECK(open_with(other, 2, &again) == -EBUSY);

  // With them, its queues are used again: they are other descriptors of the same.
  CHECK(open_with(spare, 2, &again) == 0 && !again.created && again.ifindex == first.ifindex && again.queues == 2);
  CHECK(again.fds[0] != first.fds[0] && again.fds[1] != first.fds[1]);
  close_all(again);
  // With fewer queues, or more.
  CHECK(open_with(spare, 1, &again) == 0 && again.queues == 1);
  close_all(again);
  CHECK(open_with(spare, 3, &again) == 0 && again.queues == 3);
  close(again.fds[2]);
  again.queues = 2;

  // The interface stays as long as one descriptor does; then it is free, since it is persistent.
  close_all(first);
  CHECK(tap_open(target, 2, &first) == -EBUSY);
  close_all(again);
  CHECK(tap_open(target, 1, &again) == 0 && !again.created);
  // One that was deleted is made anew, whatever descriptors there are of it.
  const SpareTap gone = {again.netns_dev, again.netns_ino, again.ifindex, {again.fds[0]}};
  CHECK(ioctl(again.fds[0], TUNSETPERSIST, 0ul) == 0);
  close_all(again);
  CHECK(open_with(gone, 1, &again) == 0 && again.created);
  CHECK(tap_remove(again.fds[0]) == 0);
}

void test_underlay() {
  constexpr uint8_t kLocal[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
  constexpr uint16_t kPort = 47890;
  const size_t before = open_descriptors();
  {
    Underlay first;
    CHECK(first.open(kLocal, kPort, false) == 0);
    // What arrives before another one uses the socket waits for that one.
    uint8_t payload[] = {8, 0, 0, 0, 0, 0, 1, 0, 'd', 'a', 't', 'a'};
    const iovec part = {payload, sizeof payload};
    CHECK(first.send(kLocal, 1, 0, &part, 1, 1).datagrams == 0);
    const Fd spare(fcntl(first.fd(), F_DUPFD_CLOEXEC, 0));
    first.close();

    Underlay second;
    CHECK(second.open(kLocal, kPort, false) == -EADDRINUSE);
    CHECK(second.open(kLocal, kPort + 1, false, spare.get()) == 0 && second.fd() != spare.get());  // one of its own
    CHECK(second.open(kLocal, kPort, false, 0) == -EADDRINUSE);                                    // no socket at all
    CHECK(second.open(kLocal, kPort, true, spare.get()) == 0);
    Underlay third;
    CHECK(third.join(second) == 0);
    Burst burst;
    CHECK(second.receive(&burst) == 0 && burst.frames.size() == 1 && burst.frames[0].length == sizeof payload);
  }
  CHECK(open_descriptors() == before);
}

}  // namespace

int main() {
  if (geteuid() != 0) {
    fprintf(stderr, "passing_test needs root\n");
    return 1;
  }
  CHECK(unshare(CLONE_NEWNET) == 0);
  ifreq up = {};
  strcpy(up.ifr_name, "lo");
  up.ifr_flags = IFF_UP;
  const Fd control(socket(AF_INET, SOCK_DGRAM, 0));
  CHECK(ioctl(control.get(), SIOCSIFFLAGS, &up) == 0);
  test_messages();
  test_signals();
  test_peer();
  test_tap();
  test_underlay();
  printf("passing_test: ok\n");
}
