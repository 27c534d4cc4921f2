// The monotonic clock, and a timer that wakes a thread at a time of a clock that runs beside it.
//
// A timer belongs to whoever may call its methods; only its descriptor may be waited for at the same time.
#pragma once

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "fd.h"

namespace weft {

inline double monotonic_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

class Timer {
 public:
  static constexpr double kNever = std::numeric_limits<double>::infinity();

  // 0 or -errno.
  int open() {
    fd_ = Fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    return fd_.get() < 0 ? -errno : 0;
  }
  void close() { fd_ = Fd(); }
  // Readable when the timer has run out; -1 if it is not open.
  int fd() const { return fd_.get(); }

  // Runs out at `due_ms` of a clock that is `offset_ms` ahead of the monotonic one, instead of when it was to before.
  // Does nothing if it is not open.
  void set(double due_ms, double offset_ms) {
    if (due_ms == due_ms_ || fd_.get() < 0) return;
    due_ms_ = due_ms;
    itimerspec at = {};
    if (due_ms != kNever) {
      // 0 would disarm the timer.
      const double ms = std::max(due_ms - offset_ms, 1e-6);
      at.it_value.tv_sec = static_cast<time_t>(ms / 1e3);
      at.it_value.tv_nsec = static_cast<long>((ms - static_cast<double>(at.it_value.tv_sec) * 1e3) * 1e6);
    }
    timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &at, nullptr);
  }

  // Call it when the descriptor was readable. Does nothing if the timer was set again in the meantime.
  void take() {
    uint64_t times;
    if (read(fd_.get(), &times, sizeof times) == sizeof times) due_ms_ = kNever;
  }

 private:
  Fd fd_;
  double due_ms_ = kNever;
};

}  // namespace weft
