// Whose turn it is to use a Datapath: the worker's or the controlling thread's.
//
// The worker has it while it runs frames and gives it back before it sleeps, so
// on a quiet switch the controlling thread takes its turn without waking anyone.
// On a busy one it asks, and gets it between two frames (`yield`): a lock a
// burst, not a frame, and one relaxed load a frame.
#pragma once

#include <sched.h>

#include <atomic>
#include <mutex>

namespace weft {

class Turn {
 public:
  // The controlling thread's side: std::lock_guard<Turn>.
  void lock() {
    waiting_.fetch_add(1, std::memory_order_relaxed);
    // A frame takes a few microseconds, less than to fall asleep and be woken.
    for (int tries = 0; tries < kSpins; ++tries) {
      if (mutex_.try_lock()) return got();
      pause();
    }
    mutex_.lock();
    got();
  }
  void unlock() { mutex_.unlock(); }

  // The worker's side.
  void begin() { mutex_.lock(); }
  void end() { mutex_.unlock(); }
  bool wanted() const { return waiting_.load(std::memory_order_relaxed) > 0; }
  // Lets the other side have its turn.
  void yield() {
    mutex_.unlock();
    // Bounded: whoever waits may not be running, and gets it at the next frame.
    for (int tries = 0; tries < kSpins && wanted(); ++tries) {
      if (tries < kSpins / 2) {
        pause();
      } else {
        sched_yield();
      }
    }
    mutex_.lock();
  }

 private:
  static constexpr int kSpins = 1000;

  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
  }
  void got() { waiting_.fetch_sub(1, std::memory_order_relaxed); }

  std::mutex mutex_;
  std::atomic<int> waiting_ = 0;
};

}  // namespace weft
