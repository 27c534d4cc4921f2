// Whose turn it is to use a Datapath: the worker's or the controlling thread's.
//
// The worker has the turn while it runs frames, and gives it back before it sleeps, so on a quiet
// switch the controlling thread gets its turn without waking anyone. On a busy switch it asks, and
// gets the turn between two frames (`yield`). The cost is a lock for each burst, not for each frame,
// and one relaxed load for each frame.
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
    // A frame takes a few microseconds, less than falling asleep and being woken.
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
    // Bounded: the thread that waits may not be running, and then gets its turn at the next frame.
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
