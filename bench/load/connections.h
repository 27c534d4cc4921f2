/**
 * New connections: connect, one byte, its answer, closed.
 *
 * The client has a fixed number of connections under way. Whenever one has its answer, it is closed by a reset
 * (SO_LINGER of 0) and the next one begins: neither end keeps a port in TIME_WAIT, so a run never comes to the end of its
 * ports, however many connections it makes. A connection that fails is counted, and its place taken by the next one.
 *
 * Both ends are one thread around epoll, and make as few system calls for a connection as there can be: the client six,
 * the server seven.
 */
#pragma once

#include <sys/epoll.h>

#include "program.h"

/** Room for connections whose server has not accepted them yet. */
constexpr int kBacklog = 1024;
constexpr int kEvents = 64;
/** A descriptor of a connection is below this. */
constexpr size_t kMaxConnections = 1 << 14;
/** How often a server looks whether it has to end, and a client whether its time is over, if nothing happens. */
constexpr int kIdleMs = 50;

inline int newEpoll() {
  const int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) fail("epoll_create1");
  return fd;
}

inline void watch(int epoll, int fd, uint32_t events) {
  epoll_event event{.events = events, .data = {.fd = fd}};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
}

/** Returns how many events there are, perhaps none. */
inline int await(int epoll, epoll_event* events) {
  const int count = epoll_wait(epoll, events, kEvents, kIdleMs);
  if (count < 0 && errno != EINTR) fail("epoll_wait");
  return std::max(count, 0);
}

/** Answers each byte of each connection with the same byte, until the standard input ends. */
inline int crrServer(const Options& options) {
  const int listener = listening(static_cast<int>(options.number("port")), kBacklog, SOCK_NONBLOCK);
  const int epoll = newEpoll();
  watch(epoll, listener, EPOLLIN);
  watch(epoll, STDIN_FILENO, EPOLLIN);
  puts("ready");
  fflush(stdout);
  for (epoll_event events[kEvents];;) {
    const int count = await(epoll, events);
    for (int i = 0; i < count; i++) {
      const int fd = events[i].data.fd;
      if (fd == STDIN_FILENO) {
        if (inputEnded()) return 0;
      } else if (fd == listener) {
        // One for each event: if there are more, the next call says so.
        const int accepted = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (accepted >= 0) watch(epoll, accepted, EPOLLIN);
        else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) fail("accept");
      } else {
        char byte;
        // The client has closed it if there is nothing to read; epoll forgets a descriptor that is closed.
        if (read(fd, &byte, 1) != 1 || write(fd, &byte, 1) != 1) close(fd);
      }
    }
  }
}

class Connector {
 public:
  explicit Connector(const sockaddr_in& to) : to_(to), epoll_(newEpoll()), startedAt_(kMaxConnections, 0) {}

  /** Begins a connection; it has failed if there cannot be one. */
  void open() {
    for (;;) {
      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      if (fd < 0) fail("socket");
      if (static_cast<size_t>(fd) >= kMaxConnections) usage("too many connections at once");
      const linger reset{.l_onoff = 1, .l_linger = 0};
      if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0) fail("SO_LINGER");
      startedAt_[static_cast<size_t>(fd)] = now();
      const int result = connect(fd, reinterpret_cast<const sockaddr*>(&to_), sizeof to_);
      if (result == 0 || errno == EINPROGRESS) {
        // Each edge is reported once: writable when it is connected, readable when the answer has come.
        watch(epoll_, fd, EPOLLIN | EPOLLOUT | EPOLLET);
        return;
      }
      // A refusal that came at once. Without a pause, a client would use up its CPU on nothing else.
      failed_++;
      close(fd);
      sleepFor(1'000'000);
    }
  }

  /** Goes on with all connections for this long, and counts from zero. */
  void run(int64_t durationNs) {
    tookNs_.clear();
    failed_ = 0;
    const int64_t startedAt = now();
    for (epoll_event events[kEvents]; now() - startedAt < durationNs;) {
      const int count = await(epoll_, events);
      for (int i = 0; i < count; i++) goOn(events[i].data.fd, events[i].events);
    }
    seconds_ = static_cast<double>(now() - startedAt) / 1e9;
  }

  void print() {
    if (tookNs_.empty()) {
      fprintf(stderr, "load: no connection was answered, %zu failed\n", failed_);
      exit(1);
    }
    std::sort(tookNs_.begin(), tookNs_.end());
    printf("{\"connections\": %zu, \"failed\": %zu, \"seconds\": %.6f, \"p50Us\": %.1f, \"p99Us\": %.1f}\n",
           tookNs_.size(), failed_, seconds_, quantileUs(tookNs_, 0.5), quantileUs(tookNs_, 0.99));
  }

 private:
  void goOn(int fd, uint32_t events) {
    char byte = 'q';
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) return end(fd, false);
    if ((events & EPOLLIN) != 0) return end(fd, read(fd, &byte, 1) == 1);
    if (write(fd, &byte, 1) != 1) end(fd, false);
  }

  void end(int fd, bool answered) {
    if (answered) tookNs_.push_back(now() - startedAt_[static_cast<size_t>(fd)]);
    else failed_++;
    close(fd);
    open();
  }

  const sockaddr_in to_;
  const int epoll_;
  /** Of each descriptor. */
  std::vector<int64_t> startedAt_;
  std::vector<int64_t> tookNs_;
  size_t failed_ = 0;
  double seconds_ = 0;
};

inline int crrClient(const Options& options) {
  Connector connector(address(options.text("to"), static_cast<int>(options.number("port"))));
  const double atOnce = options.number("at-once");
  if (atOnce < 1) usage("--at-once is at least 1");
  for (int i = 0; i < static_cast<int>(atOnce); i++) connector.open();
  connector.run(static_cast<int64_t>(options.number("warmup") * 1e9));
  connector.run(static_cast<int64_t>(options.number("seconds") * 1e9));
  connector.print();
  return 0;
}
