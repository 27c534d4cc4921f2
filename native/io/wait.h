// How a worker waits for the next frame: asleep, or polling for a moment if the next frame is likely
// to come at once.
//
// Waking a thread takes an interrupt to another processor, which must leave its own sleep first: tens
// of microseconds in a virtual machine, more than everything else on the way of a small frame. So
// while one frame follows another within kAwakeNs, as responses follow requests, the worker polls for
// the next one that long before it sleeps. It does not poll
//
//   - if much comes at once: while it sleeps more comes, and together that is cheaper
//   - if processors are busy: it would take time from the programs whose frames it carries. It notices
//     that by its own waiting for a processor, which the kernel counts (schedstat); without that count
//     it always sleeps
//   - after it polled in vain: the next attempt comes after twice as many short waits. So frames at
//     longer intervals cost what they did before, and an idle switch costs nothing
//
// Belongs to the worker's thread alone.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

namespace weft {

// Decides when to poll. Times are in nanoseconds, of any clock that does not go back.
class WaitPolicy {
 public:
  static constexpr int64_t kAwakeNs = 50'000;
  // The time until a thread runs after it was woken.
  static constexpr int64_t kWakeNs = 50'000;
  // How often the thread's waiting for a processor is looked at, and which part of the time is too much.
  static constexpr int64_t kSampleNs = 5'000'000;
  static constexpr int64_t kBusyPart = 50;
  // So many consecutive waits must be short before it polls.
  static constexpr uint32_t kLeast = 8;
  static constexpr uint32_t kMost = 4096;

  // `delayed()` says how long the thread has waited for a processor in total; negative if that is not counted.
  template <typename Delayed>
  bool awake(int64_t now, Delayed delayed) {
    return short_waits_ >= wanted_ && !busy(now, delayed);
  }
  // This was not a request: it was more than a few small frames.
  void much() { short_waits_ = 0; }
  // The result of a wait: something came while polling, polling was in vain, or it slept.
  void came() { wanted_ = std::max(wanted_ / 2, kLeast); }
  void in_vain() {
    short_waits_ = 0;
    wanted_ = std::min(wanted_ * 2, kMost);
  }
  void slept(int64_t ns) { short_waits_ = ns < kAwakeNs + kWakeNs ? std::min(short_waits_ + 1, kMost) : 0; }

 private:
  template <typename Delayed>
  bool busy(int64_t now, Delayed delayed) {
    if (now - sampled_at_ < kSampleNs) return busy_;
    const int64_t delayed_ns = delayed();
    busy_ = delayed_ns < 0 || (delayed_ns - delayed_ns_) * kBusyPart > now - sampled_at_;
    delayed_ns_ = delayed_ns;
    sampled_at_ = now;
    return busy_;
  }

  uint32_t short_waits_ = 0;
  uint32_t wanted_ = kLeast;
  int64_t sampled_at_ = INT64_MIN / 2;
  int64_t delayed_ns_ = 0;
  bool busy_ = true;
};

class Wait {
 public:
  Wait() = default;
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;
  ~Wait() {
    if (schedstat_ >= 0) close(schedstat_);
  }

  // Call it on the thread that is going to wait.
  void start() { schedstat_ = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC); }

  // Like epoll_wait without a timeout. `little`: the last thing that came was a few small frames.
  int operator()(int epoll, epoll_event* events, int most, bool little) {
    const int64_t began = now();
    if (!little) policy_.much();
    if (policy_.awake(began, [this] { return delayed(); })) {
      if (const int ready = look(epoll, events, most, began)) {
        policy_.came();
        return ready;
      }
      policy_.in_vain();
    }
    const int ready = epoll_wait(epoll, events, most, -1);
    policy_.slept(now() - began);
    return ready;
  }

 private:
  static int look(int epoll, epoll_event* events, int most, int64_t began) {
    // First lets the thread run that was just woken by what was sent, if it is to run here.
    sched_yield();
    do {
      if (const int ready = epoll_wait(epoll, events, most, 0)) return ready;
    } while (now() - began < WaitPolicy::kAwakeNs);
    return 0;
  }

  // "time on a processor, time waiting for one, turns", in nanoseconds. A kernel that can count but
  // does not says 0 for all three, although a thread that asks must have been on a processor.
  int64_t delayed() const {
    char text[64] = {};
    if (schedstat_ < 0 || pread(schedstat_, text, sizeof text - 1, 0) <= 0) return -1;
    char* end;
    if (strtoll(text, &end, 10) == 0) return -1;
    return strtoll(end, nullptr, 10);
  }

  static int64_t now() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  }

  int schedstat_ = -1;
  WaitPolicy policy_;
};

}  // namespace weft
