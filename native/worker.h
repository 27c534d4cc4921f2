// A Datapath with a thread that feeds it from TAPs and the underlay.
//
//   TAPs, underlay ──epoll, a burst a port and round──► Datapath ──► TAPs, underlay
//                                                          │ upcalls, mirrored frames, lost ports
//   controlling thread ── Turn ── every public method ◄── wake()
//
// The thread sleeps in epoll_wait while nothing arrives, or looks for the next
// frame for a moment where that pays (io/wait.h). A timer wakes it when frames that
// wait for their port's rate may go on. It runs each burst to completion,
// in a turn of its own (turn.h); the controlling thread uses the Datapath directly
// in its turns, so every answer is exact and an idle worker need not be woken.
// Opening and closing ports, which may take long, is the caller's, outside of a
// turn (workers.h).
//
// In each turn the Datapath uses connections that it finds, and between two frames
// it holds none (connection_table.h).
//
// In manual mode there is no thread: the controlling thread feeds memory ports
// itself, and the clock is what it was last set to.
//
// All public methods are the controlling thread's, which is one. `wake` is
// called in someone's turn, by the thread or by the controlling thread itself,
// and must neither block nor come back in.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "datapath.h"
#include "io/tap.h"
#include "io/wait.h"
#include "turn.h"

namespace weft {

class Worker {
 public:
  enum class Mode { manual, threaded };

  // `index` tells its tokens from those of other workers. `wake`: something waits
  // after nothing did. Not used in manual mode.
  Worker(Mode mode, uint32_t index, size_t flow_cap, ConnectionTable* connections, uint64_t seed, MemoryHooks hooks, std::function<void()> wake);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();

  // 0 or -errno. Nothing to start in manual mode.
  int start();
  // Stops the thread. Ports, counters and flows can still be looked at, and ports
  // taken. `wake` is not called after it.
  void close();

  bool manual() const { return mode_ == Mode::manual; }
  // "It is now `ms`": time runs from there in threaded mode, and stands still in
  // manual mode until the next call.
  void set_clock(double ms);

  // 0, or -errno: -EEXIST and -EALREADY as Datapath::add_port, -EBADF when it does
  // not run. A TAP's fd is the worker's only when it was added.
  int add(std::unique_ptr<Port> port);
  // Hands a port back, to be closed (which takes it out of epoll); null if there is none.
  std::unique_ptr<Port> take(uint16_t number);

  // Runs `work(datapath)` in a turn. Manual mode has one thread, and no turns.
  template <typename Work>
  auto with(Work work) {
    if (manual()) return work(datapath_);
    std::lock_guard guard(turn_);
    enter();
    const LeaveAtEnd leave_at_end = {this};
    datapath_.set_now(now_ms());
    datapath_.release();
    return work(datapath_);
  }

  // Moves out what waits: up to `max` upcalls, all mirrored frames and lost ports.
  // After fewer than `max` upcalls `wake` tells of the next; otherwise call again.
  struct LostPort {
    uint16_t port;
    int error;  // errno
  };
  struct Waiting {
    size_t upcalls = 0;
    Mirrored mirrored;
    std::vector<LostPort> lost;
  };
  Waiting take_waiting(UpcallRecord* to, size_t max);

 private:
  static void* run_thread(void* self);
  void loop();
  void serve(uint64_t tag, uint32_t events);
  void release();
  void run_burst(uint64_t tag, bool tunnel);
  Port* find(uint64_t tag);
  void lose(Port* port, int error);
  void notify();
  // In a turn: begins to use connections, and uses none any more.
  void enter();
  void leave();
  // In a turn: sets the timer to when frames that wait for a rate may go on.
  void arm();
  double now_ms() const;

  struct LeaveAtEnd {
    Worker* worker;
    ~LeaveAtEnd() {
      worker->leave();
      worker->notify();
      worker->arm();
    }
  };

  const Mode mode_;
  const uint32_t index_;
  ConnectionTable* const connections_;
  const std::function<void()> wake_;
  pthread_t thread_{};
  bool running_ = false;
  int epoll_ = -1;
  int stop_ = -1;   // eventfd
  int timer_ = -1;  // timerfd: frames that wait for a rate may go on

  Turn turn_;
  // In a turn:
  Datapath datapath_;
  double clock_offset_ms_ = 0;
  bool notified_ = false;  // and not everything was taken since
  bool closed_ = false;
  double armed_ms_ = Datapath::kNever;  // when `timer_` runs out
  std::vector<LostPort> lost_;

  // The thread's own:
  Wait wait_;
  size_t round_bytes_ = 0;  // that came since the last wait, or more if some went on from a queue
  Burst burst_;
};

}  // namespace weft
